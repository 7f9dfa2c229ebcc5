package arm

import (
	"regexp"
	"strings"
)

// The rules of names: learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules.

func rule(pattern string, refuse func(name string) error) func(string) error {
	re := regexp.MustCompile(pattern)
	return func(name string) error {
		if !re.MatchString(name) {
			return refuse(name)
		}
		return nil
	}
}

func invalidName(code, format string) func(string) error {
	return func(name string) error { return failure(400, code, format, name) }
}

var (
	groupName = rule(`^[-\w._()]{0,89}[-\w_()]$`, invalidName("InvalidResourceGroup", "The provided resource group name '%s' has these invalid characters. The name can only be a letter, digit, '-', '.', '(', ')' or '_', and cannot end with '.'."))

	networkName = rule(`^[A-Za-z0-9]([\w.-]{0,78}\w)?$`, invalidName("InvalidResourceName", "Resource name %s is invalid. The name can be up to 80 characters long. It must begin with a word character, and it must end with a word character or with '_'. The name may contain word characters or '.', '-', '_'."))

	vmName = rule(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_])?$`, invalidName("InvalidParameter", "The entered VM name '%s' is invalid: 1 to 64 characters, letters, digits, '.', '_' or '-', which begins with a letter or digit and does not end with '.' or '-'."))

	identityName = rule(`^[A-Za-z0-9][A-Za-z0-9_-]{2,127}$`, invalidName("InvalidResourceName", "The name '%s' is invalid: 3 to 128 characters, letters, digits, '-' or '_', which begins with a letter or digit."))

	storageName = rule(`^[a-z0-9]{3,24}$`, invalidName("AccountNameInvalid", "%s is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only."))

	containerName = rule(`^(\$root|\$web|[a-z0-9](-?[a-z0-9]){2,62})$`, invalidName("InvalidResourceName", "The specified resource name contains invalid characters: %s. A container's name is 3 to 63 characters, lower-case letters, digits and single hyphens."))

	keyName = rule(`^[A-Za-z0-9-]{1,127}$`, invalidName("BadRequest", "The key name '%s' is invalid: 1 to 127 letters, digits and hyphens."))

	zoneName = rule(`^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})+$`, invalidName("BadRequest", "The zone name '%s' is invalid: 2 to 34 labels of 1 to 63 characters."))

	containerAppName = rule(`^[a-z]([a-z0-9-]{0,58}[a-z0-9])?$`, invalidName("ContainerAppInvalidName", "Invalid name '%s'. A name must consist of lower case alphanumeric characters or '-', start with an alphabetic character, end with an alphanumeric character, and have fewer than 60 characters."))

	jobName = rule(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])$`, invalidName("ContainerAppInvalidName", "Invalid ContainerApp Job name '%s'. A name must consist of lower case alphanumeric characters or '-', start with an alphabetic character, end with an alphanumeric character, and have between 2 and 32 characters."))

	cosmosName = rule(`^[a-z0-9][a-z0-9-]{1,42}[a-z0-9]$`, invalidName("BadRequest", "Invalid account name '%s'. The account name can contain only lowercase letters, numbers and the '-' character, and must be between 3 and 44 characters."))

	accountName = rule(`^[A-Za-z0-9][A-Za-z0-9_.-]{1,63}$`, invalidName("InvalidAccountName", "The account name '%s' is invalid: 2 to 64 characters, letters, digits, '_', '.' or '-', which begins with a letter or digit."))
)

var searchPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,58}[a-z0-9]$`)

func searchName(name string) error {
	if !searchPattern.MatchString(name) || strings.Contains(name, "--") || strings.Index(name, "-") == 1 {
		return failure(400, "InvalidServiceName", "Service name '%s' is invalid: Service name must only contain lowercase letters, digits or dashes, cannot use dash as the first two or last one characters, cannot contain consecutive dashes, and is limited between 2 and 60 characters in length.", name)
	}
	return nil
}

var vaultPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]$`)

func vaultName(name string) error {
	if !vaultPattern.MatchString(name) || strings.Contains(name, "--") {
		return failure(400, "VaultNameNotValid", "The vault name '%s' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens. Follow this link for more information: https://go.microsoft.com/fwlink/?linkid=2147742", name)
	}
	return nil
}
