// Package routes computes where Azure sends what leaves a subnet: its effective routes, and
// which destinations do not come to the gateway.
//
// Azure tells effective routes only for the interface of a running VM, so never for an
// agent's own. They follow from the subnet's surroundings, by these rules:
//
//   - The longest prefix wins. Of equal prefixes a user-defined route wins over a learned one
//     (BGP, or a gateway's own), and that over a system route. Of two user-defined routes for
//     one prefix, one that spells it out wins over a service tag, a regional tag over a
//     global one, and any over AzureCloud.
//   - Routes of service endpoints cannot be overridden, whatever the length.
//   - System routes of the network and of its peerings win over learned ones even where those
//     are longer.
//   - A private endpoint has a route for its one address. A shorter user-defined route takes
//     its place only if it is no shorter than the prefix of the network that the endpoint is
//     in, and that subnet has network policies for route tables. 0.0.0.0/0 never does.
//   - Learned routes are absent where the route table disables their propagation.
//   - There is no route for a subnet of its own: packets between two interfaces of one subnet
//     follow the same routes as all others.
//   - 168.63.129.16 and 169.254.169.254 are the host's. No route holds for them.
//
// Sources: Azure Virtual Network, "Virtual network traffic routing" (virtual-networks-udr-overview);
// Azure Private Link, "Manage network policies for private endpoints"; Azure Virtual Network, "What
// is IP address 168.63.129.16?". That the four private ranges lose their system route to None once
// 0.0.0.0/0 is overridden is not written there, but hub-and-spoke networks of Azure's Architecture
// Center depend on it; and None lets nothing out.
//
// None of this has been compared with a live subscription by this project.
package routes

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// Hop is the kind of a next hop, as effective routes have it.
type Hop string

const (
	Internet        Hop = "Internet"
	None            Hop = "None" // dropped
	Gateway         Hop = "VirtualNetworkGateway"
	Appliance       Hop = "VirtualAppliance"
	Local           Hop = "VnetLocal"
	VNetPeering     Hop = "VNetPeering"
	ServiceEndpoint Hop = "VirtualNetworkServiceEndpoint"
	PrivateEndpoint Hop = "InterfaceEndpoint"
	Platform        Hop = "Platform" // the host below; no route of a subscription
)

// Source says who made a route, in the order in which the later wins.
type Source string

const (
	System  Source = "Default"
	Learned Source = "VirtualNetworkGateway"
	User    Source = "User"
)

// Subnet is one subnet and what its routes follow from.
type Subnet struct {
	// Network is the address space of its virtual network.
	Network []netip.Prefix
	// Peerings are those that are connected.
	Peerings []Peering
	// Learned are the routes that a gateway propagates, Propagation whether they arrive here.
	Learned     []LearnedRoute
	Propagation bool
	// Endpoints are the private endpoints of the network and of those peered with it.
	Endpoints []Endpoint
	// Services are the service endpoints of the subnet.
	Services []Service
	// Table is its route table.
	Table []UserRoute
	// IPv6 says that the subnet has such a prefix.
	IPv6 bool
}

// Peering is a connected peering with the address space of the other side.
type Peering struct {
	Name     string
	Prefixes []netip.Prefix
}

// LearnedRoute is one that a virtual network gateway or route server tells.
type LearnedRoute struct {
	Prefix netip.Prefix
	Via    netip.Addr // zero: the gateway
}

// Endpoint is a private endpoint's address.
type Endpoint struct {
	Name    string
	Address netip.Addr
	// Network is the address space of the network that it is in.
	Network []netip.Prefix
	// RoutePolicy says that its subnet has network policies for route tables.
	RoutePolicy bool
}

// Service is a service endpoint with the public prefixes that it takes along.
type Service struct {
	Name     string
	Prefixes []netip.Prefix
}

// UserRoute is a user-defined route. A service tag has many prefixes.
type UserRoute struct {
	Name     string
	Tag      string // empty: the prefix is spelled out
	Prefixes []netip.Prefix
	Hop      Hop
	Address  netip.Addr // of an Appliance
}

// Route is one effective route.
type Route struct {
	Source  Source
	Prefix  netip.Prefix
	Hop     Hop
	Address netip.Addr
	Name    string // of what made it
	// Active is false where another route for the prefix takes its place.
	Active bool

	rank int // the higher wins among equal prefixes
}

// Table is the effective routes of a subnet.
type Table struct {
	all  []Route
	best bart.Table[int] // index of the active route of a prefix
	// pinned are the service endpoints', which nothing overrides.
	pinned bart.Table[int]
	ipv6   bool
}

// platform is what the host below answers itself.
var platform = []netip.Prefix{netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("169.254.169.254/32")}

// unassigned are the private ranges that Azure drops while nothing routes them.
var unassigned = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10")}

var everything = netip.MustParsePrefix("0.0.0.0/0")

// Ranks among equal prefixes.
const (
	rankSystem = iota
	rankLearned
	rankCloudTag
	rankRegionalCloudTag
	rankTag
	rankRegionalTag
	rankExplicit
)

func (u *UserRoute) rank() int {
	base, _, regional := strings.Cut(u.Tag, ".")
	switch {
	case u.Tag == "":
		return rankExplicit
	case base == "AzureCloud" && regional:
		return rankRegionalCloudTag
	case base == "AzureCloud":
		return rankCloudTag
	case regional:
		return rankRegionalTag
	default:
		return rankTag
	}
}

// Effective computes the routes of a subnet. Prefixes that are not IPv4 are left out: what
// IPv6 does is said by [Table.Ways].
func Effective(s Subnet) *Table {
	t := &Table{ipv6: s.IPv6}
	for i := range s.Table {
		u := &s.Table[i]
		for _, p := range u.Prefixes {
			t.add(Route{Source: User, Prefix: p, Hop: u.Hop, Address: u.Address, Name: u.Name, rank: u.rank()})
		}
	}
	for _, p := range s.Network {
		t.add(Route{Source: System, Prefix: p, Hop: Local, Name: "virtual network"})
	}
	for _, peer := range s.Peerings {
		for _, p := range peer.Prefixes {
			t.add(Route{Source: System, Prefix: p, Hop: VNetPeering, Name: peer.Name})
		}
	}
	for _, e := range s.Endpoints {
		if e.Address.Is4() && !overridden(e, s.Table) {
			t.add(Route{Source: System, Prefix: netip.PrefixFrom(e.Address, 32), Hop: PrivateEndpoint, Name: e.Name})
		}
	}
	if s.Propagation {
		kept := len(t.all)
		for _, l := range s.Learned {
			if !t.shadowsLearned(t.all[:kept], l.Prefix) {
				t.add(Route{Source: Learned, Prefix: l.Prefix, Hop: Gateway, Address: l.Via, Name: "gateway", rank: rankLearned})
			}
		}
	}
	defaulted := slices.ContainsFunc(t.all, func(r Route) bool { return r.Prefix == everything })
	t.add(Route{Source: System, Prefix: everything, Hop: Internet, Name: "internet"})
	if !defaulted {
		for _, p := range unassigned {
			t.add(Route{Source: System, Prefix: p, Hop: None, Name: "unassigned"})
		}
	}
	for _, svc := range s.Services {
		for _, p := range svc.Prefixes {
			if p.Addr().Is4() {
				t.all = append(t.all, Route{Source: System, Prefix: p.Masked(), Hop: ServiceEndpoint, Name: svc.Name, Active: true})
				t.pinned.Insert(p.Masked(), len(t.all)-1)
			}
		}
	}
	return t
}

// add puts a route in, and settles which one of its prefix is active.
func (t *Table) add(r Route) {
	if !r.Prefix.Addr().Is4() {
		return
	}
	r.Prefix = r.Prefix.Masked()
	t.all = append(t.all, r)
	mine := len(t.all) - 1
	if i, ok := t.best.Get(r.Prefix); ok {
		if t.all[i].rank >= r.rank {
			return
		}
		t.all[i].Active = false
	}
	t.all[mine].Active = true
	t.best.Insert(r.Prefix, mine)
}

// shadowsLearned reports whether an active system route of the network or of a peering holds
// a learned prefix, and so wins over it.
func (t *Table) shadowsLearned(all []Route, learned netip.Prefix) bool {
	return slices.ContainsFunc(all, func(r Route) bool {
		return r.Active && (r.Hop == Local || r.Hop == VNetPeering) && r.Source == System && r.Prefix.Bits() <= learned.Bits() && r.Prefix.Contains(learned.Addr())
	})
}

// overridden reports whether a user-defined route takes the place of an endpoint's own.
func overridden(e Endpoint, table []UserRoute) bool {
	if !e.RoutePolicy {
		return false
	}
	shortest := 33
	for _, p := range e.Network {
		if p.Contains(e.Address) {
			shortest = min(shortest, p.Bits())
		}
	}
	for i := range table {
		for _, p := range table[i].Prefixes {
			if p.Contains(e.Address) && p.Bits() >= shortest {
				return true
			}
		}
	}
	return false
}

// Routes returns all of them, active or not, in no particular order.
func (t *Table) Routes() []Route { return slices.Clone(t.all) }

// Next returns the route that a packet takes.
func (t *Table) Next(dst netip.Addr) Route {
	dst = dst.Unmap()
	if i := slices.IndexFunc(platform, func(p netip.Prefix) bool { return p.Contains(dst) }); i >= 0 {
		return Route{Source: System, Prefix: platform[i], Hop: Platform, Name: "host", Active: true}
	}
	if i, ok := t.pinned.Lookup(dst); ok {
		return t.all[i]
	}
	if i, ok := t.best.Lookup(dst); ok {
		return t.all[i]
	}
	return Route{Hop: None}
}

// Lookup returns the next hop of the active route for exactly this prefix, and None where
// there is no such route.
func (t *Table) Lookup(p netip.Prefix) Hop {
	p = p.Masked()
	if i, ok := t.pinned.Get(p); ok {
		return t.all[i].Hop
	}
	if i, ok := t.best.Get(p); ok {
		return t.all[i].Hop
	}
	return None
}
