package arm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestStrict(t *testing.T) {
	for _, c := range []struct{ name, path, body, want string }{
		{"unknown key", "vnets/v", `{"location":"eastus2","propertys":{}}`, "'propertys' on object of type 'VirtualNetwork'. Path 'propertys'"},
		{"unknown key deep within", "vnets/v", `{"location":"eastus2","properties":{"subnets":[{"name":"s","properties":{"addressPrefix":"10.0.0.0/24","delegations":[{"name":"d","serviceName":"x"}]}}]}}`,
			"'serviceName' on object of type 'Delegation'. Path 'properties.subnets[0].properties.delegations[0].serviceName'"},
		{"wrong case", "vnets/v", `{"location":"eastus2","properties":{"AddressSpace":{}}}`, "'AddressSpace'"},
		{"a number for a text", "vnets/v", `{"location":5,"properties":{}}`, "could not be deserialized"},
		{"unknown value", "nsgs/g", `{"location":"eastus2","properties":{"securityRules":[{"name":"r","properties":{"access":"Maybe"}}]}}`, `"Maybe" to type 'SecurityRuleAccess'`},
		{"map of objects", "vms/m", `{"location":"eastus2","identity":{"userAssignedIdentities":{"x":{"nope":1}}}}`, "Path 'identity.userAssignedIdentities['x'].nope'"},
		{"vault", "vaults/kv", `{"location":"eastus2","properties":{"enableRBAC":true}}`, "'enableRBAC'"},
		{"storage", "storage/account1", `{"location":"eastus2","properties":{"networkRuleSet":{}}}`, "'networkRuleSet'"},
		{"role", assignment("1"), `{"properties":{"principal":"x"}}`, "'principal'"},
		{"identity", "identities/one", `{"location":"eastus2","properties":{"x":1}}`, "'x'"},
		{"environment", "envs/e", `{"location":"eastus2","properties":{"vnetConfig":{}}}`, "'vnetConfig'"},
		{"account", "ai/one", `{"location":"eastus2","properties":{"networkInjection":[]}}`, "'networkInjection'"},
		{"zone", "zones/a.example", `{"location":"global","zone":1}`, "'zone'"},
		{"DNS policy", "policies/p", `{"location":"eastus2","rules":[]}`, "'rules'"},
		{"group", "", `{"location":"eastus2","region":1}`, "'region'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newWorld(t).try(c.path, c.body)
			var refused *Error
			if !errors.As(err, &refused) || refused.Code != "InvalidRequestContent" || !strings.Contains(refused.Message, c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestModels: the names on the wire are learned from generated code; each type must yield some.
func TestModels(t *testing.T) {
	for _, k := range kinds {
		if fields := Fields(k.model); fields["id"] == nil || fields["name"] == nil {
			t.Errorf("%s: %v", k.name, fields)
		}
	}
}

func TestComputed(t *testing.T) {
	w := newWorld(t)
	w.standard()
	for i, want := range []string{"10.0.0.4", "10.0.0.5"} {
		o := w.make(fmt.Sprintf("nics/n%d", i), nicBody("vnets/v/subnets/a"))
		if got := o.List("properties", "ipConfigurations")[0].Text("properties", "privateIPAddress"); got != want {
			t.Errorf("address %s, want %s", got, want)
		}
	}
	if err := w.delete("nics/n0"); err != nil {
		t.Fatal(err)
	}
	again := w.make("nics/n1", nicBody("vnets/v/subnets/a"))
	if got := again.List("properties", "ipConfigurations")[0].Text("properties", "privateIPAddress"); got != "10.0.0.5" {
		t.Errorf("a dynamic address moved to %s while its interface stayed", got)
	}

	w.make("vnets/w", vnetBody("10.1.0.0/16"))
	one := w.make("vnets/v/virtualNetworkPeerings/w", `{"properties":{"remoteVirtualNetwork":{"id":"<vnets/w>"}}}`)
	if got := one.Text("properties", "peeringState"); got != "Initiated" {
		t.Errorf("one side alone is %s", got)
	}
	w.make("vnets/w/virtualNetworkPeerings/v", `{"properties":{"remoteVirtualNetwork":{"id":"<vnets/v>"}}}`)
	if got := w.get("vnets/v/virtualNetworkPeerings/w").Text("properties", "peeringState"); got != "Connected" {
		t.Errorf("both sides are %s", got)
	}
	if err := w.delete("vnets/w/virtualNetworkPeerings/v"); err != nil {
		t.Fatal(err)
	}
	if got := w.get("vnets/v/virtualNetworkPeerings/w").Text("properties", "peeringState"); got != "Disconnected" {
		t.Errorf("the side that is left is %s", got)
	}

	w.make("storage/account1", storageBody)
	w.make("zones/privatelink.blob.core.windows.net", `{"location":"global"}`)
	w.make("endpoints/e", endpointBody("vnets/v/subnets/b", "blob"))
	w.make("endpoints/e/privateDnsZoneGroups/g", `{"properties":{"privateDnsZoneConfigs":[{"name":"z","properties":{"privateDnsZoneId":"<zones/privatelink.blob.core.windows.net>"}}]}}`)
	record := w.get("zones/privatelink.blob.core.windows.net/A/account1")
	if got := record.List("properties", "aRecords")[0].Text("ipv4Address"); got != "10.0.1.4" {
		t.Errorf("the endpoint's name has the address %s", got)
	}
	if err := w.delete("endpoints/e"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Get(w.id("zones/privatelink.blob.core.windows.net/A/account1")); !NotFound(err) {
		t.Errorf("the record outlives its endpoint: %v", err)
	}
}

// TestParts: what a network or a table holds inline is what stands in it alone, and the other way.
func TestParts(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.make("vnets/v", vnetBody("10.0.0.0/16"))
	if got := len(w.get("vnets/v").List("properties", "subnets")); got != 3 {
		t.Errorf("a PUT without subnets leaves %d of 3", got)
	}
	w.make("tables/t", `{"location":"eastus2","properties":{"routes":[{"name":"a","properties":{"addressPrefix":"10.1.0.0/16","nextHopType":"None"}}]}}`)
	w.make("tables/t/routes/b", `{"properties":{"addressPrefix":"10.2.0.0/16","nextHopType":"None"}}`)
	if got := len(w.get("tables/t").List("properties", "routes")); got != 2 {
		t.Errorf("an inline route and one of its own are %d", got)
	}
	if got := w.get("tables/t/routes/a").Text("properties", "addressPrefix"); got != "10.1.0.0/16" {
		t.Errorf("the inline route is %q", got)
	}
	w.make("tables/t", `{"location":"eastus2","properties":{"routes":[{"name":"a","properties":{"addressPrefix":"10.1.0.0/16","nextHopType":"None"}}]}}`)
	if _, err := w.Get(w.id("tables/t/routes/b")); !NotFound(err) {
		t.Errorf("a PUT with a list leaves a route that it does not name: %v", err)
	}
	if _, err := w.Patch(w.id("tables/t"), Object{"tags": map[string]any{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	if o := w.get("tables/t"); o.Text("tags", "a") != "b" || len(o.List("properties", "routes")) != 1 {
		t.Errorf("a PATCH of tags leaves %v", o)
	}
}

// TestRefusalLeavesNothing: an inline subnet that is refused takes the whole request with it.
func TestRefusalLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.standard()
	before, err := os.ReadFile(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.try("vnets/v", `{"location":"eastus2","tags":{"a":"b"},"properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"x","properties":{"addressPrefix":"10.0.7.0/24"}},{"name":"y","properties":{"addressPrefix":"11.0.0.0/24"}}]}}`)
	if Code(err) != "NetcfgSubnetRangeOutsideVnet" {
		t.Fatal(err)
	}
	after, err := os.ReadFile(w.Path())
	if err != nil || string(before) != string(after) {
		t.Errorf("a refused request changed the state (%v)", err)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		mode  Mode
		code  string
		there bool
		state string
	}{
		{Before, "InternalServerError", false, ""},
		{Throttle, "TooManyRequests", false, ""},
		{Lost, "ConnectionReset", true, "Succeeded"},
		{Died, "Unrecorded", true, "Succeeded"},
		{Accepted, "InternalExecutionError", true, "Failed"},
	} {
		t.Run(string(c.mode), func(t *testing.T) {
			w := newWorld(t)
			if err := w.Inject(Fault{Type: typeVNet, Name: "v*", Operation: "create", Mode: c.mode}); err != nil {
				t.Fatal(err)
			}
			w.make("vnets/other", vnetBody("10.9.0.0/16"))
			if _, err := w.try("vnets/v1", vnetBody("10.0.0.0/16")); Code(err) != c.code {
				t.Errorf("%v, want %s", err, c.code)
			}
			o, err := w.Get(w.id("vnets/v1"))
			if (err == nil) != c.there || o.Text("properties", "provisioningState") != c.state {
				t.Errorf("left %v, %v", o, err)
			}
			w.make("vnets/v1", vnetBody("10.0.0.0/16")) // the fault is used up
			if got := w.get("vnets/v1").Text("properties", "provisioningState"); got != "Succeeded" {
				t.Errorf("after the second request the state is %s", got)
			}
		})
	}
	w := newWorld(t)
	w.make("vnets/v", vnetBody("10.0.0.0/16"))
	if err := w.Inject(Fault{Operation: "delete", Mode: Lost}); err != nil {
		t.Fatal(err)
	}
	if err := w.delete("vnets/v"); Code(err) != "ConnectionReset" {
		t.Error(err)
	}
	if _, err := w.Get(w.id("vnets/v")); !NotFound(err) {
		t.Errorf("the reply was lost, not the deletion: %v", err)
	}
}

func TestRolesTakeAWhile(t *testing.T) {
	w := newWorld(t)
	if err := w.Edit(func(s *State) error { s.Settings.RoleDelay, s.Settings.DirectoryDelay = 2, 1; return nil }); err != nil {
		t.Fatal(err)
	}
	user := w.make("identities/gateway", `{"location":"eastus2"}`)
	principal := user.Text("properties", "principalId")
	w.make("storage/account1", storageBody)
	container := w.make("storage/account1/blobServices/default/containers/policy", `{}`).Text("id")
	at := container + "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-000000000001"
	if _, err := w.try(at, roleBody(principal, "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1")); Code(err) != "PrincipalNotFound" {
		t.Errorf("a principal made a moment ago, of no said type: %v", err)
	}
	w.make(at, roleBody(principal, "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", `"principalType":"ServicePrincipal"`))
	read, write := blobActions+"read", blobActions+"write"
	for i, want := range []bool{false, false, true, true} {
		if err := w.Authorized(principal, read, container+"/blobs/ruleset.json"); (err == nil) != want {
			t.Errorf("question %d: %v", i, err)
		}
	}
	for what, err := range map[string]error{
		"write":           w.Authorized(principal, write, container+"/blobs/ruleset.json"),
		"other container": w.Authorized(principal, read, strings.Replace(container, "policy", "bundle", 1)),
		"longer name":     w.Authorized(principal, read, container+"2"),
		"other principal": w.Authorized(deployer, read, container),
	} {
		if err == nil {
			t.Errorf("%s is permitted", what)
		}
	}
	w.make(assignment("2"), roleBody(principal, "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", `"principalType":"ServicePrincipal"`))
	for i, want := range []bool{false, false, true} {
		if err := w.Authorized(principal, "Microsoft.Storage/storageAccounts/write", container); (err == nil) != want {
			t.Errorf("question %d of the owner: %v", i, err)
		}
	}
	if err := w.Authorized(principal, write, container); err == nil {
		t.Error("an owner writes blobs: that is a data action")
	}
	if err := w.Authorized(deployer, "Microsoft.Network/virtualNetworks/read", container); err != nil {
		t.Errorf("the deployer owns the subscription: %v", err)
	}
}

func TestKeysAreDeletedByTheVault(t *testing.T) {
	w := newWorld(t)
	w.make("vaults/kv-one", vaultBody())
	k := w.make("vaults/kv-one/keys/root", keyBody())
	version := k.Text("properties", "keyUriWithVersion")
	if again := w.make("vaults/kv-one/keys/root", keyBody(`"sign"`, `"verify"`)); again.Text("properties", "keyUriWithVersion") != version || again.Texts("properties", "keyOps")[0] != "sign" {
		t.Errorf("a second PUT changed the key: %v", again)
	}
	if err := w.DeleteKey(deployer, k.Text("id")); Code(err) != "Forbidden" {
		t.Errorf("without a role: %v", err)
	}
	w.make(k.Text("id")+"/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-000000000001", roleBody(deployer, "12338af0-0e69-4776-bea7-57ae8d297424"))
	if err := w.DeleteKey(deployer, k.Text("id")); Code(err) != "Forbidden" {
		t.Errorf("a crypto user: %v", err)
	}
	w.make(k.Text("id")+"/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-000000000002", roleBody(deployer, "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"))
	if err := w.DeleteKey(deployer, k.Text("id")); err != nil {
		t.Error(err)
	}
}

// TestGroupGoesWithAllInIt, as az group delete does, and leaves the vault deleted softly.
func TestGroupGoesWithAllInIt(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.make("ips/p", ipBody)
	w.make("nics/n", nicBody("vnets/v/subnets/a", `"publicIPAddress":{"id":"<ips/p>"}`))
	w.make("vms/m", machine())
	w.make("vaults/kv-one", vaultBody())
	w.make("vaults/kv-one/keys/root", keyBody())
	w.make("storage/account1", storageBody)
	w.make("storage/account1/blobServices/default", `{}`)
	if err := w.delete(""); err != nil {
		t.Fatal(err)
	}
	state, err := w.State()
	if err != nil || len(state.Resources) != 0 || len(state.Deleted) != 2 {
		t.Errorf("left %v, deleted %v, %v", state.Resources, state.Deleted, err)
	}
}

// TestRead is the other side of PUT: what the official clients read.
func TestRead(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.make("vaults/kv-one", vaultBody())
	w.make("vaults/kv-two", vaultBody())
	w.make("storage/account1", storageBody)
	w.make("storage/account1/blobServices/default/containers/policy", `{}`)
	w.make(w.id("vaults/kv-one")+"/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-000000000001", roleBody(deployer, "12338af0-0e69-4776-bea7-57ae8d297424"))
	if err := w.delete("vaults/kv-two"); err != nil {
		t.Fatal(err)
	}
	const subscription = "/subscriptions/00000000-0000-4000-8000-000000000005"
	for _, c := range []struct {
		path, want string // names
	}{
		{subscription + "/resourceGroups", "rg"},
		{subscription + "/providers/Microsoft.Network/virtualNetworks", "v"},
		{w.id("") + "/providers/microsoft.network/virtualnetworks", "v"},
		{strings.ToUpper(w.id("")[:14]) + w.id("")[14:] + "x/providers/Microsoft.Network/virtualNetworks", ""},
		{w.id("vnets/v/subnets"), "a agents b"},
		{w.id("storage/account1/blobServices/default/containers"), "policy"},
		{subscription + "/providers/Microsoft.Network/loadBalancers", ""},
		{subscription + "/providers/Microsoft.KeyVault/vaults", "kv-one"},
		{subscription + "/providers/Microsoft.KeyVault/deletedVaults", "kv-two"},
		{subscription + "/providers/Microsoft.CognitiveServices/deletedAccounts", ""},
		{w.id("") + "/providers/Microsoft.Authorization/roleAssignments", "00000000-0000-4000-8000-000000000001"},
		{w.id("storage/account1") + "/providers/Microsoft.Authorization/roleAssignments", ""},
	} {
		o, err := w.Read(c.path)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		var names []string
		for _, v := range o.List("value") {
			names = append(names, v.Text("name"))
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
		}
	}
	if o, err := w.Read(w.id("vnets/v")); err != nil || o.Text("name") != "v" {
		t.Errorf("%v, %v", o, err)
	}
	for _, path := range []string{w.id("vnets/none"), w.id("vnets/none/subnets"), "/what"} {
		if _, err := w.Read(path); !NotFound(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := w.Edit(func(s *State) error { s.Settings.Unregistered = []string{"Microsoft.App"}; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.try("envs/e", `{"location":"eastus2"}`); Code(err) != "MissingSubscriptionRegistration" {
		t.Error(err)
	}
}

// TestProcesses: two other processes and this one, with several at work in each, lose nothing
// of each other's.
func TestProcesses(t *testing.T) {
	if path := os.Getenv("ARM_TEST_STATE"); path != "" {
		work(t, path, os.Getenv("ARM_TEST_NAME"))
		return
	}
	w := newWorld(t)
	w.make("vnets/v", vnetBody("10.0.0.0/8"))
	var all sync.WaitGroup
	for _, name := range []string{"one", "two"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcesses$", "-test.v")
		cmd.Env = append(os.Environ(), "ARM_TEST_STATE="+w.Path(), "ARM_TEST_NAME="+name)
		all.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	work(t, w.Path(), "three")
	all.Wait()
	nics, err := w.List(typeNIC, "")
	if err != nil || len(nics) != 60 {
		t.Errorf("%d interfaces of 60, %v", len(nics), err)
	}
	seen := map[string]bool{}
	for _, nic := range nics {
		a := nic.List("properties", "ipConfigurations")[0].Text("properties", "privateIPAddress")
		if seen[a] {
			t.Errorf("address %s was given twice", a)
		}
		seen[a] = true
	}
	if left, _ := filepath.Glob(w.Path() + ".*"); len(left) != 1 {
		t.Errorf("left behind: %v", left) // but the lock
	}
}

func work(t *testing.T, path, name string) {
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, c}
	if name == "one" || name == "two" || name == "three" {
		w.try("vnets/v/subnets/shared", subnetBody("10.0.0.0/24")) // whoever is first makes it
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 5 {
				if _, err := w.try(fmt.Sprintf("nics/%s-%d-%d", name, i, j), nicBody("vnets/v/subnets/shared")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
