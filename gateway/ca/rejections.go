package ca

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// maxRejections bounds the names in the report. Names are the agents' choice within the
// ruleset's globs, so the ones that were rejected longest ago go first.
const maxRejections = 1024

// Rejection is a name whose clients did not take our certificate: they lack the root, or
// they pin a certificate. The flow was refused (`ca-rejected-by-client`), as the next will
// be: a report is for people, and opens nothing.
type Rejection struct {
	Name   string     `json:"name"`
	Count  uint64     `json:"count"`
	Source netip.Addr `json:"source"` // of the last one
	Last   time.Time  `json:"last"`
}

// Rejections is the report of such names, bounded, in memory. All methods may be called
// by any goroutine.
type Rejections struct {
	mu    sync.Mutex
	names *lru.Cache[string, Rejection]
}

// NewRejections returns an empty report.
func NewRejections() *Rejections {
	names, _ := lru.New[string, Rejection](maxRejections) // fails only for a size below 1
	return &Rejections{names: names}
}

// Add counts one rejected handshake.
func (r *Rejections) Add(name string, source netip.Addr, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, _ := r.names.Get(name)
	r.names.Add(name, Rejection{name, old.Count + 1, source, at.UTC()})
}

// List returns at most n names, the most rejected first.
func (r *Rejections) List(n int) []Rejection {
	r.mu.Lock()
	all := r.names.Values()
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return all[:min(n, len(all))]
}
