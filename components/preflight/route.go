package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/bulkhead-dev/bulkhead/components/preflight/routes"
)

const (
	srcRouting        = "Azure Virtual Network documentation, virtual-networks-udr-overview"
	srcEndpointPolicy = "Azure Private Link documentation, disable-private-endpoint-network-policy"
	srcPullAtCreate   = "Azure/bicep-ptn-aiml-landing-zone, CHANGELOG #78 (seen in a deployment)"
)

var routeGuards = []Guard{{
	ID: "RTE-01", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartRouteTables, PartNICs, PartLoadBalancers},
	Condition: "the agent subnet has a route table whose 0.0.0.0/0 leads to the gateway, and the gateway has that address",
	Why:       "Without it Azure's own route for 0.0.0.0/0 leads to the internet, and a next hop that nobody has drops everything.",
	Source:    srcRouting,
	Fix:       "associate the spoke's route table with the subnet, its 0.0.0.0/0 leading to VirtualAppliance with the gateway's static address or its load balancer's frontend",
	check:     defaultRoute,
}, {
	ID: "RTE-02", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartRouteTables},
	Condition: "every other route of the agent subnet leads to the gateway, to nowhere, or to what was declared local",
	Why:       "The longest prefix wins, so one route to Internet, to a virtual network gateway or by a service tag takes its traffic past the gateway.",
	Source:    srcRouting,
	Fix:       "remove the route; what the platform needs is permitted in the ruleset instead",
	check:     otherRoutes,
}, {
	ID: "RTE-03", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartRouteTables},
	Condition: "the agent subnet's route table takes no routes from virtual network gateways",
	Why:       "A learned prefix is longer than 0.0.0.0/0, so whoever announces one draws the agents' traffic past the gateway.",
	Source:    srcRouting,
	Fix:       "set disableBgpRoutePropagation on the route table",
	check: func(v *view) {
		if !v.made() {
			return
		}
		if t := v.agentTable(); t == nil || !t.PropagateDisable {
			v.found(v.tableName(), "propagation of gateway routes", "disableBgpRoutePropagation: true")
		}
	},
}, {
	ID: "RTE-04", Severity: Fail, When: Continuous, Needs: []Part{PartVNets},
	Condition: "the agent subnet has no service endpoints",
	Why:       "Their routes cannot be overridden, so every tenant's accounts of the service are reached past the gateway.",
	Source:    srcRouting,
	Fix:       "remove them; reach your own account by a private endpoint, or through the gateway by name",
	check: func(v *view) {
		if v.made() && len(v.agent.ServiceEndpoints) > 0 {
			v.found(v.agent.ID, strings.Join(v.agent.ServiceEndpoints, ", "), "no service endpoints")
		}
	},
}, {
	ID: "RTE-05", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartRouteTables},
	Condition: "each prefix of the virtual network and of its peerings has a route of its own to the gateway, or to nowhere",
	Why:       "Azure's routes within the network and to peered ones are longer than 0.0.0.0/0; only a user-defined route for the same prefix takes their place.",
	Source:    srcRouting,
	Fix:       "add a route for exactly this prefix to the gateway, or remove the peering",
	check:     ownRoutes,
}, {
	ID: "RTE-06", Severity: Warn, When: Before, Needs: []Part{PartVNets, PartRouteTables, PartPrivateEndpoints},
	Condition: "private endpoints that agents reach directly lie in prefixes that were declared local",
	Why:       "A private endpoint has a route for its one address, which only a user-defined route no shorter than its network's prefix and its subnet's network policies override.",
	Source:    srcEndpointPolicy,
	Fix:       "declare the endpoint's subnet in localPrefixes if agents are meant to reach it directly; otherwise set privateEndpointNetworkPolicies to RouteTableEnabled on it",
	check:     directEndpoints,
}, {
	ID: "RTE-07", Severity: Fail, When: Before, Needs: []Part{PartVNets, PartRouteTables, PartNICs, PartLoadBalancers},
	Condition: "the gateway's subnet has a way out of its own, and no default route back to the gateway",
	Why:       "New subnets have no default outbound access any more, and a gateway whose 0.0.0.0/0 leads to itself loops.",
	Source:    srcRouting + "; \"Default outbound access for VMs in Azure will be retired\"",
	Fix:       "give the gateway's subnet a NAT gateway, or its interface a Standard public address, and no route to itself",
	check:     gatewayEgress,
}, {
	ID: "RTE-08", Severity: Fail, When: Before, Needs: []Part{PartVNets, PartGatewayReports},
	Condition: "the agent subnet does not exist before the gateway has attested what it enforces",
	Why:       "The platform pulls an image as soon as an account uses the subnet, and gives up if nothing forwards; and a subnet older than its gateway had another way out.",
	Source:    srcPullAtCreate,
	Fix:       "create the agent subnet after the Attestation resource; FoundrySpoke does",
	check: func(v *view) {
		if !v.made() {
			return
		}
		if !slices.ContainsFunc(v.inv.GatewayReports, func(r GatewayReport) bool { return r.Ready && r.Digest != "" }) {
			v.found(v.agent.ID, "the subnet, but no gateway that ever said what it enforces", "a ready gateway first")
		}
	},
}, {
	ID: "RTE-09", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartRouteTables, PartPrivateEndpoints},
	Condition: "of all IPv4 destinations, none leaves the agent subnet past the gateway but those declared local, private endpoints (RTE-06) and Azure's host addresses (DNS-02)",
	Why:       "It is the sum of all rules by which Azure chooses a route, computed over every address.",
	Source:    srcRouting + "; " + srcEndpointPolicy,
	Fix:       "add a user-defined route for these prefixes to the gateway, or remove what makes the other route",
	check:     escapes,
}, {
	ID: "RTE-10", Severity: Warn, When: Drift, Needs: []Part{PartVNets, PartRouteTables, PartNICs, PartLoadBalancers, PartPrivateEndpoints, PartEffectiveRoutes},
	Condition: "what Azure says are the gateway interface's effective routes is what this package computes for it",
	Why:       "Azure tells effective routes only for a running machine's interface, so this is where the computation behind RTE-09 can be compared with it.",
	Source:    "Azure Virtual Network documentation, diagnose-network-routing-problem",
	Fix:       "trust Azure; report the difference, with the inventory, as a defect of preflight",
	check:     agreement,
}, {
	ID: "RTE-11", Severity: Warn, When: Continuous, Needs: []Part{PartVNets},
	Condition: "without its route table the agent subnet would have no way out: no NAT gateway, and no default outbound access",
	Why:       "A route table can be taken off by one request, and then Azure's own route for 0.0.0.0/0 leads to whatever is there.",
	Source:    srcReasoned + "; \"Default outbound access for VMs in Azure will be retired\"",
	Fix:       "take the NAT gateway off, and set defaultOutboundAccess to false (API version 2024-05-01 or newer)",
	check: func(v *view) {
		if !v.made() {
			return
		}
		if v.agent.NATGateway != "" {
			v.found(v.agent.ID, "NAT gateway "+v.agent.NATGateway, "none")
		}
		if v.agent.DefaultOutbound == nil || *v.agent.DefaultOutbound {
			v.found(v.agent.ID, "default outbound access", "defaultOutboundAccess: false")
		}
	},
}}

func (v *view) tableName() string {
	if t := v.agentTable(); t != nil {
		return t.ID
	}
	return v.agent.ID
}

func defaultRoute(v *view) {
	if !v.made() {
		return
	}
	t := v.agentTable()
	if t == nil {
		v.found(v.agent.ID, "no route table", "a route table with 0.0.0.0/0 to the gateway")
		return
	}
	want := v.gatewayAddress()
	i := slices.IndexFunc(t.Routes, func(r Route) bool { return r.Prefix == "0.0.0.0/0" })
	switch {
	case i < 0:
		v.found(t.ID, "no route for 0.0.0.0/0", "0.0.0.0/0 to VirtualAppliance "+want.String())
	case t.Routes[i].Hop != HopAppliance || t.Routes[i].Address != want.String():
		v.found(t.ID+" "+t.Routes[i].Name, strings.TrimSpace(fmt.Sprintf("0.0.0.0/0 to %s %s", t.Routes[i].Hop, t.Routes[i].Address)), "VirtualAppliance "+want.String())
	case len(v.gatewayNICs()) == 0 && v.balancer() == nil:
		v.found(t.ID+" "+t.Routes[i].Name, "next hop "+want.String()+", which no interface or load balancer has", "the gateway's address")
	}
}

func otherRoutes(v *view) {
	t := v.agentTable()
	if !v.made() || t == nil {
		return
	}
	for _, r := range t.Routes {
		p, err := netip.ParsePrefix(r.Prefix)
		found := strings.TrimSpace(fmt.Sprintf("%s to %s %s", r.Prefix, r.Hop, r.Address))
		switch {
		case r.Prefix == "0.0.0.0/0": // RTE-01's
		case err != nil:
			v.found(t.ID+" "+r.Name, found, "no route by service tag")
		case r.Hop == HopNone, r.Hop == HopAppliance && r.Address == v.gatewayAddress().String():
		case r.Hop == HopLocal && slices.ContainsFunc(v.declared(), func(d netip.Prefix) bool { return contains(d, p) }):
		default:
			v.found(t.ID+" "+r.Name, found, "the gateway, None, or VnetLocal for a prefix declared local")
		}
	}
}

func ownRoutes(v *view) {
	if !v.made() {
		return
	}
	var have []netip.Prefix
	if t := v.agentTable(); t != nil {
		for _, r := range t.Routes {
			if p, err := netip.ParsePrefix(r.Prefix); err == nil && (r.Hop == HopNone || r.Hop == HopAppliance && r.Address == v.gatewayAddress().String()) {
				have = append(have, p.Masked())
			}
		}
	}
	need := func(resource string, p netip.Prefix) {
		if p.Addr().Is4() && !slices.Contains(have, p.Masked()) {
			v.found(resource, p.String()+" without a route of its own", fmt.Sprintf("%s to VirtualAppliance %s", p, v.gatewayAddress()))
		}
	}
	for _, p := range v.vnet.Prefixes {
		need(v.vnet.ID, p)
	}
	for _, peer := range v.vnet.Peerings {
		for _, p := range peer.Prefixes {
			need(peer.ID, p)
		}
	}
}

func directEndpoints(v *view) {
	if !v.made() {
		return
	}
	for _, p := range v.vnet.Peerings {
		if !slices.ContainsFunc(v.inv.VNets, func(n VNet) bool { return same(n.ID, p.Remote) }) {
			v.missing("private endpoints of the peered network " + p.Remote)
		}
	}
	in, _ := v.surroundings(v.vnet, v.agent, v.agentTable())
	for _, w := range routes.Effective(in).Escapes(v.gatewayAddress(), v.declared()) {
		if w.Route.Hop == routes.PrivateEndpoint {
			v.found("private endpoint "+w.Route.Name, w.Route.Prefix.Addr().String()+", reached directly", "a prefix declared local, or a route through the gateway")
		}
	}
}

func gatewayEgress(v *view) {
	nics := v.gatewayNICs()
	if len(nics) == 0 {
		v.notApplicable("the gateway does not exist yet")
		return
	}
	for _, n := range nics {
		_, s := v.subnet(n.Subnet)
		if s == nil {
			v.missing("the gateway's subnet " + n.Subnet)
			continue
		}
		out := n.PublicAddress != "" || s.NATGateway != ""
		t := v.routeTable(s.RouteTable)
		if t != nil {
			for _, r := range t.Routes {
				if r.Prefix != "0.0.0.0/0" {
					continue
				}
				loops := r.Hop == HopAppliance && (r.Address == n.Address || r.Address == v.gatewayAddress().String())
				if loops || r.Hop == HopNone {
					v.found(t.ID+" "+r.Name, strings.TrimSpace(fmt.Sprintf("0.0.0.0/0 to %s %s", r.Hop, r.Address)), "Internet, or another appliance")
					out = true
				}
				out = out || r.Hop == HopAppliance || r.Hop == HopGateway // by way of somebody else
			}
		}
		if !out {
			v.found(n.ID, "no public address and no NAT gateway", "a way out")
		}
	}
}

func escapes(v *view) {
	if !v.made() {
		return
	}
	in, unknown := v.surroundings(v.vnet, v.agent, v.agentTable())
	for _, w := range routes.Effective(in).Escapes(v.gatewayAddress(), v.declared()) {
		if w.Route.Hop != routes.Platform && w.Route.Hop != routes.PrivateEndpoint {
			v.found(v.agent.ID, w.String(), "VirtualAppliance "+v.gatewayAddress().String())
		}
	}
	for _, s := range v.agent.ServiceEndpoints {
		v.found(v.agent.ID, "the public addresses of "+s+" by VirtualNetworkServiceEndpoint", "VirtualAppliance "+v.gatewayAddress().String())
	}
	for _, tag := range unknown {
		v.found(v.tableName(), "the addresses of the service tag "+tag+" by a route of their own", "VirtualAppliance "+v.gatewayAddress().String())
	}
}

// agreement compares each route that Azure reports as active for the gateway's interface with
// the computed one for the first address of its prefix.
func agreement(v *view) {
	compared := 0
	for _, n := range v.gatewayNICs() {
		i := slices.IndexFunc(v.inv.EffectiveRoutes, func(e EffectiveRoutes) bool { return same(e.NIC, n.ID) })
		network, s := v.subnet(n.Subnet)
		if i < 0 || s == nil {
			continue
		}
		in, _ := v.surroundings(network, s, v.routeTable(s.RouteTable))
		for _, name := range s.ServiceEndpoints {
			in.Services = append(in.Services, routes.Service{Name: name, Prefixes: reported(v.inv.EffectiveRoutes[i], routes.ServiceEndpoint)})
		}
		table := routes.Effective(in)
		for _, r := range v.inv.EffectiveRoutes[i].Routes {
			if r.State != "Active" || r.Hop == string(routes.None) {
				continue
			}
			for _, text := range r.Prefixes {
				p, err := netip.ParsePrefix(text)
				if err != nil || !p.Addr().Is4() {
					continue
				}
				compared++
				if got := table.Lookup(p); !alike(got, r.Hop) {
					v.found(n.ID, fmt.Sprintf("Azure routes %s to %s, and not to %s", p, r.Hop, got), "one answer")
				}
			}
		}
	}
	if compared == 0 {
		v.notApplicable("the gateway does not run, so Azure tells no routes of it")
	}
}

// reported are the prefixes of the routes that Azure reports with a next hop.
func reported(e EffectiveRoutes, hop routes.Hop) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range e.Routes {
		for _, text := range r.Prefixes {
			if p, err := netip.ParsePrefix(text); err == nil && r.Hop == string(hop) {
				out = append(out, p)
			}
		}
	}
	return out
}

// alike compares next hops: Azure tells peerings within a region and across regions apart.
func alike(computed routes.Hop, azure string) bool {
	return string(computed) == azure || computed == routes.VNetPeering && (azure == "VNetGlobalPeering" || azure == "VirtualNetworkPeering")
}
