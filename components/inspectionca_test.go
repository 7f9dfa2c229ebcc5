package components

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

func inspectionCAArgs() InspectionCAArgs {
	return InspectionCAArgs{
		Location:          "eastus2",
		ResourceGroupName: pulumi.String("spoke"),
		TenantID:          pulumi.String("33333333-0000-0000-0000-000000000000"),
		GatewaySubnetID:   pulumi.String(gatewaySubnet),
		DeployerObjectID:  ptr(deployer),
		DeployerAddresses: []string{"198.51.100.1", "203.0.113.0/28"},
	}
}

func provisionCA(t *testing.T, change func(*InspectionCAArgs)) *recorder {
	t.Helper()
	args := inspectionCAArgs()
	if change != nil {
		change(&args)
	}
	r, err := provision(t, func(ctx *pulumi.Context) error {
		_, err := NewInspectionCA(ctx, "spoke-ca", args)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVaultIsClosed(t *testing.T) {
	vault := provisionCA(t, nil).one(t, "Vault", "")
	want := map[string]any{
		"tenantId": "33333333-0000-0000-0000-000000000000", "sku": map[string]any{"family": "A", "name": "standard"},
		"enableRbacAuthorization": true, "enableSoftDelete": true, "enablePurgeProtection": true, "softDeleteRetentionInDays": 90.0,
		"publicNetworkAccess": "Enabled",
		"networkAcls": map[string]any{
			"defaultAction": "Deny", "bypass": "None",
			"virtualNetworkRules": []any{map[string]any{"id": gatewaySubnet}},
			"ipRules":             []any{map[string]any{"value": "198.51.100.1/32"}, map[string]any{"value": "203.0.113.0/28"}},
		},
	}
	if got := vault.plain("properties"); !reflect.DeepEqual(got, want) {
		t.Errorf("vault\n got %v\nwant %v", got, want)
	}
	if slices.Contains(vault.keys(), "vaultName") || len(vault.name) > 16 {
		t.Errorf("vault %s: a fixed name collides with the soft-deleted one; azure-native's eight characters must fit into 24", vault.name)
	}
}

// The key signs, and does nothing else, and does not leave.
func TestRootKeyOnlySigns(t *testing.T) {
	for hsm, want := range map[bool][2]string{false: {"EC", "standard"}, true: {"EC-HSM", "premium"}} {
		r := provisionCA(t, func(a *InspectionCAArgs) { a.HSM = &hsm })
		key := r.one(t, "Key", "")
		properties := map[string]any{
			"kty": want[0], "curveName": "P-256", "keyOps": []any{"sign"}, "attributes": map[string]any{"enabled": true, "exportable": false},
		}
		if got := key.plain("properties"); !reflect.DeepEqual(got, properties) {
			t.Errorf("key\n got %v\nwant %v", got, properties)
		}
		if !strings.HasPrefix(key.token, "azure-native:keyvault") || key.plain("keyName") != "bulkhead-root" {
			t.Errorf("%s %v", key.token, key.inputs)
		}
		if !strings.HasSuffix(key.deletedWith, "::"+shortName("spoke-ca")) {
			t.Errorf("destroy asks the vault to delete the key, and nobody has the right to: deleted with %q", key.deletedWith)
		}
		if sku := r.one(t, "Vault", "").plain("properties").(map[string]any)["sku"].(map[string]any)["name"]; sku != want[1] {
			t.Errorf("with hsm %v the vault is %v", hsm, sku)
		}
	}
}

func TestRootCertificateWaitsForItsRights(t *testing.T) {
	r := provisionCA(t, nil)
	root := r.one(t, "RootCertificate", "")
	want := map[string]any{
		"vaultUri": "https://" + shortName("spoke-ca") + "0a1b2c3d.vault.azure.net/", "keyName": "bulkhead-root",
		"commonName": "Bulkhead inspection root", "validityYears": 10.0,
	}
	if got := root.inputs.Mappable(); !reflect.DeepEqual(got, want) {
		t.Errorf("root\n got %v\nwant %v", got, want)
	}
	for _, before := range []string{"Key spoke-ca-key", "RoleAssignment spoke-ca-deployer-signs", "RoleAssignment spoke-ca-deployer-stores"} {
		if !r.waitsFor(root, before) {
			t.Errorf("the root does not wait for %s", before)
		}
	}
	if root.version != Version {
		t.Errorf("asked of version %q of the plugin", root.version)
	}
	var roles []string
	for _, m := range r.made {
		if strings.HasSuffix(m.token, ":RoleAssignment") {
			definition := m.plain("roleDefinitionId").(string)
			roles = append(roles, fmt.Sprint(m.plain("principalId"), " ", definition[strings.LastIndex(definition, "/")+1:], " ", m.plain("scope")))
		}
	}
	slices.Sort(roles)
	expected := []string{
		deployer + " " + roleKeyUser + " " + subscription + "/Key/spoke-ca-key",
		deployer + " " + roleSecretsOfficer + " " + subscription + "/Vault/" + shortName("spoke-ca"),
	}
	if !slices.Equal(roles, expected) {
		t.Errorf("roles\n got %q\nwant %q", roles, expected)
	}
	for _, m := range provisionCA(t, func(a *InspectionCAArgs) { a.DeployerObjectID = nil }).made {
		if strings.HasSuffix(m.token, ":RoleAssignment") {
			t.Errorf("%s is given to nobody who was named", m.name)
		}
	}
}

func TestInspectionCARefuses(t *testing.T) {
	for path, change := range map[string]func(*InspectionCAArgs){
		"deployerAddresses[0]": func(a *InspectionCAArgs) { a.DeployerAddresses = []string{"10.0.0.1"} },
		"location":             func(a *InspectionCAArgs) { a.Location = "usgovvirginia" },
		"validityYears":        func(a *InspectionCAArgs) { a.ValidityYears = ptr(0) },
		"commonName":           func(a *InspectionCAArgs) { a.CommonName = ptr("") },
	} {
		args := inspectionCAArgs()
		change(&args)
		if _, err := args.check(); !slices.Contains(refused(err), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
