package arm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// world is a subscription with one resource group, and short ways to ask for things in it.
type world struct {
	t *testing.T
	*Control
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "arm.json"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, c}
	w.make("", `{"location":"eastus2"}`)
	return w
}

// id is the full id of what stands in the resource group: net/… is Microsoft.Network/….
func (w *world) id(path string) string {
	const group = "/subscriptions/00000000-0000-4000-8000-000000000005/resourceGroups/rg"
	if path == "" {
		return group
	}
	if strings.HasPrefix(path, "/") {
		return path
	}
	for short, long := range map[string]string{
		"vnets": "Network/virtualNetworks", "nsgs": "Network/networkSecurityGroups", "tables": "Network/routeTables", "nics": "Network/networkInterfaces",
		"ips": "Network/publicIPAddresses", "nats": "Network/natGateways", "endpoints": "Network/privateEndpoints", "zones": "Network/privateDnsZones",
		"policies": "Network/dnsResolverPolicies", "lists": "Network/dnsResolverDomainLists", "vms": "Compute/virtualMachines", "identities": "ManagedIdentity/userAssignedIdentities",
		"storage": "Storage/storageAccounts", "vaults": "KeyVault/vaults", "envs": "App/managedEnvironments", "registries": "ContainerRegistry/registries", "jobs": "App/jobs", "cosmos": "DocumentDB/databaseAccounts", "search": "Search/searchServices", "ai": "CognitiveServices/accounts",
	} {
		if rest, ok := strings.CutPrefix(path, short+"/"); ok {
			return group + "/providers/Microsoft." + long + "/" + rest
		}
	}
	return group + "/providers/" + path
}

// try sends a PUT. In the body <path> stands for the id of path, and <path#principalId> for its identity.
func (w *world) try(path, body string) (Object, error) {
	w.t.Helper()
	return w.Put(w.id(path), w.body(body))
}

func (w *world) body(body string) Object {
	w.t.Helper()
	var b strings.Builder
	for rest := body; ; {
		before, after, ok := strings.Cut(rest, "<")
		b.WriteString(before)
		if !ok {
			break
		}
		ref, tail, _ := strings.Cut(after, ">")
		if at, who := strings.CutSuffix(ref, "#principalId"); who {
			o := w.get(at)
			b.WriteString(cmp.Or(o.Text("identity", "principalId"), o.Text("properties", "principalId")))
		} else {
			b.WriteString(w.id(ref))
		}
		rest = tail
	}
	var o Object
	if err := json.Unmarshal([]byte(b.String()), &o); err != nil {
		w.t.Fatalf("%s: %v", body, err)
	}
	return o
}

func (w *world) make(path, body string) Object {
	w.t.Helper()
	o, err := w.try(path, body)
	if err != nil {
		w.t.Fatalf("%s: %v", path, err)
	}
	return o
}

func (w *world) delete(path string) error { return w.Delete(w.id(path)) }

func (w *world) get(path string) Object {
	w.t.Helper()
	o, err := w.Get(w.id(path))
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// Bodies that Azure takes.
func vnetBody(prefix string) string {
	return fmt.Sprintf(`{"location":"eastus2","properties":{"addressSpace":{"addressPrefixes":[%q]}}}`, prefix)
}

func subnetBody(prefix string, more ...string) string {
	return fmt.Sprintf(`{"properties":{%s}}`, strings.Join(append([]string{fmt.Sprintf(`"addressPrefix":%q`, prefix)}, more...), ","))
}

const delegated = `"delegations":[{"name":"app","properties":{"serviceName":"Microsoft.App/environments"}}]`

func nicBody(subnet string, more ...string) string {
	return fmt.Sprintf(`{"location":"eastus2","properties":{"ipConfigurations":[{"name":"a","properties":{%s}}]}}`, strings.Join(append([]string{`"subnet":{"id":"<` + subnet + `>"}`}, more...), ","))
}

func static(address string) string {
	return fmt.Sprintf(`"privateIPAllocationMethod":"Static","privateIPAddress":%q`, address)
}

const ipBody = `{"location":"eastus2","sku":{"name":"Standard"},"properties":{"publicIPAllocationMethod":"Static"}}`

// machine is a body with some parts changed: old, new, old, new…
func machine(changes ...string) string {
	return strings.NewReplacer(changes...).Replace(`{"location":"eastus2","properties":{"hardwareProfile":{"vmSize":"Standard_D2s_v5"},
		"storageProfile":{"imageReference":{"publisher":"Canonical","offer":"ubuntu-24_04-lts","sku":"server","version":"latest"},"osDisk":{"createOption":"FromImage"}},
		"osProfile":{"computerName":"gw","adminUsername":"bulkhead","linuxConfiguration":{"disablePasswordAuthentication":true,"ssh":{"publicKeys":[{"path":"/home/bulkhead/.ssh/authorized_keys","keyData":"ssh-rsa AAAA"}]}}},
		"securityProfile":{"securityType":"TrustedLaunch","uefiSettings":{"secureBootEnabled":true,"vTpmEnabled":true}},
		"userData":"I2Nsb3Vk",
		"networkProfile":{"networkInterfaces":[{"id":"<nics/n>"}]}}}`)
}

func vaultBody(changes ...string) string {
	return strings.NewReplacer(changes...).Replace(`{"location":"eastus2","properties":{"tenantId":"72f5a2a0-0000-4000-8000-00000000b01d","sku":{"family":"A","name":"standard"},"enableRbacAuthorization":true,"enablePurgeProtection":true,"softDeleteRetentionInDays":90}}`)
}

func keyBody(changes ...string) string {
	return strings.NewReplacer(changes...).Replace(`{"properties":{"kty":"EC","curveName":"P-256","keyOps":["sign"],"attributes":{"enabled":true,"exportable":false}}}`)
}

const storageBody = `{"location":"eastus2","kind":"StorageV2","sku":{"name":"Standard_LRS"},"properties":{"allowBlobPublicAccess":false}}`

func cosmosBody(changes ...string) string {
	return strings.NewReplacer(changes...).Replace(`{"location":"eastus2","kind":"GlobalDocumentDB","properties":{"databaseAccountOfferType":"Standard","locations":[{"locationName":"eastus2","failoverPriority":0}],"publicNetworkAccess":"Disabled"}}`)
}

func searchBody(changes ...string) string {
	return strings.NewReplacer(changes...).Replace(`{"location":"eastus2","sku":{"name":"standard"},"identity":{"type":"SystemAssigned"},"properties":{"replicaCount":1,"partitionCount":1,"disableLocalAuth":true,"publicNetworkAccess":"disabled"}}`)
}

func accountBody(subnet string) string {
	return `{"location":"eastus2","kind":"AIServices","sku":{"name":"S0"},"identity":{"type":"SystemAssigned"},"properties":{"allowProjectManagement":true,"customSubDomainName":"agents",
		"networkInjections":[{"scenario":"agent","subnetArmId":"<` + subnet + `>","useMicrosoftManagedNetwork":false}]}}`
}

func roleBody(principal, role string, more ...string) string {
	return fmt.Sprintf(`{"properties":{%s}}`, strings.Join(append([]string{fmt.Sprintf(`"principalId":%q,"roleDefinitionId":"/subscriptions/00000000-0000-4000-8000-000000000005/providers/Microsoft.Authorization/roleDefinitions/%s"`, principal, role)}, more...), ","))
}

// standard has the network that most rules are tried in: subnets a (with service endpoints),
// b (for private endpoints) and agents (delegated).
func (w *world) standard() {
	w.t.Helper()
	w.make("vnets/v", vnetBody("10.0.0.0/16"))
	w.make("vnets/v/subnets/a", subnetBody("10.0.0.0/24", `"serviceEndpoints":[{"service":"Microsoft.Storage"},{"service":"Microsoft.KeyVault"}]`))
	w.make("vnets/v/subnets/b", subnetBody("10.0.1.0/24"))
	w.make("vnets/v/subnets/agents", subnetBody("10.0.2.0/24", delegated))
}
