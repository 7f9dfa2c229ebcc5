package audit

import (
	"container/list"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// key is what makes one record the repeat of another.
type key struct {
	src, dst netip.Addr
	port     uint16
	proto    policy.Proto
	class    Class
	activity Activity
	stage    policy.Stage
	verdict  policy.Action
	name     string
	rule     string
	reason   policy.Reason
	evidence uint64 // of a repeated permit, or of a request
}

// counted reports whether records of this kind are counted: denials, and
// whatever a rule with `log: false` decided. The end of a flow is an event of
// its own even where a reload withdrew the flow.
func counted(rec *Record) bool {
	return quiet(rec) || !rec.Decision.Permitted() && rec.Activity != Close
}

// repeated reports whether the record is a permitted question that changed nothing.
func repeated(rec *Record) bool {
	return rec.Repeat && rec.Class == DNSActivity && rec.Decision.Permitted() && !quiet(rec)
}

// evidenceSeed is drawn anew in each process, so that nobody can choose records
// that look alike.
var evidenceSeed = maphash.MakeSeed()

// evidence sums up what an event about a question says beyond its key. A permit is only
// counted with an event that says the same of it: the answer, and the ruleset that
// permitted it.
func evidence(rec *Record) uint64 {
	var h maphash.Hash
	h.SetSeed(evidenceSeed)
	add := func(s string) {
		h.WriteString(s)
		h.WriteByte(0)
	}
	d := &rec.Decision
	add(rec.Digest)
	add(rec.Message)
	add(string(d.Mode))
	add(string(d.Tier))
	if d.Would != nil {
		add(d.Would.Rule)
		add(string(d.Would.Verdict))
	}
	if rec.DNS != nil {
		add(rec.DNS.Type)
		add(rec.DNS.Rcode)
		for _, a := range rec.DNS.Answers {
			add(a)
		}
	}
	return h.Sum64()
}

// requested sums up what was asked for: another path or tool that is refused is no
// repeat, and must not vanish in the count of the first.
func requested(rec *Record) uint64 {
	if rec.HTTP == nil || quiet(rec) {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(evidenceSeed)
	for _, s := range []string{rec.HTTP.Method, rec.HTTP.Path, rec.Message} {
		h.WriteString(s)
		h.WriteByte(0)
	}
	return h.Sum64()
}

func keyOf(rec *Record) key {
	d := &rec.Decision
	return key{
		src: rec.Src.Addr(), dst: rec.Dst.Addr(), port: rec.Dst.Port(), proto: rec.Proto,
		class: classOf(rec), activity: activityOf(rec), stage: d.Stage, verdict: d.Verdict,
		name: rec.Host, rule: d.Rule, reason: d.Reason, evidence: requested(rec),
	}
}

// quiet reports whether the record has no single event: a rule of the document that
// says `log: false` decided it.
func quiet(rec *Record) bool {
	switch rec.Decision.Rule {
	case "", policy.RuleDefault, policy.RuleInvariant:
		return false
	}
	return !rec.Decision.Log
}

// tally is one key and what has been counted for it since its last event.
type tally struct {
	key         key
	sample      *Event // of the first occurrence
	count       int
	first, last time.Time // of what is counted
	in, out     int64
	since       time.Time // begin of the window
	all, own    *list.Element
}

// event is what has been counted as one event, in the words of the first.
func (t *tally) event(uid string) *Event {
	e := *t.sample
	e.Count, e.Metadata.UID = t.count, uid
	e.StartTime, e.EndTime, e.Time = millis(t.first), millis(t.last), millis(t.last)
	e.Duration = max(e.EndTime-e.StartTime, 0)
	if t.in != 0 || t.out != 0 {
		e.Traffic = &Traffic{Bytes: count(t.in + t.out), BytesIn: count(t.in), BytesOut: count(t.out)}
	}
	if e.FindingInfo != nil {
		info := *e.FindingInfo
		info.UID, info.CreatedTime = uid, e.Time
		e.FindingInfo = &info
	}
	return &e
}

// counter is the table of records that have been an event and may repeat. It holds
// at most limit keys and at most share of one source, so that a scanning agent
// pushes out its own keys and not those of others.
type counter struct {
	limit, share int
	window       time.Duration

	mu     sync.Mutex
	table  map[key]*tally
	all    *list.List                // of *tally, oldest window first
	source map[netip.Addr]*list.List // the same by source
}

func newCounter(limit int, window time.Duration) *counter {
	return &counter{
		limit: limit, share: max(limit/8, 1), window: window,
		table: map[key]*tally{}, all: list.New(), source: map[netip.Addr]*list.List{},
	}
}

// repeat counts the record if its key is known.
func (c *counter) repeat(k key, rec *Record, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.table[k]
	if t == nil {
		return false
	}
	t.countLocked(rec, now)
	return true
}

func (t *tally) countLocked(rec *Record, now time.Time) {
	if !rec.Time.IsZero() {
		now = rec.Time
	}
	if t.count == 0 {
		t.first, t.in, t.out = now, 0, 0
	}
	t.last = now
	t.count += max(rec.Count, 1)
	t.in += rec.BytesIn
	t.out += rec.BytesOut
}

// add begins to count for a new key. It reports whether the record is to be an event
// at once, and returns the tally that had to make room if it had counted anything:
// whoever called writes it or gives it back to restore. Where only is set, there is no
// event at once whatever the record says.
func (c *counter) add(k key, sample *Event, rec *Record, now time.Time, only bool) (single bool, evicted *tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.table[k]; t != nil { // somebody else was first
		t.countLocked(rec, now)
		return false, nil
	}
	t := &tally{key: k, sample: sample, since: now}
	if single = !only && !quiet(rec); !single {
		t.countLocked(rec, now)
	}
	own := c.source[k.src]
	switch {
	case own != nil && own.Len() >= c.share:
		evicted = own.Front().Value.(*tally)
	case len(c.table) >= c.limit:
		evicted = c.all.Front().Value.(*tally)
	}
	if evicted != nil {
		c.removeLocked(evicted)
		if evicted.count == 0 {
			evicted = nil
		}
	}
	c.insertLocked(t)
	return single, evicted
}

// due returns the tallies whose window is over at now, for writing, and begins a new
// window for them. Keys that did not repeat are forgotten: their next
// occurrence is an event at once again.
func (c *counter) due(now time.Time) []*tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due, again []*tally
	for el := c.all.Front(); el != nil; el = c.all.Front() {
		t := el.Value.(*tally)
		// A window that begins later than now comes from a clock that was set back.
		if age := now.Sub(t.since); age >= 0 && age < c.window {
			break
		}
		c.removeLocked(t)
		if t.count == 0 {
			continue
		}
		out := *t
		due = append(due, &out)
		t.count, t.since = 0, now
		again = append(again, t)
	}
	for _, t := range again {
		c.insertLocked(t)
	}
	return due
}

// restore gives back what could not be written.
func (c *counter) restore(t *tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.table[t.key]
	if now == nil {
		back := *t
		c.insertLocked(&back)
		return
	}
	if now.count == 0 {
		now.last, now.in, now.out = t.last, 0, 0
	}
	now.first = t.first
	now.count += t.count
	now.in += t.in
	now.out += t.out
}

// remove forgets a key and returns what had been counted for it.
func (c *counter) remove(k key) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.table[k]
	if t == nil {
		return 0
	}
	c.removeLocked(t)
	return t.count
}

func (c *counter) insertLocked(t *tally) {
	own := c.source[t.key.src]
	if own == nil {
		own = list.New()
		c.source[t.key.src] = own
	}
	c.table[t.key] = t
	t.all, t.own = c.all.PushBack(t), own.PushBack(t)
}

func (c *counter) removeLocked(t *tally) {
	delete(c.table, t.key)
	c.all.Remove(t.all)
	own := c.source[t.key.src]
	own.Remove(t.own)
	if own.Len() == 0 {
		delete(c.source, t.key.src)
	}
}
