package pin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	pins "github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// In shared scope one resolver asks for all; its gate keys hold for every agent.
func TestShared(t *testing.T) {
	env := environment()
	env.PinScope, env.DNSClients = policy.ScopeShared, []netip.Prefix{netip.MustParsePrefix("10.30.0.4/32")}
	r := newRig(t, compile(t, ruleset, env), policy.ScopeShared)
	r.up.zone = zone()
	if m := r.query(t, "10.30.0.4", "api.example.org", dns.TypeA); len(m.Answer) != 2 {
		t.Fatalf("answer %v", m)
	}
	dst := netip.MustParseAddr("93.184.216.34")
	if r.Pins.Lookup(netip.MustParseAddr("10.20.1.77"), dst, "api.example.org").State != policy.PinMatch {
		t.Error("the pin does not hold for every agent")
	}
	if r.gate.Life(pins.GateKey{Dst: dst, Proto: policy.TCP, Port: 443}) == 0 {
		t.Error("the gate key does not hold for every agent")
	}
	if m := r.query(t, "10.30.0.4", "secret.example.org", dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("a name of one agent is not resolved for the resolver of all: %v", m)
	}
	if m := r.query(t, "10.30.0.4", "evil.example.com", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("a name of no agent is resolved: %v", m)
	}
	if m := r.query(t, "10.99.0.4", "api.example.org", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("a stranger was answered: %v", m)
	}
}

func TestAsk(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	direct := &upstream{zone: zone()}
	r.Upstream = direct
	src, dst := netip.MustParseAddr("10.20.1.4"), netip.MustParseAddr("93.184.216.34")
	if err := r.Ask(context.Background(), src, "api.example.org"); err != nil {
		t.Fatal(err)
	}
	if r.up.count() != 0 || direct.count() != 1 {
		t.Error("asked through the cache")
	}
	if r.Pins.Lookup(src, dst, "api.example.org").State != policy.PinMatch {
		t.Error("not pinned")
	}
	for name, want := range map[string]string{
		"evil.example.com":        "evil.example.com is refused to 10.20.1.4: rule=deny-internet; reason=rule",
		"rebind.wild.example.org": "rebind.wild.example.org is refused to 10.20.1.4: rule=allow-tools; reason=rebind",
		"gone.wild.example.org":   "gone.wild.example.org has no address: NXDOMAIN",
		"dead.wild.example.org":   "dead.wild.example.org has no address: SERVFAIL upstream: no route to host",
		"not a name":              `"not a name" is not a host name`,
	} {
		if err := r.Ask(context.Background(), src, name); err == nil || strings.TrimSpace(err.Error()) != want {
			t.Errorf("Ask(%s): %v, want %s", name, err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	block := make(chan struct{})
	defer close(block)
	r.Upstream = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) { <-block; return 0, nil })
	if err := r.Ask(ctx, src, "api.example.org"); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up got %v", err)
	}
}

func TestReady(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	if !r.Ready() {
		t.Error("not ready with a ruleset")
	}
	r.Rules = func() Rules { return nil }
	if r.Ready() {
		t.Error("ready without a ruleset")
	}
}

func TestConcurrent(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for range 50 {
				if m := r.query(t, fmt.Sprintf("10.20.1.%d", w+1), "api.example.org", dns.TypeA); len(m.Answer) != 2 {
					t.Errorf("answer %v", m.Answer)
				}
			}
		})
	}
	wg.Wait()
}

// TestAskIsNotLimited: what bounds agents does not bound the gateway's own questions on their
// behalf, or an agent with many names would lose its stale pins.
func TestAskIsNotLimited(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	src := netip.MustParseAddr("10.20.1.4")
	for i := range 2 * namesBurst {
		name := fmt.Sprintf("n%d.wild.example.org", i)
		r.up.zone[name] = msg(name + ". 60 IN A 93.184.216.34")
		if err := r.Ask(context.Background(), src, name); err != nil {
			t.Fatal(err)
		}
	}
}
