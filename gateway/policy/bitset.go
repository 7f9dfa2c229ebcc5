package policy

import "math/bits"

// bitset holds one bit per rule, in priority order.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// or adds the bits of o.
func (b bitset) or(o bitset) {
	for w := range o {
		b[w] |= o[w]
	}
}

// and keeps the bits that are in o too.
func (b bitset) and(o bitset) {
	for w := range b {
		b[w] &= o[w]
	}
}

func (b bitset) clone() bitset { return append(bitset(nil), b...) }

// next returns the first bit set in word at or above i's position in it, or -1.
func next(word uint64) int {
	if word == 0 {
		return -1
	}
	return bits.TrailingZeros64(word)
}

// interner keeps one copy of each distinct bitset, so that a hundred thousand
// prefixes or a million names of the same groups share a few of them.
type interner struct {
	sets []bitset
	ids  map[string]uint32
}

// empty is the id of the set without bits.
const empty uint32 = 0

func newInterner(rules int) *interner {
	in := &interner{ids: map[string]uint32{}}
	in.intern(newBitset(rules))
	return in
}

func (in *interner) intern(b bitset) uint32 {
	key := make([]byte, 0, len(b)*8)
	for _, w := range b {
		for s := 0; s < 64; s += 8 {
			key = append(key, byte(w>>s))
		}
	}
	if id, ok := in.ids[string(key)]; ok {
		return id
	}
	id := uint32(len(in.sets))
	in.sets = append(in.sets, b.clone())
	in.ids[string(key)] = id
	return id
}

// union returns the id of the union of two interned sets.
func (in *interner) union(a, b uint32) uint32 {
	switch {
	case a == b, b == empty:
		return a
	case a == empty:
		return b
	}
	u := in.sets[a].clone()
	u.or(in.sets[b])
	return in.intern(u)
}
