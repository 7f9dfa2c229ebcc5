package components

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	perrors "github.com/pulumi/pulumi/sdk/v3/go/pulumi/errors"
	"go.yaml.in/yaml/v3"
)

const (
	gatewaySubnet = subscription + "/resourceGroups/spoke/providers/Microsoft.Network/virtualNetworks/vnet/subnets/gateway"
	gatewayKey    = subscription + "/resourceGroups/spoke/providers/Microsoft.KeyVault/vaults/v/keys/bulkhead-root"
	deployer      = "66666666-0000-0000-0000-000000000000"
)

func ptr[T any](v T) *T { return &v }

// spokeGatewayArgs are those of a gateway that decrypts, with a deployer from outside.
func spokeGatewayArgs() SpokeGatewayArgs {
	return SpokeGatewayArgs{
		Location:          "eastus2",
		ResourceGroupName: pulumi.String("spoke"),
		SubnetID:          pulumi.String(gatewaySubnet),
		Address:           "10.20.0.4",
		AgentPrefixes:     []string{"10.20.1.0/24", "10.20.3.0/27"},
		BundleFile:        "dist/bulkhead-gateway_0.1.0_linux_amd64.tar.gz",
		VaultURI:          pulumi.String("https://v.vault.azure.net/"),
		KeyName:           pulumi.String("bulkhead-root"),
		KeyID:             pulumi.String(gatewayKey),
		RootCertificate:   pulumi.String("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
		DeployerObjectID:  ptr(deployer),
		DeployerAddresses: []string{"198.51.100.1", "198.51.100.8/31", "203.0.113.0/28"},
		Zones:             []string{"2"},
		Tags:              map[string]string{"owner": "platform"},
	}
}

func provisionSpokeGateway(t *testing.T, args SpokeGatewayArgs) (*recorder, map[string]any, error) {
	t.Helper()
	got := map[string]any{}
	r, err := provision(t, func(ctx *pulumi.Context) error {
		c, err := NewSpokeGateway(ctx, "gateway", args)
		if err != nil {
			return err
		}
		keep := func(name string) func(v any) any { return func(v any) any { got[name] = v; return v } }
		// Waited for before the program ends.
		done := pulumi.All(c.Address, c.Addresses, c.VMIDs, c.PolicyURL, c.AttestationURL, c.EgressAddress, c.BlobEndpoint, c.IdentityClientID)
		ctx.Export("seen", done.ApplyT(func(v []any) string {
			for i, name := range []string{"address", "addresses", "vmIds", "policyUrl", "attestationUrl", "egressAddress", "blobEndpoint", "identityClientId"} {
				keep(name)(v[i])
			}
			return ""
		}))
		return nil
	})
	return r, got, err
}

func mustProvision(t *testing.T, change func(*SpokeGatewayArgs)) (*recorder, map[string]any) {
	t.Helper()
	args := spokeGatewayArgs()
	if change != nil {
		change(&args)
	}
	r, out, err := provisionSpokeGateway(t, args)
	if err != nil {
		t.Fatal(err)
	}
	return r, out
}

func TestSpokeGatewayInterface(t *testing.T) {
	r, out := mustProvision(t, nil)
	nic := r.one(t, "NetworkInterface", "").inputs.Mappable()
	want := map[string]any{
		"location": "eastus2", "resourceGroupName": "spoke", "tags": map[string]any{"owner": "platform"},
		"enableIPForwarding": true, "enableAcceleratedNetworking": true,
		"networkSecurityGroup": map[string]any{"id": subscription + "/NetworkSecurityGroup/gateway-nsg"},
		"dnsSettings":          map[string]any{"dnsServers": []any{"AzureProvidedDNS"}}, // the network's own would be this gateway
		"ipConfigurations": []any{map[string]any{
			"name": "gateway", "primary": true, "subnet": map[string]any{"id": gatewaySubnet},
			"privateIPAddress": "10.20.0.4", "privateIPAddressVersion": "IPv4", "privateIPAllocationMethod": "Static",
			"publicIPAddress": map[string]any{"id": subscription + "/PublicIPAddress/gateway-egress"},
		}},
	}
	for key, w := range want {
		if !reflect.DeepEqual(nic[key], w) {
			t.Errorf("%s\n got %v\nwant %v", key, nic[key], w)
		}
	}
	public := r.one(t, "PublicIPAddress", "")
	if !reflect.DeepEqual(public.plain("sku"), map[string]any{"name": "Standard", "tier": "Regional"}) ||
		public.plain("publicIPAllocationMethod") != "Static" || !reflect.DeepEqual(public.plain("zones"), []any{"2"}) {
		t.Errorf("the public address: %v", public.inputs)
	}
	for name, w := range map[string]any{
		"address": "10.20.0.4", "addresses": []string{"10.20.0.4"}, "vmIds": []string{subscription + "/VirtualMachine/gateway"},
		"egressAddress": "203.0.113.7", "identityClientId": "22222222-0000-0000-0000-000000000000",
		"policyUrl": fmt.Sprint(out["blobEndpoint"]) + "policy/ruleset.json", "attestationUrl": fmt.Sprint(out["blobEndpoint"]) + "attestation/gateway.json",
	} {
		if !reflect.DeepEqual(out[name], w) {
			t.Errorf("%s is %v, want %v", name, out[name], w)
		}
	}

	r, out = mustProvision(t, func(a *SpokeGatewayArgs) { a.Egress = ptr("subnet") })
	for _, m := range r.made {
		if strings.HasSuffix(m.token, ":PublicIPAddress") {
			t.Error("a public address beside the subnet's own way out")
		}
	}
	if out["egressAddress"] != "" {
		t.Errorf("egressAddress is %v", out["egressAddress"])
	}
}

// Nothing comes in but agents' packets, probes, and what was asked for from inside.
func TestSpokeGatewayRules(t *testing.T) {
	rules := func(r *recorder) (got []string) {
		for _, rule := range r.one(t, "NetworkSecurityGroup", "").plain("securityRules").([]any) {
			m := rule.(map[string]any)
			from := m["sourceAddressPrefixes"]
			if from == nil {
				from = m["sourceAddressPrefix"]
			}
			got = append(got, fmt.Sprint(m["direction"], " ", m["priority"], " ", m["access"], " ", m["protocol"], " ", from, ":", m["sourcePortRange"],
				" -> ", m["destinationAddressPrefix"], ":", m["destinationPortRange"]))
			if len(m["description"].(string)) > 140 {
				t.Errorf("%s: Azure takes 140 characters of a description", m["name"])
			}
		}
		return got
	}
	const (
		agents = "Inbound 100 Allow * [10.20.1.0/24 10.20.3.0/27]:* -> *:*"
		probes = "Inbound 110 Allow * AzureLoadBalancer:* -> *:*"
		deny   = "Inbound 4096 Deny * *:* -> *:*"
	)
	r, _ := mustProvision(t, nil)
	if got, want := rules(r), []string{agents, probes, deny}; !slices.Equal(got, want) {
		t.Errorf("rules\n got %q\nwant %q", got, want)
	}
	r, _ = mustProvision(t, func(a *SpokeGatewayArgs) {
		a.PinScope, a.DNSClients = ptr("shared"), []string{"10.20.4.0/28"}
		a.SSHPublicKey, a.SSHSources = ptr("ssh-ed25519 AAAA me"), []string{"10.20.5.0/26"}
	})
	want := []string{agents, probes, "Inbound 120 Allow * [10.20.4.0/28]:* -> 10.20.0.4/32:53", "Inbound 130 Allow Tcp [10.20.5.0/26]:* -> 10.20.0.4/32:22", deny}
	if got := rules(r); !slices.Equal(got, want) {
		t.Errorf("rules\n got %q\nwant %q", got, want)
	}
}

func TestSpokeGatewayMachine(t *testing.T) {
	r, _ := mustProvision(t, nil)
	vm := r.one(t, "VirtualMachine", "")
	identity := subscription + "/UserAssignedIdentity/gateway-identity"
	for key, want := range map[string]any{
		"zones":           []any{"2"},
		"hardwareProfile": map[string]any{"vmSize": defaultVMSize},
		"identity":        map[string]any{"type": "UserAssigned", "userAssignedIdentities": []any{identity}},
		"securityProfile": map[string]any{
			"securityType": "TrustedLaunch", "encryptionAtHost": false,
			"uefiSettings": map[string]any{"secureBootEnabled": true, "vTpmEnabled": true},
		},
		"diagnosticsProfile": map[string]any{"bootDiagnostics": map[string]any{"enabled": true}},
		"networkProfile":     map[string]any{"networkInterfaces": []any{map[string]any{"id": subscription + "/NetworkInterface/gateway-nic", "primary": true}}},
	} {
		if got := vm.plain(key); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %v\nwant %v", key, got, want)
		}
	}
	disk := vm.plain("storageProfile").(map[string]any)["osDisk"].(map[string]any)
	if disk["deleteOption"] != "Delete" {
		t.Error("destroy leaves the disk, which is no resource of the stack")
	}
	profile := vm.plain("osProfile").(map[string]any)
	linux := profile["linuxConfiguration"].(map[string]any)
	keys := linux["ssh"].(map[string]any)["publicKeys"].([]any)
	if linux["disablePasswordAuthentication"] != true || profile["adminPassword"] != nil || profile["customData"] != nil || len(keys) != 1 ||
		keys[0].(map[string]any)["keyData"] != nobodysKey {
		t.Errorf("osProfile: %v", profile)
	}

	r, _ = mustProvision(t, func(a *SpokeGatewayArgs) {
		a.EncryptionAtHost, a.VMSize, a.Zones = ptr(true), ptr("Standard_F8s_v2"), nil
		a.SSHPublicKey, a.SSHSources = ptr("ssh-ed25519 AAAA me"), []string{"10.20.5.0/26"}
	})
	vm = r.one(t, "VirtualMachine", "")
	if vm.plain("securityProfile").(map[string]any)["encryptionAtHost"] != true || vm.plain("hardwareProfile").(map[string]any)["vmSize"] != "Standard_F8s_v2" ||
		slices.Contains(vm.keys(), "zones") {
		t.Errorf("what was asked for is not there: %v", vm.inputs)
	}
	if !strings.Contains(fmt.Sprint(vm.plain("osProfile")), "ssh-ed25519 AAAA me") {
		t.Error("the key that was given is not there")
	}
}

// The machine's user data is whole, says the same each time, and holds what the components
// beside it put out.
func TestSpokeGatewayUserData(t *testing.T) {
	read := func(change func(*SpokeGatewayArgs)) (encoded string, files map[string]string) {
		r, _ := mustProvision(t, change)
		encoded = r.one(t, "VirtualMachine", "").plain("userData").(string)
		data, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || !strings.HasPrefix(string(data), "#cloud-config\n") {
			t.Fatalf("%v: %s", err, data)
		}
		var doc struct {
			Files []struct{ Path, Content string } `yaml:"write_files"`
		}
		if err := yaml.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		files = map[string]string{}
		for _, f := range doc.Files {
			files[f.Path] = f.Content
		}
		return encoded, files
	}
	encoded, files := read(nil)
	if again, _ := read(nil); again != encoded {
		t.Error("not the same user data twice: each `pulumi up` would change the machine")
	}
	account := shortName("gateway") + "0a1b2c3d"
	for path, want := range map[string][]string{
		"/etc/bulkhead/gateway.yaml": {
			"https://" + account + ".blob.core.windows.net/policy/ruleset.json", "https://" + account + ".blob.core.windows.net/attestation/gateway.json",
			"10.20.1.0/24, 10.20.3.0/27", "10.20.0.4:53", "https://v.vault.azure.net", "bulkhead-root",
			"discovery: {location: eastus2, subscription: " + strings.TrimPrefix(subscription, "/subscriptions/") + "}",
		},
		"/etc/bulkhead/release": {
			"url=https://" + account + ".blob.core.windows.net/bundle/bulkhead-gateway_0.1.0_linux_amd64.tar.gz\n", "sha256=" + strings.Repeat("0f", 32) + "\n",
			"client=22222222-0000-0000-0000-000000000000\n",
		},
		"/etc/bulkhead/root.crt": {"-----BEGIN CERTIFICATE-----\n"},
	} {
		for _, w := range want {
			if !strings.Contains(files[path], w) {
				t.Errorf("%s lacks %q:\n%s", path, w, files[path])
			}
		}
	}
	if _, files = read(withoutInspection); files["/etc/bulkhead/root.crt"] != "" || strings.Contains(files["/etc/bulkhead/gateway.yaml"], "keyVault") {
		t.Error("a gateway that decrypts nothing has a root")
	}
}

// TestSpokeGatewayWithoutServiceTags: turned off, the gateway neither asks nor may.
func TestSpokeGatewayWithoutServiceTags(t *testing.T) {
	r, _ := mustProvision(t, func(a *SpokeGatewayArgs) { a.ServiceTags = &ServiceTagOptions{Source: ptr("none")} })
	data, err := base64.StdEncoding.DecodeString(r.one(t, "VirtualMachine", "").plain("userData").(string))
	if err != nil || strings.Contains(string(data), "serviceTags") {
		t.Errorf("%v\n%s", err, data)
	}
}

func withoutInspection(a *SpokeGatewayArgs) {
	a.VaultURI, a.KeyName, a.KeyID, a.RootCertificate = nil, nil, nil, nil
}

// Every role that is given, with its scope: one more, or one that is wider, is a failure.
func TestSpokeGatewayRoles(t *testing.T) {
	const serviceTagRole = subscription + "/RoleDefinition/gateway-service-tags"
	roles := func(r *recorder) (got []string) {
		for _, m := range r.made {
			if strings.HasSuffix(m.token, ":RoleAssignment") {
				definition := m.plain("roleDefinitionId").(string)
				prefix := subscription + "/providers/Microsoft.Authorization/roleDefinitions/"
				if !strings.HasPrefix(definition, prefix) && definition != serviceTagRole {
					t.Errorf("%s: %s", m.name, definition)
				}
				got = append(got, fmt.Sprint(m.plain("principalId"), " ", strings.TrimPrefix(definition, prefix), " ", m.plain("scope")))
			}
		}
		slices.Sort(got)
		return got
	}
	const gateway = "11111111-0000-0000-0000-000000000000"
	container := func(name string) string { return subscription + "/BlobContainer/gateway-" + name }
	own := []string{
		gateway + " " + roleBlobReader + " " + container("bundle"),
		gateway + " " + roleBlobReader + " " + container("policy"),
		gateway + " " + roleBlobWriter + " " + container("attestation"),
	}
	tags := gateway + " " + serviceTagRole + " " + subscription
	const givenRole = "99999999-0000-0000-0000-000000000000"
	given := func(id string) func(*SpokeGatewayArgs) {
		return func(a *SpokeGatewayArgs) {
			a.ServiceTags, a.DeployerObjectID = &ServiceTagOptions{RoleDefinitionID: &id}, nil
		}
	}
	signs := gateway + " " + roleKeyUser + " " + gatewayKey
	publishes := []string{
		deployer + " " + roleBlobReader + " " + container("attestation"),
		deployer + " " + roleBlobWriter + " " + container("bundle"),
		deployer + " " + roleBlobWriter + " " + container("policy"),
	}
	for name, c := range map[string]struct {
		change func(*SpokeGatewayArgs)
		want   []string
	}{
		"all":           {nil, append(append(slices.Clone(own), signs, tags), publishes...)},
		"no inspection": {withoutInspection, append(append(slices.Clone(own), tags), publishes...)},
		"no deployer":   {func(a *SpokeGatewayArgs) { a.DeployerObjectID = nil }, append(slices.Clone(own), signs, tags)},
		"no service tags": {func(a *SpokeGatewayArgs) { a.ServiceTags = &ServiceTagOptions{Source: ptr("none")} },
			append(append(slices.Clone(own), signs), publishes...)},
		"a role that exists":  {given(subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + givenRole), append(slices.Clone(own), signs, gateway+" "+givenRole+" "+subscription)},
		"assigned by another": {given(""), append(slices.Clone(own), signs)},
	} {
		r, _ := mustProvision(t, c.change)
		slices.Sort(c.want)
		if got := roles(r); !slices.Equal(got, c.want) {
			t.Errorf("%s: roles\n got %s\nwant %s", name, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
		for _, m := range r.made {
			if strings.HasSuffix(m.token, ":RoleDefinition") {
				if !slices.Contains(c.want, tags) {
					t.Errorf("%s: a role is made that nobody is given", name)
				}
				if want := []any{map[string]any{"actions": []any{"Microsoft.Network/locations/serviceTags/read"}}}; !reflect.DeepEqual(m.plain("permissions"), want) ||
					!reflect.DeepEqual(m.plain("assignableScopes"), []any{subscription}) || uuid.Validate(m.plain("roleDefinitionId").(string)) != nil {
					t.Errorf("the role: %v", m.inputs)
				}
			}
			if strings.HasSuffix(m.token, ":RoleAssignment") && m.plain("principalId") == gateway && m.plain("principalType") != "ServicePrincipal" {
				t.Errorf("%s: without its type Azure does not find an identity that was just made", m.name)
			}
		}
	}
}

func TestSpokeGatewayStorage(t *testing.T) {
	r, _ := mustProvision(t, nil)
	account := r.one(t, "StorageAccount", "")
	for key, want := range map[string]any{
		"kind": "StorageV2", "allowSharedKeyAccess": false, "allowBlobPublicAccess": false, "allowCrossTenantReplication": false,
		"enableHttpsTrafficOnly": true, "minimumTlsVersion": "TLS1_2", "publicNetworkAccess": "Enabled", "defaultToOAuthAuthentication": true,
		"networkRuleSet": map[string]any{
			"defaultAction": "Deny", "bypass": "None",
			"virtualNetworkRules": []any{map[string]any{"action": "Allow", "virtualNetworkResourceId": gatewaySubnet}},
			"ipRules": []any{ // Azure refuses /31 and /32 here
				map[string]any{"action": "Allow", "iPAddressOrRange": "198.51.100.1"},
				map[string]any{"action": "Allow", "iPAddressOrRange": "198.51.100.8"},
				map[string]any{"action": "Allow", "iPAddressOrRange": "198.51.100.9"},
				map[string]any{"action": "Allow", "iPAddressOrRange": "203.0.113.0/28"},
			},
		},
	} {
		if got := account.plain(key); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %v\nwant %v", key, got, want)
		}
	}
	if slices.Contains(account.keys(), "accountName") {
		t.Error("a name of our own would be taken in the rest of the world")
	}
	blobs := r.one(t, "BlobServiceProperties", "")
	kept := map[string]any{"enabled": true, "days": 30.0}
	if blobs.plain("isVersioningEnabled") != true || !reflect.DeepEqual(blobs.plain("deleteRetentionPolicy"), kept) ||
		!reflect.DeepEqual(blobs.plain("containerDeleteRetentionPolicy"), kept) {
		t.Errorf("a published ruleset can be lost: %v", blobs.inputs)
	}
	expires := map[string]any{"rules": []any{map[string]any{"name": "old-reports", "type": "Lifecycle", "definition": map[string]any{
		"filters": map[string]any{"blobTypes": []any{"blockBlob"}, "prefixMatch": []any{"attestation/"}},
		"actions": map[string]any{"version": map[string]any{"delete": map[string]any{"daysAfterCreationGreaterThan": 7.0}}},
	}}}}
	if got := r.one(t, "ManagementPolicy", "").plain("policy"); !reflect.DeepEqual(got, expires) {
		t.Errorf("expires\n got %v\nwant %v", got, expires)
	}
	for _, name := range []string{"policy", "bundle", "attestation"} {
		if c := r.one(t, "BlobContainer", "gateway-"+name); c.plain("containerName") != name || c.plain("publicAccess") != "None" {
			t.Errorf("%v", c.inputs)
		}
	}

	r, _ = mustProvision(t, func(a *SpokeGatewayArgs) {
		a.PrivateEndpointSubnetID, a.BlobPrivateDNSZoneID, a.DeployerAddresses = pulumi.String("endpoints"), pulumi.String("zone"), nil
	})
	rules := r.one(t, "StorageAccount", "").plain("networkRuleSet").(map[string]any)
	if rules["defaultAction"] != "Deny" || rules["virtualNetworkRules"] != nil || len(rules["ipRules"].([]any)) > 0 {
		t.Errorf("with a private endpoint alone: %v", rules)
	}
	endpoint := r.one(t, "PrivateEndpoint", "")
	if endpoint.plain("subnet").(map[string]any)["id"] != "endpoints" || !strings.Contains(fmt.Sprint(endpoint.plain("privateLinkServiceConnections")), "groupIds:[blob]") {
		t.Errorf("%v", endpoint.inputs)
	}
	if !r.waitsFor(r.one(t, "VirtualMachine", ""), "PrivateDnsZoneGroup gateway-blob") {
		t.Error("the machine boots before it can find its storage account")
	}
}

// At its first boot the machine finds all that it asks for; and nobody publishes before it may.
func TestSpokeGatewayOrder(t *testing.T) {
	r, _ := mustProvision(t, nil)
	vm, bundle := r.one(t, "VirtualMachine", ""), r.one(t, "GatewayBundle", "")
	for _, before := range []string{
		"GatewayBundle gateway-bundle", "RoleAssignment gateway-reads-policy", "RoleAssignment gateway-reads-bundle",
		"RoleAssignment gateway-reports", "RoleAssignment gateway-signs", "NetworkInterface gateway-nic",
	} {
		if !r.waitsFor(vm, before) {
			t.Errorf("the machine does not wait for %s", before)
		}
	}
	for _, before := range []string{"BlobContainer gateway-bundle", "RoleAssignment gateway-deployer-publishes-bundle"} {
		if !r.waitsFor(bundle, before) {
			t.Errorf("the release does not wait for %s", before)
		}
	}
	if !vm.deleteFirst || !r.one(t, "NetworkInterface", "").deleteFirst {
		t.Error("a replacement is made while the old one holds its interface and address")
	}
	if bundle.version != Version {
		t.Errorf("the release is asked of version %q of the plugin, want %q", bundle.version, Version)
	}
	if identity := r.one(t, "UserAssignedIdentity", ""); identity.version != azureNative {
		t.Errorf("the identity is asked of version %q of azure-native", identity.version)
	}
	for _, m := range r.made {
		for _, secret := range []string{"PRIVATE KEY", "adminPassword", "connectionString"} {
			if strings.Contains(fmt.Sprint(m.inputs.Mappable()), secret) {
				t.Errorf("%s %s has a %s", m.token, m.name, secret)
			}
		}
	}
}

func TestSpokeGatewayRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*SpokeGatewayArgs)
		path   string
	}{
		"address":               {func(a *SpokeGatewayArgs) { a.Address = "gateway" }, "address"},
		"sovereign cloud":       {func(a *SpokeGatewayArgs) { a.Location = "chinanorth3" }, "location"},
		"no agents":             {func(a *SpokeGatewayArgs) { a.AgentPrefixes = nil }, "agentPrefixes"},
		"everybody":             {func(a *SpokeGatewayArgs) { a.AgentPrefixes = []string{"0.0.0.0/0"} }, "agentPrefixes[0]"},
		"among its agents":      {func(a *SpokeGatewayArgs) { a.Address = "10.20.3.4" }, "agentPrefixes[1]"},
		"no release":            {func(a *SpokeGatewayArgs) { a.BundleFile = "" }, "bundleFile"},
		"pin scope":             {func(a *SpokeGatewayArgs) { a.PinScope = ptr("all") }, "pinScope"},
		"shared, no resolvers":  {func(a *SpokeGatewayArgs) { a.PinScope = ptr("shared") }, "dnsClients"},
		"resolvers, not shared": {func(a *SpokeGatewayArgs) { a.DNSClients = []string{"10.0.0.0/28"} }, "dnsClients"},
		"egress":                {func(a *SpokeGatewayArgs) { a.Egress = ptr("none") }, "egress"},
		"private deployer":      {func(a *SpokeGatewayArgs) { a.DeployerAddresses = []string{"10.1.2.3"} }, "deployerAddresses[0]"},
		"everybody deploys":     {func(a *SpokeGatewayArgs) { a.DeployerAddresses = []string{"0.0.0.0/0"} }, "deployerAddresses[0]"},
		"SSH from nowhere":      {func(a *SpokeGatewayArgs) { a.SSHPublicKey = ptr("ssh-ed25519 AAAA") }, "sshSources"},
		"SSH for nobody":        {func(a *SpokeGatewayArgs) { a.SSHSources = []string{"10.20.5.0/26"} }, "sshPublicKey"},
		"SSH from the Internet": {func(a *SpokeGatewayArgs) {
			a.SSHPublicKey, a.SSHSources = ptr("ssh-rsa AAAA"), []string{"198.51.100.0/24"}
		}, "sshSources[0]"},
		"SSH from everywhere":    {func(a *SpokeGatewayArgs) { a.SSHPublicKey, a.SSHSources = ptr("ssh-rsa AAAA"), []string{"0.0.0.0/0"} }, "sshSources[0]"},
		"a private key":          {func(a *SpokeGatewayArgs) { a.SSHPublicKey = ptr("-----BEGIN OPENSSH PRIVATE KEY-----") }, "sshPublicKey"},
		"two zones":              {func(a *SpokeGatewayArgs) { a.Zones = []string{"1", "2"} }, "zones"},
		"a vault without a key":  {func(a *SpokeGatewayArgs) { a.KeyID = nil }, "keyId"},
		"a root without a vault": {func(a *SpokeGatewayArgs) { a.VaultURI = nil }, "rootCertificate"},
		"an endpoint, no zone":   {func(a *SpokeGatewayArgs) { a.PrivateEndpointSubnetID = pulumi.String("s") }, "blobPrivateDnsZoneId"},
		"an Arm processor":       {func(a *SpokeGatewayArgs) { a.VMSize = ptr("Standard_D4ps_v5") }, "vmSize"},
		"a small Arm processor":  {func(a *SpokeGatewayArgs) { a.VMSize = ptr("Standard_B2pts_v2") }, "vmSize"},
		"tags from elsewhere":    {func(a *SpokeGatewayArgs) { a.ServiceTags = &ServiceTagOptions{Source: ptr("file")} }, "serviceTags.source"},
		"a role by its name":     {func(a *SpokeGatewayArgs) { a.ServiceTags = &ServiceTagOptions{RoleDefinitionID: ptr("Reader")} }, "serviceTags.roleDefinitionId"},
		"a role for nothing": {func(a *SpokeGatewayArgs) {
			a.ServiceTags = &ServiceTagOptions{Source: ptr("none"), RoleDefinitionID: ptr(subscription + "/providers/Microsoft.Authorization/roleDefinitions/x")}
		}, "serviceTags.roleDefinitionId"},
		"a prefix with host bits": {func(a *SpokeGatewayArgs) { a.AgentPrefixes = []string{"10.20.1.1/24"} }, "agentPrefixes[0]"},
	} {
		args := spokeGatewayArgs()
		c.change(&args)
		_, err := args.check()
		if !slices.Contains(refused(err), c.path) {
			t.Errorf("%s: refused %v, want %s (%v)", name, refused(err), c.path, err)
		}
		if strings.Contains(fmt.Sprint(err), "PRIVATE KEY") {
			t.Errorf("%s: the error repeats a private key", name)
		}
	}
	args := spokeGatewayArgs()
	if _, err := args.check(); err != nil {
		t.Error(err)
	}
}

// refused are the paths that an error names.
func refused(err error) (paths []string) {
	if e, ok := err.(*perrors.InputPropertiesError); ok {
		for _, d := range e.Errors {
			paths = append(paths, d.PropertyPath)
		}
	}
	return paths
}

func TestShortName(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"gateway", "g", "spoke-gateway", "spokegateway", "Spoke-Gateway", "spoke-gateway-east", "spoke-gateway-west", "2nd", "ü", strings.Repeat("x", 80)} {
		short := shortName(name)
		if len(short) > 16 || strings.Trim(short, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || short[0] < 'a' || len(short) < 1 {
			t.Errorf("%s: %s", name, short)
		}
		if other, taken := seen[short]; taken {
			t.Errorf("%s and %s are both %s", name, other, short)
		}
		seen[short] = name
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Contains(got, "gateway") {
		t.Errorf("a name that fits is not kept: %v", got)
	}
}

// nobodysKey is the key whose modulus is RSA-2048, and nothing else: anybody can compare the
// digits with the published ones.
func TestNobodysKey(t *testing.T) {
	const rsa2048 = "25195908475657893494027183240048398571429282126204032027777137836043662020707595556264018525880784406918290641" +
		"24951508218929855914917618450280848912007284499268739280728777673597141834727026189637501497182469116507761337" +
		"98590957000973304597488084284017974291006424586918171951187461215151726546322822168699875491824224336372590851" +
		"41865462043576798423387184774447920739934236584823824281198163815010674810451660377306056201619676256133844143" +
		"60383390441495263443219011465754445417842402092461651572335077870774981712577246796292638635637328991215483143" +
		"8167899885040445364023527381951378636564391212010397122822120720357"
	n, _ := new(big.Int).SetString(rsa2048, 10)
	field := func(b []byte) []byte {
		return append([]byte{byte(len(b) >> 24), byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))}, b...)
	}
	blob := slices.Concat(field([]byte("ssh-rsa")), field([]byte{1, 0, 1}), field(append([]byte{0}, n.Bytes()...)))
	if want := "ssh-rsa " + base64.StdEncoding.EncodeToString(blob) + " nobody"; nobodysKey != want || n.BitLen() != 2048 {
		t.Errorf("the key is not that of RSA-2048:\n%s", want)
	}
}
