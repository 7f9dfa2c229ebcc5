package pin

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// recentSets times recentWays answers are remembered, of all sources together: some 20 MB
	// where all places are taken.
	recentSets = 1 << 13
	recentWays = 4
)

// recent remembers answers that may be given again as they are: what was judged, pinned and
// written down for a source a moment ago, and would come out the same. An entry counts only
// under the very ruleset that judged it and while the answer's TTL lasts, at most maxTTL. It
// spares the work and no check that time or anybody else could change: the source's
// allowance, the pins and the audit are asked each time.
//
// It is a table of fixed size, so whatever sources do it does not grow: a new entry takes the
// place of an old one, which costs the old one's source a little time and nothing else.
type recent struct {
	seed  maphash.Seed
	slots [recentSets * recentWays]atomic.Pointer[remembered]
}

// remembered is one entry. Nobody changes it once it is in the table.
type remembered struct {
	recentKey
	until  time.Time
	answer *answer
}

type recentKey struct {
	src  netip.Addr
	name string
}

func newRecent() *recent { return &recent{seed: maphash.MakeSeed()} }

func (t *recent) set(k recentKey) []atomic.Pointer[remembered] {
	i := maphash.Comparable(t.seed, k) % recentSets * recentWays
	return t.slots[i : i+recentWays]
}

// get returns an answer that holds at now, or nil.
func (t *recent) get(k recentKey, rules Rules, now time.Time) *answer {
	set := t.set(k)
	for i := range set {
		if r := set[i].Load(); r != nil && r.recentKey == k {
			if r.answer.rules != rules || now.Before(r.answer.at) || !now.Before(r.until) {
				return nil
			}
			return r.answer
		}
	}
	return nil
}

// put remembers an answer. It takes the place of the same question's, or of the one that ends
// first.
func (t *recent) put(k recentKey, a *answer) {
	again := *a
	again.pinned, again.again = false, true
	r := &remembered{recentKey: k, until: a.at.Add(min(a.ends.Sub(a.at), maxTTL)), answer: &again}
	set := t.set(k)
	at := &set[0]
	for i := range set {
		old := set[i].Load()
		if old == nil || old.recentKey == k {
			at = &set[i]
			break
		}
		if old.until.Before(at.Load().until) {
			at = &set[i]
		}
	}
	at.Store(r)
}
