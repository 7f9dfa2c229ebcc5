package pin

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	pins "github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const agent = "10.20.1.4"

// newRecentRig has a name asked for twice whose answer lasts a minute.
func newRecentRig(t *testing.T) *rig {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	r.up.zone["api.example.org"] = msg("api.example.org. 62 IN CNAME b.example.net.", "b.example.net. 62 IN A 93.184.216.34")
	r.query(t, agent, "api.example.org", dns.TypeA) // pinned
	r.query(t, agent, "api.example.org", dns.TypeA) // and remembered
	return r
}

// TestGivenAgain: within its TTL an answer is given again without asking below, in the spelling
// of who asks, and its TTL counts down.
func TestGivenAgain(t *testing.T) {
	r := newRecentRig(t)
	for _, step := range []struct {
		after time.Duration
		ttl   int
		asked int
	}{
		{0, 60, 2}, {4 * time.Second, 58, 2}, {3 * time.Second, 55, 2},
		{time.Second, 60, 3}, // its pin is worth a renewal
		{0, 60, 3},
		{-time.Hour, 60, 4}, // a clock that was set back
	} {
		r.clock = r.clock.Add(step.after)
		m := r.query(t, agent, "API.example.org", dns.TypeA)
		want := []string{fmt.Sprintf("API.example.org. %d IN CNAME b.example.net.", step.ttl), fmt.Sprintf("b.example.net. %d IN A 93.184.216.34", step.ttl)}
		if got := answers(m); !slices.Equal(got, want) || r.up.count() != step.asked {
			t.Errorf("after %v: %q, %d asked; want %q, %d", step.after, got, r.up.count(), want, step.asked)
		}
		if last := r.log.all[len(r.log.all)-1]; last.Host != "api.example.org" || last.DNS == nil || last.Pin == nil || last.Time != r.clock {
			t.Errorf("record %+v", last)
		}
	}
}

// TestNotGivenAgain: what another source was told, what the ruleset in force did not judge, what
// is no longer pinned, ends too soon or is not whole goes the whole way.
func TestNotGivenAgain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*rig)
		src    string
		ask    string
		rcode  int
		asked  int
	}{
		{"the same", func(*rig) {}, agent, "api.example.org", dns.RcodeSuccess, 0},
		{"another source", func(*rig) {}, "10.20.1.5", "api.example.org", dns.RcodeSuccess, 1},
		{"no agent", func(*rig) {}, "10.99.0.1", "api.example.org", dns.RcodeNameError, 0},
		{"no ruleset", func(r *rig) { r.Rules = func() Rules { return nil } }, agent, "api.example.org", dns.RcodeServerFailure, 0},
		{"a ruleset that refuses it", func(r *rig) {
			refuses := compile(t, strings.Replace(ruleset, "fqdns: [api.example.org, ", "fqdns: [", 1), environment())
			r.Rules = func() Rules { return refuses }
		}, agent, "api.example.org", dns.RcodeNameError, 0},
		{"the same ruleset compiled again", func(r *rig) {
			again := compile(t, ruleset, environment())
			r.Rules = func() Rules { return again }
		}, agent, "api.example.org", dns.RcodeSuccess, 1},
		{"its pins are gone", func(r *rig) { r.Pins = pins.New(pins.Options{Now: r.Now}) }, agent, "api.example.org", dns.RcodeSuccess, 1},
		{"the audit refuses", func(r *rig) { r.log.err = errors.New("disk full") }, agent, "api.example.org", dns.RcodeServerFailure, 0},
		{"it ends too soon", func(r *rig) {
			r.up.zone["short.wild.example.org"] = msg("short.wild.example.org. 4 IN A 93.184.216.34")
			r.query(t, agent, "short.wild.example.org", dns.TypeA)
			r.query(t, agent, "short.wild.example.org", dns.TypeA)
		}, agent, "short.wild.example.org", dns.RcodeSuccess, 1},
		{"an address was left out", func(r *rig) {
			r.query(t, agent, "half.wild.example.org", dns.TypeA)
			r.query(t, agent, "half.wild.example.org", dns.TypeA)
		}, agent, "half.wild.example.org", dns.RcodeSuccess, 1},
		{"no room for its pins", func(r *rig) {
			r.Pins = pins.New(pins.Options{Now: r.Now, Sources: 1})
			r.query(t, "10.20.1.7", "api.example.org", dns.TypeA) // the one source there is room for
		}, agent, "api.example.org", dns.RcodeServerFailure, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRecentRig(t)
			tc.change(r)
			before := r.up.count()
			m := r.query(t, tc.src, tc.ask, dns.TypeA)
			if m.Rcode != tc.rcode || r.up.count()-before != tc.asked {
				t.Errorf("%s %s, %d asked", dns.RcodeToString[m.Rcode], ede(m), r.up.count()-before)
			}
		})
	}
}

// TestGivenAgainCounts: an answer that costs little is no way round a source's allowance.
func TestGivenAgainCounts(t *testing.T) {
	r := newRecentRig(t)
	for i := range questionsBurst - 2 {
		if m := r.query(t, agent, "api.example.org", dns.TypeA); len(m.Answer) == 0 {
			t.Fatalf("question %d: %s", i, ede(m))
		}
	}
	if m := r.query(t, agent, "api.example.org", dns.TypeA); ede(m) != "0 rule=invariant; reason=overload" {
		t.Errorf("%s %s", dns.RcodeToString[m.Rcode], ede(m))
	}
	if n := len(r.log.all); n != questionsBurst+1 {
		t.Errorf("%d records", n)
	}
}

// TestRecentIsBounded: what is remembered of many takes the places there are, and the latest of
// each is found.
func TestRecentIsBounded(t *testing.T) {
	table, rules, now := newRecent(), Rules(compile(t, ruleset, environment())), time.Unix(1e9, 0)
	for i := range 3 * recentSets {
		k := recentKey{netip.MustParseAddr(agent), fmt.Sprintf("n%d.example.org", i)}
		table.put(k, &answer{rules: rules, digest: k.name, at: now, ends: now.Add(time.Minute)})
		if a := table.get(k, rules, now); a == nil || a.digest != k.name || !a.again {
			t.Fatalf("%s: %+v", k.name, a)
		}
	}
}

// TestGivenAgainWhileReloading: no answer of a ruleset comes after one that refuses is in force.
func TestGivenAgainWhileReloading(t *testing.T) {
	permits, refuses := compile(t, ruleset, environment()), compile(t, strings.Replace(ruleset, "fqdns: [api.example.org, ", "fqdns: [", 1), environment())
	r := newRecentRig(t)
	var inForce atomic.Pointer[policy.Ruleset]
	r.Rules = func() Rules { return inForce.Load() }
	for range 20 {
		inForce.Store(permits)
		var askers sync.WaitGroup
		for i := range 4 {
			askers.Go(func() {
				for range 5 {
					r.query(t, fmt.Sprintf("10.20.1.%d", 10+i%2), "api.example.org", dns.TypeA)
				}
			})
		}
		inForce.Store(refuses)
		for i := range 2 {
			if m := r.query(t, fmt.Sprintf("10.20.1.%d", 10+i), "api.example.org", dns.TypeA); m.Rcode != dns.RcodeNameError {
				t.Fatalf("%s %v", dns.RcodeToString[m.Rcode], answers(m))
			}
		}
		askers.Wait()
	}
}
