package server

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/enforcer"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	shownFlows   = 200 // flows that /flows lists
	shownDenials = 100 // denials that it remembers
)

// Activity is the body of /flows: what goes through, and what was refused lately.
type Activity struct {
	Total   int             `json:"total"` // permitted flows in the enforcer
	Flows   []enforcer.Live `json:"flows"` // the youngest of them
	Denials []Denial        `json:"denials"`
}

// Denial is a refusal and how often it happened since it was first seen.
type Denial struct {
	Src    netip.Addr     `json:"src"`
	Dst    netip.AddrPort `json:"dst,omitzero"`
	Name   string         `json:"name,omitempty"`
	Rule   string         `json:"rule"`
	Reason policy.Reason  `json:"reason"`
	Count  int            `json:"count"`
	Last   time.Time      `json:"last"`
}

func (s *Server) activity() Activity {
	a := Activity{Denials: s.denials.list()}
	a.Flows, a.Total = s.enforcer.List(shownFlows)
	return a
}

// denials remembers the latest refusals for people who look; the audit has them all.
type denials struct {
	mu   sync.Mutex
	seen []Denial // the latest last
}

func (d *denials) note(r *audit.Record) {
	if r.Decision.Permitted() {
		return
	}
	now := Denial{Src: r.Src.Addr(), Dst: r.Dst, Name: r.Host, Rule: r.Decision.Rule, Reason: r.Decision.Reason, Count: max(r.Count, 1), Last: r.Time}
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.seen, func(o Denial) bool {
		return o.Src == now.Src && o.Dst == now.Dst && o.Name == now.Name && o.Rule == now.Rule && o.Reason == now.Reason
	})
	switch {
	case i >= 0:
		now.Count += d.seen[i].Count
		d.seen = slices.Delete(d.seen, i, i+1)
	case len(d.seen) == shownDenials:
		d.seen = slices.Delete(d.seen, 0, 1)
	}
	d.seen = append(d.seen, now)
}

// list returns the denials, the latest first.
func (d *denials) list() []Denial {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := slices.Clone(d.seen)
	slices.SortStableFunc(out, func(a, b Denial) int { return cmp.Compare(b.Last.UnixNano(), a.Last.UnixNano()) })
	return out
}
