package pin

import (
	"net/netip"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestClockJumps: a clock that jumps ahead makes pins old, never young; one that is set
// back keeps what there is, and what is pinned then lives its life from then.
func TestClockJumps(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	s := New(Options{Now: func() time.Time { return now }})
	src, addr := netip.MustParseAddr("10.20.1.4"), netip.MustParseAddr("140.82.121.6")
	add := func(name string) {
		t.Helper()
		if err := s.Add(src, name, []Answer{{Addr: addr, TTL: time.Minute, Bound: name}}); err != nil {
			t.Fatal(err)
		}
	}
	add("api.github.com")
	for _, tc := range []struct {
		jump  time.Duration
		state policy.PinState
		stale bool
	}{
		{time.Hour, policy.PinMatch, true},
		{-time.Hour, policy.PinMatch, false},
		{-48 * time.Hour, policy.PinMatch, false},
		{73 * time.Hour, policy.PinNone, false},
		{-25 * time.Hour, policy.PinMatch, false},
	} {
		now = now.Add(tc.jump)
		if m := s.Lookup(src, addr, "api.github.com"); m.State != tc.state || m.Stale != tc.stale {
			t.Errorf("after a jump by %v: %v, stale %v", tc.jump, m.State, m.Stale)
		}
	}
	now = now.Add(-48 * time.Hour)
	add("gist.github.com")
	now = now.Add(s.Life(time.Minute))
	if m := s.Lookup(src, addr, "gist.github.com"); m.State == policy.PinMatch {
		t.Error("a pin outlives its life")
	}
	now = now.Add(1000 * time.Hour)
	s.Sweep()
	if sources, pins := s.Len(); sources != 0 || pins != 0 {
		t.Errorf("%d pins of %d sources are left", pins, sources)
	}
}
