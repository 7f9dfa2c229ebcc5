package relay

import (
	"math"
	"time"
)

// Meter bounds what a pair passes on from the client to the server. It is the pair's once
// that is made; after its end, Left is what was not used.
type Meter struct {
	Left  int64     // bytes that may go
	Until time.Time // but not later
	// More is called for more, with what was left of the last. It may block, for it has a
	// goroutine of its own. None ends the pair.
	More func(left int64) (bytes int64, until time.Time)

	asking bool
}

// room is how many bytes may be taken from the source of d now. Where there are none, more are
// asked for, and the pair has its turn when they have come.
func (p *Pair) room(d *direction) int {
	m := d.meter
	switch {
	case m == nil:
		return math.MaxInt
	case m.asking:
		return 0
	case m.Left > 0 && time.Now().Before(m.Until):
		return int(m.Left)
	}
	m.asking = true
	left := m.Left
	m.Left = 0
	go func() {
		n, until := m.More(left)
		p.loop.call(func() {
			m.asking, m.Left, m.Until = false, n, until
			switch {
			case p.over:
			case n <= 0:
				p.end(true)
			default:
				p.loop.queue(p)
			}
		})
	}()
	return 0
}

// used takes n bytes off what may still go.
func (d *direction) used(n int) {
	if d.meter != nil {
		d.meter.Left -= int64(n)
	}
}
