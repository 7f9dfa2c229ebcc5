package policy

import "strings"

// nameIndex finds what was entered for the patterns that a name matches. A look-up
// costs one map access per label of the name, however many patterns there are; only globs inside
// labels are compared one by one, and only those under the same literal suffix.
type nameIndex[T any] struct {
	exact map[string]T
	below map[string]T         // "x.y" for the pattern "*.x.y"
	globs map[string][]glob[T] // by literal suffix
}

type glob[T any] struct {
	pattern string
	value   T
}

func newNameIndex[T any]() nameIndex[T] {
	return nameIndex[T]{exact: map[string]T{}, below: map[string]T{}, globs: map[string][]glob[T]{}}
}

// place returns the map and key where a pattern's value stands, or the literal
// suffix that its glob is found by.
func (x *nameIndex[T]) place(pattern string) (in map[string]T, key, suffix string) {
	rest, wild := strings.CutPrefix(pattern, "*.")
	switch {
	case !strings.Contains(pattern, "*"):
		return x.exact, pattern, ""
	case wild && !strings.Contains(rest, "*"):
		return x.below, rest, ""
	}
	_, suffix, _ = strings.Cut(pattern[strings.LastIndexByte(pattern, '*')+1:], ".")
	return nil, "", suffix
}

// add enters the value of a normalised pattern, in place of the one before.
func (x *nameIndex[T]) add(pattern string, value T) {
	in, key, suffix := x.place(pattern)
	if in != nil {
		in[key] = value
		return
	}
	x.globs[suffix] = append(x.globs[suffix], glob[T]{pattern, value})
}

// each calls found with the value of every pattern that a normalised name matches.
func (x *nameIndex[T]) each(name string, found func(T)) {
	if v, ok := x.exact[name]; ok {
		found(v)
	}
	for rest := name; ; {
		for _, g := range x.globs[rest] {
			if MatchPattern(g.pattern, name) {
				found(g.value)
			}
		}
		_, after, more := strings.Cut(rest, ".")
		if !more {
			// A glob in the last label has the empty literal suffix.
			for _, g := range x.globs[""] {
				if MatchPattern(g.pattern, name) {
					found(g.value)
				}
			}
			return
		}
		rest = after
		if v, ok := x.below[rest]; ok {
			found(v)
		}
	}
}

// nameTable answers which rules a name belongs to.
type nameTable struct {
	nameIndex[uint32]
	in *interner
}

func newNameTable(in *interner) *nameTable { return &nameTable{newNameIndex[uint32](), in} }

// add enters a normalised pattern for the rules in set.
func (t *nameTable) add(pattern string, set uint32) {
	if in, key, _ := t.place(pattern); in != nil {
		set = t.in.union(in[key], set)
	}
	t.nameIndex.add(pattern, set)
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
	t.each(name, func(id uint32) {
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
	})
	if union != nil {
		return union
	}
	return t.in.sets[found]
}
