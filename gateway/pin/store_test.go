package pin

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// clock is a time that tests move by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

var (
	agent   = netip.MustParseAddr("10.20.1.4")
	other   = netip.MustParseAddr("10.20.1.5")
	github  = netip.MustParseAddr("140.82.121.6")
	github2 = netip.MustParseAddr("140.82.121.5")
)

func one(addr netip.Addr, ttl time.Duration) []Answer {
	return []Answer{{Addr: addr, TTL: ttl, Bound: "api.github.com"}}
}

func mustAdd(t *testing.T, s *Store, src netip.Addr, name string, a []Answer) {
	t.Helper()
	if err := s.Add(src, name, a); err != nil {
		t.Fatalf("Add(%s, %s): %v", src, name, err)
	}
}

// TestAges walks a pin through its life, for TTLs below and above the floor.
func TestAges(t *testing.T) {
	for _, tc := range []struct {
		ttl, age time.Duration
		state    policy.PinState
		stale    bool
	}{
		{0, 0, policy.PinMatch, false},
		{5 * time.Second, 11*time.Minute - 1, policy.PinMatch, false},
		{5 * time.Second, 11 * time.Minute, policy.PinMatch, true},
		{5 * time.Second, 24*time.Hour + 11*time.Minute - 1, policy.PinMatch, true},
		{5 * time.Second, 24*time.Hour + 11*time.Minute, policy.PinNone, false},
		{time.Hour, 70*time.Minute - 1, policy.PinMatch, false},
		{time.Hour, 70 * time.Minute, policy.PinMatch, true},
		{time.Hour, 25*time.Hour + 10*time.Minute, policy.PinNone, false},
		{365 * 24 * time.Hour, 24*time.Hour + 10*time.Minute, policy.PinMatch, true}, // capped at a day
		{-time.Hour, 11 * time.Minute, policy.PinMatch, true},
	} {
		t.Run(fmt.Sprintf("ttl %s after %s", tc.ttl, tc.age), func(t *testing.T) {
			c := newClock()
			s := New(Options{Now: c.now})
			mustAdd(t, s, agent, "api.github.com", one(github, tc.ttl))
			c.advance(tc.age)
			m := s.Lookup(agent, github, "api.github.com")
			if m.State != tc.state || m.Stale != tc.stale {
				t.Errorf("state %v stale %v, want %v %v", m.State, m.Stale, tc.state, tc.stale)
			}
			if got := len(s.Addrs(agent, "api.github.com")) == 1; got != (tc.state == policy.PinMatch && !tc.stale) {
				t.Errorf("Addrs gives the address: %v", got)
			}
		})
	}
}

func TestLookupStates(t *testing.T) {
	s := New(Options{})
	mustAdd(t, s, agent, "api.github.com", one(github, time.Minute))
	mustAdd(t, s, agent, "github.com", one(github, time.Minute))
	for _, tc := range []struct {
		src, addr netip.Addr
		name      string
		want      policy.PinState
	}{
		{agent, github, "api.github.com", policy.PinMatch},
		{agent, netip.MustParseAddr("::ffff:140.82.121.6"), "github.com", policy.PinMatch},
		{netip.MustParseAddr("::ffff:10.20.1.4"), github, "github.com", policy.PinMatch},
		{agent, github, "evil.example", policy.PinOther},
		{agent, github, "", policy.PinOther},
		{agent, github2, "github.com", policy.PinNone},
		{other, github, "github.com", policy.PinNone}, // another agent's pin
		{netip.Addr{}, github, "github.com", policy.PinNone},
	} {
		if got := s.Lookup(tc.src, tc.addr, tc.name).State; got != tc.want {
			t.Errorf("Lookup(%s, %s, %q) = %v, want %v", tc.src, tc.addr, tc.name, got, tc.want)
		}
	}
	names := s.Names(agent, github)
	slices.Sort(names)
	if !slices.Equal(names, []string{"api.github.com", "github.com"}) {
		t.Errorf("Names = %q", names)
	}
	if got := s.Lookup(agent, github, "github.com").Entry; got.Name != "github.com" || got.Addr != github || got.Source != agent || got.TTL != time.Minute {
		t.Errorf("evidence %+v", got)
	}
}

func TestScopes(t *testing.T) {
	for scope, want := range map[policy.PinScope]policy.PinState{
		"": policy.PinNone, policy.ScopeSource: policy.PinNone,
		policy.ScopeShared: policy.PinMatch, policy.ScopeVerify: policy.PinMatch,
	} {
		s := New(Options{Scope: scope})
		mustAdd(t, s, agent, "api.github.com", one(github, time.Minute))
		if got := s.Lookup(other, github, "api.github.com").State; got != want {
			t.Errorf("scope %q: another agent sees %v, want %v", scope, got, want)
		}
	}
}

// TestRenewal: an expiry only ever moves forward, and small moves are no writes.
func TestRenewal(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now})
	const name = "api.github.com"
	mustAdd(t, s, agent, name, one(github, time.Hour))
	first := s.Lookup(agent, github, name).Entry

	held := func(ttl time.Duration) bool {
		h, err := s.Held(agent, name, one(github, ttl))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	c.advance(10 * time.Second)
	if !held(time.Hour - 10*time.Second) {
		t.Error("a cached answer with what is left of its TTL is worth a write")
	}
	if held(time.Hour) {
		t.Error("a renewal by ten seconds is not worth a write")
	}
	mustAdd(t, s, agent, name, one(github, time.Minute))
	if got := s.Lookup(agent, github, name).Entry; got != first {
		t.Errorf("a shorter answer changed the pin from %v to %v", first, got)
	}
	mustAdd(t, s, agent, name, one(github, time.Hour))
	if got := s.Lookup(agent, github, name).Entry; !got.Until.Equal(first.Until.Add(10 * time.Second)) {
		t.Errorf("renewed until %v, want ten seconds after %v", got.Until, first.Until)
	}
	if h, _ := s.Held(agent, name, append(one(github, time.Minute), one(github2, time.Minute)...)); h {
		t.Error("an answer with a new address counts as held")
	}
	if h, _ := s.Held(other, name, one(github, time.Minute)); h {
		t.Error("another source's pin counts as held")
	}
}

func addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{93, byte(i >> 16), byte(i >> 8), byte(i)})
}

func TestQuotas(t *testing.T) {
	s := New(Options{PerSource: 3, Sources: 2, Total: 5})
	batch := func(from, n int) (all []Answer) {
		for i := range n {
			all = append(all, one(addr(from+i), 0)...)
		}
		return all
	}
	mustAdd(t, s, agent, "a.example", batch(0, 2))
	if err := s.Add(agent, "b.example", batch(10, 2)); !errors.Is(err, ErrQuota) {
		t.Fatalf("a fourth pin of one source: %v", err)
	}
	if s.Lookup(agent, addr(10), "b.example").State != policy.PinNone {
		t.Error("half of a refused answer was pinned")
	}
	mustAdd(t, s, agent, "a.example", batch(0, 2)) // renewals need no room
	mustAdd(t, s, agent, "b.example", batch(10, 1))
	if err := s.Add(other, "c.example", batch(20, 3)); !errors.Is(err, ErrQuota) {
		t.Errorf("a sixth pin in all: %v", err)
	}
	mustAdd(t, s, other, "c.example", batch(20, 2))
	if err := s.Add(github, "c.example", batch(20, 1)); !errors.Is(err, ErrQuota) {
		t.Errorf("a third source: %v", err)
	}
}

func TestStaleMakesRoom(t *testing.T) {
	c := newClock()
	s := New(Options{PerSource: 3, Now: c.now})
	for i := range 3 {
		mustAdd(t, s, agent, "a.example", one(addr(i), 0))
	}
	if err := s.Add(agent, "b.example", one(addr(9), 0)); !errors.Is(err, ErrQuota) {
		t.Fatalf("got %v", err)
	}
	c.advance(11 * time.Minute)
	mustAdd(t, s, agent, "b.example", one(addr(9), 0))
	if _, pins := s.Len(); pins != 1 {
		t.Errorf("%d pins, want the fresh one alone", pins)
	}
	if got := s.Lookup(agent, addr(9), "b.example").State; got != policy.PinMatch {
		t.Errorf("the fresh pin is %v", got)
	}
}

// TestBoundMoves: the bound on one source follows the ruleset; what is held beyond it stays.
func TestBoundMoves(t *testing.T) {
	s := New(Options{PerSource: 3})
	for i := range 3 {
		mustAdd(t, s, agent, "a.example", one(addr(i), 0))
	}
	s.SetPerSource(2)
	mustAdd(t, s, agent, "a.example", one(addr(2), 0))
	if err := s.Add(agent, "b.example", one(addr(9), 0)); !errors.Is(err, ErrQuota) {
		t.Errorf("a pin beyond a lowered bound: %v", err)
	}
	s.SetPerSource(4)
	mustAdd(t, s, agent, "b.example", one(addr(9), 0))
}

// TestRoomIsMadeInTheGate: the keys of a pin that made room go too, unless another pin needs
// them; else a source could fill the gate for all with keys of pins that it no longer has.
func TestRoomIsMadeInTheGate(t *testing.T) {
	c, gate := newClock(), &FakeGate{}
	s := New(Options{PerSource: 2, Now: c.now})
	ports := func(netip.Addr, netip.Addr, string) []policy.ProtoPort {
		return []policy.ProtoPort{{Proto: policy.TCP, Port: 443}}
	}
	admit := func(name string, at netip.Addr) {
		t.Helper()
		if err := gate.Admit(t.Context(), Keys(nil, agent, name, at, ports), s.Life(0)); err != nil {
			t.Fatal(err)
		}
		mustAdd(t, s, agent, name, one(at, 0))
	}
	admit("a.example", addr(1))
	admit("b.example", addr(2))
	c.advance(11 * time.Minute)
	admit("c.example", addr(2)) // both make room; b's address is c's as well
	if err := s.Expire(t.Context(), gate, ports); err != nil {
		t.Fatal(err)
	}
	key := GateKey{Src: agent, Dst: addr(2), Proto: policy.TCP, Port: 443}
	if gate.Len() != 1 || gate.Life(key) == 0 {
		t.Errorf("%d keys, one of them for what is pinned: %t", gate.Len(), gate.Life(key) != 0)
	}
}

func TestCrowdedAddress(t *testing.T) {
	s := New(Options{})
	for i := range maxNamesPerAddr {
		mustAdd(t, s, agent, fmt.Sprintf("n%d.example", i), one(github, 0))
	}
	if err := s.Add(agent, "one-more.example", one(github, 0)); !errors.Is(err, ErrQuota) {
		t.Errorf("name %d of one address: %v", maxNamesPerAddr+1, err)
	}
}

func TestSweep(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now, Idle: time.Hour})
	mustAdd(t, s, agent, "a.example", one(addr(1), 0))
	mustAdd(t, s, other, "a.example", one(addr(1), 0))
	c.advance(59 * time.Minute)
	s.Touch(agent)
	c.advance(time.Minute)
	idle := s.Sweep()
	if len(idle) != 1 || idle[0].Source != other || idle[0].Addr != addr(1) {
		t.Fatalf("forgotten: %v, want the pin of %s", idle, other)
	}
	// A live flow keeps its source alive, never the pin.
	for range 24 {
		c.advance(59 * time.Minute)
		s.Touch(agent)
		if idle := s.Sweep(); len(idle) != 0 {
			t.Fatalf("forgotten although active: %v", idle)
		}
	}
	c.advance(time.Hour - 1)
	s.Touch(agent)
	s.Sweep()
	if sources, pins := s.Len(); sources != 0 || pins != 0 {
		t.Errorf("%d sources with %d pins after a day", sources, pins)
	}
}

// model is the store as one would write it without thought for speed.
type model struct {
	c    *clock
	pins map[[3]string]Entry
}

func (m *model) lookup(src, addr netip.Addr, name string) (policy.PinState, bool) {
	state := policy.PinNone
	for _, e := range m.pins {
		if e.Source != src || e.Addr != addr || !m.c.now().Before(e.Gone) {
			continue
		}
		if e.Name == name {
			return policy.PinMatch, !m.c.now().Before(e.Until)
		}
		state = policy.PinOther
	}
	return state, false
}

// TestModel compares the store with the model over random histories.
func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := newClock()
		s := New(Options{Now: c.now, Idle: 1000 * time.Hour})
		m := &model{c: c, pins: map[[3]string]Entry{}}
		srcs := []netip.Addr{agent, other}
		for range 2000 {
			src, a, name := srcs[rng.IntN(2)], addr(rng.IntN(6)), fmt.Sprintf("n%d.example", rng.IntN(5))
			switch rng.IntN(4) {
			case 0:
				ttl := time.Duration(rng.IntN(7200)) * time.Second
				mustAdd(t, s, src, name, one(a, ttl))
				k := [3]string{src.String(), a.String(), name}
				until := c.now().Add(max(ttl, DefaultFloor) + DefaultGrace)
				if old, ok := m.pins[k]; !ok || until.After(old.Until.Add(slack)) {
					m.pins[k] = Entry{Source: src, Name: name, Addr: a, Until: until, Gone: until.Add(DefaultLate)}
				}
			case 1:
				c.advance(time.Duration(rng.IntN(3600)) * time.Second)
			case 2:
				s.Sweep()
			case 3:
				got := s.Lookup(src, a, name)
				state, stale := m.lookup(src, a, name)
				if got.State != state || got.Stale != stale {
					t.Fatalf("seed %d: Lookup(%s, %s, %s) = %v %v, want %v %v", seed, src, a, name, got.State, got.Stale, state, stale)
				}
			}
		}
		n := 0
		for range s.Entries() {
			n++
		}
		for k, e := range m.pins {
			if !c.now().Before(e.Gone) {
				delete(m.pins, k)
			}
		}
		if n != len(m.pins) {
			t.Errorf("seed %d: %d entries, want %d", seed, n, len(m.pins))
		}
	}
}

// TestConcurrent is for the race detector; the counts must agree in the end.
func TestConcurrent(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			src := addr(1000 + w%2)
			for i := range 500 {
				name := fmt.Sprintf("n%d.example", i%20)
				if err := s.Add(src, name, one(addr(i%50), time.Minute)); err != nil {
					t.Error(err)
				}
				s.Lookup(src, addr(i%50), name)
				s.Names(src, addr(i%50))
				s.Addrs(src, name)
				s.Touch(src)
				if i%100 == 0 {
					c.advance(10 * time.Minute)
					s.Sweep()
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for i := range s.shards {
		for _, so := range s.shards[i].sources {
			names := 0
			for _, head := range so.byName {
				for r := head; r != nil; r = r.sameName {
					names++
				}
			}
			if names != so.count {
				t.Errorf("%d records by name, count %d", names, so.count)
			}
			n += so.count
		}
	}
	if _, pins := s.Len(); pins != n {
		t.Errorf("Len says %d pins, there are %d", pins, n)
	}
}
