package audit

import (
	"testing"
	"time"
)

// TestClockJumps: the chain, the windows of repeats and the hourly checkpoint survive a
// clock that jumps either way.
func TestClockJumps(t *testing.T) {
	l := newTestLog(t, nil)
	sent := 0
	for i, jump := range []time.Duration{0, 48 * time.Hour, -72 * time.Hour, time.Second, 1000 * time.Hour, -1000 * time.Hour} {
		l.clock.advance(jump)
		l.record(permit(uint16(i+1)), deny("10.20.1.4", 22), deny("10.20.1.4", 22))
		sent += 3
		l.flush()
		if err := l.Healthy(); err != nil {
			t.Fatalf("after a jump by %v: %v", jump, err)
		}
	}
	l.close()
	mustVerify(t, l.path)
	if got := total(decisions(l.events())); got != sent {
		t.Errorf("%d of %d events", got, sent)
	}
}
