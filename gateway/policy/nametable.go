package policy

import "strings"

// nameTable answers which rules a name belongs to. A look-up costs one map access
// per label of the name, however many names the table holds; only globs inside
// labels are compared one by one, and only those under the same literal suffix.
type nameTable struct {
	in    *interner
	exact map[string]uint32
	below map[string]uint32 // "x.y" for the pattern "*.x.y"
	globs map[string][]glob // by literal suffix
}

type glob struct {
	pattern string
	set     uint32
}

func newNameTable(in *interner) *nameTable {
	return &nameTable{in: in, exact: map[string]uint32{}, below: map[string]uint32{}, globs: map[string][]glob{}}
}

// add enters a normalised pattern for the rules in set.
func (t *nameTable) add(pattern string, set uint32) {
	rest, wild := strings.CutPrefix(pattern, "*.")
	switch {
	case !strings.Contains(pattern, "*"):
		t.exact[pattern] = t.in.union(t.exact[pattern], set)
	case wild && !strings.Contains(rest, "*"):
		t.below[rest] = t.in.union(t.below[rest], set)
	default:
		suffix := pattern[strings.LastIndexByte(pattern, '*')+1:]
		_, suffix, _ = strings.Cut(suffix, ".")
		t.globs[suffix] = append(t.globs[suffix], glob{pattern, set})
	}
}

// addDomain enters a name together with everything below it, as threat feeds
// mean their names.
func (t *nameTable) addDomain(name string, set uint32) {
	t.exact[name] = t.in.union(t.exact[name], set)
	t.below[name] = t.in.union(t.below[name], set)
}

// lookup returns the rules that a normalised name belongs to. Where a name is in
// one interned set only, nothing is allocated; otherwise scratch takes the union,
// or a new set where scratch is nil.
func (t *nameTable) lookup(name string, scratch bitset) bitset {
	found := empty
	var union bitset
	add := func(id uint32) {
		switch {
		case id == empty || id == found:
		case found == empty && union == nil:
			found = id
		default:
			if union == nil {
				if union = scratch; union == nil {
					union = make(bitset, len(t.in.sets[found]))
				}
				copy(union, t.in.sets[found])
			}
			union.or(t.in.sets[id])
		}
	}
	add(t.exact[name])
	for rest := name; ; {
		for _, g := range t.globs[rest] {
			if MatchPattern(g.pattern, name) {
				add(g.set)
			}
		}
		_, after, more := strings.Cut(rest, ".")
		if !more {
			// A glob in the last label has the empty literal suffix.
			for _, g := range t.globs[""] {
				if MatchPattern(g.pattern, name) {
					add(g.set)
				}
			}
			break
		}
		rest = after
		add(t.below[rest])
	}
	if union != nil {
		return union
	}
	return t.in.sets[found]
}
