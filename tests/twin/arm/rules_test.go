package arm

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

const deployer = "de910bed-0000-4000-8000-000000000001"

// TestRules tries each rule in the standard network: a case does something that Azure refuses
// with a code, or its neighbour that Azure takes.
func TestRules(t *testing.T) {
	put := func(path, body string) func(*world) error {
		return func(w *world) error { _, err := w.try(path, body); return err }
	}
	del := func(path string) func(*world) error { return func(w *world) error { return w.delete(path) } }
	seq := func(all ...func(*world) error) func(*world) error {
		return func(w *world) error {
			for i, f := range all {
				if err := f(w); err != nil && i < len(all)-1 {
					return errors.Join(errors.New("the case is wrong before its last step"), errors.New(err.Error()))
				} else if err != nil {
					return err
				}
			}
			return nil
		}
	}
	nic := put("nics/n", nicBody("vnets/v/subnets/a"))
	vault := put("vaults/kv-one", vaultBody())
	account := put("ai/foundry", accountBody("vnets/v/subnets/agents"))
	storage := put("storage/account1", storageBody)
	environment := `{"location":"eastus2","properties":{"vnetConfiguration":{"infrastructureSubnetId":"<vnets/v/subnets/agents>","internal":true},"workloadProfiles":[{"name":"Consumption","workloadProfileType":"Consumption"}]}}`
	job := func(trigger string) string {
		return `{"location":"eastus2","properties":{"environmentId":"<envs/e>","workloadProfileName":"Consumption","configuration":{"replicaTimeout":300,"triggerType":"Manual",` + trigger + `},"template":{"containers":[{"name":"p","image":"i","resources":{"cpu":0.25,"memory":"0.5Gi"}}]}}}`
	}
	registry := put("registries/contoso", `{"location":"eastus2","sku":{"name":"Premium"}}`)
	puller := put("identities/pulls", `{"location":"eastus2"}`)
	pulls := put("registries/contoso/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-000000000007", roleBody("<identities/pulls#principalId>", "7f951dda-4ed3-4680-a7ca-43fe172d538d"))
	const credentials = `"registries":[{"server":"contoso.azurecr.io","identity":"<identities/pulls>"}],`
	pulled := func(credentials string) string {
		return strings.Replace(job(credentials+`"manualTriggerConfig":{}`), `"image":"i"`, `"image":"contoso.azurecr.io/bulkhead:1"`, 1)
	}
	lent := func(credentials string) string {
		return strings.Replace(pulled(credentials), `{`, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"<identities/pulls>":{}}},`, 1)
	}
	const lifecycle = `{"properties":{"policy":{"rules":[{"name":"old","type":"Lifecycle","definition":{"filters":{"blobTypes":["blockBlob"],"prefixMatch":["attestation/"]},"actions":{"version":{"delete":{"daysAfterCreationGreaterThan":7}}}}}]}}}`
	for _, c := range []struct {
		name string
		do   func(*world) error
		code string // empty: accepted
	}{
		// Everything that is made stands in something that is there.
		{"no such group", put("/subscriptions/00000000-0000-4000-8000-000000000005/resourceGroups/other/providers/Microsoft.Network/virtualNetworks/v", vnetBody("10.0.0.0/16")), "ResourceGroupNotFound"},
		{"another subscription", put("/subscriptions/00000000-0000-4000-8000-000000000006/resourceGroups/rg", `{"location":"eastus2"}`), "SubscriptionNotFound"},
		{"no such network", put("vnets/none/subnets/a", subnetBody("10.0.0.0/24")), "ParentResourceNotFound"},
		{"unknown type", put("Microsoft.Network/azureFirewalls/f", `{}`), "InvalidResourceType"},
		{"no location", put("nsgs/g", `{}`), "LocationRequired"},
		{"moved", put("vnets/v", strings.Replace(vnetBody("10.0.0.0/16"), "eastus2", "westus3", 1)), "InvalidResourceLocation"},
		{"the same place, written for people", put("vnets/v", strings.Replace(vnetBody("10.0.0.0/16"), "eastus2", "East US 2", 1)), ""},
		{"reference to nothing", put("vnets/v/subnets/c", subnetBody("10.0.3.0/24", `"routeTable":{"id":"<tables/none>"}`)), "InvalidResourceReference"},

		// Names.
		{"network name", put("vnets/-v", vnetBody("10.9.0.0/16")), "InvalidResourceName"},
		{"vault name too long", put("vaults/this-vault-name-is-too-long", vaultBody()), "VaultNameNotValid"},
		{"vault name with two hyphens", put("vaults/kv--x", vaultBody()), "VaultNameNotValid"},
		{"vault name begins with a digit", put("vaults/1kv", vaultBody()), "VaultNameNotValid"},
		{"vault", vault, ""},
		{"storage name with capitals", put("storage/Account1", storageBody), "AccountNameInvalid"},
		{"storage name with hyphen", put("storage/account-1", storageBody), "AccountNameInvalid"},
		{"storage", storage, ""},
		{"container name", seq(storage, put("storage/account1/blobServices/default/containers/Policy", `{}`)), "InvalidResourceName"},
		{"container", seq(storage, put("storage/account1/blobServices/default/containers/policy", `{}`)), ""},
		{"container of no account", put("storage/account1/blobServices/default/containers/policy", `{}`), "ParentResourceNotFound"},
		{"job name too long", seq(put("envs/e", environment), put("jobs/"+strings.Repeat("j", 33), job(`"manualTriggerConfig":{}`))), "ContainerAppInvalidName"},

		// Subnets.
		{"subnet outside", put("vnets/v/subnets/c", subnetBody("10.1.0.0/24")), "NetcfgSubnetRangeOutsideVnet"},
		{"subnet on another", put("vnets/v/subnets/c", subnetBody("10.0.1.128/25")), "NetcfgSubnetRangesOverlap"},
		{"subnet beside", put("vnets/v/subnets/c", subnetBody("10.0.3.0/24")), ""},
		{"subnet with bits", put("vnets/v/subnets/c", subnetBody("10.0.3.1/24")), "InvalidCIDRNotation"},
		{"subnet too small", put("vnets/v/subnets/c", subnetBody("10.0.3.0/30")), "NetcfgInvalidSubnet"},
		{"delegated to nobody", put("vnets/v/subnets/c", subnetBody("10.0.3.0/24", strings.Replace(delegated, "App/environments", "Nobody/things", 1))), "InvalidServiceNameOnDelegation"},
		{"delegated in another case", put("vnets/v/subnets/c", subnetBody("10.0.3.0/24", strings.Replace(delegated, "App", "app", 1))), ""},
		{"address space leaves a subnet out", put("vnets/v", vnetBody("10.0.0.0/24")), "NetcfgSubnetRangeOutsideVnet"},
		{"subnets in use stay", seq(nic, put("vnets/v", `{"location":"eastus2","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[]}}`)), "InUseSubnetCannotBeDeleted"},
		{"inline subnets without one", put("vnets/v", `{"location":"eastus2","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"a","properties":{"addressPrefix":"10.0.0.0/24"}}]}}`), ""},
		{"prefix of a subnet in use", seq(nic, put("vnets/v/subnets/a", subnetBody("10.0.8.0/24"))), "InUsePrefixCannotBeDeleted"},
		{"prefix of an empty subnet", put("vnets/v/subnets/a", subnetBody("10.0.8.0/24")), ""},
		{"delegation of a subnet in use", seq(account, put("vnets/v/subnets/agents", subnetBody("10.0.2.0/24"))), "SubnetMissingRequiredDelegation"},
		{"default outbound access of a subnet in use", seq(put("vnets/v/subnets/a", subnetBody("10.0.0.0/24", `"defaultOutboundAccess":false`)), nic, put("vnets/v/subnets/a", subnetBody("10.0.0.0/24", `"defaultOutboundAccess":true`))), "DefaultOutboundAccessCannotBeChanged"},

		// Peerings.
		{"peering that overlaps", seq(put("vnets/w", vnetBody("10.0.128.0/17")), put("vnets/v/virtualNetworkPeerings/w", `{"properties":{"remoteVirtualNetwork":{"id":"<vnets/w>"}}}`)), "VnetAddressSpacesOverlap"},
		{"peering", seq(put("vnets/w", vnetBody("10.1.0.0/16")), put("vnets/v/virtualNetworkPeerings/w", `{"properties":{"remoteVirtualNetwork":{"id":"<vnets/w>"}}}`)), ""},
		{"peering with itself", put("vnets/v/virtualNetworkPeerings/w", `{"properties":{"remoteVirtualNetwork":{"id":"<vnets/v>"}}}`), "RemoteVnetSameAsLocal"},
		{"network grows into a peered one", seq(put("vnets/w", vnetBody("10.1.0.0/16")), put("vnets/v/virtualNetworkPeerings/w", `{"properties":{"remoteVirtualNetwork":{"id":"<vnets/w>"}}}`), put("vnets/v", vnetBody("10.0.0.0/15"))), "VnetAddressSpaceOverlapsWithRemoteVnet"},
		{"network with a peering goes", seq(put("vnets/w", vnetBody("10.1.0.0/16")), put("vnets/v/virtualNetworkPeerings/w", `{"properties":{"remoteVirtualNetwork":{"id":"<vnets/w>"}}}`), del("vnets/v")), "InUseVirtualNetworkCannotBeDeleted"},

		// Interfaces.
		{"reserved address", put("nics/n", nicBody("vnets/v/subnets/a", static("10.0.0.3"))), "PrivateIPAddressInReservedRange"},
		{"last address", put("nics/n", nicBody("vnets/v/subnets/a", static("10.0.0.255"))), "PrivateIPAddressInReservedRange"},
		{"first free address", put("nics/n", nicBody("vnets/v/subnets/a", static("10.0.0.4"))), ""},
		{"address outside", put("nics/n", nicBody("vnets/v/subnets/a", static("10.0.1.4"))), "PrivateIPAddressNotInSubnet"},
		{"address in use", seq(nic, put("nics/m", nicBody("vnets/v/subnets/a", static("10.0.0.4")))), "PrivateIPAddressInUse"},
		{"static without address", put("nics/n", nicBody("vnets/v/subnets/a", `"privateIPAllocationMethod":"Static"`)), "StaticPrivateIPAddressNotSpecified"},
		{"interface among agents", put("nics/n", nicBody("vnets/v/subnets/agents")), "SubnetDelegatedToOtherService"},
		{"interface elsewhere", put("nics/n", strings.Replace(nicBody("vnets/v/subnets/a"), "eastus2", "westus3", 1)), "InvalidResourceReference"},
		{"subnet with an interface goes", seq(nic, del("vnets/v/subnets/a")), "InUseSubnetCannotBeDeleted"},
		{"empty subnet goes", del("vnets/v/subnets/a"), ""},
		{"network with an interface goes", seq(nic, del("vnets/v")), "InUseSubnetCannotBeDeleted"},

		// Public addresses and NAT.
		{"dynamic Standard address", put("ips/p", strings.Replace(ipBody, "Static", "Dynamic", 1)), "PublicIPAddressWithStandardSkuMustBeStatic"},
		{"Basic address", put("ips/p", strings.Replace(ipBody, "Standard", "Basic", 1)), "BasicSkuPublicIPRetired"},
		{"address in zone 4", put("ips/p", strings.Replace(ipBody, `"sku"`, `"zones":["4"],"sku"`, 1)), "InvalidAvailabilityZone"},
		{"one address for two", seq(put("ips/p", ipBody), put("nics/n", nicBody("vnets/v/subnets/a", `"publicIPAddress":{"id":"<ips/p>"}`)), put("nics/m", nicBody("vnets/v/subnets/a", `"publicIPAddress":{"id":"<ips/p>"}`))), "PublicIPAddressInUse"},
		{"address in use goes", seq(put("ips/p", ipBody), put("nics/n", nicBody("vnets/v/subnets/a", `"publicIPAddress":{"id":"<ips/p>"}`)), del("ips/p")), "PublicIPAddressCannotBeDeleted"},
		{"NAT without SKU", put("nats/n", `{"location":"eastus2"}`), "NatGatewaySkuMissing"},
		{"NAT in two zones", put("nats/n", `{"location":"eastus2","sku":{"name":"Standard"},"zones":["1","2"]}`), "TooManyZones"},
		{"NAT in use goes", seq(put("nats/n", `{"location":"eastus2","sku":{"name":"Standard"}}`), put("vnets/v/subnets/c", subnetBody("10.0.3.0/24", `"natGateway":{"id":"<nats/n>"}`)), del("nats/n")), "InUseNatGatewayCannotBeDeleted"},

		// Route tables and security groups.
		{"appliance without address", put("tables/t", `{"location":"eastus2","properties":{"routes":[{"name":"d","properties":{"addressPrefix":"0.0.0.0/0","nextHopType":"VirtualAppliance"}}]}}`), "NextHopIpAddressRequired"},
		{"address without appliance", put("tables/t", `{"location":"eastus2","properties":{"routes":[{"name":"d","properties":{"addressPrefix":"0.0.0.0/0","nextHopType":"None","nextHopIpAddress":"10.0.0.4"}}]}}`), "NextHopIpAddressNotAllowed"},
		{"unknown next hop", put("tables/t", `{"location":"eastus2","properties":{"routes":[{"name":"d","properties":{"addressPrefix":"0.0.0.0/0","nextHopType":"Nowhere"}}]}}`), "InvalidRequestContent"},
		{"two routes for one prefix", put("tables/t", `{"location":"eastus2","properties":{"routes":[{"name":"d","properties":{"addressPrefix":"0.0.0.0/0","nextHopType":"None"}},{"name":"e","properties":{"addressPrefix":"0.0.0.0/0","nextHopType":"None"}}]}}`), "RouteConflict"},
		{"route for a tag", put("tables/t", `{"location":"eastus2","properties":{"routes":[{"name":"d","properties":{"addressPrefix":"AzureMonitor","nextHopType":"Internet"}}]}}`), ""},
		{"table in use goes", seq(put("tables/t", `{"location":"eastus2"}`), put("vnets/v/subnets/c", subnetBody("10.0.3.0/24", `"routeTable":{"id":"<tables/t>"}`)), del("tables/t")), "InUseRouteTableCannotBeDeleted"},
		{"table elsewhere", seq(put("tables/t", `{"location":"westus3"}`), put("vnets/v/subnets/c", subnetBody("10.0.3.0/24", `"routeTable":{"id":"<tables/t>"}`))), "InvalidResourceReference"},
		{"rule without ports", put("nsgs/g/securityRules/r", `{}`), "ParentResourceNotFound"},
		{"rule of priority 50", seq(put("nsgs/g", `{"location":"eastus2"}`), put("nsgs/g/securityRules/r", ruleBody(50, "Deny"))), "SecurityRuleInvalidPriority"},
		{"two rules of one priority", seq(put("nsgs/g", `{"location":"eastus2"}`), put("nsgs/g/securityRules/r", ruleBody(100, "Deny")), put("nsgs/g/securityRules/s", ruleBody(100, "Allow"))), "SecurityRuleConflict"},
		{"rule", seq(put("nsgs/g", `{"location":"eastus2"}`), put("nsgs/g/securityRules/r", ruleBody(100, "Deny"))), ""},
		{"rule for a range of ports backwards", seq(put("nsgs/g", `{"location":"eastus2"}`), put("nsgs/g/securityRules/r", strings.Replace(ruleBody(100, "Deny"), `"53"`, `"54-53"`, 1))), "SecurityRuleInvalidPortRange"},
		{"group in use goes", seq(put("nsgs/g", `{"location":"eastus2"}`), put("vnets/v/subnets/c", subnetBody("10.0.3.0/24", `"networkSecurityGroup":{"id":"<nsgs/g>"}`)), del("nsgs/g")), "InUseNetworkSecurityGroupCannotBeDeleted"},

		// Machines.
		{"machine", seq(nic, put("vms/m", machine())), ""},
		{"machine without interface", put("vms/m", machine()), "InvalidResourceReference"},
		{"machine elsewhere", seq(nic, put("vms/m", machine("eastus2", "westus3"))), "InvalidResourceReference"},
		{"interface of two machines", seq(nic, put("vms/m", machine()), put("vms/k", machine())), "NicInUse"},
		{"interface of a machine goes", seq(nic, put("vms/m", machine()), del("nics/n")), "NicInUse"},
		{"accelerated on a small machine", seq(put("nics/n", strings.Replace(nicBody("vnets/v/subnets/a"), `"ipConf`, `"enableAcceleratedNetworking":true,"ipConf`, 1)), put("vms/m", machine("D2s_v5", "B1s"))), "VMSizeIsNotPermittedToEnableAcceleratedNetworking"},
		{"accelerated", seq(put("nics/n", strings.Replace(nicBody("vnets/v/subnets/a"), `"ipConf`, `"enableAcceleratedNetworking":true,"ipConf`, 1)), put("vms/m", machine())), ""},
		{"unknown image", seq(nic, put("vms/m", machine("24_04", "99_04"))), "PlatformImageNotFound"},
		{"Trusted Launch of generation 1", seq(nic, put("vms/m", machine(`"sku":"server"`, `"sku":"server-gen1"`))), "BadRequest"},
		{"secure boot without Trusted Launch", seq(nic, put("vms/m", machine(`"securityType":"TrustedLaunch",`, ``))), "BadRequest"},
		{"user data in clear", seq(nic, put("vms/m", machine("I2Nsb3Vk", "#cloud"))), "InvalidParameter"},
		{"user data of 64 KiB", seq(nic, put("vms/m", machine("I2Nsb3Vk", base64.StdEncoding.EncodeToString(make([]byte, 64<<10))))), ""},
		{"user data beyond", seq(nic, put("vms/m", machine("I2Nsb3Vk", base64.StdEncoding.EncodeToString(make([]byte, 64<<10+1))))), "InvalidParameter"},
		{"user data changed", seq(nic, put("vms/m", machine()), put("vms/m", machine("I2Nsb3Vk", "I2Nsb3Zk"))), ""},
		{"custom data changed", seq(nic, put("vms/m", machine(`"computerName"`, `"customData":"I2Nsb3Vk","computerName"`)), put("vms/m", machine(`"computerName"`, `"customData":"I2Nsb3Zk","computerName"`))), "PropertyChangeNotAllowed"},
		{"image changed", seq(nic, put("vms/m", machine()), put("vms/m", machine(`"sku":"server"`, `"sku":"minimal"`))), "PropertyChangeNotAllowed"},
		{"administrator admin", seq(nic, put("vms/m", machine(`"adminUsername":"bulkhead"`, `"adminUsername":"admin"`))), "InvalidParameter"},

		// Vaults and keys.
		{"vault name taken", seq(vault, put("/subscriptions/00000000-0000-4000-8000-000000000005/resourceGroups/two", `{"location":"eastus2"}`), put("/subscriptions/00000000-0000-4000-8000-000000000005/resourceGroups/two/providers/Microsoft.KeyVault/vaults/kv-one", vaultBody())), "VaultAlreadyExists"},
		{"deleted vault's name", seq(vault, del("vaults/kv-one"), vault), "ConflictError"},
		{"deleted vault recovered", seq(vault, del("vaults/kv-one"), put("vaults/kv-one", vaultBody(`"enablePurgeProtection"`, `"createMode":"recover","enablePurgeProtection"`))), ""},
		{"deleted vault purged", seq(vault, del("vaults/kv-one"), func(w *world) error { return w.Purge(w.id("vaults/kv-one")) }), "MethodNotAllowed"},
		{"purge protection off", seq(vault, put("vaults/kv-one", vaultBody(`"enablePurgeProtection":true`, `"enablePurgeProtection":false`))), "BadRequest"},
		{"vault of another tenant", put("vaults/kv-one", vaultBody("72f5a2a0", "82f5a2a0")), "BadRequest"},
		{"retention changed", seq(vault, put("vaults/kv-one", vaultBody("90", "30"))), "BadRequest"},
		{"vault for a subnet", put("vaults/kv-one", vaultBody(`"sku"`, `"networkAcls":{"defaultAction":"Deny","virtualNetworkRules":[{"id":"<vnets/v/subnets/a>"}]},"sku"`)), ""},
		{"vault for a subnet without service endpoint", put("vaults/kv-one", vaultBody(`"sku"`, `"networkAcls":{"defaultAction":"Deny","virtualNetworkRules":[{"id":"<vnets/v/subnets/b>"}]},"sku"`)), "VirtualNetworkNotValid"},
		{"vault for a private address", put("vaults/kv-one", vaultBody(`"sku"`, `"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"10.0.0.4"}]},"sku"`)), "BadRequest"},
		{"key", seq(vault, put("vaults/kv-one/keys/k", keyBody())), ""},
		{"key in hardware, in a standard vault", seq(vault, put("vaults/kv-one/keys/k", keyBody(`"EC"`, `"EC-HSM"`))), "BadRequest"},
		{"key of an unknown operation", seq(vault, put("vaults/kv-one/keys/k", keyBody(`"sign"`, `"signs"`))), "InvalidRequestContent"},
		{"EC key that encrypts", seq(vault, put("vaults/kv-one/keys/k", keyBody(`"sign"`, `"encrypt"`))), "BadRequest"},
		{"exportable key", seq(vault, put("vaults/kv-one/keys/k", keyBody(`"exportable":false`, `"exportable":true`))), "BadRequest"},
		{"key goes by management", seq(vault, put("vaults/kv-one/keys/k", keyBody()), del("vaults/kv-one/keys/k")), "MethodNotAllowed"},

		// Storage.
		{"public container", seq(storage, put("storage/account1/blobServices/default/containers/open", `{"properties":{"publicAccess":"Blob"}}`)), "PublicAccessNotPermitted"},
		{"account for a /31", put("storage/account1", strings.Replace(storageBody, `"allowBlob`, `"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"203.0.113.0/31"}]},"allowBlob`, 1)), "InvalidValuesForRequestParameters"},
		{"account for a subnet without service endpoint", put("storage/account1", strings.Replace(storageBody, `"allowBlob`, `"networkAcls":{"defaultAction":"Deny","virtualNetworkRules":[{"id":"<vnets/v/subnets/b>"}]},"allowBlob`, 1)), "NetworkAclsValidationFailure"},
		{"account for a subnet", put("storage/account1", strings.Replace(storageBody, `"allowBlob`, `"networkAcls":{"defaultAction":"Deny","virtualNetworkRules":[{"id":"<vnets/v/subnets/a>"}]},"allowBlob`, 1)), ""},

		// Roles.
		{"role", put(assignment("1"), roleBody(deployer, "acdd72a7-3385-48ef-bd42-f606fba81ae7")), ""},
		{"role twice", seq(put(assignment("1"), roleBody(deployer, "acdd72a7-3385-48ef-bd42-f606fba81ae7")), put(assignment("2"), roleBody(deployer, "acdd72a7-3385-48ef-bd42-f606fba81ae7"))), "RoleAssignmentExists"},
		{"unknown role", put(assignment("1"), roleBody(deployer, "00000000-3385-48ef-bd42-f606fba81ae7")), "RoleDefinitionDoesNotExist"},
		{"unknown principal", put(assignment("1"), roleBody("00000000-0000-4000-8000-000000000009", "acdd72a7-3385-48ef-bd42-f606fba81ae7")), "PrincipalNotFound"},
		{"wrong type of principal", put(assignment("1"), roleBody(deployer, "acdd72a7-3385-48ef-bd42-f606fba81ae7", `"principalType":"User"`)), "UnmatchedPrincipalType"},
		{"role on nothing", put("vaults/none/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-000000000001", roleBody(deployer, "acdd72a7-3385-48ef-bd42-f606fba81ae7")), "ResourceNotFound"},
		{"assignment's name", put("/subscriptions/00000000-0000-4000-8000-000000000005/resourceGroups/rg/providers/Microsoft.Authorization/roleAssignments/mine", roleBody(deployer, "acdd72a7-3385-48ef-bd42-f606fba81ae7")), "InvalidRoleAssignmentId"},
		{"another principal", seq(put(assignment("1"), roleBody(deployer, "acdd72a7-3385-48ef-bd42-f606fba81ae7")), put(assignment("1"), roleBody("00000000-0000-4000-8000-000000000009", "acdd72a7-3385-48ef-bd42-f606fba81ae7"))), "RoleAssignmentUpdateNotPermitted"},

		// Names and DNS.
		{"zone in a region", put("zones/a.example", `{"location":"eastus2"}`), "LocationNotAvailableForResourceType"},
		{"zone", put("zones/a.example", `{"location":"global"}`), ""},
		{"two zones of one name in a network", seq(put("zones/a.example", `{"location":"global"}`), put("zones/a.example/virtualNetworkLinks/one", linkBody), put("zones/a.example/virtualNetworkLinks/two", linkBody)), "Conflict"},
		{"zone with a link goes", seq(put("zones/a.example", `{"location":"global"}`), put("zones/a.example/virtualNetworkLinks/one", linkBody), del("zones/a.example")), "CannotDeleteResource"},
		{"domain without a dot", put("lists/l", `{"location":"eastus2","properties":{"domains":["example.com"]}}`), "InvalidRequestContent"},
		{"domains", put("lists/l", `{"location":"eastus2","properties":{"domains":["example.com."]}}`), ""},
		{"DNS rule of priority 50", seq(dnsPolicy, put("policies/p/dnsSecurityRules/r", dnsRule(50))), "InvalidRequestContent"},
		{"two DNS rules of one priority", seq(dnsPolicy, put("policies/p/dnsSecurityRules/r", dnsRule(100)), put("policies/p/dnsSecurityRules/s", dnsRule(100))), "Conflict"},
		{"domain list in use goes", seq(dnsPolicy, put("policies/p/dnsSecurityRules/r", dnsRule(100)), del("lists/l")), "CannotDeleteResource"},
		{"two DNS policies of a network", seq(dnsPolicy, put("policies/q", `{"location":"eastus2"}`), put("policies/p/virtualNetworkLinks/l", `{"location":"eastus2","properties":{"virtualNetwork":{"id":"<vnets/v>"}}}`), put("policies/q/virtualNetworkLinks/l", `{"location":"eastus2","properties":{"virtualNetwork":{"id":"<vnets/v>"}}}`)), "Conflict"},
		{"DNS policy with rules goes", seq(dnsPolicy, put("policies/p/dnsSecurityRules/r", dnsRule(100)), del("policies/p")), "CannotDeleteResource"},

		// Private endpoints.
		{"endpoint among agents", seq(storage, put("endpoints/e", endpointBody("vnets/v/subnets/agents", "blob"))), "PrivateEndpointCannotBeCreatedInSubnetThatHasDelegation"},
		{"endpoint for an unknown group", seq(storage, put("endpoints/e", endpointBody("vnets/v/subnets/b", "blobs"))), "InvalidPrivateLinkServiceGroupId"},
		{"endpoint", seq(storage, put("endpoints/e", endpointBody("vnets/v/subnets/b", "blob"))), ""},
		{"subnet of an endpoint goes", seq(storage, put("endpoints/e", endpointBody("vnets/v/subnets/b", "blob")), del("vnets/v/subnets/b")), "InUseSubnetCannotBeDeleted"},
		{"endpoint for threads", seq(put("cosmos/threads", cosmosBody()), put("endpoints/e", strings.Replace(endpointBody("vnets/v/subnets/b", "Sql"), "storage/account1", "cosmos/threads", 1))), ""},
		{"endpoint for threads by the group of another service", seq(put("cosmos/threads", cosmosBody()), put("endpoints/e", strings.Replace(endpointBody("vnets/v/subnets/b", "blob"), "storage/account1", "cosmos/threads", 1))), "InvalidPrivateLinkServiceGroupId"},
		{"endpoint for vectors", seq(put("search/vectors", searchBody()), put("endpoints/e", strings.Replace(endpointBody("vnets/v/subnets/b", "searchService"), "storage/account1", "search/vectors", 1))), ""},
		{"endpoint for an account", seq(account, put("endpoints/e", strings.Replace(endpointBody("vnets/v/subnets/b", "account"), "storage/account1", "ai/foundry", 1))), ""},
		{"endpoint for nothing", put("endpoints/e", endpointBody("vnets/v/subnets/b", "blob")), "InvalidResourceReference"},
		{"second zone group", seq(storage, put("endpoints/e", endpointBody("vnets/v/subnets/b", "blob")), put("endpoints/e/privateDnsZoneGroups/default", `{"properties":{}}`), put("endpoints/e/privateDnsZoneGroups/other", `{"properties":{}}`)), "MultiplePrivateDnsZoneGroupsNotSupported"},

		// Cosmos DB.
		{"database account", put("cosmos/threads", cosmosBody()), ""},
		{"database account with capitals", put("cosmos/Threads", cosmosBody()), "BadRequest"},
		{"database account of 45 letters", put("cosmos/"+strings.Repeat("t", 45), cosmosBody()), "BadRequest"},
		{"database account's name taken", seq(put("cosmos/threads", cosmosBody()), put("/subscriptions/00000000-0000-4000-8000-000000000005/resourceGroups/two", `{"location":"eastus2"}`), put("/subscriptions/00000000-0000-4000-8000-000000000005/resourceGroups/two/providers/Microsoft.DocumentDB/databaseAccounts/threads", cosmosBody())), "BadRequest"},
		{"database account of another offer", put("cosmos/threads", cosmosBody("Standard", "Premium")), "BadRequest"},
		{"database account nowhere", put("cosmos/threads", cosmosBody(`{"locationName":"eastus2","failoverPriority":0}`, "")), "BadRequest"},
		{"database account without a first region", put("cosmos/threads", cosmosBody(`"failoverPriority":0`, `"failoverPriority":1`)), "BadRequest"},
		{"database account of an unknown kind", put("cosmos/threads", cosmosBody("GlobalDocumentDB", "Graph")), "InvalidRequestContent"},
		{"database account of another kind", seq(put("cosmos/threads", cosmosBody()), put("cosmos/threads", cosmosBody("GlobalDocumentDB", "MongoDB"))), "BadRequest"},
		{"database account with a property of nobody's", put("cosmos/threads", cosmosBody("publicNetworkAccess", "publicAccess")), "InvalidRequestContent"},
		{"database account moved", seq(put("cosmos/threads", cosmosBody()), put("cosmos/threads", cosmosBody(`{"location":"eastus2"`, `{"location":"westus3"`))), "InvalidResourceLocation"},
		{"database account for a subnet without service endpoint", put("cosmos/threads", cosmosBody(`"publicNetworkAccess"`, `"virtualNetworkRules":[{"id":"<vnets/v/subnets/a>"}],"publicNetworkAccess"`)), "BadRequest"},
		{"role for all of an account's data", seq(put("cosmos/threads", cosmosBody()), put("cosmos/threads/sqlRoleAssignments/b01dc0de-0000-4000-8000-000000000001", dataRole)), ""},
		{"role for data, of no GUID", seq(put("cosmos/threads", cosmosBody()), put("cosmos/threads/sqlRoleAssignments/data", dataRole)), "BadRequest"},
		{"role for data, unknown", seq(put("cosmos/threads", cosmosBody()), put("cosmos/threads/sqlRoleAssignments/b01dc0de-0000-4000-8000-000000000001", strings.Replace(dataRole, "000000000002>", "000000000003>", 1))), "NotFound"},
		{"role for another's data", seq(put("cosmos/threads", cosmosBody()), put("cosmos/threads/sqlRoleAssignments/b01dc0de-0000-4000-8000-000000000001", strings.Replace(dataRole, `"<cosmos/threads>"`, `"<cosmos/other>"`, 1))), "InvalidResourceReference"},
		{"role for no database", seq(put("cosmos/threads", cosmosBody()), put("cosmos/threads/sqlRoleAssignments/b01dc0de-0000-4000-8000-000000000001", strings.Replace(dataRole, `"<cosmos/threads>"`, `"<cosmos/threads/dbs/none>"`, 1))), "BadRequest"},
		{"role for data, twice", seq(put("cosmos/threads", cosmosBody()), put("cosmos/threads/sqlRoleAssignments/b01dc0de-0000-4000-8000-000000000001", dataRole), put("cosmos/threads/sqlRoleAssignments/b01dc0de-0000-4000-8000-000000000002", dataRole)), "Conflict"},
		{"role for data, for nobody", seq(put("cosmos/threads", cosmosBody()), put("cosmos/threads/sqlRoleAssignments/b01dc0de-0000-4000-8000-000000000001", strings.Replace(dataRole, deployer, "00000000-0000-4000-8000-000000000009", 1))), "BadRequest"},

		// AI Search.
		{"search service", put("search/vectors", searchBody()), ""},
		{"search service with capitals", put("search/Vectors", searchBody()), "InvalidServiceName"},
		{"search service with two dashes", put("search/vec--tors", searchBody()), "InvalidServiceName"},
		{"search service without a SKU", put("search/vectors", searchBody(`"sku":{"name":"standard"},`, ``)), "BadRequest"},
		{"search service of an unknown SKU", put("search/vectors", searchBody(`"standard"`, `"huge"`)), "InvalidRequestContent"},
		{"search service of five partitions", put("search/vectors", searchBody(`"partitionCount":1`, `"partitionCount":5`)), "BadRequest"},
		{"search service of 48 units", put("search/vectors", searchBody(`"partitionCount":1`, `"partitionCount":12`, `"replicaCount":1`, `"replicaCount":4`)), "BadRequest"},
		{"search service of 36 units", put("search/vectors", searchBody(`"partitionCount":1`, `"partitionCount":12`, `"replicaCount":1`, `"replicaCount":3`)), ""},
		{"search service with keys and without", put("search/vectors", searchBody(`"disableLocalAuth"`, `"authOptions":{"apiKeyOnly":{}},"disableLocalAuth"`)), "BadRequest"},
		{"search service of another SKU", seq(put("search/vectors", searchBody()), put("search/vectors", searchBody(`"standard"`, `"basic"`))), "BadRequest"},

		// Container Apps.
		{"environment", put("envs/e", environment), ""},
		{"environment without delegation", put("envs/e", strings.Replace(environment, "agents", "b", 1)), "ManagedEnvironmentSubnetDelegationError"},
		{"two environments in a subnet", seq(put("envs/e", environment), put("envs/f", environment)), "ManagedEnvironmentSubnetInUse"},
		{"environment in a /28", seq(put("vnets/v/subnets/c", subnetBody("10.0.3.0/28", delegated)), put("envs/e", strings.Replace(environment, "agents", "c", 1))), "ManagedEnvironmentInvalidNetworkConfiguration"},
		{"environment in a reserved range", seq(put("vnets/w", vnetBody("172.31.0.0/16")), put("vnets/w/subnets/agents", subnetBody("172.31.0.0/24", delegated)), put("envs/e", strings.Replace(environment, "vnets/v", "vnets/w", 1))), "ManagedEnvironmentInvalidNetworkConfiguration"},
		{"subnet of an environment goes", seq(put("envs/e", environment), del("vnets/v/subnets/agents")), "InUseSubnetCannotBeDeleted"},
		{"job", seq(put("envs/e", environment), put("jobs/probe", job(`"manualTriggerConfig":{"parallelism":1}`))), ""},
		{"job without its trigger", seq(put("envs/e", environment), put("jobs/probe", job(`"scheduleTriggerConfig":{"cronExpression":"0 * * * *"}`))), "ContainerAppsJobInvalidTriggerConfig"},
		{"job of a registry", seq(put("envs/e", environment), registry, puller, pulls, put("jobs/probe", lent(credentials))), ""},
		{"job without a role in its registry", seq(put("envs/e", environment), registry, puller, put("jobs/probe", lent(credentials))), "InvalidParameterValueInContainerTemplate"},
		{"job that shows nobody to its registry", seq(put("envs/e", environment), registry, puller, pulls, put("jobs/probe", lent(""))), "InvalidParameterValueInContainerTemplate"},
		{"job that pulls as another", seq(put("envs/e", environment), registry, puller, pulls, put("jobs/probe", pulled(credentials))), "ContainerAppRegistryIdentityNotFound"},
		{"lifecycle", seq(storage, put("storage/account1/managementPolicies/default", lifecycle)), ""},
		{"lifecycle by another name", seq(storage, put("storage/account1/managementPolicies/mine", lifecycle)), "InvalidResourceName"},
		{"lifecycle without an age", seq(storage, put("storage/account1/managementPolicies/default", strings.Replace(lifecycle, "7", "0", 1))), "InvalidRequestPropertyValue"},
		{"environment with a job goes", seq(put("envs/e", environment), put("jobs/probe", job(`"manualTriggerConfig":{"parallelism":1}`)), del("envs/e")), "ManagedEnvironmentInUse"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.standard()
			err := c.do(w)
			if Code(err) != c.code || (err == nil) != (c.code == "") {
				t.Errorf("%v, want %q", err, c.code)
			}
		})
	}
}

const dataRole = `{"properties":{"principalId":"` + deployer + `","roleDefinitionId":"<cosmos/threads/sqlRoleDefinitions/00000000-0000-0000-0000-000000000002>","scope":"<cosmos/threads>"}}`

const linkBody = `{"location":"global","properties":{"virtualNetwork":{"id":"<vnets/v>"}}}`

func assignment(last string) string {
	return "/subscriptions/00000000-0000-4000-8000-000000000005/resourceGroups/rg/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-00000000000" + last
}

func ruleBody(priority int, access string) string {
	return strings.NewReplacer("100", text(priority), "Deny", access).Replace(`{"properties":{"priority":100,"direction":"Outbound","access":"Deny","protocol":"*","sourceAddressPrefix":"*","sourcePortRange":"*","destinationAddressPrefix":"AzurePlatformDNS","destinationPortRange":"53"}}`)
}

func dnsPolicy(w *world) error {
	w.make("lists/l", `{"location":"eastus2","properties":{"domains":["example.com."]}}`)
	w.make("policies/p", `{"location":"eastus2"}`)
	return nil
}

func dnsRule(priority int) string {
	return strings.Replace(`{"location":"eastus2","properties":{"priority":100,"action":{"actionType":"Block"},"dnsResolverDomainLists":[{"id":"<lists/l>"}]}}`, "100", text(priority), 1)
}

func endpointBody(subnet, group string) string {
	return `{"location":"eastus2","properties":{"subnet":{"id":"<` + subnet + `>"},"privateLinkServiceConnections":[{"name":"c","properties":{"privateLinkServiceId":"<storage/account1>","groupIds":["` + group + `"]}}]}}`
}
