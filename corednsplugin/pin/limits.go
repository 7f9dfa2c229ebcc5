package pin

import (
	"hash/maphash"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"
)

// What one source may do. A name below a wildcard is the one channel that a
// ruleset leaves to DNS: whoever runs the zone reads the labels that an agent makes
// up. So their size is bounded, and how many different ones there may be.
const (
	// questionsPerSecond, with a burst, is far above what software does that
	// resolves a name for each connection.
	questionsPerSecond = 200
	questionsBurst     = 1000
	// maxPending bounds the questions of a source that wait for an answer: each holds one
	// of the places that the forward plugin has for all of them.
	maxPending = 100
	// namesPerSecond, with a burst, counts names that were not asked for lately,
	// per source and zone.
	namesPerSecond = 1
	namesBurst     = 60
	// maxLabel passes a SHA-1 in hexadecimal or a GUID; the labels of tunnels are
	// filled to the limit of 63.
	maxLabel = 48
	// maxBits bounds the information in the labels that the domain's owner does
	// not choose, estimated from the frequency of characters. A GUID has about
	// 130 bits, a full label of base32 about 290.
	maxBits = 200
	// manyAgents multiplies the rates where one resolver asks for all agents.
	manyAgents = 20

	// memory is for how long a name counts as asked for lately, at least; after
	// that time a rested bucket is full again, so nothing is lost by forgetting.
	memory = namesBurst / namesPerSecond * time.Second
	// maxTracked bounds each table, whatever sources do.
	maxTracked = 1 << 14

	// limitShards is in how many parts sources are counted, so that they seldom wait for
	// each other.
	limitShards = 16
)

// limits counts what sources ask.
type limits struct {
	seed   maphash.Seed
	shards [limitShards]limitShard
}

// limitShard counts what some of the sources ask.
type limitShard struct {
	mu      sync.Mutex
	factor  float64
	buckets aging[bucketKey, bucket]
	names   aging[nameKey, struct{}]
	pending map[netip.Addr]int
}

type bucketKey struct {
	src  netip.Addr
	zone string // empty: all questions
}

type nameKey struct {
	src  netip.Addr
	name string
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimits(shared bool) *limits {
	l := &limits{seed: maphash.MakeSeed()}
	for i := range l.shards {
		s := &l.shards[i]
		s.factor, s.pending = 1, map[netip.Addr]int{}
		if shared {
			s.factor = manyAgents
		}
	}
	return l
}

// of returns the part that counts a source.
func (l *limits) of(src netip.Addr) *limitShard {
	return &l.shards[maphash.Comparable(l.seed, src)%limitShards]
}

// begin notes that a question of a source goes upstream, unless too many are there.
func (s *limitShard) begin(src netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[src] >= maxPending*int(s.factor) {
		return false
	}
	s.pending[src]++
	return true
}

// end notes that it came back.
func (s *limitShard) end(src netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[src]--; s.pending[src] == 0 {
		delete(s.pending, src)
	}
}

// question takes one question off a source's allowance.
func (s *limitShard) question(src netip.Addr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeLocked(bucketKey{src: src}, questionsPerSecond, questionsBurst, now)
}

func (s *limitShard) takeLocked(k bucketKey, rate, burst float64, now time.Time) bool {
	rate, burst = rate*s.factor, burst*s.factor
	b, ok := s.buckets.get(k, now)
	if ok {
		b.tokens = min(burst, b.tokens+max(0, now.Sub(b.at).Seconds())*rate)
	} else {
		b.tokens = burst
	}
	b.at = now
	ok = b.tokens >= 1
	if ok {
		b.tokens--
	}
	return s.buckets.put(k, b, now) && ok
}

// name judges a permitted name as a carrier of data. It returns what is wrong with
// it, or nothing.
func (s *limitShard) name(src netip.Addr, name string, now time.Time) string {
	domain, zone := registrable(name)
	below := strings.TrimSuffix(strings.TrimSuffix(name, domain), ".")
	for label := range strings.SplitSeq(below, ".") {
		if len(label) > maxLabel {
			return "a label is too long"
		}
	}
	if bits(below) > maxBits {
		return "the name holds too much information"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := nameKey{src, name}
	if _, ok := s.names.get(k, now); !ok && !s.takeLocked(bucketKey{src, zone}, namesPerSecond, namesBurst, now) {
		return "too many different names below " + zone
	}
	if !s.names.put(k, struct{}{}, now) {
		return "too many different names"
	}
	return ""
}

// registrable returns the part of a name that somebody registered, the name itself if it is
// a public suffix, and the zone in which names are counted. That is the same but below the
// suffix of a private operator, as in *.servicebus.windows.net: there each name is a domain
// of its own, and one wildcard holds them all.
func registrable(name string) (domain, zone string) {
	domain, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		domain = name
	}
	suffix, icann := publicsuffix.PublicSuffix(name)
	if !icann && strings.Contains(suffix, ".") {
		return domain, suffix
	}
	return domain, domain
}

// bits estimates the information of a text: its length times the Shannon entropy
// of its characters.
func bits(s string) float64 {
	var count [256]uint8 // a name has at most 253
	for i := range len(s) {
		count[s[i]]++
	}
	sum := 0.0
	for _, n := range count {
		if n > 0 {
			sum -= float64(n) * math.Log2(float64(n)/float64(len(s)))
		}
	}
	return sum
}

// aging is a map that forgets what was not put for a while, and holds no more than
// maxTracked entries twice: the young generation becomes the old one from time to
// time, and the old one is dropped.
type aging[K comparable, V any] struct {
	young, old map[K]V
	since      time.Time
}

func (a *aging[K, V]) turn(now time.Time) {
	if a.young == nil || now.Sub(a.since) >= memory {
		a.young, a.old, a.since = map[K]V{}, a.young, now
	}
}

func (a *aging[K, V]) get(k K, now time.Time) (V, bool) {
	a.turn(now)
	if v, ok := a.young[k]; ok {
		return v, true
	}
	v, ok := a.old[k]
	return v, ok
}

// put reports false where the map is full: then nobody new gets in until it ages.
func (a *aging[K, V]) put(k K, v V, now time.Time) bool {
	a.turn(now)
	if _, ok := a.young[k]; !ok && len(a.young) >= maxTracked {
		return false
	}
	a.young[k] = v
	return true
}
