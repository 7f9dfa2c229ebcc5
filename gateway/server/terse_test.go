package server

import (
	"testing"
	"time"
)

// TestTerse: a flood of faults is ten lines and one a second, and the next line says how many
// were left out.
func TestTerse(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := newTerse(func() time.Time { return now })
	said := 0
	for range 1000 {
		if ok, _ := l.say(); ok {
			said++
		}
	}
	if said != terseBurst {
		t.Errorf("%d lines at once", said)
	}
	now = now.Add(time.Second)
	if ok, kept := l.say(); !ok || kept != 1000-terseBurst {
		t.Errorf("a second later: %v, %d left out", ok, kept)
	}
	if ok, _ := l.say(); ok {
		t.Error("two lines in a second")
	}
	now = now.Add(-time.Hour) // the clock is set back
	if ok, _ := l.say(); ok {
		t.Error("a clock that was set back allows lines")
	}
}
