package policy

import (
	"math/rand/v2"
	"testing"
)

// TestPatternAlgebra holds covers and overlap against what they are defined by:
// the names that the patterns match. Short patterns over two letters are enough to
// meet every case, and every name up to that size can be tried.
func TestPatternAlgebra(t *testing.T) {
	labels := []string{"a", "b", "ab", "ba", "aa", "aba", "abb"}
	var names []string
	for _, x := range labels {
		names = append(names, x)
		for _, y := range labels {
			names = append(names, x+"."+y)
			for _, z := range labels[:3] {
				names = append(names, x+"."+y+"."+z, "a."+x+"."+y+"."+z)
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	globs := []string{"a", "b", "ab", "*", "a*", "*a", "*b", "a*b"}
	pattern := func() string {
		p := globs[rng.IntN(len(globs))]
		for range rng.IntN(3) {
			p += "." + globs[rng.IntN(len(globs))]
		}
		return p
	}
	for range 5000 {
		p, q := pattern(), pattern()
		within, meet := true, ""
		for _, n := range names {
			inP, inQ := MatchPattern(p, n), MatchPattern(q, n)
			within = within && (inP || !inQ)
			if inP && inQ {
				meet = n
			}
		}
		if covers(p, q) && !within {
			t.Fatalf("covers(%q, %q), but some name is in the second only", p, q)
		}
		if meet != "" && !overlap(p, q) {
			t.Fatalf("%q is in %q and %q, which do not overlap", meet, p, q)
		}
		if overlap(p, q) != overlap(q, p) {
			t.Fatalf("overlap of %q and %q depends on their order", p, q)
		}
		if covers(p, q) && !overlap(p, q) {
			t.Fatalf("%q covers %q and does not overlap it", p, q)
		}
		if !covers(p, p) {
			t.Fatalf("%q does not cover itself", p)
		}
	}
	for _, tc := range []struct {
		p, q            string
		covers, overlap bool
	}{
		{"*.x.y", "x.y", false, false},
		{"*.x.y", "a.b.x.y", true, true},
		{"*.servicebus.windows.net", "gsm*eh.servicebus.windows.net", true, true},
		{"gsm*.servicebus.windows.net", "gsm*eh.servicebus.windows.net", true, true},
		{"gsm*eh.servicebus.windows.net", "*.servicebus.windows.net", false, true},
		{"a*.x.y", "*b.x.y", false, true},
		{"a*c.x.y", "*b.x.y", false, false},
		{"*.x.y", "*.y", false, true},
		{"*.y", "*.x.y", true, true},
		{"a*a.y", "a.y", false, false},
	} {
		if got := covers(tc.p, tc.q); got != tc.covers {
			t.Errorf("covers(%q, %q) = %v", tc.p, tc.q, got)
		}
		if got := overlap(tc.p, tc.q); got != tc.overlap {
			t.Errorf("overlap(%q, %q) = %v", tc.p, tc.q, got)
		}
	}
}
