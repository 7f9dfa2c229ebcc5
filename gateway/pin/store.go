package pin

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// What Options leave at zero.
const (
	DefaultPerSource = 20_000
	DefaultSources   = 16_384
	DefaultTotal     = 1_000_000
	DefaultFloor     = 60 * time.Second
	DefaultGrace     = 10 * time.Minute
	DefaultLate      = 24 * time.Hour
	DefaultIdle      = time.Hour
)

const (
	// maxTTL caps what an authority may claim (RFC 2181 allows 68 years): a pin
	// must not outlive the day after which it has to be asked for again.
	maxTTL = 24 * time.Hour
	// slack is how much later an expiry must be to be worth a write. Answers from
	// the cache carry what is left of their TTL, so they renew nothing; answers
	// below the floor would otherwise be written at every question.
	slack = 5 * time.Second
	// maxNamesPerAddr bounds the walk that a lookup makes. A crowded edge address
	// carries a few dozen permitted names for one source.
	maxNamesPerAddr = 256
	// maxOthers bounds what Addrs returns: nobody dials more alternatives.
	maxOthers = 16

	shardCount = 64
)

// ErrQuota is in the chain of every error that Add gives for want of room.
var ErrQuota = errors.New("no room for more pins")

// Options says how much a Store holds and for how long. The zero value is the
// product's default.
type Options struct {
	Scope     policy.PinScope // empty: source
	PerSource int             // pins of one source; in shared scope, of all
	Sources   int             // sources with pins
	Total     int             // pins of all sources together
	Floor     time.Duration   // least TTL that a pin is given
	Grace     time.Duration   // after the TTL, for clients that hold on to an answer
	Late      time.Duration   // after that: the pin is Stale and must be asked for again
	Idle      time.Duration   // a source that did nothing for so long is forgotten
	Now       func() time.Time
}

func orDefault[T comparable](v *T, fallback T) {
	if zero := *new(T); *v == zero {
		*v = fallback
	}
}

// Answer is one address of an answer, with the TTL that binds it: the lowest on
// the way from the question to the address. Bound is the owner name of that TTL.
type Answer struct {
	Addr  netip.Addr
	TTL   time.Duration
	Bound string
}

// Entry is one pin.
type Entry struct {
	Source netip.Addr // zero where pins hold for all agents
	Name   string     // the question
	Addr   netip.Addr
	Asked  time.Time     // when the answer was given
	TTL    time.Duration // as answered
	Bound  string        // owner name of the lowest TTL
	Until  time.Time     // fresh until then
	Gone   time.Time     // stale until then
}

// Match is what a Store knows about a destination and a claimed name.
type Match struct {
	State policy.PinState
	// Stale says that the pin's TTL and grace have passed: ask for the name again
	// and look up once more.
	Stale bool
	Entry Entry // the pin, where State is PinMatch
}

// record is one pin as held. It is in two lists: the pins of its address and the
// pins of its name.
type record struct {
	addr     netip.Addr
	name     unique.Handle[string]
	bound    unique.Handle[string]
	asked    int64 // Unix nanoseconds
	ttl      time.Duration
	sameAddr *record
	sameName *record
}

// source holds the pins of one agent.
type source struct {
	active atomic.Int64 // Unix nanoseconds of the last sign of life
	byAddr map[netip.Addr]*record
	byName map[unique.Handle[string]]*record
	count  int
	// crowded is the moment before which a search for stale pins to drop finds
	// none, so that a source at its quota costs no scan per question.
	crowded int64
}

type shard struct {
	mu      sync.RWMutex
	sources map[netip.Addr]*source
	// dropped are pins that made room before their time, until the next sweep.
	dropped []Entry
}

// Store holds pins in memory. Its methods may be called from any number of
// goroutines.
type Store struct {
	opt     Options
	bound   atomic.Int64 // on the pins of one source; SetPerSource may change it
	seed    maphash.Seed
	shards  [shardCount]shard
	sources atomic.Int64
	total   atomic.Int64
	changes atomic.Uint64
}

// New returns an empty Store.
func New(opt Options) *Store {
	orDefault(&opt.Scope, policy.ScopeSource)
	orDefault(&opt.PerSource, DefaultPerSource)
	orDefault(&opt.Sources, DefaultSources)
	orDefault(&opt.Total, DefaultTotal)
	orDefault(&opt.Floor, DefaultFloor)
	orDefault(&opt.Grace, DefaultGrace)
	orDefault(&opt.Late, DefaultLate)
	orDefault(&opt.Idle, DefaultIdle)
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Store{opt: opt, seed: maphash.MakeSeed()}
	s.SetPerSource(opt.PerSource)
	for i := range s.shards {
		s.shards[i].sources = map[netip.Addr]*source{}
	}
	return s
}

// SetPerSource replaces Options.PerSource. A source that has more keeps them until they lapse, and
// gets no others before.
func (s *Store) SetPerSource(pins int) { s.bound.Store(int64(pins)) }

// Changes counts the pins that were added or renewed: a snapshot is as good as the
// last one while the count stands still.
func (s *Store) Changes() uint64 { return s.changes.Load() }

// Scope says for whom the pins hold.
func (s *Store) Scope() policy.PinScope { return s.opt.Scope }

// Len returns the number of sources and of pins, those that wait for the next
// sweep included.
func (s *Store) Len() (sources, pins int) { return int(s.sources.Load()), int(s.total.Load()) }

// Owner is the source that a pin made for src is held under: src itself, or the
// zero Addr where pins hold for all agents.
func (s *Store) Owner(src netip.Addr) netip.Addr {
	if s.opt.Scope == policy.ScopeSource {
		return src.Unmap()
	}
	return netip.Addr{}
}

func (s *Store) shard(owner netip.Addr) *shard {
	return &s.shards[maphash.Comparable(s.seed, owner)%shardCount]
}

func (s *Store) until(r *record) int64 {
	return r.asked + int64(max(r.ttl, s.opt.Floor)+s.opt.Grace)
}

func (s *Store) gone(r *record) int64 { return s.until(r) + int64(s.opt.Late) }

// Life is how long a pin of an answer with this TTL is of any use, and so how long
// its gate keys must stand: a flow on a stale pin has to reach the enforcer, which
// asks for the name again.
func (s *Store) Life(ttl time.Duration) time.Duration {
	return max(min(ttl, maxTTL), s.opt.Floor) + s.opt.Grace + s.opt.Late
}

// Held reports whether Add would change nothing worth a write; then the gate was
// admitted already, too. The error says that Add would find no room. It also
// counts as a sign of life of the source.
func (s *Store) Held(src netip.Addr, name string, answers []Answer) (bool, error) {
	return s.StillHeld(src, name, answers, 0)
}

// StillHeld is Held for answers that have been known for a while, so that less is left of
// their TTLs.
func (s *Store) StillHeld(src netip.Addr, name string, answers []Answer, age time.Duration) (bool, error) {
	owner, now := s.Owner(src), s.opt.Now().UnixNano()
	sh := s.shard(owner)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	so := sh.sources[owner]
	if so == nil {
		return false, s.roomLocked(nil, owner, len(answers), now)
	}
	so.active.Store(now)
	h := unique.Make(name)
	missing, held := 0, true
	for _, a := range answers {
		r := so.find(a.Addr.Unmap(), h)
		switch {
		case r == nil:
			missing++
		case s.later(r, a.TTL-age, now):
			held = false
		}
	}
	if missing == 0 {
		return held, nil
	}
	return false, s.roomLocked(so, owner, missing, now)
}

// later reports whether an answer with this TTL moves the record's expiry by more than slack.
func (s *Store) later(r *record, ttl time.Duration, now int64) bool {
	renewed := now + int64(max(min(ttl, maxTTL), s.opt.Floor)+s.opt.Grace)
	return renewed > s.until(r)+int64(slack)
}

// roomLocked says which bound n more pins would break. Stale pins make room, so
// they do not count against their source.
func (s *Store) roomLocked(so *source, owner netip.Addr, n int, now int64) error {
	bound := int(s.bound.Load())
	switch {
	case so == nil && int(s.sources.Load()) >= s.opt.Sources:
		return fmt.Errorf("%w: %d sources have pins already", ErrQuota, s.opt.Sources)
	case int(s.total.Load())+n > s.opt.Total:
		return fmt.Errorf("%w: all sources together hold %d already", ErrQuota, s.opt.Total)
	case n > bound, n > 0 && so != nil && so.count+n > bound && so.crowded > now:
		return fmt.Errorf("%w: %s holds %d of %d", ErrQuota, ownerName(owner), countOf(so), bound)
	}
	return nil
}

func countOf(so *source) int {
	if so == nil {
		return 0
	}
	return so.count
}

func ownerName(owner netip.Addr) string {
	if owner.IsValid() {
		return owner.String()
	}
	return "the shared scope"
}

// Add pins every address to the name for src. Either all are pinned or, with an
// error that wraps ErrQuota, none is. A pin's expiry is never brought forward: an
// earlier answer stays good for the TTL that it came with.
func (s *Store) Add(src netip.Addr, name string, answers []Answer) error {
	owner, now := s.Owner(src), s.opt.Now().UnixNano()
	sh := s.shard(owner)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.addLocked(sh, owner, name, answers, now)
}

func (s *Store) addLocked(sh *shard, owner netip.Addr, name string, answers []Answer, now int64) error {
	so, h := sh.sources[owner], unique.Make(name)
	var missing []Answer
	for _, a := range answers {
		if !slices.ContainsFunc(missing, func(m Answer) bool { return m.Addr == a.Addr }) && so.find(a.Addr.Unmap(), h) == nil {
			missing = append(missing, a)
		}
	}
	if so != nil && so.count+len(missing) > int(s.bound.Load()) && so.crowded <= now {
		s.dropStaleLocked(sh, owner, so, now)
	}
	if err := s.roomLocked(so, owner, len(missing), now); err != nil {
		return err
	}
	for _, a := range missing {
		if n := so.names(a.Addr.Unmap()); n >= maxNamesPerAddr {
			return fmt.Errorf("%w: %s is pinned to %d names already", ErrQuota, a.Addr, n)
		}
	}
	if so == nil {
		so = &source{byAddr: map[netip.Addr]*record{}, byName: map[unique.Handle[string]]*record{}}
		sh.sources[owner] = so
		s.sources.Add(1)
	}
	so.active.Store(now)
	for _, a := range answers {
		addr, ttl := a.Addr.Unmap(), min(max(a.TTL, 0), maxTTL)
		r := so.find(addr, h)
		switch {
		case r == nil:
			r = &record{addr: addr, name: h, sameAddr: so.byAddr[addr], sameName: so.byName[h]}
			so.byAddr[addr], so.byName[h] = r, r
			so.count++
			s.total.Add(1)
		case !s.later(r, a.TTL, now):
			continue
		}
		r.asked, r.ttl, r.bound = now, ttl, unique.Make(a.Bound)
		s.changes.Add(1)
	}
	return nil
}

// find returns the record that ties the address to the name, if there is one. It
// may be past its time.
func (so *source) find(addr netip.Addr, name unique.Handle[string]) *record {
	if so == nil {
		return nil
	}
	for r := so.byAddr[addr]; r != nil; r = r.sameAddr {
		if r.name == name {
			return r
		}
	}
	return nil
}

func (so *source) names(addr netip.Addr) int {
	n := 0
	if so != nil {
		for r := so.byAddr[addr]; r != nil; r = r.sameAddr {
			n++
		}
	}
	return n
}
