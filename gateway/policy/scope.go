package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// scope is what a rule can match, as sets that can be compared with those of other
// rules.
type scope struct {
	*Rule
	path         string // rules[3]
	monitored    bool
	sources      []AddrRange
	destinations []destination
	names        []target // none: any name, and none
}

// destination is one group among a rule's destinations. Its addresses may be
// unknown, because data is missing or comes from feeds.
type destination struct {
	group  string
	ranges []AddrRange
	known  bool // ranges are all there is
	threat bool
	tags   bool // has service tags
}

// target is one entry of a rule's web groups: a name pattern, or requests to a host.
type target struct {
	path    string // rules[3].webGroups[0]
	pattern string
	url     *URL
	mcp     *MCP
}

func (t target) byRequest() bool { return t.url != nil || t.mcp != nil }

// everywhere is the built-in group `any` as a range.
var everywhere = []AddrRange{{netip.AddrFrom4([4]byte{}), netip.AddrFrom4([4]byte{255, 255, 255, 255})}}

func (c *checker) scope(i int) *scope {
	r := &c.doc.Rules[i]
	s := &scope{Rule: r, path: fmt.Sprintf("rules[%d]", i), monitored: c.doc.Mode == ModeMonitor || r.Mode == ModeMonitor}
	if len(r.Sources) == 0 {
		s.sources = everywhere
	}
	for _, name := range r.Sources {
		s.sources = append(s.sources, c.destination(name).ranges...)
	}
	s.sources = mergeRanges(slices.Clone(s.sources))
	names := r.Destinations
	switch {
	case len(names) > 0:
	case r.Action == Permit:
		names = []string{GroupInternet}
	default:
		names = []string{GroupAny}
	}
	for _, name := range names {
		s.destinations = append(s.destinations, c.destination(name))
	}
	for k, name := range r.WebGroups {
		g, path := c.web[name], fmt.Sprintf("%s.webGroups[%d]", s.path, k)
		if g == nil {
			continue
		}
		for _, f := range g.FQDNs {
			s.names = append(s.names, target{path: path, pattern: f})
		}
		for j := range g.URLs {
			s.names = append(s.names, target{path: path, pattern: g.URLs[j].Host, url: &g.URLs[j]})
		}
		for j := range g.MCP {
			s.names = append(s.names, target{path: path, pattern: g.MCP[j].Host, mcp: &g.MCP[j]})
		}
	}
	return s
}

func (c *checker) destination(name string) destination {
	switch g := c.smart[name]; {
	case name == GroupAny:
		return destination{group: name, ranges: everywhere, known: true}
	case name == GroupInternet:
		return destination{group: name, ranges: internetRanges, known: true}
	case g != nil:
		ps, known := slices.Clone(g.CIDRs), true
		for _, tag := range g.ServiceTags {
			data := c.env.Data.ServiceTags[tag]
			ps, known = append(ps, data...), known && len(data) > 0
		}
		return destination{group: name, ranges: ranges(ps), known: known, tags: len(g.ServiceTags) > 0}
	case c.threat[name] != nil:
		return destination{group: name, threat: true}
	}
	return destination{group: name}
}

// byName reports whether the rule tests the name of a flow.
func (s *scope) byName() bool { return len(s.WebGroups) > 0 }

// inForce reports whether the rule takes part in deciding once the document's own
// monitor mode is lifted.
func (s *scope) inForce() bool { return s.Mode != ModeMonitor }

// wholeInternet reports whether the destinations hold everything globally reachable.
func (s *scope) wholeInternet() bool {
	var all []AddrRange
	for _, d := range s.destinations {
		all = append(all, d.ranges...)
	}
	return covered(internetRanges, mergeRanges(all))
}

// reaches reports whether the destinations, as far as they are known, share an
// address with the ranges.
func (s *scope) reaches(rs []AddrRange) bool {
	return slices.ContainsFunc(s.destinations, func(d destination) bool { return intersects(d.ranges, rs) })
}

// meets reports whether one flow could match both rules by source, port and address,
// as far as addresses are known.
func (s *scope) meets(o *scope) bool {
	return intersects(s.sources, o.sources) && portsMeet(s.Ports, o.Ports) &&
		slices.ContainsFunc(o.destinations, func(d destination) bool { return s.reaches(d.ranges) })
}

// holds reports whether one of the rule's names overlaps the pattern; a rule without
// names holds every one.
func (s *scope) holds(pattern string) bool {
	return !s.byName() || slices.ContainsFunc(s.names, func(t target) bool { return overlap(t.pattern, pattern) })
}

func intersects(a, b []AddrRange) bool {
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i].To.Less(b[j].From):
			i++
		case b[j].To.Less(a[i].From):
			j++
		default:
			return true
		}
	}
	return false
}

// subtract returns the addresses of a that are not in b; both are disjoint and sorted.
func subtract(a, b []AddrRange) []AddrRange {
	var out []AddrRange
	for _, x := range a {
		from, open := x.From, true
		for _, y := range b {
			if y.To.Less(from) || x.To.Less(y.From) {
				continue
			}
			if from.Less(y.From) {
				out = append(out, AddrRange{from, y.From.Prev()})
			}
			if !y.To.Less(x.To) {
				open = false
				break
			}
			from = y.To.Next()
		}
		if open {
			out = append(out, AddrRange{from, x.To})
		}
	}
	return out
}

// portsMeet reports whether two lists of ports share one; an empty list is all.
func portsMeet(a, b []PortRange) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if x.Proto == y.Proto && (!x.Proto.HasPorts() || x.Lo <= y.Hi && y.Lo <= x.Hi) {
				return true
			}
		}
	}
	return false
}

// portsCover reports whether one of the ranges of outer holds all of p.
func portsCover(outer []PortRange, p PortRange) bool {
	return len(outer) == 0 || slices.ContainsFunc(outer, func(o PortRange) bool {
		return o.Proto == p.Proto && (!p.Proto.HasPorts() || o.Lo <= p.Lo && p.Hi <= o.Hi)
	})
}
