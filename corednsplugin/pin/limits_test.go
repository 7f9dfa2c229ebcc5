package pin

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestNameAsCarrier(t *testing.T) {
	agent, now := netip.MustParseAddr("10.20.1.4"), time.Unix(1e9, 0)
	for name, want := range map[string]string{
		"api.github.com":                                             "",
		"westeurope.data.mcr.microsoft.com":                          "",
		"gsm1234567890abcdefeh.servicebus.windows.net":               "",
		"0f8fad5b-d9cb-469f-a165-70867728950e.identity.azure.net":    "", // a GUID
		"da39a3ee5e6b4b0d3255bfef95601890afd80709.cache.example.com": "", // a SHA-1
		"www.com":                                "",
		"com":                                    "",
		strings.Repeat("a", 49) + ".example.com": "a label is too long",
		"nbswy3dpeb3w64tmmqqho33snrsca33omuqhk43fmqxg4zlu.example.com":                       "the name holds too much information",
		"nbswy3dpeb3w64tmmqqho33s.nrsca33omuqhk43fmqxg4zlu.example.com":                      "the name holds too much information",
		"0f8fad5b-d9cb-469f-a165.70867728950e7c9e.66797425.40de944be07fc1f90ae7.example.com": "the name holds too much information",
	} {
		if got := newLimits(false).of(agent).name(agent, name, now); got != want {
			t.Errorf("%s: %q, want %q (%.0f bits)", name, got, want, bits(name))
		}
	}
}

// TestNewNames: sixty new names at once, then one a second; known names and other
// domains and sources do not suffer.
func TestNewNames(t *testing.T) {
	agent, other := netip.MustParseAddr("10.20.1.4"), netip.MustParseAddr("10.20.1.5")
	l, now := newLimits(false), time.Unix(1e9, 0)
	ask := func(src netip.Addr, format string, i int) bool {
		return l.of(src).name(src, fmt.Sprintf(format, i), now) == ""
	}
	for i := range namesBurst {
		if !ask(agent, "n%d.wild.example.org", i) {
			t.Fatalf("name %d is refused", i)
		}
	}
	if ask(agent, "n%d.wild.example.org", namesBurst) {
		t.Error("one name too many passes")
	}
	if !ask(agent, "n%d.wild.example.org", 0) {
		t.Error("a known name is refused")
	}
	if !ask(agent, "n%d.example.com", 0) || !ask(other, "n%d.wild.example.org", 0) {
		t.Error("another domain or source suffers")
	}
	now = now.Add(2 * time.Second)
	for i, want := range []bool{true, true, false} {
		if got := ask(agent, "later%d.wild.example.org", i); got != want {
			t.Errorf("new name %d after two seconds: %v", i, got)
		}
	}
	// Rotation of the tables gives nothing away.
	given := 0
	for range 600 {
		now = now.Add(time.Second)
		for k := range 3 {
			if ask(agent, "flood%d.wild.example.org", given*3+k+int(now.Unix())*10) {
				given++
			}
		}
	}
	if given > 600 {
		t.Errorf("%d new names in 600 seconds", given)
	}
}

// TestNewNamesBelowPrivateSuffix: where everybody's names are registered ones, a wildcard
// over them is no way round the count.
func TestNewNamesBelowPrivateSuffix(t *testing.T) {
	agent := netip.MustParseAddr("10.20.1.4")
	l, now := newLimits(false), time.Unix(1e9, 0)
	for i := range namesBurst + 1 {
		why := l.of(agent).name(agent, fmt.Sprintf("gsm%deh.servicebus.windows.net", i), now)
		if (why == "") != (i < namesBurst) {
			t.Fatalf("name %d: %q", i, why)
		}
	}
	if why := l.of(agent).name(agent, "api.github.com", now); why != "" {
		t.Error("another zone suffers:", why)
	}
}

// TestPending: a source whose questions are not answered leaves room for the others.
func TestPending(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	arrived, release := make(chan struct{}), make(chan struct{})
	r.Next = plugin.HandlerFunc(func(ctx context.Context, w dns.ResponseWriter, m *dns.Msg) (int, error) {
		arrived <- struct{}{}
		<-release
		return r.up.ServeDNS(ctx, w, m)
	})
	var slow sync.WaitGroup
	for range maxPending {
		slow.Go(func() { r.query(t, "10.20.1.4", "api.example.org", dns.TypeA) })
		<-arrived
	}
	m := r.query(t, "10.20.1.4", "api.example.org", dns.TypeA)
	if m.Rcode != dns.RcodeServerFailure || ede(m) != "0 rule=invariant; reason=overload" {
		t.Errorf("%s %s", dns.RcodeToString[m.Rcode], ede(m))
	}
	other := make(chan *dns.Msg)
	go func() { other <- r.query(t, "10.20.1.5", "api.example.org", dns.TypeA) }()
	<-arrived
	close(release)
	slow.Wait()
	if m := <-other; len(m.Answer) == 0 {
		t.Error("another agent suffers")
	}
	go func() { other <- r.query(t, "10.20.1.4", "api.example.org", dns.TypeA) }()
	<-arrived
	if m := <-other; len(m.Answer) == 0 {
		t.Error("still refused when all were answered")
	}
}

func TestQuestionRate(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	for i := range questionsBurst {
		if m := r.query(t, "10.20.1.4", "evil.example.com", dns.TypeA); m.Rcode != dns.RcodeNameError {
			t.Fatalf("question %d: %v", i, m)
		}
	}
	m := r.query(t, "10.20.1.4", "api.example.org", dns.TypeA)
	if m.Rcode != dns.RcodeServerFailure || ede(m) != "0 rule=invariant; reason=overload" {
		t.Errorf("%s %s", dns.RcodeToString[m.Rcode], ede(m))
	}
	if last := r.log.all[len(r.log.all)-1]; last.Host != "" || last.Decision.Reason != policy.ReasonOverload {
		t.Errorf("record %+v", last)
	}
	if m := r.query(t, "10.20.1.5", "api.example.org", dns.TypeA); len(m.Answer) == 0 {
		t.Error("another agent suffers")
	}
	r.clock = r.clock.Add(time.Second)
	if m := r.query(t, "10.20.1.4", "api.example.org", dns.TypeA); len(m.Answer) == 0 {
		t.Error("still refused a second later")
	}
}

func TestTunnel(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	m := r.query(t, "10.20.1.4", strings.Repeat("a", 63)+".wild.example.org", dns.TypeA)
	if m.Rcode != dns.RcodeNameError || ede(m) != "15 rule=invariant; reason=tunnelling" || r.up.count() != 0 {
		t.Errorf("%s %s, %d upstream", dns.RcodeToString[m.Rcode], ede(m), r.up.count())
	}
}

func TestAgingIsBounded(t *testing.T) {
	var a aging[int, int]
	now := time.Unix(1e9, 0)
	for i := range maxTracked {
		if !a.put(i, i, now) {
			t.Fatalf("full after %d", i)
		}
	}
	if a.put(maxTracked, 0, now) {
		t.Error("no bound")
	}
	if !a.put(0, 1, now) {
		t.Error("a full table does not take what it holds")
	}
	now = now.Add(memory)
	if v, ok := a.get(7, now); !ok || v != 7 {
		t.Error("forgotten after one turn")
	}
	if _, ok := a.get(7, now.Add(memory)); ok {
		t.Error("not forgotten after two turns")
	}
}
