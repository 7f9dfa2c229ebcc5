package lab

import (
	"net/netip"
	"slices"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Network describes what the fabric joins: subnets with their machines, and where packets
// from each of them may go. The lab's own is one description; a test that has another virtual
// network gives its own.
type Network struct {
	Subnets []Subnet
	// Space is the virtual network's and its peers' address space: what no machine has there is dropped.
	Space []netip.Prefix
	// NextHop is the address of the gateway that agents know.
	NextHop netip.Addr
	// SecondArm is the gateway's agent-facing link, where it has two.
	SecondArm *Arm
}

// Subnet is a part of the network with a link of its own.
type Subnet struct {
	// Dev is the fabric's end: a cable, or a switch where there are several machines. The
	// agents' is named "agents".
	Dev string
	// Gate is the fabric's address and the prefix of the link; Gate6 the same for IPv6.
	Gate, Gate6 netip.Prefix
	Machines    []Machine
	// More is what the fabric sends to the first machine besides its addresses.
	More []netip.Prefix
	// Table is where packets from here go before the fabric's own routes are asked; empty: only those.
	Table []Route
	// Isolated machines reach each other by way of the fabric and its routes, as Azure's do.
	Isolated bool
	// Outbound and Inbound are its network security groups, each in order. All of them have
	// to let a flow through; empty: none is there.
	Outbound, Inbound [][]Filter
}

// Machine is a host to be.
type Machine struct {
	Name  string
	Addrs []netip.Addr // the first is on the link
	Addr6 netip.Addr
	// Resolver is what it is told to ask for names; zero: Azure's.
	Resolver netip.Addr
}

// Way is what becomes of packets on a route.
type Way int

const (
	Direct  Way = iota // delivered by the fabric itself
	Via                // handed to the machine with an address
	Dropped            // and nobody learns of it
	Pinned             // as Direct, and no longer prefix takes its place
)

// Route is a row of a subnet's routing table.
type Route struct {
	Prefix netip.Prefix
	Way    Way
	Via    netip.Addr
}

// agentBridge is the fabric's end of the agents' subnet.
const agentBridge = "agents"

// Subnet finds a subnet by the fabric's end.
func (n *Network) Subnet(dev string) *Subnet {
	i := slices.IndexFunc(n.Subnets, func(s Subnet) bool { return s.Dev == dev })
	if i < 0 {
		return nil
	}
	return &n.Subnets[i]
}

// Machine finds a machine's address on its link; zero where there is no such machine.
func (n *Network) Machine(name string) netip.Addr {
	for _, s := range n.Subnets {
		for _, m := range s.Machines {
			if m.Name == name {
				return m.Addrs[0]
			}
		}
	}
	return netip.Addr{}
}

// link finds the fabric's end of the link that an address is on.
func (n *Network) link(a netip.Addr) string {
	for _, s := range n.Subnets {
		if s.Gate.Contains(a) || s.Gate6.IsValid() && s.Gate6.Contains(a) {
			return s.Dev
		}
	}
	if n.SecondArm != nil && n.SecondArm.Gate.Contains(a) {
		return n.SecondArm.Dev
	}
	return ""
}

// Closed reports whether the agents' security groups drop what goes to an address and a port.
func (n *Network) Closed(dst netip.Addr, proto policy.Proto, port uint16) bool {
	for _, group := range n.Subnet(agentBridge).Outbound {
		i := slices.IndexFunc(group, func(f Filter) bool {
			return (f.Proto == 0 || f.Proto == proto) &&
				(len(f.Dst) == 0 || slices.ContainsFunc(f.Dst, func(p netip.Prefix) bool { return p.Contains(dst) })) &&
				(len(f.Ports) == 0 || slices.ContainsFunc(f.Ports, func(r policy.PortRange) bool { return r.Lo <= port && port <= r.Hi }))
		})
		if i >= 0 && !group[i].Allow {
			return true
		}
	}
	return false
}

// Next says where a packet from the agents' subnet goes first.
func (n *Network) Next(dst netip.Addr) Route {
	best := Route{Way: Direct, Prefix: netip.PrefixFrom(dst, 0).Masked()}
	for _, r := range n.Subnet(agentBridge).Table {
		switch {
		case !r.Prefix.Contains(dst) || best.Way == Pinned:
		case r.Way == Pinned || r.Prefix.Bits() >= best.Prefix.Bits():
			best = r
		}
	}
	return best
}

// Arm is a link of its own from the fabric to the gateway.
type Arm struct {
	Dev  string       // the fabric's end
	Gate netip.Prefix // the fabric's address
	Addr netip.Prefix // the gateway's
}

// Spoke is the lab's own network: the reference spoke, with a spoke next door, and the
// internet with an attacker in it.
func Spoke(twoArm bool) *Network {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	n := &Network{NextHop: GatewayAddr}
	if twoArm {
		n.SecondArm = &Arm{Dev: "to-gateway1", Gate: p("10.20.3.1/24"), Addr: p("10.20.3.4/24")}
		n.NextHop = n.SecondArm.Addr.Addr()
	}
	agents := Subnet{Dev: agentBridge, Gate: p("10.20.1.1/24"), Gate6: p("2603:1030:20:1::1/64"),
		Machines: []Machine{
			{Name: InvoiceAgent, Addrs: []netip.Addr{a("10.20.1.20")}, Addr6: AgentIPv6, Resolver: n.NextHop},
			{Name: ResearchAgent, Addrs: []netip.Addr{a("10.20.1.21")}, Resolver: n.NextHop},
		},
		Table: []Route{
			// The route table: the default, and one route per peered prefix, because peering is
			// more specific than the default.
			{Prefix: p("0.0.0.0/0"), Way: Via, Via: n.NextHop},
			{Prefix: p("10.30.0.0/16"), Way: Via, Via: n.NextHop},
			{Prefix: p("::/0"), Way: Via, Via: GatewayIPv6},
			// The system routes that no default route overrides.
			{Prefix: p("10.20.0.0/24")}, {Prefix: AgentSubnet}, {Prefix: p("10.20.2.0/24")}, {Prefix: p("2603:1030:20:1::/64")},
			{Prefix: netip.PrefixFrom(WireServer, 32)}, {Prefix: netip.PrefixFrom(Metadata, 32)},
		}}
	n.Subnets = append([]Subnet{
		{Dev: "to-gateway", Gate: p("10.20.0.1/24"), Gate6: p("2603:1030:20::1/64"),
			Machines: []Machine{{Name: Gateway, Addrs: []netip.Addr{GatewayAddr}, Addr6: GatewayIPv6}}},
		{Dev: "to-endpoints", Gate: p("10.20.2.1/24"), Machines: []Machine{{Name: PrivateEndpoints, Addrs: []netip.Addr{OpenAI, Search}}}},
		{Dev: "to-spoke", Gate: p("10.30.4.1/24"), Machines: []Machine{{Name: Database, Addrs: []netip.Addr{DatabaseIP}}}},
		agents,
	}, World()...)
	return n
}

// World is what is around any virtual network: Azure's platform, the internet, and an attacker.
func World() []Subnet {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	return []Subnet{
		{Dev: "to-platform", Gate: p("10.255.1.1/24"), Machines: []Machine{{Name: Platform, Addrs: []netip.Addr{a("10.255.1.2"), WireServer, Metadata, AgentInfra}}}},
		{Dev: "to-attacker", Gate: p("10.255.2.1/24"), Gate6: p("2a0e:b107:66::1/64"),
			Machines: []Machine{{Name: Attacker, Addrs: []netip.Addr{a("10.255.2.2"), Exfil, Malicious}, Addr6: ExfilIPv6}}},
		{Dev: "to-internet", Gate: p("10.255.3.1/24"),
			Machines: []Machine{{Name: Internet, Addrs: []netip.Addr{a("10.255.3.2"), GitHub, GitHub2, Gist, Login, Registry, Agent365, Contoso, Mirror, Storage}}},
			// Whatever nobody else has ends here, where a capture sees it.
			More: []netip.Prefix{p("0.0.0.0/0")}},
	}
}
