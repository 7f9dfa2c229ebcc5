package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/blang/semver"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/integration"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/status"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const subscription = "/subscriptions/00000000-0000-4000-8000-000000000000"

// children answers for every resource that a component makes. It proves that the arguments
// of other languages arrive in the constructors, and not what Azure makes of the children.
type children struct {
	mu   sync.Mutex
	made []integration.MockResourceArgs
}

func (c *children) make(args integration.MockResourceArgs) (string, property.Map, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, args)
	kind := string(args.TypeToken[strings.LastIndex(string(args.TypeToken), ":")+1:])
	out := args.Inputs.Set("name", property.New(args.Name))
	text := func(key, value string) { out = out.Set(key, property.New(value)) }
	switch kind {
	case "UserAssignedIdentity":
		text("principalId", "11111111-0000-0000-0000-000000000000")
		text("clientId", "22222222-0000-0000-0000-000000000000")
	case "StorageAccount":
		out = out.Set("primaryEndpoints", property.New(map[string]property.Value{"blob": property.New("https://x.blob.core.windows.net/")}))
	case "Vault":
		out = out.Set("properties", property.New(map[string]property.Value{"vaultUri": property.New("https://x.vault.azure.net/")}))
	case "GatewayBundle":
		text("url", "https://x.blob.core.windows.net/bundle/b.tar.gz")
		text("sha256", strings.Repeat("0f", 32))
	case "RootCertificate":
		text("pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
		text("fingerprint", "ab")
	case "Ruleset":
		text("digest", "sha256:0")
	case "PublicIPAddress":
		text("ipAddress", "203.0.113.7")
	}
	return subscription + "/" + kind + "/" + args.Name, out, nil
}

func (c *children) call(args integration.MockCallArgs) (property.Map, error) {
	if !strings.HasSuffix(string(args.Token), ":getClientConfig") {
		return property.Map{}, fmt.Errorf("unexpected invoke of %s", args.Token)
	}
	return property.NewMap(map[string]property.Value{
		"tenantId": property.New("33333333-0000-0000-0000-000000000000"), "objectId": property.New("44444444-0000-0000-0000-000000000000"),
		"clientId": property.New("c"), "subscriptionId": property.New("s"),
	}), nil
}

func construct(t *testing.T, name string, dryRun bool, inputs map[string]property.Value) (*children, p.ConstructResponse, error) {
	t.Helper()
	plugin, err := New("0.1.0-dev")
	if err != nil {
		t.Fatal(err)
	}
	c := &children{}
	server, err := integration.NewServer(t.Context(), Name, semver.MustParse("0.1.0-dev"), integration.WithProvider(plugin),
		integration.WithMocks(&integration.MockResourceMonitor{NewResourceF: c.make, CallF: c.call}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := server.Construct(p.ConstructRequest{
		Urn:    resource.NewURN("stack", "project", "", tokens.Type("bulkhead:index:"+name), "it"),
		Inputs: property.NewMap(inputs),
		DryRun: dryRun,
	})
	return c, got, err
}

func list(values ...string) property.Value {
	var all []property.Value
	for _, v := range values {
		all = append(all, property.New(v))
	}
	return property.New(all)
}

func object(fields map[string]property.Value) property.Value { return property.New(fields) }

// Every component is made from arguments as another language sends them, in preview with
// everything unknown that may be, and afterwards.
func TestConstruct(t *testing.T) {
	text := func(s string) property.Value { return property.New(s) }
	for _, test := range []struct {
		name    string
		inputs  map[string]property.Value
		unknown []string // arguments that another resource may only yield later
		outputs []string
		child   string
	}{
		{"AgentSubnet", map[string]property.Value{
			"location": text("eastus2"), "resourceGroupName": text("rg"), "vnetName": text("vnet"), "vnetPrefixes": list("10.20.0.0/16"), "prefix": text("10.20.1.0/24"),
			"localPrefixes": list("10.20.2.0/24"), "gatewayAddress": text("10.20.0.4"), "dnsClosure": text("both"), "resolvableNames": list("api.github.com"), "vnetId": text("id"),
			"protect": property.New(true), "tags": object(map[string]property.Value{"a": text("b")}),
		}, []string{"resourceGroupName", "vnetName", "vnetId"}, []string{"subnetId", "routeTableId", "networkSecurityGroupId", "prefix"}, "Subnet"},
		{"Canary", map[string]property.Value{
			"location": text("eastus2"), "resourceGroupName": text("rg"), "vnetName": text("vnet"), "prefix": text("10.20.3.0/27"), "routeTableId": text("rt"),
			"networkSecurityGroupId": text("nsg"), "image": text("registry.example/bulkhead:1"), "decrypted": text("api.github.com"), "rootCertificate": text("PEM"), "schedule": text("0 * * * *"),
		}, []string{"resourceGroupName", "vnetName", "routeTableId", "networkSecurityGroupId", "rootCertificate"}, []string{"subnetId", "environmentId", "jobName", "jobId"}, "Job"},
		{"InspectionCA", map[string]property.Value{
			"location": text("eastus2"), "resourceGroupName": text("rg"), "tenantId": text("t"), "gatewaySubnetId": text("subnet"), "deployerAddresses": list("203.0.113.1"), "hsm": property.New(true),
		}, []string{"resourceGroupName", "tenantId", "gatewaySubnetId"}, []string{"vaultUri", "vaultId", "keyName", "keyId", "rootCertificate", "fingerprint"}, "Key"},
		{"SpokeGateway", map[string]property.Value{
			"location": text("eastus2"), "resourceGroupName": text("rg"), "subnetId": text(subscription + "/subnet/gateway"), "address": text("10.20.0.4"), "agentPrefixes": list("10.20.1.0/24"), "bundleFile": text("b.tar.gz"),
		}, []string{"resourceGroupName", "subnetId"}, []string{"address", "vmIds", "policyUrl", "attestationUrl", "egressAddress"}, "VirtualMachine"},
		{"FoundrySpoke", map[string]property.Value{
			"location": text("eastus2"), "bundleFile": text("b.tar.gz"), "ruleset": standardRuleset(), "resourceGroupName": text("rg"),
			"peerings":   property.New([]property.Value{object(map[string]property.Value{"remoteVnetId": text("hub"), "prefixes": list("10.30.0.0/16"), "useRemoteGateways": property.New(true)})}),
			"gateway":    object(map[string]property.Value{"vmSize": text("Standard_D4s_v5"), "zones": list("1")}),
			"canary":     object(map[string]property.Value{"image": text("mcr.microsoft.com/bulkhead:1"), "required": property.New(true)}),
			"foundry":    object(map[string]property.Value{"name": text("account"), "sessions": property.New(40.0), "bound": property.New(true)}),
			"skipGuards": property.New([]property.Value{object(map[string]property.Value{"id": text("NET-06"), "reason": text("the region is new")})}),
		}, []string{"resourceGroupName"}, []string{"agentSubnetId", "networkInjections", "privateZoneIds", "rootCertificate", "rulesetDigest", "vaultUri", "canaryJobName", "gatewayIdentityId"}, "SpokeLock"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, got, err := construct(t, test.name, false, test.inputs)
			if err != nil {
				t.Fatal(err)
			}
			for _, output := range test.outputs {
				if v, ok := got.State.GetOk(output); !ok || v.IsNull() || v.IsComputed() {
					t.Errorf("output %s is %v", output, v)
				}
			}
			if !slices.ContainsFunc(c.made, func(m integration.MockResourceArgs) bool {
				return strings.HasSuffix(string(m.TypeToken), ":"+test.child)
			}) {
				t.Errorf("no %s was made", test.child)
			}
			for _, name := range test.unknown {
				test.inputs[name] = property.New(property.Computed)
			}
			if _, _, err := construct(t, test.name, true, test.inputs); err != nil {
				t.Errorf("preview: %v", err)
			}
		})
	}
}

// standardRuleset is the one of the example, with its enums, nested lists and numbers.
func standardRuleset() property.Value {
	text, err := os.ReadFile("../../examples/ruleset.yaml")
	if err != nil {
		panic(err)
	}
	// The canary of the test is in it too, with an image that the platform's own names hold.
	doc, err := policy.Decode(bytes.Replace(text, []byte("[10.20.1.0/24]"), []byte("[10.20.1.0/24, 10.20.3.0/27]"), 1))
	if err != nil {
		panic(err)
	}
	canonical, err := policy.Encode(doc)
	if err != nil {
		panic(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(canonical, &plain); err != nil {
		panic(err)
	}
	v := resource.FromResourcePropertyMap(resource.NewPropertyMapFromMap(plain))
	return property.New(v)
}

// What Foundry takes as it is.
func TestNetworkInjections(t *testing.T) {
	_, got, err := construct(t, "FoundrySpoke", false, map[string]property.Value{"location": property.New("eastus2"), "bundleFile": property.New("b.tar.gz")})
	if err != nil {
		t.Fatal(err)
	}
	injections := got.State.Get("networkInjections").AsArray()
	if injections.Len() != 1 {
		t.Fatalf("%d injections, want one", injections.Len())
	}
	o := injections.Get(0).AsMap()
	if o.Get("scenario").AsString() != "agent" || o.Get("useMicrosoftManagedNetwork").AsBool() || o.Get("subnetArmId").AsString() != got.State.Get("agentSubnetId").AsString() {
		t.Errorf("injection is %v", o)
	}
}

// A guard's refusal arrives on the path of the argument.
func TestConstructRefuses(t *testing.T) {
	c, _, err := construct(t, "FoundrySpoke", true, map[string]property.Value{
		"location": property.New("eastus2"), "bundleFile": property.New("b.tar.gz"), "agentPrefix": property.New("10.20.1.0/28"),
	})
	state, _ := status.FromError(err)
	var got []string
	for _, d := range state.Details() {
		if problems, ok := d.(*pulumirpc.InputPropertiesError); ok {
			for _, problem := range problems.Errors {
				got = append(got, problem.PropertyPath+": "+problem.Reason)
			}
		}
	}
	if len(got) != 1 || !strings.HasPrefix(got[0], "agentPrefix: NET-02: ") {
		t.Errorf("refused with %q (%v), want one for agentPrefix by NET-02", got, err)
	}
	if len(c.made) > 0 {
		t.Errorf("made %d resources", len(c.made))
	}
}
