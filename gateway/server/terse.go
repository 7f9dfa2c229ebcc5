package server

import (
	"sync"
	"time"
)

// terseBurst lines of one kind go to the log at once, then one a second.
const terseBurst = 10

// terse bounds what the log says of one kind of fault. Agents can cause some of them with every
// connection, and the log shares a disk with more important things.
type terse struct {
	now func() time.Time

	mu      sync.Mutex
	allowed float64
	at      time.Time
	kept    int // back since the last line
}

func newTerse(now func() time.Time) *terse { return &terse{now: now, allowed: terseBurst, at: now()} }

// say reports whether a line may be written, and how many were not before it.
func (t *terse) say() (ok bool, kept int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.allowed = min(terseBurst, t.allowed+max(0, now.Sub(t.at).Seconds()))
	t.at = now
	if t.allowed < 1 {
		t.kept++
		return false, 0
	}
	t.allowed--
	kept, t.kept = t.kept, 0
	return true, kept
}
