package components

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	perrors "github.com/pulumi/pulumi/sdk/v3/go/pulumi/errors"
)

func agentSubnetArgs() AgentSubnetArgs {
	return AgentSubnetArgs{
		Location:          "eastus2",
		ResourceGroupName: pulumi.String("spoke"),
		VnetName:          pulumi.String("vnet"),
		VnetPrefixes:      []string{"10.20.0.0/16", "10.21.0.0/16"},
		Prefix:            "10.20.1.0/24",
		LocalPrefixes:     []string{"10.20.2.0/24"},
		AdjacentPrefixes:  []string{"10.30.0.0/16", "192.168.0.0/16"},
		GatewayAddress:    "10.20.0.4",
		Tags:              map[string]string{"owner": "platform"},
	}
}

func provisionAgentSubnet(t *testing.T, args AgentSubnetArgs) (*recorder, error) {
	t.Helper()
	return provision(t, func(ctx *pulumi.Context) error {
		_, err := NewAgentSubnet(ctx, "agents", args)
		return err
	})
}

// The subnet is asked for once, with all that keeps agents in, and with nothing that would
// let them out.
func TestAgentSubnetIsBornContained(t *testing.T) {
	r, err := provisionAgentSubnet(t, agentSubnetArgs())
	if err != nil {
		t.Fatal(err)
	}
	subnet := r.one(t, "Subnet", "")
	want := map[string]any{
		"resourceGroupName":  "spoke",
		"virtualNetworkName": "vnet",
		"subnetName":         "agents",
		"addressPrefix":      "10.20.1.0/24",
		"delegations":        []any{map[string]any{"name": "Microsoft.App.environments", "serviceName": "Microsoft.App/environments"}},
		"networkSecurityGroup": map[string]any{
			"id": subscription + "/NetworkSecurityGroup/agents-nsg",
		},
		"routeTable":                        map[string]any{"id": subscription + "/RouteTable/agents-routes"},
		"defaultOutboundAccess":             false,
		"privateEndpointNetworkPolicies":    "Disabled",
		"privateLinkServiceNetworkPolicies": "Enabled",
	}
	if got := subnet.inputs.Mappable(); !reflect.DeepEqual(got, want) {
		t.Errorf("subnet\n got %v\nwant %v", got, want)
	}
	if !r.waitsFor(subnet, "RouteTable agents-routes") || !r.waitsFor(subnet, "NetworkSecurityGroup agents-nsg") {
		t.Errorf("the subnet waits for %v only", subnet.after)
	}
	if !strings.Contains(subnet.token, "v20240501") {
		t.Errorf("%s: older versions do not know defaultOutboundAccess", subnet.token)
	}
}

func TestAgentSubnetRoutes(t *testing.T) {
	args := agentSubnetArgs()
	args.AdjacentPrefixes = append(args.AdjacentPrefixes, "10.20.0.0/16") // named twice, routed once
	r, err := provisionAgentSubnet(t, args)
	if err != nil {
		t.Fatal(err)
	}
	table := r.one(t, "RouteTable", "")
	appliance := func(name, prefix string) any {
		return map[string]any{"name": name, "addressPrefix": prefix, "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.20.0.4"}
	}
	want := []any{
		appliance("default", "0.0.0.0/0"),
		appliance("vnet-10.20.0.0_16", "10.20.0.0/16"),
		appliance("vnet-10.21.0.0_16", "10.21.0.0/16"),
		appliance("adjacent-10.30.0.0_16", "10.30.0.0/16"),
		appliance("adjacent-192.168.0.0_16", "192.168.0.0/16"),
		map[string]any{"name": "local-10.20.2.0_24", "addressPrefix": "10.20.2.0/24", "nextHopType": "VnetLocal"},
	}
	if got := table.plain("routes"); !reflect.DeepEqual(got, want) {
		t.Errorf("routes\n got %v\nwant %v", got, want)
	}
	if table.plain("disableBgpRoutePropagation") != true {
		t.Error("routes learned by BGP reach the agents")
	}
	for _, m := range r.made {
		if strings.HasSuffix(m.token, ":Route") || strings.HasSuffix(m.token, ":SecurityRule") {
			t.Errorf("%s %s is a resource of its own beside inline ones", m.token, m.name)
		}
	}
}

func TestAgentSubnetSecurityRules(t *testing.T) {
	for _, closure := range []string{"", "nsg", "policy", "both"} {
		t.Run("dnsClosure="+closure, func(t *testing.T) {
			args := agentSubnetArgs()
			if closure != "" {
				args.DnsClosure = &closure
			}
			args.VnetID = pulumi.String("vnet-id")
			args.ResolvableNames = []string{"api.github.com"}
			args.CanaryPrefix = new("10.20.3.0/27")
			r, err := provisionAgentSubnet(t, args)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, rule := range r.one(t, "NetworkSecurityGroup", "").plain("securityRules").([]any) {
				m := rule.(map[string]any)
				got = append(got, fmt.Sprint(m["direction"], " ", m["priority"], " ", m["access"], " ", m["protocol"], " ",
					m["sourceAddressPrefix"], ":", m["sourcePortRange"], " -> ", m["destinationAddressPrefix"], ":", m["destinationPortRange"]))
				if len(m["description"].(string)) > 140 {
					t.Errorf("%s: Azure takes 140 characters of a description", m["name"])
				}
			}
			want := []string{
				"Inbound 100 Allow Tcp AzureLoadBalancer:* -> *:30000-32767",
				"Inbound 110 Allow * 10.20.1.0/24:* -> 10.20.1.0/24:*",
				"Inbound 120 Allow * 10.20.0.4/32:* -> *:*",
				"Inbound 4096 Deny * *:* -> *:*",
				"Inbound 115 Allow * 10.20.3.0/27:* -> 10.20.3.0/27:*",
			}
			if closure != "policy" {
				want = append(want, "Outbound 100 Deny * *:* -> AzurePlatformDNS:*")
			}
			if !slices.Equal(got, want) {
				t.Errorf("rules\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
			}
		})
	}
}

// With a DNS security policy, Azure's resolver answers the ruleset's names only, for
// everybody in the network, before the first agent exists.
func TestAgentSubnetDNSPolicy(t *testing.T) {
	args := agentSubnetArgs()
	args.DnsClosure = new("both")
	args.VnetID = pulumi.String("vnet-id")
	args.ResolvableNames = []string{"API.github.com", "*.identity.azure.net", "gsm*eh.servicebus.windows.net", "login.microsoftonline.com", "*.login.microsoftonline.com", "raw.api.github.com"}
	r, err := provisionAgentSubnet(t, args)
	if err != nil {
		t.Fatal(err)
	}
	domains := func(name string) any { return r.one(t, "DnsResolverDomainList", name).plain("domains") }
	if got, want := domains("agents-dns-allow"), []any{"api.github.com.", "identity.azure.net.", "login.microsoftonline.com.", "servicebus.windows.net."}; !reflect.DeepEqual(got, want) {
		t.Errorf("allowed %v, want %v", got, want)
	}
	if got, want := domains("agents-dns-block"), []any{"."}; !reflect.DeepEqual(got, want) {
		t.Errorf("blocked %v, want %v", got, want)
	}
	for name, want := range map[string]string{"agents-dns-allow": "Allow 100", "agents-dns-block": "Block 65000"} {
		rule := r.one(t, "DnsSecurityRule", name)
		action := rule.plain("action").(map[string]any)["actionType"]
		if got := fmt.Sprint(action, " ", rule.plain("priority")); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
		if got, want := rule.plain("dnsResolverDomainLists"), []any{map[string]any{"id": subscription + "/DnsResolverDomainList/" + name}}; !reflect.DeepEqual(got, want) {
			t.Errorf("%s is about %v, want %v", name, got, want)
		}
	}
	link := r.one(t, "DnsResolverPolicyVirtualNetworkLink", "")
	if got, want := link.plain("virtualNetwork"), map[string]any{"id": "vnet-id"}; !reflect.DeepEqual(got, want) {
		t.Errorf("linked to %v, want %v", got, want)
	}
	if !r.waitsFor(link, "DnsSecurityRule agents-dns-allow") || !r.waitsFor(link, "DnsSecurityRule agents-dns-block") {
		t.Errorf("the link waits for %v only: the gateway could lose its names, or agents keep theirs", link.after)
	}
	if subnet := r.one(t, "Subnet", ""); !r.waitsFor(subnet, "DnsResolverPolicyVirtualNetworkLink agents-dns-link") {
		t.Errorf("the subnet waits for %v only", subnet.after)
	}
}

// What the component is told to wait for, its subnet waits for.
func TestAgentSubnetWaits(t *testing.T) {
	r, err := provision(t, func(ctx *pulumi.Context) error {
		var gate pulumi.CustomResourceState
		if err := ctx.RegisterResource("bulkhead:index:Attestation", "gate", pulumi.Map{}, &gate); err != nil {
			return err
		}
		_, err := NewAgentSubnet(ctx, "agents", agentSubnetArgs(), pulumi.DependsOn([]pulumi.Resource{&gate}))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if subnet := r.one(t, "Subnet", ""); !r.waitsFor(subnet, "Attestation gate") {
		t.Errorf("the subnet waits for %v only", subnet.after)
	}
}

func TestAgentSubnetProtect(t *testing.T) {
	for _, protect := range []bool{false, true} {
		args := agentSubnetArgs()
		args.Protect = &protect
		r, err := provisionAgentSubnet(t, args)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range r.made {
			if want := protect && strings.HasSuffix(m.token, ":Subnet"); m.protect != want {
				t.Errorf("protect=%v: %s is protected: %v", protect, m.token, m.protect)
			}
		}
	}
}

// What is wrong is said on the path of the property, all at once, before anything is made.
func TestAgentSubnetRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*AgentSubnetArgs)
		paths []string
	}{
		{"no prefix", func(a *AgentSubnetArgs) { a.Prefix = "10.20.1.0" }, []string{"prefix"}},
		{"host bits", func(a *AgentSubnetArgs) { a.Prefix = "10.20.1.7/24" }, []string{"prefix"}},
		{"IPv6", func(a *AgentSubnetArgs) { a.VnetPrefixes = append(a.VnetPrefixes, "fd00::/48") }, []string{"vnetPrefixes[2]"}},
		{"no network", func(a *AgentSubnetArgs) { a.VnetPrefixes = nil }, []string{"vnetPrefixes"}},
		{"no gateway", func(a *AgentSubnetArgs) { a.GatewayAddress = "" }, []string{"gatewayAddress"}},
		{"two at once", func(a *AgentSubnetArgs) { a.AdjacentPrefixes[1] = "x"; a.LocalPrefixes[0] = "y" }, []string{"adjacentPrefixes[1]", "localPrefixes[0]"}},
		{"unknown closure", func(a *AgentSubnetArgs) { a.DnsClosure = new("none") }, []string{"dnsClosure"}},
		{"policy for nothing", func(a *AgentSubnetArgs) { a.DnsClosure = new("policy") }, []string{"vnetId", "resolvableNames"}},
		{"policy for everything", func(a *AgentSubnetArgs) {
			a.DnsClosure, a.VnetID, a.ResolvableNames = new("policy"), pulumi.String("id"), []string{"api.github.com", "*"}
		}, []string{"resolvableNames[1]"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := agentSubnetArgs()
			test.spoil(&args)
			r, err := provisionAgentSubnet(t, args)
			var input *perrors.InputPropertiesError
			if !errors.As(err, &input) {
				t.Fatalf("error is %v, want one about properties", err)
			}
			var paths []string
			for _, d := range input.Errors {
				paths = append(paths, d.PropertyPath)
			}
			if !slices.Equal(paths, test.paths) {
				t.Errorf("refused for %v, want %v: %v", paths, test.paths, err)
			}
			if len(r.made) > 0 {
				t.Errorf("made %v", r.names())
			}
		})
	}
}
