package policy

import "strings"

// covers reports whether every name that the pattern q matches is matched by p
// too. It never says so wrongly.
func covers(p, q string) bool {
	a, b := strings.Split(p, "."), strings.Split(q, ".")
	deepA, deepB := a[0] == "*" && len(a) > 1, b[0] == "*" && len(b) > 1
	switch {
	case !deepA && (deepB || len(a) != len(b)):
		return false
	case deepA && !deepB && len(b) < len(a), deepA && deepB && len(b) < len(a):
		return false
	}
	for i := 1; i <= len(a); i++ {
		if i == len(a) && deepA {
			return true
		}
		// A star of q stands for anything, so only a star of p can take it:
		// to matchLabel it is a character that no literal equals.
		if !matchLabel(a[len(a)-i], b[len(b)-i]) {
			return false
		}
	}
	return true
}

// overlap reports whether some name matches both patterns.
func overlap(p, q string) bool {
	a, b := strings.Split(p, "."), strings.Split(q, ".")
	deepA, deepB := a[0] == "*" && len(a) > 1, b[0] == "*" && len(b) > 1
	switch {
	case !deepA && !deepB && len(a) != len(b),
		deepA && !deepB && len(b) < len(a),
		deepB && !deepA && len(a) < len(b):
		return false
	}
	for i := 1; i <= min(len(a), len(b)); i++ {
		if i == len(a) && deepA || i == len(b) && deepB {
			return true
		}
		if !labelsMeet(a[len(a)-i], b[len(b)-i]) {
			return false
		}
	}
	return true
}

// labelsMeet reports whether one label matches both globs: it follows both at once
// and remembers, for each place in a, which places in b are reachable.
func labelsMeet(a, b string) bool {
	reach := make([]bool, len(b)+1)
	for i := 0; i <= len(a); i++ {
		row := make([]bool, len(b)+1)
		for j := 0; j <= len(b); j++ {
			switch {
			case i == 0 && j == 0:
				row[j] = true
			case i > 0 && j > 0 && a[i-1] != '*' && b[j-1] != '*':
				row[j] = reach[j-1] && a[i-1] == b[j-1]
			default:
				// A star takes nothing (step past it) or what the other side has.
				row[j] = i > 0 && reach[j] && (a[i-1] == '*' || j > 0 && b[j-1] == '*') ||
					j > 0 && row[j-1] && (b[j-1] == '*' || i > 0 && a[i-1] == '*')
			}
		}
		reach = row
	}
	return reach[len(b)]
}
