package components

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	perrors "github.com/pulumi/pulumi/sdk/v3/go/pulumi/errors"

	"github.com/bulkhead-dev/bulkhead/components/azure"
	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

func spokeArgs() FoundrySpokeArgs {
	return FoundrySpokeArgs{Location: "eastus2", BundleFile: "bundle.tar.gz", ToolCalls: []string{"api.github.com"}}
}

func provisionSpoke(t *testing.T, args FoundrySpokeArgs) (*recorder, error) {
	t.Helper()
	return provision(t, func(ctx *pulumi.Context) error {
		_, err := NewFoundrySpoke(ctx, "spoke", args)
		return err
	})
}

// Nothing that an agent could live in exists before the gateway has shown what it enforces.
func TestSpokeOrder(t *testing.T) {
	args := spokeArgs()
	args.DnsClosure = new("both")
	args.Canary = &CanaryOptions{Image: "registry.example/bulkhead:1", Required: new(true)}
	args.Peerings = []Peering{{RemoteVnetID: pulumi.String("hub"), Prefixes: []string{"10.30.0.0/16"}}}
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	subnet, attested := r.one(t, "Subnet", "spoke-agents"), r.one(t, "Attestation", "")
	for _, order := range []struct {
		later made
		first []string
	}{
		{r.one(t, "VirtualNetwork", ""), []string{"ResourceGroup spoke"}},
		{r.one(t, "Subnet", "spoke-gateway"), []string{"VirtualNetwork spoke", "NetworkSecurityGroup spoke-gateway-subnet"}},
		{r.one(t, "Subnet", "spoke-private-endpoints"), []string{"Subnet spoke-gateway"}},
		{r.one(t, "VirtualNetworkPeering", ""), []string{"Subnet spoke-private-endpoints"}},
		{r.one(t, "RootCertificate", ""), []string{"Key spoke-ca-key", "Subnet spoke-gateway"}},
		{r.one(t, "VirtualMachine", ""), []string{"RootCertificate spoke-ca-root", "GatewayBundle spoke-gateway-bundle", "UserAssignedIdentity spoke-gateway-identity"}},
		{r.one(t, "Ruleset", ""), []string{"BlobContainer spoke-gateway-policy"}},
		{attested, []string{"VirtualMachine spoke-gateway", "Ruleset spoke-ruleset", "BlobContainer spoke-gateway-attestation"}},
		{subnet, []string{"Attestation spoke-attestation", "VirtualNetworkPeering spoke-peering-0", "RouteTable spoke-agents-routes", "NetworkSecurityGroup spoke-agents-nsg", "DnsResolverPolicyVirtualNetworkLink spoke-agents-dns-link"}},
		{r.one(t, "Subnet", "spoke-canary"), []string{"Attestation spoke-attestation", "Subnet spoke-agents"}},
		{r.one(t, "Job", ""), []string{"Subnet spoke-canary"}},
		{r.one(t, "CanaryRun", ""), []string{"Job spoke-canary", "Ruleset spoke-ruleset", "Attestation spoke-attestation"}},
		{r.one(t, "SpokeLock", ""), []string{"Subnet spoke-agents"}},
	} {
		for _, first := range order.first {
			if !r.waitsFor(order.later, first) {
				t.Errorf("%s %s does not wait for %s", order.later.token, order.later.name, first)
			}
		}
	}
	nsg := map[string]any{"id": subscription + "/NetworkSecurityGroup/spoke-agents-nsg"}
	if got := r.one(t, "Subnet", "spoke-canary").plain("networkSecurityGroup"); !reflect.DeepEqual(got, nsg) {
		t.Errorf("the canary is held by %v, not by what holds agents", got)
	}
	admitted := r.one(t, "NetworkSecurityGroup", "spoke-gateway-subnet").plain("securityRules").([]any)[0].(map[string]any)["sourceAddressPrefixes"]
	if want := []any{"10.20.1.0/24", "10.20.3.0/27"}; !reflect.DeepEqual(admitted, want) {
		t.Errorf("the gateway's subnet admits %v, want %v", admitted, want)
	}
	if !slices.Contains(r.one(t, "DnsResolverDomainList", "spoke-agents-dns-allow").plain("domains").([]any), any("management.azure.com.")) {
		t.Error("the DNS security policy cuts the gateway off from Azure's management")
	}
	if got, want := attested.plain("digest"), "sha256:"+strings.Repeat("0", 64); got != want {
		t.Errorf("attested is %v, want the published digest %s", got, want)
	}
	for _, m := range r.made {
		if strings.HasPrefix(m.token, "bulkhead:") && m.token != FoundrySpokeToken && !strings.Contains(m.token, "Subnet") && m.version == "" &&
			!slices.Contains([]string{SpokeGatewayToken, InspectionCAToken, CanaryToken}, m.token) {
			t.Errorf("%s asks for no version of the plugin", m.token)
		}
	}
}

// An account is bound to its subnet for good: with a required canary it is made after the run alone, and not at all
// after a run that failed.
func TestSpokeRequiresCanary(t *testing.T) {
	for what, tc := range map[string]struct {
		required   *bool
		fails      bool
		made, runs bool
	}{
		"not required":           {made: true},
		"said to be not":         {required: new(false), made: true},
		"required":               {required: new(true), made: true, runs: true},
		"required, and it fails": {required: new(true), fails: true},
	} {
		t.Run(what, func(t *testing.T) {
			args := spokeArgs()
			args.Canary = &CanaryOptions{Image: "registry.example/bulkhead:1", Required: tc.required}
			r := &recorder{}
			if tc.fails {
				r.refused = "CanaryRun"
			}
			err := pulumi.RunErr(func(ctx *pulumi.Context) error {
				spoke, err := NewFoundrySpoke(ctx, "spoke", args)
				if err != nil {
					return err
				}
				var subnet, injected struct{ pulumi.CustomResourceState }
				return errors.Join(
					ctx.RegisterResource("azure-native:cognitiveservices:Account", "by-subnet", pulumi.Map{"subnet": spoke.AgentSubnetID}, &subnet),
					ctx.RegisterResource("azure-native:cognitiveservices:Account", "by-injection", pulumi.Map{"networkInjections": spoke.NetworkInjections}, &injected))
			}, pulumi.WithMocks("project", "stack", r))
			if (err != nil) != tc.fails {
				t.Fatal(err)
			}
			for _, name := range []string{"by-subnet", "by-injection"} {
				if made := slices.Contains(r.names(), "azure-native:cognitiveservices:Account "+name); made != tc.made {
					t.Errorf("%s: made is %v, want %v", name, made, tc.made)
				} else if made && r.waitsFor(r.one(t, "Account", name), "CanaryRun spoke-canary-run") != tc.runs {
					t.Errorf("%s: waits for the run: %v, want %v", name, !tc.runs, tc.runs)
				}
			}
			if tc.runs {
				run := r.one(t, "CanaryRun", "")
				if run.plain("digest") != "sha256:"+strings.Repeat("0", 64) || run.plain("image") != "registry.example/bulkhead:1" {
					t.Errorf("runs for %v", run.inputs)
				}
			}
		})
	}
}

func TestSpokeNetwork(t *testing.T) {
	r, err := provisionSpoke(t, spokeArgs())
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(r.one(t, "SpokeLock", "").keys(), "bound") {
		t.Error("nobody said whether an account is bound: it has to be looked up")
	}
	vnet := r.one(t, "VirtualNetwork", "")
	if got, want := vnet.plain("addressSpace"), map[string]any{"addressPrefixes": []any{"10.20.0.0/16"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("address space %v, want %v", got, want)
	}
	if got, want := vnet.plain("dhcpOptions"), map[string]any{"dnsServers": []any{"10.20.0.4"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("DNS is %v, want %v", got, want)
	}
	if slices.Contains(vnet.keys(), "subnets") {
		t.Error("subnets inside the network and of their own undo each other")
	}
	gateway := r.one(t, "Subnet", "spoke-gateway")
	if got, want := gateway.plain("serviceEndpoints"), []any{map[string]any{"service": "Microsoft.KeyVault"}, map[string]any{"service": "Microsoft.Storage"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("the gateway's service endpoints are %v, want %v", got, want)
	}
	for name, prefix := range map[string]string{"spoke-gateway": "10.20.0.0/24", "spoke-agents": "10.20.1.0/24", "spoke-private-endpoints": "10.20.2.0/24"} {
		subnet := r.one(t, "Subnet", name)
		if got := subnet.plain("addressPrefix"); got != prefix {
			t.Errorf("%s is %v, want %s", name, got, prefix)
		}
		if subnet.plain("defaultOutboundAccess") != false {
			t.Errorf("%s has Azure's default way out", name)
		}
		if name != "spoke-gateway" && slices.Contains(subnet.keys(), "serviceEndpoints") {
			t.Errorf("%s has service endpoints", name)
		}
		if slices.Contains(subnet.keys(), "natGateway") {
			t.Errorf("%s has a NAT gateway", name)
		}
	}
	// Public is the gateway's way out alone, and nothing from the Internet gets in by any group.
	r.one(t, "PublicIPAddress", "")
	for _, m := range r.made {
		if !strings.HasSuffix(m.token, ":NetworkSecurityGroup") {
			continue
		}
		for _, rule := range m.plain("securityRules").([]any) {
			o := rule.(map[string]any)
			if o["direction"] == "Inbound" && o["access"] == "Allow" && (o["sourceAddressPrefix"] == "*" || o["sourceAddressPrefix"] == "Internet" || o["sourceAddressPrefix"] == "0.0.0.0/0") {
				t.Errorf("%s lets the Internet in: %v", m.name, o["name"])
			}
		}
	}
}

// The next hop, the DNS server, the machine's address and what is locked are one address.
func TestSpokeHasOneGatewayAddress(t *testing.T) {
	args := spokeArgs()
	args.AddressSpace = []string{"192.168.64.0/24"}
	args.GatewayPrefix, args.AgentPrefix, args.PrivateEndpointPrefix = new("192.168.64.0/27"), new("192.168.64.128/25"), new("192.168.64.32/27")
	args.GatewayAddress = new("192.168.64.9")
	args.Foundry, args.AttestationTimeoutSeconds = &FoundryAccount{Bound: new(true), ID: new("account")}, new(90)
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"bound": true, "accountId": "account", "agentPrefix": "192.168.64.128/25"} {
		if got := r.one(t, "SpokeLock", "").plain(key); got != want {
			t.Errorf("locked %s is %v, want %v", key, got, want)
		}
	}
	if got := r.one(t, "Attestation", "").plain("timeoutSeconds"); got != 90.0 {
		t.Errorf("waits for %v seconds", got)
	}
	const want = "192.168.64.9"
	got := map[string]any{
		"DNS server":  r.one(t, "VirtualNetwork", "").plain("dhcpOptions").(map[string]any)["dnsServers"].([]any)[0],
		"interface":   r.one(t, "NetworkInterface", "").plain("ipConfigurations").([]any)[0].(map[string]any)["privateIPAddress"],
		"locked":      r.one(t, "SpokeLock", "").plain("gatewayAddress"),
		"first route": r.one(t, "RouteTable", "").plain("routes").([]any)[0].(map[string]any)["nextHopIpAddress"],
	}
	for what, address := range got {
		if address != want {
			t.Errorf("%s is %v, want %s", what, address, want)
		}
	}
}

func TestSpokeRoutes(t *testing.T) {
	args := spokeArgs()
	args.AddressSpace = []string{"10.20.0.0/16", "10.21.0.0/16"}
	args.Peerings = []Peering{{RemoteVnetID: pulumi.String("hub"), Prefixes: []string{"10.30.0.0/16"}, UseRemoteGateways: new(true)}}
	args.AdjacentPrefixes = []string{"172.20.0.0/16"}
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, route := range r.one(t, "RouteTable", "").plain("routes").([]any) {
		o := route.(map[string]any)
		got = append(got, o["addressPrefix"].(string)+" "+o["nextHopType"].(string))
	}
	want := []string{
		"0.0.0.0/0 VirtualAppliance", "10.20.0.0/16 VirtualAppliance", "10.21.0.0/16 VirtualAppliance",
		"10.30.0.0/16 VirtualAppliance", "172.20.0.0/16 VirtualAppliance", "10.20.2.0/24 VnetLocal",
	}
	if !slices.Equal(got, want) {
		t.Errorf("routes\n got %v\nwant %v", got, want)
	}
	peering := r.one(t, "VirtualNetworkPeering", "")
	if peering.plain("useRemoteGateways") != true || peering.plain("allowForwardedTraffic") != true || peering.plain("allowGatewayTransit") != false {
		t.Errorf("peering %v", peering.inputs.Mappable())
	}
}

// The zones of the standard setup are what the ruleset answers for private endpoints.
func TestSpokeZones(t *testing.T) {
	r, err := provisionSpoke(t, spokeArgs())
	if err != nil {
		t.Fatal(err)
	}
	zones := 0
	for _, m := range r.made {
		if strings.HasSuffix(m.token, ":PrivateZone") {
			zones++
			link := r.one(t, "VirtualNetworkLink", m.name)
			if link.plain("registrationEnabled") != false || link.plain("virtualNetwork").(map[string]any)["id"] != subscription+"/VirtualNetwork/spoke" {
				t.Errorf("%s is linked as %v", m.name, link.inputs.Mappable())
			}
		}
	}
	if zones != len(privateZones) {
		t.Errorf("%d zones, want %d", zones, len(privateZones))
	}
	resolve := r.one(t, "Ruleset", "").plain("resolve").([]any)[0].(map[string]any)
	if got := len(resolve["names"].([]any)); got != zones {
		t.Errorf("the ruleset answers %d patterns for %d zones", got, zones)
	}

	args := spokeArgs()
	args.PrivateZones = new(false)
	if r, err = provisionSpoke(t, args); err != nil {
		t.Fatal(err)
	}
	for _, m := range r.made {
		if strings.HasSuffix(m.token, ":PrivateZone") {
			t.Errorf("made %s", m.name)
		}
	}
	if resolve := r.one(t, "Ruleset", "").plain("resolve").([]any); len(resolve) == 0 {
		t.Error("zones that are kept centrally have to be answered too")
	}
}

func TestSpokeInExistingNetwork(t *testing.T) {
	args := spokeArgs()
	args.ResourceGroupName, args.VnetName = pulumi.String("net"), pulumi.String("corp-vnet")
	args.AddressSpace = []string{"10.40.0.0/16"}
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range r.made {
		if strings.HasSuffix(m.token, ":VirtualNetwork") || strings.HasSuffix(m.token, ":ResourceGroup") {
			t.Errorf("made %s %s", m.token, m.name)
		}
	}
	const vnet = subscription + "/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/corp-vnet"
	if got := r.one(t, "SpokeLock", "").plain("vnetId"); got != vnet {
		t.Errorf("locked %v, want %s", got, vnet)
	}
	if got := r.one(t, "Subnet", "spoke-agents").plain("virtualNetworkName"); got != "corp-vnet" {
		t.Errorf("agents are in %v", got)
	}
}

func TestSpokeProtect(t *testing.T) {
	for _, off := range []bool{false, true} {
		args := spokeArgs()
		if off {
			args.Protect = new(false)
		}
		r, err := provisionSpoke(t, args)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range r.made {
			kind := m.token[strings.LastIndex(m.token, ":")+1:]
			want := !off && (kind == "ResourceGroup" || kind == "VirtualNetwork" || m.name == "spoke-agents" && kind == "Subnet")
			if m.protect != want {
				t.Errorf("off=%v: %s %s is protected: %v", off, kind, m.name, m.protect)
			}
		}
	}
}

func TestSpokeWithoutInspection(t *testing.T) {
	args := spokeArgs()
	args.Inspection = new(false)
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range r.made {
		if strings.HasSuffix(m.token, ":Vault") || strings.HasSuffix(m.token, ":RootCertificate") {
			t.Errorf("made %s", m.name)
		}
	}
	for _, rule := range r.one(t, "Ruleset", "").plain("rules").([]any) {
		if rule.(map[string]any)["decrypt"] == "DECRYPT_ALLOWED" {
			t.Errorf("%v decrypts without a root", rule)
		}
	}
}

// Nothing that a resource is asked with is a secret: no key, no password, no signature.
func TestSpokeHoldsNoSecret(t *testing.T) {
	args := spokeArgs()
	args.DnsClosure = new("both")
	args.Canary = &CanaryOptions{Image: "registry.example/bulkhead:1", Decrypted: new("api.github.com")}
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range r.made {
		text, err := json.Marshal(m.inputs.Mappable())
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"PRIVATE KEY", "sig=", "password\":\"", "AccountKey", "customData"} {
			if strings.Contains(string(text), bad) {
				t.Errorf("%s %s holds %q", m.token, m.name, bad)
			}
		}
		if m.inputs.ContainsSecrets() {
			t.Errorf("%s %s has an input that is marked as secret", m.token, m.name)
		}
	}
}

func TestSpokeRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*FoundrySpokeArgs)
		path  string
		says  string
	}{
		{"sovereign cloud", func(a *FoundrySpokeArgs) { a.Location = "USGov Virginia" }, "location", "public cloud"},
		{"no release", func(a *FoundrySpokeArgs) { a.BundleFile = "" }, "bundleFile", ""},
		{"network without its prefixes", func(a *FoundrySpokeArgs) { a.VnetName = pulumi.String("v") }, "addressSpace", ""},
		{"too small to divide", func(a *FoundrySpokeArgs) { a.AddressSpace = []string{"10.20.0.0/24"} }, "agentPrefix", ""},
		{"agents too small", func(a *FoundrySpokeArgs) { a.AgentPrefix = new("10.20.1.0/28") }, "agentPrefix", "NET-02"},
		{"agents in public space", func(a *FoundrySpokeArgs) { a.AgentPrefix = new("20.1.0.0/24") }, "agentPrefix", "NET-"},
		{"overlap", func(a *FoundrySpokeArgs) { a.AgentPrefix = new("10.20.0.0/24") }, "agentPrefix", "NET-"},
		{"reserved", func(a *FoundrySpokeArgs) {
			a.AddressSpace = []string{"10.20.0.0/16", "172.30.0.0/16"}
		}, "addressSpace", "NET-04"},
		{"peer overlaps", func(a *FoundrySpokeArgs) {
			a.Peerings = []Peering{{RemoteVnetID: pulumi.String("hub"), Prefixes: []string{"10.20.128.0/17"}}}
		}, "adjacentPrefixes", "NET-11"},
		{"peer without prefixes", func(a *FoundrySpokeArgs) {
			a.Peerings = []Peering{{RemoteVnetID: pulumi.String("hub")}}
		}, "peerings[0].prefixes", ""},
		{"gateway outside its subnet", func(a *FoundrySpokeArgs) { a.GatewayAddress = new("10.20.1.4") }, "gatewayAddress", ""},
		{"account elsewhere", func(a *FoundrySpokeArgs) { a.Foundry = &FoundryAccount{Location: new("westus")} }, "foundry", "NET-07"},
		{"skipped without a reason", func(a *FoundrySpokeArgs) { a.SkipGuards = []SkippedGuard{{ID: "NET-02"}} }, "skipGuards[0].reason", ""},
		{"skipped, but there is none", func(a *FoundrySpokeArgs) { a.SkipGuards = []SkippedGuard{{ID: "NET-99", Reason: "x"}} }, "skipGuards", ""},
		{"no such file", func(a *FoundrySpokeArgs) { a.ToolCalls, a.RulesetFile = nil, new("absent.yaml") }, "rulesetFile", ""},
		{"decrypts without a root", func(a *FoundrySpokeArgs) {
			a.ToolCalls, a.RulesetFile, a.Inspection = nil, new("../examples/ruleset.yaml"), new(false)
		}, "rulesetFile", "allow-tool-calls"},
		{"a canary whose image is denied", func(a *FoundrySpokeArgs) {
			a.ToolCalls, a.RulesetFile, a.Canary = nil, new("../examples/ruleset.yaml"), &CanaryOptions{Image: "contoso.azurecr.io/bulkhead:1"}
		}, "canary.image", "RUL-13"},
		{"tools beside a file", func(a *FoundrySpokeArgs) { a.RulesetFile = new("../examples/ruleset.yaml") }, "toolCalls", ""},
		{"a tool that is no name", func(a *FoundrySpokeArgs) { a.ToolCalls = []string{"https://api.github.com"} }, "toolCalls", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := spokeArgs()
			test.spoil(&args)
			r, err := provisionSpoke(t, args)
			var input *perrors.InputPropertiesError
			if !errors.As(err, &input) || !slices.ContainsFunc(input.Errors, func(d perrors.InputPropertyErrorDetails) bool {
				return d.PropertyPath == test.path && strings.Contains(d.Reason, test.says)
			}) {
				t.Errorf("error is %v, want one for %s with %q", err, test.path, test.says)
			}
			if len(r.made) > 0 {
				t.Errorf("made %v", r.names())
			}
		})
	}
}

// A name that Azure would refuse half-way is refused before anything is made; those that it takes at the limit are not.
func TestSpokeName(t *testing.T) {
	for name, takes := range map[string]struct{ alone, canary bool }{
		"spoke":                 {true, true},
		"a":                     {true, true},
		strings.Repeat("s", 17): {true, true},
		strings.Repeat("s", 18): {true, false},
		strings.Repeat("s", 48): {true, false},
		strings.Repeat("s", 49): {},
		"Spoke_1":               {true, false},
		"two--hyphens":          {true, false},
		"1st":                   {},
		"ends-":                 {},
		"a spoke":               {},
		"a.spoke":               {},
		"spoke/agents":          {},
		"":                      {},
	} {
		for canary, want := range map[bool]bool{false: takes.alone, true: takes.canary} {
			args := spokeArgs()
			if canary {
				args.Canary = &CanaryOptions{Image: "registry.example/bulkhead:1"}
			}
			r, err := provision(t, func(ctx *pulumi.Context) error {
				_, err := NewFoundrySpoke(ctx, name, args)
				return err
			})
			if took := err == nil; took != want {
				t.Errorf("%q, canary %t: %v", name, canary, err)
			}
			if err != nil && len(r.made) > 0 {
				t.Errorf("%q, canary %t: made %v", name, canary, r.names())
			}
		}
	}
}

// Live guards are asked in preview alone. What must hold before there is an account refuses;
// what is to be put right by the update is said.
func TestSpokeLiveGuards(t *testing.T) {
	saved, err := os.ReadFile("preflight/testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	args := spokeArgs()
	args.LiveGuards = &LiveGuards{ResourceGroupName: "rg", VnetName: "vnet"}
	args.Foundry = &FoundryAccount{Name: new("account")}
	args.Gateway = &GatewayOptions{PinScope: new("shared"), DNSClients: []string{"10.20.9.0/28"}}
	asked := 0
	var spoil func(*preflight.Inventory)
	read := readAzure
	t.Cleanup(func() { readAzure = read })
	readAzure = func(_ context.Context, scope azure.Scope) (preflight.Inventory, error) {
		asked++
		want := preflight.Scope{Subscription: strings.TrimPrefix(subscription, "/subscriptions/"), ResourceGroup: "rg", VNet: "vnet", AgentSubnet: "agents", Account: "account"}
		if scope.Scope != want {
			t.Errorf("scope is %+v, want %+v", scope.Scope, want)
		}
		if scope.Plan == nil || scope.Plan.AgentPrefix != "10.20.1.0/24" || scope.Plan.PinScope != "shared" || len(scope.Ruleset) == 0 {
			t.Errorf("the plan is %+v", scope.Plan)
		}
		inv, err := preflight.Decode(saved)
		spoil(&inv)
		return inv, err
	}
	preview := func() error {
		return pulumi.RunErr(func(ctx *pulumi.Context) error {
			_, err := NewFoundrySpoke(ctx, "spoke", args)
			return err
		}, pulumi.WithMocks("project", "stack", &recorder{}), func(info *pulumi.RunInfo) { info.DryRun = true })
	}
	spoil = func(*preflight.Inventory) {}
	if err := preview(); err != nil {
		t.Errorf("a good spoke is refused: %v", err)
	}
	spoil = func(inv *preflight.Inventory) { inv.RouteTables = []preflight.RouteTable{} } // drift
	if err := preview(); err != nil {
		t.Errorf("drift is refused: %v", err)
	}
	spoil = func(inv *preflight.Inventory) { inv.Providers = []preflight.ResourceProvider{} }
	var input *perrors.InputPropertiesError
	if err := preview(); !errors.As(err, &input) || input.Errors[0].PropertyPath != "liveGuards" {
		t.Errorf("error is %v, want one of liveGuards", err)
	}
	spoil = func(inv *preflight.Inventory) { inv.Providers = nil }
	if err := preview(); err == nil || !strings.Contains(err.Error(), "FND-05 is not checked") {
		t.Errorf("error is %v: what could not be looked at has passed", err)
	}
	before := asked
	if _, err := provisionSpoke(t, args); err != nil {
		t.Error(err)
	}
	if asked != before {
		t.Error("asked in an update")
	}
}
