package audit

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// ErrQuota says that one source has written more than its share of the log. What it
// asks for is refused as overload; other sources go on.
var ErrQuota = errors.New("audit: this source has used its share of the log for today")

const (
	// shareOfFree: a source may write a quarter of what the disk has left in a day. So
	// one that floods leaves four fifths to the others, and a quiet disk limits nobody.
	shareOfFree = 4
	quotaWindow = 24 * time.Hour
	// inFlight is how many events of one source are in the queue at a time; the rest of
	// them waits behind, and those of other sources come before it.
	inFlight = 128
	// maxSources bounds the table; the sources beyond share one entry.
	maxSources = 1 << 16
)

// quotas keeps one source from taking the log away from the others.
type quotas struct {
	free    atomic.Int64 // bytes on the disk when it was last asked; negative: not known
	mu      sync.Mutex
	since   time.Time
	sources map[netip.Addr]*usage
}

// usage is what one source does to the log.
type usage struct {
	bytes atomic.Int64 // written in this window
	// The intake's lock guards these: how many of its events are in the queue or with the
	// writer, and those that wait behind them.
	flying  int
	waiting []*entry
}

func newQuotas(now time.Time) *quotas {
	q := &quotas{since: now, sources: map[netip.Addr]*usage{}}
	q.free.Store(-1)
	return q
}

// of finds the entry of a source.
func (q *quotas) of(src netip.Addr) *usage {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.sources[src]
	if u == nil && len(q.sources) >= maxSources {
		src = netip.Addr{}
		u = q.sources[src]
	}
	if u == nil {
		u = new(usage)
		q.sources[src] = u
	}
	return u
}

// over reports whether the source has had its share.
func (q *quotas) over(u *usage) bool {
	free := q.free.Load()
	return free >= 0 && u.bytes.Load() > free/shareOfFree
}

func (u *usage) wrote(n int) { u.bytes.Add(int64(n)) }

// measure notes how much the disk has left, and begins a new window when it is time. A
// clock that was set back begins one, too.
func (q *quotas) measure(free int64, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free.Store(free)
	if age := now.Sub(q.since); age >= quotaWindow || age < 0 {
		q.since, q.sources = now, map[netip.Addr]*usage{}
	}
}

// crowd makes the record of a source over its share fit to be counted together with its
// like, and reports whether it did. A denial keeps the rule and the reason; a flow that
// the kernel forwarded keeps its destination. The end of a flow that the enforcer has is
// left alone: its beginning has been written, and no more begin.
func crowd(rec *Record) bool {
	switch {
	case !rec.Decision.Permitted() && rec.Activity != Close:
		rec.Dst, rec.Host, rec.Pin, rec.HTTP = netip.AddrPort{}, "", nil, nil
		if rec.DNS != nil {
			rec.DNS = &DNS{Type: rec.DNS.Type, Rcode: rec.DNS.Rcode}
		}
	case rec.Class == NetworkActivity && rec.Decision.Tier == policy.TierKernel:
	default:
		return false
	}
	rec.Message = "counted together: the source has used its share of the log"
	return true
}
