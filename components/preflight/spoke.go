package preflight

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/bulkhead-dev/bulkhead/components/preflight/routes"
)

// account is the spoke's Foundry account, by its name or else as the one that is injected
// into the agent subnet; nil where there is none.
func (v *view) account() *Account {
	name := v.accountName()
	for i := range v.inv.Accounts {
		a := &v.inv.Accounts[i]
		if name != "" && strings.EqualFold(path.Base(a.ID), name) {
			return a
		}
		if name == "" && v.agent != nil && slices.ContainsFunc(a.Injections, func(in Injection) bool { return same(in.Subnet, v.agent.ID) }) {
			return a
		}
	}
	return nil
}

func (v *view) accountName() string {
	if v.inv.Scope.Account != "" {
		return v.inv.Scope.Account
	}
	return v.plan.AccountName
}

// bound reports whether agents live in the subnet: what they hold cannot be changed any more.
func (v *view) bound() bool {
	if v.agent != nil && len(v.agent.Associations) > 0 {
		return true
	}
	a := v.account()
	return a != nil && len(a.CapabilityHosts) > 0
}

// gatewayAddress is the next hop: as planned, or else where the agents' default route leads.
func (v *view) gatewayAddress() netip.Addr {
	if a, err := netip.ParseAddr(v.plan.GatewayAddress); err == nil {
		return a
	}
	if t := v.agentTable(); t != nil {
		for _, r := range t.Routes {
			if a, err := netip.ParseAddr(r.Address); err == nil && r.Prefix == "0.0.0.0/0" && r.Hop == HopAppliance {
				return a
			}
		}
	}
	return netip.Addr{}
}

// gatewayNICs are the interfaces that have the gateway's address, or that stand behind the
// load balancer that has it: those that forward, in its subnet.
func (v *view) gatewayNICs() []*NIC {
	want := v.gatewayAddress()
	if !want.IsValid() {
		return nil
	}
	balancer := v.balancer()
	var out []*NIC
	for i := range v.inv.NICs {
		n := &v.inv.NICs[i]
		if n.Address == want.String() || balancer != nil && slices.ContainsFunc(balancer.Backends, func(id string) bool { return same(id, n.ID) }) {
			out = append(out, n)
		}
	}
	return out
}

// balancer is the load balancer that has the gateway's address, nil where there is none.
func (v *view) balancer() *LoadBalancer {
	want := v.gatewayAddress()
	for i := range v.inv.LoadBalancers {
		if want.IsValid() && slices.Contains(v.inv.LoadBalancers[i].Frontends, want.String()) {
			return &v.inv.LoadBalancers[i]
		}
	}
	return nil
}

// gatewayPrincipals are the identities of the gateways' machines.
func (v *view) gatewayPrincipals() []string {
	var out []string
	for _, n := range v.gatewayNICs() {
		for _, m := range v.inv.VMs {
			if same(m.ID, n.VM) {
				out = append(out, m.Identities...)
			}
		}
	}
	return out
}

// gatewayRoles are the assignments to the gateways' identities.
func (v *view) gatewayRoles() []RoleAssignment {
	principals := v.gatewayPrincipals()
	var out []RoleAssignment
	for _, a := range v.inv.RoleAssignments {
		if slices.ContainsFunc(principals, func(p string) bool { return strings.EqualFold(p, a.Principal) }) {
			out = append(out, a)
		}
	}
	return out
}

// subnet finds one by its id, in any network of the inventory.
func (v *view) subnet(id string) (*VNet, *Subnet) {
	for i := range v.inv.VNets {
		for j := range v.inv.VNets[i].Subnets {
			if same(v.inv.VNets[i].Subnets[j].ID, id) {
				return &v.inv.VNets[i], &v.inv.VNets[i].Subnets[j]
			}
		}
	}
	return nil, nil
}

// routeTable finds one by its id.
func (v *view) routeTable(id string) *RouteTable {
	for i := range v.inv.RouteTables {
		if same(v.inv.RouteTables[i].ID, id) {
			return &v.inv.RouteTables[i]
		}
	}
	return nil
}

// nsg finds one by its id.
func (v *view) nsg(id string) *NSG {
	for i := range v.inv.NSGs {
		if same(v.inv.NSGs[i].ID, id) {
			return &v.inv.NSGs[i]
		}
	}
	return nil
}

func (v *view) agentTable() *RouteTable {
	if v.agent == nil {
		return nil
	}
	return v.routeTable(v.agent.RouteTable)
}

// made says whether the agent subnet exists, and otherwise that the question does not arise.
func (v *view) made() bool {
	if v.agent == nil {
		v.notApplicable("the agent subnet does not exist yet")
	}
	return v.agent != nil
}

// learned are the routes that a virtual network gateway propagates, as the gateways'
// interfaces have them; they are the same in every subnet that takes them.
func (v *view) learned() []routes.LearnedRoute {
	var out []routes.LearnedRoute
	for _, e := range v.inv.EffectiveRoutes {
		for _, r := range e.Routes {
			if r.Source != string(routes.Learned) {
				continue
			}
			for _, text := range r.Prefixes {
				if p, err := netip.ParsePrefix(text); err == nil {
					out = append(out, routes.LearnedRoute{Prefix: p})
				}
			}
		}
	}
	return out
}

// surroundings is a subnet as its effective routes follow from it. Service tags that no data
// is known of are returned by name.
func (v *view) surroundings(n *VNet, s *Subnet, t *RouteTable) (in routes.Subnet, unknownTags []string) {
	in = routes.Subnet{Network: n.Prefixes, Learned: v.learned(), Propagation: t == nil || !t.PropagateDisable}
	in.IPv6 = slices.ContainsFunc(s.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() })
	near := []string{n.ID}
	for _, p := range n.Peerings {
		if strings.EqualFold(p.State, "Connected") {
			in.Peerings = append(in.Peerings, routes.Peering{Name: path.Base(p.ID), Prefixes: p.Prefixes})
			near = append(near, p.Remote)
		}
	}
	for _, e := range v.inv.PrivateEndpoints {
		network, subnet := v.subnet(e.Subnet)
		if network == nil || !slices.ContainsFunc(near, func(id string) bool { return same(id, network.ID) }) {
			continue
		}
		policy := subnet.PrivateEndpointPolicies == "RouteTableEnabled" || subnet.PrivateEndpointPolicies == "Enabled"
		for _, a := range e.Addresses {
			in.Endpoints = append(in.Endpoints, routes.Endpoint{Name: path.Base(e.ID), Address: a, Network: network.Prefixes, RoutePolicy: policy})
		}
	}
	if t == nil {
		return in, nil
	}
	for _, r := range t.Routes {
		u := routes.UserRoute{Name: r.Name, Hop: routes.Hop(r.Hop)}
		u.Address, _ = netip.ParseAddr(r.Address)
		if p, err := netip.ParsePrefix(r.Prefix); err == nil {
			u.Prefixes = []netip.Prefix{p}
		} else if u.Tag = r.Prefix; v.inv.Ruleset != nil && v.inv.Ruleset.ServiceTags[r.Prefix] != nil {
			u.Prefixes = v.inv.Ruleset.ServiceTags[r.Prefix]
		} else {
			unknownTags = append(unknownTags, r.Prefix)
		}
		in.Table = append(in.Table, u)
	}
	return in, unknownTags
}

// declared are the prefixes that agents are meant to reach without the gateway.
func (v *view) declared() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range planned("", append([]string{v.plan.EndpointPrefix}, v.plan.LocalPrefixes...)...) {
		out = append(out, p.prefix)
	}
	return out
}
