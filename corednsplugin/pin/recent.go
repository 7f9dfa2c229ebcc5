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

// put remembers an answer in the place of the same question's, or else of the one that ends
// first. An answer that was pinned just now is the first of its name, or a renewal: most
// names are asked for once, and are worth a place when they are asked for again.
func (t *recent) put(k recentKey, a *answer) {
	set := t.set(k)
	at, known := &set[0], false
	for i := range set {
		old, best := set[i].Load(), at.Load()
		if known = old != nil && old.recentKey == k; known {
			at = &set[i]
			break
		}
		if best != nil && (old == nil || old.until.Before(best.until)) {
			at = &set[i]
		}
	}
	if a.pinned && !known {
		return
	}
	again := *a
	again.pinned, again.again = false, true
	at.Store(&remembered{recentKey: k, until: a.at.Add(min(a.ends.Sub(a.at), maxTTL)), answer: &again})
}
