package routes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Way is a class of destinations that do not come to the gateway, and the route that they
// take instead.
type Way struct {
	Route    Route
	Prefixes []netip.Prefix
}

// String names the destinations and the route.
func (w Way) String() string {
	var all []string
	for _, p := range w.Prefixes {
		if len(all) == 4 {
			all = append(all, fmt.Sprintf("and %d more", len(w.Prefixes)-4))
			break
		}
		all = append(all, p.String())
	}
	via := string(w.Route.Hop)
	if w.Route.Address.IsValid() {
		via += " " + w.Route.Address.String()
	}
	return fmt.Sprintf("%s by %s (%s)", strings.Join(all, ", "), via, w.Route.Name)
}

// Ways lists every class of destinations that leaves the subnet by another way than through
// the gateway: whatever is neither handed to it nor dropped. The list is complete: between
// two neighbouring boundaries of prefixes all addresses take one route, and each such stretch
// is asked for.
func (t *Table) Ways(gateway netip.Addr) []Way { return t.Escapes(gateway, nil) }

// Escapes is Ways without the destinations that were declared to be reached so.
func (t *Table) Escapes(gateway netip.Addr, declared []netip.Prefix) []Way {
	var ways []Way
	byRoute := map[Route]int{}
	add := func(r Route, p ...netip.Prefix) {
		i, ok := byRoute[r]
		if !ok {
			i = len(ways)
			ways = append(ways, Way{Route: r})
			byRoute[r] = i
		}
		ways[i].Prefixes = append(ways[i].Prefixes, p...)
	}
	var edges []uint64 // first addresses of stretches
	cut := func(p netip.Prefix) {
		if p.Addr().Is4() {
			first := number(p.Masked().Addr())
			edges = append(edges, first, first+1<<(32-p.Bits()))
		}
	}
	cut(everything)
	for _, r := range t.all {
		cut(r.Prefix)
	}
	for _, p := range slices.Concat(platform, declared) {
		cut(p)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	for i := 0; i+1 < len(edges); i++ {
		dst := address(edges[i])
		r := t.Next(dst)
		if r.Hop == None || r.Hop == Appliance && r.Address == gateway ||
			slices.ContainsFunc(declared, func(p netip.Prefix) bool { return p.Contains(dst) }) {
			continue
		}
		add(r, cover(edges[i], edges[i+1])...)
	}
	for i := range ways {
		ways[i].Prefixes = merge(ways[i].Prefixes)
	}
	if t.ipv6 {
		add(Route{Source: System, Prefix: netip.MustParsePrefix("::/0"), Hop: Internet, Name: "internet", Active: true}, netip.MustParsePrefix("::/0"))
	}
	return ways
}

// number and address bring IPv4 addresses to numbers and back. 1<<32 is behind the last.
func number(a netip.Addr) uint64 {
	b := a.As4()
	return uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
}

func address(n uint64) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// cover is the fewest prefixes that hold exactly the addresses from one up to before another.
func cover(from, to uint64) []netip.Prefix {
	var out []netip.Prefix
	for from < to {
		bits := 32
		for bits > 0 && from&(1<<(33-bits)-1) == 0 && from+1<<(33-bits) <= to {
			bits--
		}
		out = append(out, netip.PrefixFrom(address(from), bits))
		from += 1 << (32 - bits)
	}
	return out
}

// merge joins neighbours: prefixes come sorted and disjoint.
func merge(prefixes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for i := 0; i < len(prefixes); {
		from := number(prefixes[i].Addr())
		to := from
		for ; i < len(prefixes) && number(prefixes[i].Addr()) == to; i++ {
			to += 1 << (32 - prefixes[i].Bits())
		}
		out = append(out, cover(from, to)...)
	}
	return out
}
