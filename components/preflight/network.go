package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Where Azure's reasons are written.
const (
	srcVirtualNetworks   = "Azure AI Foundry documentation, agents/how-to/virtual-networks"
	srcNetworkingOptions = "Azure AI Foundry documentation, agents/concepts/networking-options"
	srcDeepDive          = "Azure AI Foundry documentation, agents/concepts/agents-networking-deep-dive"
	srcPrivateLink       = "Azure AI Foundry documentation, how-to/configure-private-link"
	srcSamples           = "microsoft-foundry/foundry-samples, 15-private-network-standard-agent-setup"
	srcContainerApps     = "Azure Container Apps documentation, custom-virtual-networks"
	srcAddressing        = "Azure Virtual Network documentation, virtual-networks-faq: reserved addresses"
	srcDelegationCase    = "Azure/bicep-ptn-aiml-landing-zone, CHANGELOG #110 (seen in a deployment)"
	srcReasoned          = "follows from how Azure routes; not written by Microsoft"
)

// Reserved are the prefixes that neither the virtual network nor one that is peered with it
// may hold: the platform uses them inside. The union of both lists that Microsoft keeps.
//
// Sources: foundry-samples, 15-private-network-standard-agent-setup, README; Azure Container
// Apps, custom-virtual-networks (workload profiles).
var Reserved = prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.30.0.0/16", "172.31.0.0/16", "192.0.2.0/24",
	"100.64.0.0/11", "100.100.0.0/17", "100.100.128.0/19", "100.100.160.0/19", "100.100.192.0/19", "100.100.224.0/19")

var (
	private       = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
	sharedSpace   = netip.MustParsePrefix("100.64.0.0/10")
	classA        = netip.MustParsePrefix("10.0.0.0/8")
	dockerBridge  = netip.MustParsePrefix("172.17.0.0/16")
	classARegions = strings.Fields(`australiaeast brazilsouth canadaeast eastus eastus2 francecentral germanywestcentral italynorth japaneast
		southafricanorth southcentralus southindia spaincentral swedencentral uaenorth uksouth westeurope westus westus3`)
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

var networkGuards = []Guard{{
	ID: "NET-00", Severity: Fail, When: Before, Static: true,
	Condition: "every planned address and prefix can be read, and a prefix has no bits below its length",
	Why:       "Azure refuses a prefix whose address is not its first one, and a guard cannot judge what it cannot read.",
	Source:    srcAddressing,
	Fix:       "write the prefix's first address and its length, such as 10.20.1.0/24",
	check:     readable,
}, {
	ID: "NET-01", Severity: Fail, When: Continuous, Static: true, Needs: []Part{PartVNets},
	Condition: "the agent subnet is delegated to exactly one service, Microsoft.App/environments, spelled so",
	Why:       "The capability host compares the name byte by byte, and with any other spelling fails after some 47 minutes with \"Invalid vnet resource ID\".",
	Source:    srcVirtualNetworks + "; " + srcDelegationCase,
	Fix:       "delegate the subnet to Microsoft.App/environments alone; where a capability host already uses it, see IMM-01",
	check:     delegated,
}, {
	ID: "NET-02", Severity: Fail, When: Before, Static: true, Needs: []Part{PartVNets},
	Condition: "the agent subnet is a /27 or wider",
	Why:       "Each session takes an address of its own, and Foundry accepts nothing smaller; the size cannot change once an account uses the subnet.",
	Source:    srcNetworkingOptions + "; " + srcVirtualNetworks,
	Fix:       "plan a /24 for the agents",
	check: func(v *view) {
		for _, p := range v.agents() {
			if p.prefix.Addr().Is4() && p.prefix.Bits() > 27 {
				v.found(p.resource, p.prefix.String(), "a length of 27 or less")
			}
		}
	},
}, {
	ID: "NET-03", Severity: Fail, When: Before, Static: true, Needs: []Part{PartVNets},
	Condition: "the agent and private-endpoint subnets lie in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16; shared address space only if allowed explicitly",
	Why:       "Foundry takes private addresses; whether it takes 100.64.0.0/10 is said differently by two of Microsoft's pages.",
	Source:    srcNetworkingOptions + "; " + srcDeepDive,
	Fix:       "choose a prefix in RFC 1918 space, or set the override for shared address space and test it in your tenant",
	check:     privateSpace,
}, {
	ID: "NET-04", Severity: Fail, When: Continuous, Static: true, Needs: []Part{PartVNets},
	Condition: "no prefix of the virtual network or of a peered one overlaps a range that the platform uses inside",
	Why:       "The platform's own network behind the subnet uses these ranges, so answers from them would never arrive.",
	Source:    srcSamples + "; " + srcContainerApps,
	Fix:       "choose another prefix, or take the peering away",
	check: func(v *view) {
		for _, p := range slices.Concat(v.vnetPrefixes(), v.adjacentPrefixes()) {
			for _, r := range Reserved {
				if r.Overlaps(p.prefix) {
					v.found(p.resource, fmt.Sprintf("%s, which overlaps %s", p.prefix, r), "a prefix outside of every reserved range")
					break
				}
			}
		}
	},
}, {
	ID: "NET-05", Severity: Warn, When: Before, Static: true, Needs: []Part{PartVNets},
	Condition: "the virtual network does not overlap 172.17.0.0/16",
	Why:       "It is the usual range of Docker's bridge, so what runs in containers cannot reach it.",
	Source:    srcPrivateLink,
	Fix:       "choose another prefix",
	check: func(v *view) {
		for _, p := range v.vnetPrefixes() {
			if dockerBridge.Overlaps(p.prefix) {
				v.found(p.resource, p.prefix.String(), "a prefix outside of "+dockerBridge.String())
			}
		}
	},
}, {
	ID: "NET-06", Severity: Warn, When: Before, Static: true, Needs: []Part{PartVNets},
	Condition: "where the agent subnet lies in 10.0.0.0/8, the region is one that takes such subnets",
	Why:       "Microsoft's samples list the regions with support for class A subnets; the list of January 2026 may have grown.",
	Source:    srcSamples,
	Fix:       "choose a prefix in 172.16.0.0/12 or 192.168.0.0/16, or make sure that the region takes class A subnets by now",
	check: func(v *view) {
		where := v.location()
		for _, p := range v.agents() {
			if classA.Overlaps(p.prefix) && where != "" && !slices.Contains(classARegions, where) {
				v.found(p.resource, fmt.Sprintf("%s in %s", p.prefix, where), "one of the regions "+strings.Join(classARegions, ", "))
			}
		}
	},
}, {
	ID: "NET-07", Severity: Fail, When: Before, Static: true, Needs: []Part{PartVNets, PartAccounts, PartNICs},
	Condition: "the virtual network, the Foundry account and the gateway are in one region",
	Why:       "An account can be injected only into a subnet of its own region, and a network interface lives in its network's region.",
	Source:    srcVirtualNetworks + "; " + srcNetworkingOptions,
	Fix:       "make them in one region; an account's region cannot change",
	check:     oneRegion,
}, {
	ID: "NET-08", Severity: Fail, When: Before, Needs: []Part{PartVNets, PartAccounts, PartEnvironments},
	Condition: "no other Foundry account or Container Apps environment uses the agent subnet",
	Why:       "A delegated subnet belongs to one account; a second one is refused with \"Subnet already in use\".",
	Source:    srcVirtualNetworks + "; " + srcSamples,
	Fix:       "give this account a subnet of its own, or delete and purge what holds this one and wait for the link to go",
	check:     notShared,
}, {
	ID: "NET-09", Severity: Fail, When: Before, Static: true, Needs: []Part{PartVNets, PartNICs, PartPrivateEndpoints},
	Condition: "the agent subnet is not the gateway's, and holds no other interface and no private endpoint",
	Why:       "A delegated subnet is the service's alone, what shares it with agents is within their reach, and a gateway in it would route its own packets to itself.",
	Source:    srcVirtualNetworks + "; Azure Virtual Network documentation, virtual-networks-udr-overview",
	Fix:       "move the interface or the endpoint to a subnet of its own",
	check:     alone,
}, {
	ID: "NET-10", Severity: Fail, When: Before, Static: true, Needs: []Part{PartVNets},
	Condition: "the agent subnet has no IPv6 prefix",
	Why:       "A route for 0.0.0.0/0 does not hold IPv6, so packets of the other family would not come to the gateway.",
	Source:    srcReasoned,
	Fix:       "take the IPv6 prefix away from the agent subnet",
	check: func(v *view) {
		for _, p := range v.agents() {
			if p.prefix.Addr().Is6() {
				v.found(p.resource, p.prefix.String(), "IPv4 prefixes only")
			}
		}
	},
}, {
	ID: "NET-11", Severity: Fail, When: Continuous, Static: true, Needs: []Part{PartVNets},
	Condition: "no peered or adjacent prefix overlaps the virtual network's",
	Why:       "Azure refuses to peer networks that overlap, and the local one would win over any route.",
	Source:    srcDeepDive,
	Fix:       "choose prefixes that do not overlap",
	check: func(v *view) {
		for _, p := range v.adjacentPrefixes() {
			for _, own := range v.vnetPrefixes() {
				if own.prefix.Overlaps(p.prefix) {
					v.found(p.resource, fmt.Sprintf("%s, which overlaps %s", p.prefix, own.prefix), "a prefix that is not the virtual network's own")
				}
			}
		}
	},
}, {
	ID: "NET-12", Severity: Warn, When: Before, Static: true, Needs: []Part{PartVNets},
	Condition: "the agent subnet is a /24 or wider, and the expected sessions take at most 80 % of its addresses",
	Why:       "Each session takes an address, a full subnet answers with 429 subnet_exhausted, and the size cannot be changed later.",
	Source:    srcNetworkingOptions + "; " + srcDeepDive,
	Fix:       "plan a /24 or wider for the agents now",
	check: func(v *view) {
		for _, p := range v.agents() {
			if !p.prefix.Addr().Is4() {
				continue
			}
			usable := usable(p.prefix)
			if v.plan.Sessions*5 > usable*4 {
				v.found(p.resource, fmt.Sprintf("%d usable addresses for %d sessions", usable, v.plan.Sessions), "at most 80 % of them in use")
			} else if p.prefix.Bits() > 24 {
				v.found(p.resource, p.prefix.String(), "a /24 or wider")
			}
		}
	},
}, {
	ID: "NET-13", Severity: Fail, When: Before, Static: true, Needs: []Part{PartVNets},
	Condition: "every subnet lies within the virtual network, and no two overlap",
	Why:       "Azure refuses a subnet outside of its network's address space or over another subnet.",
	Source:    srcAddressing,
	Fix:       "choose prefixes side by side within the virtual network",
	check:     disjoint,
}, {
	ID: "NET-14", Severity: Fail, When: Before, Static: true,
	Condition: "the gateway's address is a usable one of the gateway's subnet",
	Why:       "Azure keeps the first four addresses of a subnet and the last one for itself.",
	Source:    srcAddressing,
	Fix:       "choose an address from the fifth to the last but one",
	check: func(v *view) {
		a, err := netip.ParseAddr(v.plan.GatewayAddress)
		subnet := planned("gateway subnet", v.plan.GatewayPrefix)
		if err != nil || len(subnet) == 0 {
			v.notApplicable("the plan names no gateway address or no gateway subnet")
			return
		}
		if !assignable(subnet[0].prefix, a) {
			v.found("planned gateway", fmt.Sprintf("%s in %s", a, subnet[0].prefix), "an address of that subnet, neither one of its first four nor its last")
		}
	},
}}

// agents is agentPrefixes for guards about nothing else.
func (v *view) agents() []named {
	all := v.agentPrefixes()
	if len(all) == 0 {
		v.notApplicable("there is no agent subnet, neither planned nor made")
	}
	return all
}

// location is where the spoke is, as made or else as planned.
func (v *view) location() string {
	if v.vnet != nil {
		return region(v.vnet.Location)
	}
	return region(v.plan.Location)
}

func readable(v *view) {
	if v.inv.Plan == nil {
		v.notApplicable(nothingPlanned)
		return
	}
	one := func(what, text string) {
		if text == "" {
			return
		}
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			v.found("planned "+what, fmt.Sprintf("%q", text), "an address prefix")
		case p != p.Masked():
			v.found("planned "+what, text, p.Masked().String())
		}
	}
	one("agent subnet", v.plan.AgentPrefix)
	one("gateway subnet", v.plan.GatewayPrefix)
	one("private-endpoint subnet", v.plan.EndpointPrefix)
	one("canary subnet", v.plan.CanaryPrefix)
	for _, list := range []struct {
		what  string
		texts []string
	}{{"virtual network", v.plan.VNetPrefixes}, {"adjacent network", v.plan.AdjacentPrefixes}, {"local prefix", v.plan.LocalPrefixes}} {
		for _, text := range list.texts {
			one(list.what, text)
		}
	}
	if a := v.plan.GatewayAddress; a != "" {
		if _, err := netip.ParseAddr(a); err != nil {
			v.found("planned gateway", fmt.Sprintf("%q", a), "an address")
		}
	}
}

func delegated(v *view) {
	if v.plan.Delegation != "" && v.plan.Delegation != Delegation {
		v.found("planned agent subnet", "delegation to "+v.plan.Delegation, Delegation)
	}
	switch {
	case v.agent == nil && v.plan.AgentPrefix == "":
		v.notApplicable("there is no agent subnet, neither planned nor made")
	case v.agent != nil && !slices.Equal(v.agent.Delegations, []string{Delegation}):
		found := "no delegation"
		if len(v.agent.Delegations) > 0 {
			found = "delegation to " + strings.Join(v.agent.Delegations, ", ")
		}
		v.found(v.agent.ID, found, Delegation)
	}
}

func privateSpace(v *view) {
	subnets := with(v.agents(), planned("private-endpoint subnet", v.plan.EndpointPrefix)...)
	for _, p := range subnets {
		within := func(r netip.Prefix) bool { return contains(r, p.prefix) }
		switch {
		case !p.prefix.Addr().Is4(), slices.ContainsFunc(private, within):
		case within(sharedSpace) && v.plan.AllowSharedAddressSpace:
		default:
			v.found(p.resource, p.prefix.String(), "a prefix within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
		}
	}
}

func oneRegion(v *view) {
	where := v.location()
	if where == "" {
		v.notApplicable("neither a virtual network nor a plan says where")
		return
	}
	if a := region(v.plan.AccountLocation); a != "" && a != where {
		v.found("planned Foundry account", a, where+", where the virtual network is")
	}
	if p := region(v.plan.Location); p != "" && p != where {
		v.found("planned gateway", p, where+", where the virtual network is")
	}
	if a := v.account(); a != nil && region(a.Location) != where {
		v.found(a.ID, region(a.Location), where+", where the virtual network is")
	}
	for _, n := range v.gatewayNICs() {
		if region(n.Location) != where {
			v.found(n.ID, region(n.Location), where+", where the virtual network is")
		}
	}
}

func notShared(v *view) {
	if v.agent == nil {
		v.notApplicable("the agent subnet does not exist yet")
		return
	}
	for _, a := range v.inv.Accounts {
		if own := v.account(); own != nil && same(own.ID, a.ID) {
			continue
		}
		used := slices.ContainsFunc(a.Injections, func(i Injection) bool { return same(i.Subnet, v.agent.ID) }) ||
			slices.ContainsFunc(a.CapabilityHosts, func(h CapabilityHost) bool { return same(h.Subnet, v.agent.ID) })
		if used {
			v.found(v.agent.ID, "in use by "+a.ID, "no account but "+v.accountName())
		}
	}
	for _, e := range v.inv.Environments {
		if same(e.Subnet, v.agent.ID) {
			v.found(v.agent.ID, "in use by "+e.ID, "no Container Apps environment")
		}
	}
}

func alone(v *view) {
	if agent, gateway := planned("agent subnet", v.plan.AgentPrefix), planned("gateway subnet", v.plan.GatewayPrefix); len(agent) > 0 && len(gateway) > 0 &&
		agent[0].prefix == gateway[0].prefix {
		v.found("planned agent subnet", agent[0].prefix.String()+", the gateway's subnet too", "a subnet of its own")
	}
	if v.agent == nil {
		if v.plan.AgentPrefix == "" {
			v.notApplicable("there is no agent subnet, neither planned nor made")
		}
		return
	}
	for _, n := range v.inv.NICs {
		if same(n.Subnet, v.agent.ID) && n.PrivateEndpoint == "" {
			v.found(v.agent.ID, "interface "+n.ID, "agents only")
		}
	}
	for _, e := range v.inv.PrivateEndpoints {
		if same(e.Subnet, v.agent.ID) {
			v.found(v.agent.ID, "private endpoint "+e.ID, "agents only")
		}
	}
}

func disjoint(v *view) {
	var subnets []named
	if v.vnet != nil {
		for _, s := range v.vnet.Subnets {
			for _, p := range s.Prefixes {
				subnets = append(subnets, named{s.ID, p})
			}
		}
	}
	made := subnets
	for _, s := range []struct{ what, prefix string }{{"agent subnet", v.plan.AgentPrefix}, {"gateway subnet", v.plan.GatewayPrefix},
		{"private-endpoint subnet", v.plan.EndpointPrefix}, {"canary subnet", v.plan.CanaryPrefix}} {
		for _, p := range planned(s.what, s.prefix) {
			if !slices.ContainsFunc(made, func(m named) bool { return m.prefix == p.prefix }) {
				subnets = append(subnets, p)
			}
		}
	}
	space := v.vnetPrefixes()
	for i, s := range subnets {
		if len(space) > 0 && !slices.ContainsFunc(space, func(n named) bool { return contains(n.prefix, s.prefix) }) {
			var all []string
			for _, n := range space {
				all = append(all, n.prefix.String())
			}
			v.found(s.resource, s.prefix.String(), "a prefix within "+strings.Join(all, ", "))
		}
		for _, other := range subnets[:i] {
			if s.prefix.Overlaps(other.prefix) {
				v.found(s.resource, fmt.Sprintf("%s, which overlaps %s of %s", s.prefix, other.prefix, other.resource), "a prefix of its own")
			}
		}
	}
}

// contains reports whether p lies within outer.
func contains(outer, p netip.Prefix) bool {
	return outer.Bits() <= p.Bits() && outer.Contains(p.Addr())
}

// usable is how many addresses of a subnet can be given to interfaces: all but five.
func usable(p netip.Prefix) int { return max(0, 1<<(32-p.Bits())-5) }

// assignable reports whether an interface can have an address of a subnet.
func assignable(p netip.Prefix, a netip.Addr) bool {
	if !p.Contains(a) || !a.Is4() {
		return false
	}
	first, addr := p.Masked().Addr().As4(), a.As4()
	offset := uint64(be32(addr)) - uint64(be32(first))
	return offset >= 4 && offset < 1<<(32-p.Bits())-1
}

func be32(b [4]byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
