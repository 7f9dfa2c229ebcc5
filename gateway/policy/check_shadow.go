package policy

import "slices"

// maxAtoms bounds the work of looking for shadowed rules; beyond it a rule counts
// as visible.
const maxAtoms = 1 << 14

// atom is one combination of a rule's alternatives.
type atom struct {
	sources     []AddrRange
	destination destination
	port        PortRange
	anyPort     bool
	name        *target
}

// shadows names the earlier rules that take everything a rule could match: every
// combination of one source group, destination, name and port of it lies wholly in
// one of them. It returns nil where that is not so, or not known.
func (c *checker) shadows(r *scope) []string {
	atoms := c.atoms(r)
	if len(atoms) == 0 || len(atoms) > maxAtoms {
		return nil
	}
	var by []string
	for _, a := range atoms {
		i := slices.IndexFunc(c.rules, func(e *scope) bool { return e.Priority < r.Priority && c.takes(e, r, a) })
		if i < 0 {
			return nil
		}
		if !slices.Contains(by, c.rules[i].Name) {
			by = append(by, c.rules[i].Name)
		}
	}
	return by
}

func (c *checker) atoms(r *scope) []atom {
	sources := [][]AddrRange{r.sources}
	if len(r.Sources) > 0 {
		sources = nil
		for _, name := range r.Sources {
			d := c.destination(name)
			if !d.known {
				return nil // its addresses are not known, so neither is what holds them
			}
			sources = append(sources, d.ranges)
		}
	}
	names := []*target{nil}
	if r.byName() {
		names = nil
		for i := range r.names {
			names = append(names, &r.names[i])
		}
	}
	ports := []atom{{anyPort: true}}
	if len(r.Ports) > 0 {
		ports = nil
		for _, p := range r.Ports {
			ports = append(ports, atom{port: p})
		}
	}
	if len(sources)*len(names)*len(ports)*len(r.destinations) > maxAtoms {
		return nil
	}
	var out []atom
	for _, s := range sources {
		for _, d := range r.destinations {
			for _, n := range names {
				for _, p := range ports {
					p.sources, p.destination, p.name = s, d, n
					out = append(out, p)
				}
			}
		}
	}
	return out
}

// takes reports whether the earlier rule e matches, and so decides, whatever the
// atom of rule r matches.
func (c *checker) takes(e, r *scope, a atom) bool {
	switch {
	case !e.inForce() && r.inForce(): // a monitored rule hides nothing from one in force
		return false
	case e.Budget != nil, e.TLSOnly() && !r.TLSOnly(), e.handlesRequests() && !r.handlesRequests():
		return false
	case a.anyPort && len(e.Ports) > 0, !a.anyPort && !portsCover(e.Ports, a.port):
		return false
	case !covered(a.sources, e.sources) || !holdsDestination(e, a.destination):
		return false
	case !e.byName():
		return true
	case a.name == nil:
		return false
	case e.Action == Permit && r.Action == Deny: // the permit needs a pin, the deny does not
		return false
	case r.SNI == SNIOptional && e.SNI != SNIOptional:
		return false
	}
	return slices.ContainsFunc(e.names, func(t target) bool {
		if !t.byRequest() {
			return covers(t.pattern, a.name.pattern)
		}
		return t.url != nil && a.name.url != nil && t.url.Host == a.name.url.Host &&
			allowsAll(t.url.Methods, a.name.url.Methods) && allowsAll(t.url.Paths, a.name.url.Paths)
	})
}

// holdsDestination reports whether everything in d is among the rule's destinations.
func holdsDestination(e *scope, d destination) bool {
	var all []AddrRange
	for _, o := range e.destinations {
		if o.group == d.group {
			return true
		}
		all = append(all, o.ranges...)
	}
	if d.threat {
		return false
	}
	return d.known && covered(d.ranges, mergeRanges(all))
}

// allowsAll reports whether a list of alternatives (empty: any) holds each of the
// others.
func allowsAll(list, others []string) bool {
	if len(list) == 0 {
		return true
	}
	return len(others) > 0 && !slices.ContainsFunc(others, func(s string) bool { return !slices.Contains(list, s) })
}
