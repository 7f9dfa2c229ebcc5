package azurenative

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"

	p "github.com/pulumi/pulumi-go-provider"
)

// spoke is a network with a gateway, as the components make it.
type spoke struct {
	*stack
	order                                                        []made
	group, vnet, gateway, agents, nic, vm, identity, vault, root made
	account, containers, role, routes, nsg, environment, blobs   made
}

const location = "eastus2"

func (s *spoke) add(token, name string, in props) made {
	s.t.Helper()
	if in["resourceGroupName"] == nil && token != "authorization:RoleAssignment" && token != "resources:ResourceGroup" {
		in["resourceGroupName"] = s.group.get("name")
	}
	m := s.make(token, name, in)
	s.order = append(s.order, m)
	return m
}

func newSpoke(t *testing.T) *spoke {
	t.Helper()
	s := &spoke{stack: newStack(t)}
	const net = "network/v20240501:"
	s.group = s.add("resources:ResourceGroup", "spoke", props{"location": location})
	s.vnet = s.add(net+"VirtualNetwork", "spoke", props{"location": location, "addressSpace": props{"addressPrefixes": []any{"10.20.0.0/16"}},
		"dhcpOptions": props{"dnsServers": []any{"10.20.0.4"}}})
	s.gateway = s.add(net+"Subnet", "gateway", props{"virtualNetworkName": s.vnet.get("name"), "addressPrefix": "10.20.0.0/27", "defaultOutboundAccess": false,
		"serviceEndpoints": []any{props{"service": "Microsoft.Storage"}, props{"service": "Microsoft.KeyVault"}}})
	s.vault = s.add("keyvault:Vault", "inspection", props{"location": location, "properties": props{
		"tenantId": s.settings().Tenant, "sku": props{"family": "A", "name": "standard"}, "enableRbacAuthorization": true, "enablePurgeProtection": true,
		"enableSoftDelete": true, "softDeleteRetentionInDays": 90.0, "publicNetworkAccess": "Enabled",
		"networkAcls": props{"defaultAction": "Deny", "bypass": "None", "ipRules": []any{props{"value": "203.0.113.10/32"}}, "virtualNetworkRules": []any{props{"id": s.gateway.id}}}}})
	s.root = s.add("keyvault:Key", "root", props{"vaultName": s.vault.get("name"), "keyName": "bulkhead-root",
		"properties": props{"kty": "EC", "curveName": "P-256", "keyOps": []any{"sign"}, "attributes": props{"enabled": true, "exportable": false}}})
	s.account = s.add("storage:StorageAccount", "gw", props{"location": location, "kind": "StorageV2", "sku": props{"name": "Standard_LRS"}, "allowSharedKeyAccess": false,
		"allowBlobPublicAccess": false, "enableHttpsTrafficOnly": true, "minimumTlsVersion": "TLS1_2", "publicNetworkAccess": "Enabled",
		"networkRuleSet": props{"defaultAction": "Deny", "bypass": "None", "ipRules": []any{props{"action": "Allow", "iPAddressOrRange": "203.0.113.10"}},
			"virtualNetworkRules": []any{props{"action": "Allow", "virtualNetworkResourceId": s.gateway.id}}}})
	s.blobs = s.add("storage:BlobServiceProperties", "blobs", props{"accountName": s.account.get("name"), "blobServicesName": "default", "isVersioningEnabled": true,
		"deleteRetentionPolicy": props{"enabled": true, "days": 30.0}})
	s.containers = s.add("storage:BlobContainer", "policy", props{"accountName": s.account.get("name"), "publicAccess": "None"})
	s.identity = s.add("managedidentity:UserAssignedIdentity", "gateway-identity", props{"location": location})
	s.role = s.add("authorization:RoleAssignment", "reads", props{"scope": s.containers.id, "principalId": s.identity.get("principalId"), "principalType": "ServicePrincipal",
		"roleDefinitionId": "/subscriptions/" + s.settings().Subscription + "/providers/Microsoft.Authorization/roleDefinitions/2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"})
	public := s.add(net+"PublicIPAddress", "egress", props{"location": location, "sku": props{"name": "Standard", "tier": "Regional"}, "publicIPAllocationMethod": "Static"})
	s.nic = s.add(net+"NetworkInterface", "gateway-nic", props{"location": location, "enableIPForwarding": true, "enableAcceleratedNetworking": true,
		"dnsSettings": props{"dnsServers": []any{"AzureProvidedDNS"}},
		"ipConfigurations": []any{props{"name": "gateway", "primary": true, "subnet": props{"id": s.gateway.id}, "privateIPAddress": "10.20.0.4",
			"privateIPAllocationMethod": "Static", "publicIPAddress": props{"id": public.id}}}})
	s.vm = s.add("compute:VirtualMachine", "gateway", props{"location": location, "hardwareProfile": props{"vmSize": "Standard_D2s_v5"},
		"identity":        props{"type": "UserAssigned", "userAssignedIdentities": []any{s.identity.id}},
		"securityProfile": props{"securityType": "TrustedLaunch", "uefiSettings": props{"secureBootEnabled": true, "vTpmEnabled": true}, "encryptionAtHost": false},
		"storageProfile": props{"imageReference": props{"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"},
			"osDisk": props{"createOption": "FromImage", "caching": "ReadWrite", "deleteOption": "Delete", "managedDisk": props{"storageAccountType": "Premium_LRS"}}},
		"osProfile": props{"computerName": "gateway", "adminUsername": "bulkhead", "linuxConfiguration": props{"disablePasswordAuthentication": true,
			"ssh": props{"publicKeys": []any{props{"path": "/home/bulkhead/.ssh/authorized_keys", "keyData": "ssh-rsa AAAA"}}}}},
		"networkProfile": props{"networkInterfaces": []any{props{"id": s.nic.id, "primary": true}}},
		"userData":       base64.StdEncoding.EncodeToString([]byte("#cloud-config")),
	})
	s.routes = s.add(net+"RouteTable", "agents-routes", props{"location": location, "disableBgpRoutePropagation": true, "routes": []any{
		props{"name": "default", "addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.20.0.4"}}})
	s.nsg = s.add(net+"NetworkSecurityGroup", "agents-nsg", props{"location": location, "securityRules": []any{props{"name": "deny-azure-dns", "priority": 100.0,
		"direction": "Outbound", "access": "Deny", "protocol": "*", "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "AzurePlatformDNS", "destinationPortRange": "*"}}})
	s.agents = s.add(net+"Subnet", "agents", props{"virtualNetworkName": s.vnet.get("name"), "subnetName": "agents", "addressPrefix": "10.20.1.0/24",
		"defaultOutboundAccess": false, "networkSecurityGroup": props{"id": s.nsg.id}, "routeTable": props{"id": s.routes.id},
		"delegations": []any{props{"name": "app", "serviceName": "Microsoft.App/environments"}}})
	s.environment = s.add("app/v20250101:ManagedEnvironment", "canary", props{"location": location, "vnetConfiguration": props{"infrastructureSubnetId": s.agents.id, "internal": true},
		"workloadProfiles": []any{props{"name": "Consumption", "workloadProfileType": "Consumption"}}})
	return s
}

func TestSpokeOutputs(t *testing.T) {
	s := newSpoke(t)
	rg := "/subscriptions/" + s.settings().Subscription + "/resourceGroups/" + s.group.get("name").(string)
	for what, c := range map[string]struct{ got, want any }{
		"group id":       {s.group.id, rg},
		"subnet id":      {s.agents.id, rg + "/providers/Microsoft.Network/virtualNetworks/" + s.vnet.get("name").(string) + "/subnets/agents"},
		"route id":       {arrayOf(s.routes, "routes", "id"), s.routes.id + "/routes/default"},
		"address":        {arrayOf(s.nic, "ipConfigurations", "privateIPAddress"), "10.20.0.4"},
		"ip config id":   {arrayOf(s.nic, "ipConfigurations", "id"), s.nic.id + "/ipConfigurations/gateway"},
		"blob endpoint":  {s.account.get("primaryEndpoints.blob"), "https://" + s.account.get("name").(string) + ".blob.core.windows.net/"},
		"vault uri":      {s.vault.get("properties.vaultUri"), "https://" + s.vault.get("name").(string) + ".vault.azure.net/"},
		"firewall":       {s.account.get("networkRuleSet.defaultAction"), "Deny"},
		"container id":   {s.containers.id, s.account.id + "/blobServices/default/containers/policy"},
		"user data":      {s.vm.get("userData"), nil}, // Azure does not show it
		"role scope":     {s.role.get("scope"), s.containers.id},
		"key uri":        {s.root.get("properties.keyUri"), nil},
		"key's key uri":  {s.root.get("keyUri"), s.vault.get("properties.vaultUri").(string) + "keys/bulkhead-root"},
		"rule":           {arrayOf(s.nsg, "securityRules", "provisioningState"), "Succeeded"},
		"subnet of vnet": {s.vnet.get("subnets"), []any{}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	for _, id := range []string{"principalId", "clientId", "tenantId"} {
		if v, _ := s.identity.get(id).(string); len(v) != 36 {
			t.Errorf("%s: %q", id, v)
		}
	}
}

func arrayOf(m made, list, key string) any {
	return m.get(list).([]any)[0].(map[string]any)[key]
}

// TestNothingChangesBySecondUp holds for every type what a second pulumi up and a refresh ask.
func TestNothingChangesBySecondUp(t *testing.T) {
	s := newSpoke(t)
	for _, m := range s.order {
		again, err := s.server.Check(p.CheckRequest{Urn: m.urn, State: m.in, Inputs: m.in, RandomSeed: []byte("another")})
		if err != nil || len(again.Failures) > 0 {
			t.Fatal(m.urn, err, again.Failures)
		}
		diff, err := s.server.Diff(p.DiffRequest{ID: m.id, Urn: m.urn, State: m.out, OldInputs: m.in, Inputs: again.Inputs})
		if err != nil || diff.HasChanges {
			t.Errorf("%s: changes %v, %v", m.urn, diff.DetailedDiff, err)
		}
		read, err := s.server.Read(p.ReadRequest{ID: m.id, Urn: m.urn, Properties: m.out, Inputs: m.in})
		if err != nil || read.ID != m.id {
			t.Fatalf("%s: read %q: %v", m.urn, read.ID, err)
		}
		diff, err = s.server.Diff(p.DiffRequest{ID: m.id, Urn: m.urn, State: read.Properties, OldInputs: read.Inputs, Inputs: m.in})
		if err != nil || diff.HasChanges {
			t.Errorf("%s: after a refresh %v, %v", m.urn, diff.DetailedDiff, err)
		}
		updated, err := s.server.Update(p.UpdateRequest{ID: m.id, Urn: m.urn, State: m.out, OldInputs: m.in, Inputs: m.in})
		if err != nil {
			t.Errorf("%s: update: %v", m.urn, err)
		}
		_ = updated
	}
	vnet, err := s.control.Get(s.vnet.id)
	if err != nil || len(vnet.List("properties", "subnets")) != 2 {
		t.Errorf("an update of the network without subnets leaves %v, %v", vnet.At("properties", "subnets"), err)
	}
}

func TestDestroy(t *testing.T) {
	s := newSpoke(t)
	for i := len(s.order) - 1; i >= 0; i-- {
		m := s.order[i]
		err := s.server.Delete(p.DeleteRequest{ID: m.id, Urn: m.urn, Properties: m.out, OldInputs: m.in})
		if strings.HasSuffix(m.id, "/keys/bulkhead-root") { // the vault is asked, and the deployer has no role there
			if err == nil || !strings.Contains(err.Error(), "Forbidden") {
				t.Errorf("the key was deleted without a role: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", m.urn, err)
		}
	}
	state, err := s.control.State()
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Resources) != 0 || len(state.Deleted) != 2 {
		t.Errorf("left: %v, deleted: %v", state.Resources, state.Deleted)
	}
}
