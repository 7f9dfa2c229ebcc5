package routes

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

var (
	gateway = netip.MustParseAddr("10.20.0.4")
	other   = netip.MustParseAddr("10.20.0.5")
)

func pfx(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func toGateway(name string, prefixes ...string) UserRoute {
	return UserRoute{Name: name, Prefixes: pfx(prefixes...), Hop: Appliance, Address: gateway}
}

// spoke is the standard spoke's agent subnet: everything to the gateway but a private
// endpoint, which Azure routes directly.
func spoke() Subnet {
	return Subnet{
		Network:  pfx("10.20.0.0/16"),
		Peerings: []Peering{{"hub", pfx("10.30.0.0/16")}},
		Endpoints: []Endpoint{{Name: "foundry", Address: netip.MustParseAddr("10.20.2.5"), Network: pfx("10.20.0.0/16")},
			{Name: "vault", Address: netip.MustParseAddr("10.20.2.6"), Network: pfx("10.20.0.0/16"), RoutePolicy: true}},
		Table: []UserRoute{toGateway("default", "0.0.0.0/0"), toGateway("own", "10.20.0.0/16"), toGateway("hub", "10.30.0.0/16")},
	}
}

func ways(t *Table) []string {
	var out []string
	for _, w := range t.Ways(gateway) {
		out = append(out, w.String())
	}
	return out
}

// TestWays names, for one change of the standard spoke each, what no longer comes to the gateway.
func TestWays(t *testing.T) {
	host := []string{"168.63.129.16/32 by Platform (host)", "169.254.169.254/32 by Platform (host)"}
	for _, c := range []struct {
		name   string
		change func(*Subnet)
		want   []string
	}{
		{"standard", func(*Subnet) {}, []string{"10.20.2.5/32 by InterfaceEndpoint (foundry)"}},
		{"no table", func(s *Subnet) { s.Table = nil }, []string{
			"0.0.0.0/5, 8.0.0.0/7, 11.0.0.0/8, 12.0.0.0/6, and 82 more by Internet (internet)",
			"10.20.0.0/23, 10.20.2.0/30, 10.20.2.4/32, 10.20.2.7/32, and 12 more by VnetLocal (virtual network)",
			"10.20.2.5/32 by InterfaceEndpoint (foundry)",
			"10.20.2.6/32 by InterfaceEndpoint (vault)",
			"10.30.0.0/16 by VNetPeering (hub)"}},
		{"only the default route", func(s *Subnet) { s.Table = s.Table[:1] }, []string{
			"10.20.0.0/23, 10.20.2.0/30, 10.20.2.4/32, 10.20.2.7/32, and 12 more by VnetLocal (virtual network)",
			"10.20.2.5/32 by InterfaceEndpoint (foundry)",
			"10.20.2.6/32 by InterfaceEndpoint (vault)",
			"10.30.0.0/16 by VNetPeering (hub)"}},
		{"another appliance", func(s *Subnet) {
			s.Table = append(s.Table, UserRoute{Name: "x", Prefixes: pfx("20.0.0.0/8"), Hop: Appliance, Address: other})
		}, []string{"10.20.2.5/32 by InterfaceEndpoint (foundry)", "20.0.0.0/8 by VirtualAppliance 10.20.0.5 (x)"}},
		{"a tag past the gateway", func(s *Subnet) {
			s.Table = append(s.Table, UserRoute{Name: "aad", Tag: "AzureActiveDirectory", Prefixes: pfx("20.190.128.0/18"), Hop: Internet})
		}, []string{"10.20.2.5/32 by InterfaceEndpoint (foundry)", "20.190.128.0/18 by Internet (aad)"}},
		{"a prefix to nowhere", func(s *Subnet) {
			s.Table = append(s.Table, UserRoute{Name: "drop", Prefixes: pfx("10.20.2.0/24"), Hop: None})
		}, []string{"10.20.2.5/32 by InterfaceEndpoint (foundry)"}},
		{"service endpoint, which no route overrides", func(s *Subnet) {
			s.Services = []Service{{"Microsoft.CognitiveServices", pfx("13.69.64.0/24")}}
			s.Table = append(s.Table, toGateway("longer", "13.69.64.0/25"))
		}, []string{"10.20.2.5/32 by InterfaceEndpoint (foundry)", "13.69.64.0/24 by VirtualNetworkServiceEndpoint (Microsoft.CognitiveServices)"}},
		{"learned", func(s *Subnet) {
			s.Propagation, s.Learned = true, []LearnedRoute{{Prefix: netip.MustParsePrefix("192.168.0.0/16")}, {Prefix: netip.MustParsePrefix("10.30.4.0/24")}}
			s.Table = s.Table[:2] // the peering's system route is active, and wins over the longer learned one
		}, []string{"10.20.2.5/32 by InterfaceEndpoint (foundry)", "10.30.0.0/16 by VNetPeering (hub)", "192.168.0.0/16 by VirtualNetworkGateway (gateway)"}},
		{"learned, not propagated", func(s *Subnet) { s.Learned = []LearnedRoute{{Prefix: netip.MustParsePrefix("192.168.0.0/16")}} },
			[]string{"10.20.2.5/32 by InterfaceEndpoint (foundry)"}},
		{"endpoint spelled out", func(s *Subnet) { s.Table = append(s.Table, toGateway("endpoint", "10.20.2.5/32")) }, nil},
		{"within the subnet", func(s *Subnet) {
			s.Table = append(s.Table, UserRoute{Name: "within", Prefixes: pfx("10.20.1.0/24"), Hop: Local})
		}, []string{"10.20.1.0/24 by VnetLocal (within)", "10.20.2.5/32 by InterfaceEndpoint (foundry)"}},
		{"IPv6", func(s *Subnet) { s.IPv6 = true }, []string{"10.20.2.5/32 by InterfaceEndpoint (foundry)", "::/0 by Internet (internet)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spoke()
			c.change(&s)
			got := ways(Effective(s))
			want := slices.Concat(c.want, host) // no table of a subscription changes these
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// TestTagRanks holds the order among user-defined routes for one prefix.
func TestTagRanks(t *testing.T) {
	tags := []string{"AzureCloud", "AzureCloud.eastus2", "Storage", "Storage.EastUS2", ""}
	for worse := range tags {
		for better := worse + 1; better < len(tags); better++ {
			s := Subnet{Table: []UserRoute{{Name: "better", Tag: tags[better], Prefixes: pfx("20.0.0.0/24"), Hop: None},
				{Name: "worse", Tag: tags[worse], Prefixes: pfx("20.0.0.0/24"), Hop: Internet}}}
			if got := Effective(s).Next(netip.MustParseAddr("20.0.0.1")).Name; got != "better" {
				t.Errorf("%q wins over %q", tags[worse], tags[better])
			}
		}
	}
}

// TestProperty compares the table with a reference that reads the rules one by one, over
// random surroundings, and holds Escapes to be complete: an address lies in an escape exactly
// if the reference sends it elsewhere.
func TestProperty(t *testing.T) {
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 17))
		s := randomSubnet(rnd)
		table := Effective(s)
		var declared []netip.Prefix
		if rnd.IntN(2) == 0 {
			declared = []netip.Prefix{randomPrefix(rnd)}
		}
		escapes := table.Escapes(gateway, declared)
		for range 300 {
			dst := randomAddress(rnd, s)
			hop, via := reference(s, dst)
			got := table.Next(dst)
			if got.Hop != hop || hop == Appliance && got.Address != via {
				t.Fatalf("seed %d: %s: table says %v %v, reference %v %v\n%+v", seed, dst, got.Hop, got.Address, hop, via, s)
			}
			out := hop != None && !(hop == Appliance && via == gateway) &&
				!slices.ContainsFunc(declared, func(p netip.Prefix) bool { return p.Contains(dst) })
			listed := slices.ContainsFunc(escapes, func(w Way) bool {
				return slices.ContainsFunc(w.Prefixes, func(p netip.Prefix) bool { return p.Contains(dst) })
			})
			if out != listed {
				t.Fatalf("seed %d: %s: escapes %v, listed %v\n%+v", seed, dst, out, listed, s)
			}
		}
	}
}

// reference sends one packet by the documentation's rules, without tables.
func reference(s Subnet, dst netip.Addr) (Hop, netip.Addr) {
	if dst == netip.MustParseAddr("168.63.129.16") || dst == netip.MustParseAddr("169.254.169.254") {
		return Platform, netip.Addr{}
	}
	for _, svc := range s.Services {
		for _, p := range svc.Prefixes {
			if p.Contains(dst) {
				return ServiceEndpoint, netip.Addr{}
			}
		}
	}
	type candidate struct {
		prefix   netip.Prefix
		rank     int
		hop      Hop
		via      netip.Addr
		sequence int
	}
	var all []candidate
	offer := func(p netip.Prefix, rank int, hop Hop, via netip.Addr) {
		all = append(all, candidate{p, rank, hop, via, -len(all)})
	}
	userHas := func(p netip.Prefix) bool {
		return slices.ContainsFunc(s.Table, func(u UserRoute) bool { return slices.Contains(u.Prefixes, p) })
	}
	overridesDefault := userHas(everything)
	for i := range s.Table {
		for _, p := range s.Table[i].Prefixes {
			offer(p, s.Table[i].rank(), s.Table[i].Hop, s.Table[i].Address)
		}
	}
	system := slices.Clone(s.Network)
	for _, p := range s.Network {
		offer(p, 0, Local, netip.Addr{})
	}
	for _, peer := range s.Peerings {
		for _, p := range peer.Prefixes {
			system = append(system, p)
			offer(p, 0, VNetPeering, netip.Addr{})
		}
	}
	for _, e := range s.Endpoints {
		direct := true
		if e.RoutePolicy {
			for _, u := range s.Table {
				for _, p := range u.Prefixes {
					for _, n := range e.Network {
						if n.Contains(e.Address) && p.Contains(e.Address) && p.Bits() >= n.Bits() {
							direct = false
						}
					}
				}
			}
		}
		if direct {
			offer(netip.PrefixFrom(e.Address, 32), 0, PrivateEndpoint, netip.Addr{})
		}
	}
	if s.Propagation {
		for _, l := range s.Learned {
			hidden := slices.ContainsFunc(system, func(p netip.Prefix) bool {
				return p.Bits() <= l.Prefix.Bits() && p.Contains(l.Prefix.Addr()) && !userHas(p)
			})
			if !hidden {
				overridesDefault = overridesDefault || l.Prefix == everything
				offer(l.Prefix, rankLearned, Gateway, l.Via)
			}
		}
	}
	offer(everything, 0, Internet, netip.Addr{})
	if !overridesDefault {
		for _, p := range unassigned {
			offer(p, 0, None, netip.Addr{})
		}
	}
	all = slices.DeleteFunc(all, func(c candidate) bool { return !c.prefix.Contains(dst) })
	best := slices.MaxFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.prefix.Bits(), b.prefix.Bits()), cmp.Compare(a.rank, b.rank), cmp.Compare(a.sequence, b.sequence))
	})
	return best.hop, best.via
}

// randomPrefix is one of a small world, so that prefixes meet often.
func randomPrefix(rnd *rand.Rand) netip.Prefix {
	if rnd.IntN(12) == 0 {
		return everything
	}
	a := netip.AddrFrom4([4]byte{[]byte{10, 20, 100}[rnd.IntN(3)], byte(rnd.IntN(3) * 32), byte(rnd.IntN(2)), byte(rnd.IntN(4) * 64)})
	return netip.PrefixFrom(a, 8+rnd.IntN(25)).Masked()
}

func randomSubnet(rnd *rand.Rand) Subnet {
	list := func(n int) []netip.Prefix {
		var out []netip.Prefix
		for range rnd.IntN(n + 1) {
			out = append(out, randomPrefix(rnd))
		}
		return out
	}
	// Azure refuses a network that is the whole address space.
	space := func() []netip.Prefix {
		return slices.DeleteFunc(list(2), func(p netip.Prefix) bool { return p == everything })
	}
	s := Subnet{Network: space(), Propagation: rnd.IntN(2) == 0}
	for range rnd.IntN(3) {
		s.Peerings = append(s.Peerings, Peering{"peer", space()})
	}
	for _, p := range list(3) {
		s.Learned = append(s.Learned, LearnedRoute{Prefix: p})
	}
	for _, p := range list(3) {
		s.Endpoints = append(s.Endpoints, Endpoint{"endpoint", p.Addr(), append(space(), s.Network...), rnd.IntN(2) == 0})
	}
	if rnd.IntN(3) == 0 {
		s.Services = []Service{{"service", list(2)}}
	}
	hops := []UserRoute{{Hop: Appliance, Address: gateway}, {Hop: Appliance, Address: gateway}, {Hop: Appliance, Address: other}, {Hop: Internet}, {Hop: None}, {Hop: Local}, {Hop: Gateway}}
	for range rnd.IntN(6) {
		u := hops[rnd.IntN(len(hops))]
		u.Tag = []string{"", "", "Storage", "Storage.EastUS", "AzureCloud", "AzureCloud.eastus"}[rnd.IntN(6)]
		if u.Prefixes = list(3); u.Tag == "" {
			u.Prefixes = u.Prefixes[:min(1, len(u.Prefixes))]
		}
		s.Table = append(s.Table, u)
	}
	return s
}

// randomAddress is mostly at an edge of something.
func randomAddress(rnd *rand.Rand, s Subnet) netip.Addr {
	switch rnd.IntN(4) {
	case 0:
		return address(uint64(rnd.Uint32()))
	case 1:
		return []netip.Addr{netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("255.255.255.255")}[rnd.IntN(3)]
	default:
		p := randomPrefix(rnd)
		first := number(p.Addr())
		return address((first + []uint64{0, 1<<(32-p.Bits()) - 1, 1 << (32 - p.Bits()), 1<<32 - 1}[rnd.IntN(4)]) & (1<<32 - 1))
	}
}
