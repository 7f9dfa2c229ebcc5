package server

import (
	"cmp"
	"container/list"
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
	seen map[denialKey]*list.Element
	all  list.List // of *Denial, the latest last
}

// denialKey is what makes two refusals the same.
type denialKey struct {
	src    netip.Addr
	dst    netip.AddrPort
	name   string
	rule   string
	reason policy.Reason
}

func (d *denials) note(r *audit.Record) {
	if r.Decision.Permitted() {
		return
	}
	key := denialKey{r.Src.Addr(), r.Dst, r.Host, r.Decision.Rule, r.Decision.Reason}
	d.mu.Lock()
	defer d.mu.Unlock()
	if el := d.seen[key]; el != nil {
		known := el.Value.(*Denial)
		known.Count += max(r.Count, 1)
		known.Last = r.Time
		d.all.MoveToBack(el)
		return
	}
	if d.seen == nil {
		d.seen = map[denialKey]*list.Element{}
	}
	if d.all.Len() == shownDenials {
		old := d.all.Remove(d.all.Front()).(*Denial)
		delete(d.seen, denialKey{old.Src, old.Dst, old.Name, old.Rule, old.Reason})
	}
	d.seen[key] = d.all.PushBack(&Denial{Src: key.src, Dst: key.dst, Name: key.name, Rule: key.rule, Reason: key.reason, Count: max(r.Count, 1), Last: r.Time})
}

// list returns the denials, the latest first.
func (d *denials) list() []Denial {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Denial, 0, d.all.Len())
	for el := d.all.Front(); el != nil; el = el.Next() {
		out = append(out, *el.Value.(*Denial))
	}
	slices.SortStableFunc(out, func(a, b Denial) int { return cmp.Compare(b.Last.UnixNano(), a.Last.UnixNano()) })
	return out
}
