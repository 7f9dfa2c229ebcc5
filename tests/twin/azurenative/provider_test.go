package azurenative

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

func TestUnknownType(t *testing.T) {
	s := newStack(t)
	for _, token := range []string{"network:AzureFirewall", "network/v20990101:Subnet"} {
		if _, err := s.server.Check(p.CheckRequest{Urn: urn(token, "x")}); err == nil || !strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", token, err)
		}
	}
	if _, err := s.server.Invoke(p.InvokeRequest{Token: "azure-native:network:getSubnet"}); err == nil {
		t.Error("an unknown function")
	}
	got, err := s.server.Invoke(p.InvokeRequest{Token: "azure-native:authorization:getClientConfig"})
	if err != nil || got.Return.Get("tenantId").AsString() != s.settings().Tenant {
		t.Errorf("%v, %v", got.Return, err)
	}
}

// TestCheck holds programs to the SDK's types.
func TestCheck(t *testing.T) {
	const subnet = "network/v20240501:Subnet"
	ok := func() props {
		return props{"resourceGroupName": "rg", "virtualNetworkName": "v", "addressPrefix": "10.0.0.0/24", "defaultOutboundAccess": false,
			"delegations": []any{props{"name": "app", "serviceName": "Microsoft.App/environments"}}}
	}
	for _, c := range []struct {
		name, token    string
		change         func(props)
		property, says string
	}{
		{"right", subnet, func(props) {}, "", ""},
		{"unknown", subnet, func(in props) { in["adressPrefix"] = "x" }, "adressPrefix", `unknown property "adressPrefix"`},
		{"unknown to this version", "network:Subnet", func(props) {}, "defaultOutboundAccess", "unknown property"},
		{"unknown within", subnet, func(in props) { in["delegations"].([]any)[0].(props)["service"] = "x" }, "delegations[0].service", "unknown property"},
		{"in Azure's shape", subnet, func(in props) { in["properties"] = props{} }, "properties", "unknown property"},
		{"missing", subnet, func(in props) { delete(in, "virtualNetworkName") }, "virtualNetworkName", "missing required property"},
		{"no boolean", subnet, func(in props) { in["defaultOutboundAccess"] = "false" }, "defaultOutboundAccess", "must be a boolean"},
		{"no list", subnet, func(in props) { in["delegations"] = props{} }, "delegations", "must be a list"},
		{"no object", subnet, func(in props) { in["routeTable"] = "id" }, "routeTable", "must be an object"},
		{"not known yet", subnet, func(in props) { in["routeTable"] = props{"id": unknown{}} }, "", ""},
		{"required, not known yet", subnet, func(in props) { in["virtualNetworkName"] = unknown{} }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := ok()
			c.change(in)
			_, failures := newStack(t).check(c.token, "agents", in)
			if c.property == "" {
				if len(failures) > 0 {
					t.Errorf("refused: %v", failures)
				}
				return
			}
			if len(failures) != 1 || failures[0].Property != c.property || !strings.Contains(failures[0].Reason, c.says) {
				t.Errorf("%v, want %s: %s", failures, c.property, c.says)
			}
		})
	}
	s := newStack(t)
	for _, c := range []struct {
		in   props
		want string
	}{
		{props{"resourceGroupName": "rg", "location": "eastus2"}, ""},
		{props{"location": "eastus2"}, "resourceGroupName"},
		{props{"resourceGroupName": "rg", "location": "eastus2", "principalId": "x"}, ""}, // flat: the model has it
		{props{"resourceGroupName": "rg", "location": "eastus2", "client": "x"}, "client"},
	} {
		_, failures := s.check("managedidentity:UserAssignedIdentity", "id", c.in)
		if c.want == "" != (len(failures) == 0) || c.want != "" && failures[0].Property != c.want {
			t.Errorf("%v: %v", c.in, failures)
		}
	}
}

func TestNames(t *testing.T) {
	s := newStack(t)
	name := func(token, logical, own string, in, old props) string {
		t.Helper()
		res, err := s.server.Check(p.CheckRequest{Urn: urn(token, logical), Inputs: values(in), State: values(old), RandomSeed: []byte("seed")})
		if err != nil {
			t.Fatal(err)
		}
		return res.Inputs.Get(own).AsString()
	}
	for _, c := range []struct {
		token, own, want string
		in, old          props
	}{
		{"network:VirtualNetwork", "virtualNetworkName", `^spoke[0-9a-f]{8}$`, props{}, nil},
		{"network:VirtualNetwork", "virtualNetworkName", `^mine$`, props{"virtualNetworkName": "mine"}, nil},
		{"network:VirtualNetwork", "virtualNetworkName", `^spoke00000000$`, props{}, props{"virtualNetworkName": "spoke00000000"}},
		{"network:Subnet", "subnetName", `^spoke$`, props{}, nil},
		{"storage:BlobContainer", "containerName", `^spoke$`, props{}, nil},
		{"resources:ResourceGroup", "resourceGroupName", `^spoke[0-9a-f]{8}$`, props{}, nil},
		{"authorization:RoleAssignment", "roleAssignmentName", `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$`, props{}, nil},
		{"managedidentity:UserAssignedIdentity", "resourceName", `^spoke[0-9a-f]{8}$`, props{}, nil},
	} {
		if got := name(c.token, "spoke", c.own, c.in, c.old); !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("%s: %q, want %s", c.token, got, c.want)
		}
	}
	// The location is the group's where a program gives none.
	g := s.make("resources:ResourceGroup", "g", props{"location": "westus3"})
	in, failures := s.check("network:RouteTable", "t", props{"resourceGroupName": g.get("name")})
	if len(failures) > 0 || in.Get("location").AsString() != "westus3" {
		t.Errorf("location: %v, %v", in, failures)
	}
}

func TestDiff(t *testing.T) {
	s := newSpoke(t)
	for _, c := range []struct {
		name   string
		m      made
		change func(arm.Object)
		path   string
		kind   p.DiffKind
	}{
		{"nothing", s.vnet, func(arm.Object) {}, "", ""},
		{"location", s.vnet, func(in arm.Object) { in.Set("westus3", "location") }, "location", p.UpdateReplace},
		{"location, written for people", s.vnet, func(in arm.Object) { in.Set("East US 2", "location") }, "", ""},
		{"group", s.agents, func(in arm.Object) { in.Set("other", "resourceGroupName") }, "resourceGroupName", p.UpdateReplace},
		{"subnet's name", s.agents, func(in arm.Object) { in.Set("other", "subnetName") }, "subnetName", p.UpdateReplace},
		{"subnet's prefix: Azure is asked", s.agents, func(in arm.Object) { in.Set("10.20.3.0/24", "addressPrefix") }, "addressPrefix", p.Update},
		{"delegation", s.agents, func(in arm.Object) { in.List("delegations")[0].Set("x", "serviceName") }, "delegations[0].serviceName", p.Update},
		{"route added", s.routes, func(in arm.Object) { in["routes"] = append(in["routes"].([]any), props{"name": "x"}) }, "routes[1]", p.Add},
		{"user data", s.vm, func(in arm.Object) { in.Set("I2E=", "userData") }, "userData", p.Update},
		{"machine's location", s.vm, func(in arm.Object) { in.Set("westus3", "location") }, "location", p.UpdateReplace},
		{"role's principal", s.role, func(in arm.Object) { in.Set("x", "principalId") }, "principalId", p.UpdateReplace},
		{"role's scope, not known yet", s.role, func(in arm.Object) { in["scope"] = unknown{} }, "scope", p.UpdateReplace},
		{"tag with a dot", s.vnet, func(in arm.Object) { in.Set("x", "tags", "a.b") }, "tags", p.Add},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := arm.Object(plainMap(c.m.in)).Clone()
			c.change(in)
			got, err := s.server.Diff(p.DiffRequest{ID: c.m.id, Urn: c.m.urn, State: c.m.out, OldInputs: c.m.in, Inputs: values(in)})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]p.PropertyDiff{}
			if c.path != "" {
				want[c.path] = p.PropertyDiff{Kind: c.kind, InputDiff: true}
			}
			if got.DetailedDiff == nil {
				got.DetailedDiff = map[string]p.PropertyDiff{}
			}
			replaces := strings.HasSuffix(string(c.kind), "replace")
			if !reflect.DeepEqual(got.DetailedDiff, want) || got.HasChanges != (c.path != "") || got.DeleteBeforeReplace != replaces {
				t.Errorf("%+v, want %v", got, want)
			}
		})
	}
}

func TestPreview(t *testing.T) {
	s := newSpoke(t)
	res, err := s.server.Create(p.CreateRequest{Urn: urn("keyvault:Vault", "other"), DryRun: true, Properties: values(props{"location": location, "resourceGroupName": "rg", "vaultName": "other",
		"properties": props{"tenantId": "t", "sku": props{"family": "A", "name": "standard"}}})})
	if err != nil {
		t.Fatal(err)
	}
	out := plainMap(res.Properties)
	for path, want := range map[string]any{"location": location, "properties.tenantId": "t", "properties.vaultUri": unknown{}, "name": unknown{}} {
		if got := at(out, path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	up, err := s.server.Update(p.UpdateRequest{ID: s.vnet.id, Urn: s.vnet.urn, State: s.vnet.out, OldInputs: s.vnet.in, Inputs: s.vnet.in, DryRun: true})
	if err != nil || up.Properties.Get("name").AsString() != s.vnet.get("name") {
		t.Errorf("a name does not change: %v, %v", up.Properties.Get("name"), err)
	}
}

// TestLostReplies: the provider asks again and finds what it made. If it dies instead, the
// next try of a resource whose name is the program's meets what is there, and refuses.
func TestLostReplies(t *testing.T) {
	s := newSpoke(t)
	subnet := "Microsoft.Network/virtualNetworks/subnets"
	inject := func(mode arm.Mode) {
		t.Helper()
		if err := s.control.Inject(arm.Fault{Type: subnet, Mode: mode}); err != nil {
			t.Fatal(err)
		}
	}
	in := func(prefix string) props {
		return props{"resourceGroupName": s.group.get("name"), "virtualNetworkName": s.vnet.get("name"), "addressPrefix": prefix}
	}
	inject(arm.Lost)
	m := s.make("network:Subnet", "once", in("10.20.9.0/24"))
	inject(arm.Lost)
	if err := s.server.Delete(p.DeleteRequest{ID: m.id, Urn: m.urn}); err != nil {
		t.Error(err)
	}
	inject(arm.Died)
	if _, err := s.try("network:Subnet", "late", in("10.20.10.0/24")); arm.Code(err) != "Unrecorded" {
		t.Error(err)
	}
	if _, err := s.try("network:Subnet", "late", in("10.20.10.0/24")); err == nil || !strings.Contains(err.Error(), "cannot create already existing resource") {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	s := newSpoke(t)
	in := props{"resourceGroupName": s.group.get("name"), "virtualNetworkName": s.vnet.get("name"), "addressPrefix": "10.20.9.0/24"}
	subnet := "Microsoft.Network/virtualNetworks/subnets"
	if err := s.control.Inject(arm.Fault{Type: subnet, Mode: arm.Throttle, Times: 3}); err != nil {
		t.Fatal(err)
	}
	s.make("network:Subnet", "throttled", in)

	in["addressPrefix"] = "10.20.10.0/24"
	if err := s.control.Inject(arm.Fault{Type: subnet, Mode: arm.Accepted}); err != nil {
		t.Fatal(err)
	}
	m, err := s.try("network:Subnet", "half", in)
	if err == nil {
		t.Fatal("no error")
	}
	if !strings.HasSuffix(m.id, "/subnets/half") || m.get("provisioningState") != "Failed" {
		t.Errorf("Pulumi is told of %q, %v (%v): it would not know of what is there", m.id, m.out, err)
	}
}

// TestDrift: what somebody changed in Azure is an input after a refresh, and what Azure only
// ever said itself is not.
func TestDrift(t *testing.T) {
	s := newSpoke(t)
	err := s.control.Edit(func(state *arm.State) error {
		r := state.Resources[strings.ToLower(s.agents.id)]
		r.Body.Remove("properties", "routeTable")
		r.Body.Set([]any{map[string]any{"service": "Microsoft.Storage"}}, "properties", "serviceEndpoints")
		state.Resources[strings.ToLower(s.routes.id+"/routes/default")].Body.Set("None", "properties", "nextHopType")
		delete(state.Resources, strings.ToLower(s.nsg.id))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	read := func(m made) p.ReadResponse {
		t.Helper()
		r, err := s.server.Read(p.ReadRequest{ID: m.id, Urn: m.urn, Properties: m.out, Inputs: m.in})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	changed := func(m made) map[string]p.DiffKind {
		diff, err := s.server.Diff(p.DiffRequest{ID: m.id, Urn: m.urn, OldInputs: read(m).Inputs, Inputs: m.in})
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]p.DiffKind{}
		for k, d := range diff.DetailedDiff {
			all[k] = d.Kind
		}
		return all
	}
	if got, want := changed(s.agents), (map[string]p.DiffKind{"routeTable": p.Add, "serviceEndpoints": p.Delete}); !reflect.DeepEqual(got, want) {
		t.Errorf("the subnet: %v, want %v", got, want)
	}
	if got, want := changed(s.routes), (map[string]p.DiffKind{"routes[0].nextHopType": p.Update}); !reflect.DeepEqual(got, want) {
		t.Errorf("the table: %v, want %v", got, want)
	}
	if got := changed(s.vnet); len(got) > 0 {
		t.Errorf("the network, whose subnets are resources of their own: %v", got)
	}
	if got := read(s.nsg); got.ID != "" {
		t.Errorf("what is gone is read as %s", got.ID)
	}
}

func TestImport(t *testing.T) {
	s := newSpoke(t)
	for _, m := range s.order {
		read, err := s.server.Read(p.ReadRequest{ID: m.id, Urn: m.urn})
		if err != nil {
			t.Fatalf("%s: %v", m.urn, err)
		}
		r, err := (&native{types: types}).lookup(string(m.urn.Type()))
		if err != nil {
			t.Fatal(err)
		}
		got, want := plainMap(read.Inputs), plainMap(m.in)
		for _, name := range r.names() {
			if g, w := strings.Trim(strings.ToLower(text(got[name])), "/"), strings.Trim(strings.ToLower(text(want[name])), "/"); g != w {
				t.Errorf("%s: %s is %q, want %q", m.urn, name, g, w)
			}
		}
		if _, failures := s.check(strings.TrimPrefix(string(m.urn.Type()), "azure-native:"), "imported", got); len(failures) > 0 {
			t.Errorf("%s: what was imported is refused: %v", m.urn, failures)
		}
	}
}

func text(v any) string { s, _ := v.(string); return s }

// TestFoundry registers what examples register without Go types.
func TestFoundry(t *testing.T) {
	s := newSpoke(t)
	subnet := s.add("network/v20240501:Subnet", "foundry", props{"virtualNetworkName": s.vnet.get("name"), "addressPrefix": "10.20.2.0/24",
		"delegations": []any{props{"name": "app", "serviceName": "Microsoft.App/environments"}}})
	account := s.add("cognitiveservices:Account", "foundry", props{"accountName": "foundry", "location": location, "kind": "AIServices", "sku": props{"name": "S0"}, "identity": props{"type": "SystemAssigned"},
		"properties": props{"allowProjectManagement": true, "customSubDomainName": "foundry-agents", "publicNetworkAccess": "Disabled",
			"networkInjections": []any{props{"scenario": "agent", "subnetArmId": subnet.id, "useMicrosoftManagedNetwork": false}}}})
	if id, _ := account.get("identity.principalId").(string); len(id) != 36 {
		t.Errorf("no principal: %v", account.out)
	}
	project := s.add("cognitiveservices/v20250601:Project", "agents", props{"accountName": "foundry", "projectName": "agents", "location": location, "identity": props{"type": "SystemAssigned"}, "properties": props{}})
	host := s.add("cognitiveservices/v20250601:ProjectCapabilityHost", "host", props{"accountName": "foundry", "projectName": "agents", "properties": props{"capabilityHostKind": "Agents"}})
	if host.get("properties.provisioningState") != "Succeeded" || !strings.HasPrefix(host.id, project.id) {
		t.Errorf("%v", host)
	}
	_, failures := s.check("cognitiveservices:Account", "x", props{"accountName": "x", "resourceGroupName": "rg", "customSubDomainName": "x"})
	if len(failures) != 1 || failures[0].Property != "customSubDomainName" {
		t.Errorf("a property out of its place: %v", failures)
	}
	if err := s.server.Delete(p.DeleteRequest{ID: project.id, Urn: project.urn}); err == nil {
		t.Error("a project went before its capability host")
	}
}

// TestSecretsStay: what a program marks as a secret is one in its inputs.
func TestSecretsStay(t *testing.T) {
	res, err := newStack(t).server.Check(p.CheckRequest{Urn: urn("compute:VirtualMachine", "m"), RandomSeed: []byte("x"),
		Inputs: property.NewMap(map[string]property.Value{"resourceGroupName": property.New("rg"), "location": property.New("x"), "userData": property.New("I2E=").WithSecret(true)})})
	if err != nil || !res.Inputs.Get("userData").Secret() {
		t.Errorf("%v, %v", res.Inputs, err)
	}
}
