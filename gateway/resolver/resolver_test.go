package resolver

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestChain(t *testing.T) {
	r := start(t, Config{})
	for _, network := range []string{"udp", "tcp"} {
		m := r.query(t, agent, network, "alias.wild.example.org.", dns.TypeA)
		if len(m.Answer) != 3 || len(m.Ns) != 0 || len(m.Extra) != 1 {
			t.Errorf("%s: %v", network, m)
		}
		for _, rr := range m.Answer {
			if rr.Header().Ttl > 20 || rr.Header().Ttl < 5 {
				t.Errorf("%s: TTL of %v", network, rr)
			}
		}
	}
	if got := r.pinned(agent, "alias.wild.example.org"); !slices.Equal(got, []string{"93.184.216.34"}) {
		t.Errorf("pinned %v", got)
	}
	for _, name := range []string{"cdn.example.net", "edge.example.net"} {
		if got := r.config.Pins.Lookup(agent, public, name).State; got != policy.PinOther {
			t.Errorf("the alias %s is pinned: %v", name, got)
		}
	}
	if r.gate.Life(pin.GateKey{Src: agent, Dst: public, Proto: policy.TCP, Port: 443}) == 0 {
		t.Error("not in the gate")
	}
}

func TestTruncatedUpstream(t *testing.T) {
	r := start(t, Config{})
	const name = "truncated.wild.example.org."
	m := r.query(t, agent, "udp", name, dns.TypeA)
	if len(m.Answer) != 30 || m.Truncated {
		t.Errorf("%d answers, truncated %v", len(m.Answer), m.Truncated)
	}
	if r.up.count(name, "udp") != 1 || r.up.count(name, "tcp") != 1 {
		t.Errorf("asked %d times over UDP and %d over TCP", r.up.count(name, "udp"), r.up.count(name, "tcp"))
	}
	if got := len(r.pinned(agent, strings.TrimSuffix(name, "."))); got != 30 {
		t.Errorf("%d pins", got)
	}
}

// TestLyingUpstream: whatever comes back, only answers to the question are pinned.
func TestLyingUpstream(t *testing.T) {
	r := start(t, Config{})
	for name, want := range map[string]int{
		"rebind":         dns.RcodeNameError,
		"other-name":     dns.RcodeSuccess, // without an answer
		"other-question": dns.RcodeServerFailure,
		"wrong-id":       dns.RcodeServerFailure,
		"garbage":        dns.RcodeServerFailure,
		"missing":        dns.RcodeNameError,
	} {
		t.Run(name, func(t *testing.T) {
			m := r.query(t, agent, "udp", name+".wild.example.org.", dns.TypeA)
			if m.Rcode != want || len(m.Answer) != 0 {
				t.Errorf("%s, want %s; answer %v", dns.RcodeToString[m.Rcode], dns.RcodeToString[want], m.Answer)
			}
		})
	}
	if _, pins := r.config.Pins.Len(); pins != 0 || r.gate.Len() != 0 {
		t.Errorf("%d pins, %d gate keys", pins, r.gate.Len())
	}
}

func TestDeadUpstream(t *testing.T) {
	r := start(t, Config{Upstream: []netip.AddrPort{freePort(t)}})
	m := r.query(t, agent, "udp", "api.example.org.", dns.TypeA)
	if m.Rcode != dns.RcodeServerFailure || ede(m) == "" {
		t.Errorf("%v", m)
	}
	if err := r.Ask(context.Background(), agent, "api.example.org"); err == nil {
		t.Error("Ask succeeded")
	}
	if _, pins := r.config.Pins.Len(); pins != 0 || r.gate.Len() != 0 {
		t.Errorf("%d pins, %d gate keys", pins, r.gate.Len())
	}
}

// TestCache: what one agent's question put into the cache is judged and pinned for
// the next one anew.
func TestCache(t *testing.T) {
	r := start(t, Config{})
	r.query(t, agent, "udp", "api.example.org.", dns.TypeA)
	m := r.query(t, colleague, "udp", "api.example.org.", dns.TypeA)
	if len(m.Answer) != 1 || r.up.count("api.example.org.", "udp") != 1 {
		t.Errorf("%v, asked upstream %d times", m.Answer, r.up.count("api.example.org.", "udp"))
	}
	if r.config.Pins.Lookup(colleague, public, "api.example.org").State != policy.PinMatch {
		t.Error("a cached answer is not pinned")
	}
	if r.gate.Life(pin.GateKey{Src: colleague, Dst: public, Proto: policy.TCP, Port: 443}) == 0 {
		t.Error("a cached answer is not in the gate")
	}

	r.query(t, privileged, "udp", "secret.example.org.", dns.TypeA)
	m = r.query(t, agent, "udp", "secret.example.org.", dns.TypeA)
	if m.Rcode != dns.RcodeNameError || ede(m) != "rule=deny-internet; reason=rule" || len(m.Answer) != 0 {
		t.Errorf("a cached answer went to an agent that may not have it: %v", m)
	}

	// Ask passes the cache by.
	if err := r.Ask(context.Background(), agent, "api.example.org"); err != nil {
		t.Error(err)
	}
	if got := r.up.count("api.example.org.", "udp"); got != 2 {
		t.Errorf("asked upstream %d times, want twice", got)
	}
}

// TestRefusedNeverLeaves: no byte of a refused name is sent.
func TestRefusedNeverLeaves(t *testing.T) {
	r := start(t, Config{})
	before := r.up.total()
	for name, qtype := range map[string]uint16{
		"stolen-data.evil.example.": dns.TypeA, "api.example.org.": dns.TypeTXT, "x.wild.example.org.": dns.TypeNULL,
		strings.Repeat("a", 63) + ".wild.example.org.": dns.TypeA, "4.0.1.127.in-addr.arpa.": dns.TypePTR,
	} {
		if m := r.query(t, agent, "udp", name, qtype); !strings.HasPrefix(ede(m), "rule=") {
			t.Errorf("%s: %v", name, m)
		}
	}
	if got := r.up.total(); got != before {
		t.Errorf("%d questions went upstream", got-before)
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	for _, rec := range r.log.all {
		if rec.Decision.Permitted() || rec.Activity != audit.Refuse || rec.DNS == nil {
			t.Errorf("record %+v", rec)
		}
	}
}

func TestRestart(t *testing.T) {
	state := filepath.Join(t.TempDir(), "pins")
	r := start(t, Config{State: state})
	r.query(t, agent, "udp", "api.example.org.", dns.TypeA)
	r.end(t) // two servers would save to one file
	again := start(t, Config{State: state})
	if err := again.Readmit(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if again.config.Pins.Lookup(agent, public, "api.example.org").State != policy.PinMatch ||
		again.gate.Life(pin.GateKey{Src: agent, Dst: public, Proto: policy.TCP, Port: 443}) == 0 {
		t.Error("a restart lost the pin or its gate key")
	}
	again.end(t)

	if err := os.WriteFile(state, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	var reported []error
	empty := start(t, Config{State: state, Report: func(err error) { reported = append(reported, err) }})
	if _, pins := empty.config.Pins.Len(); pins != 0 || len(reported) != 1 || !strings.Contains(reported[0].Error(), state) {
		t.Errorf("%d pins from a damaged file, reported %v", pins, reported)
	}
}

func TestNotReady(t *testing.T) {
	r := start(t, Config{Rules: func() *policy.Ruleset { return nil }})
	m := r.query(t, agent, "udp", "api.example.org.", dns.TypeA)
	if m.Rcode != dns.RcodeServerFailure || ede(m) != "rule=invariant; reason=not-ready" {
		t.Errorf("%v", m)
	}
	if err := r.Readmit(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

// TestVerify: exact names are resolved ahead, for every agent.
func TestVerify(t *testing.T) {
	rules := compile(t, policy.ScopeVerify)
	written := make(chan struct{}, 16)
	r := &rig{up: newUpstream(t), gate: &pin.FakeGate{}, log: &recorder{}}
	var err error
	r.Server, err = Start(Config{
		Listen: freePort(t), Upstream: []netip.AddrPort{r.up.addr}, Agents: []netip.Prefix{netip.MustParsePrefix("127.1.0.0/24")},
		Rules: func() *policy.Ruleset { return rules }, Pins: pin.New(pin.Options{Scope: policy.ScopeVerify}), Gate: r.gate,
		Audit:  notify{r.log, written}, // a record is written after the pin
		Report: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		<-written
	}
	r.query(t, agent, "udp", "invalid.", dns.TypeA)
	r.query(t, agent, "tcp", "invalid.", dns.TypeA)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"api.example.org", "mcp.example.org", "secret.example.org"} {
		if r.config.Pins.Lookup(agent, public, name).State != policy.PinMatch {
			t.Errorf("%s was not resolved ahead", name)
		}
	}
	if r.gate.Life(pin.GateKey{Dst: public, Proto: policy.TCP, Port: 443}) == 0 {
		t.Error("the gate does not hold the address for every agent")
	}
}

// notify tells when a record was written.
type notify struct {
	audit.Recorder
	written chan<- struct{}
}

func (n notify) Record(rec audit.Record) error {
	err := n.Recorder.Record(rec)
	n.written <- struct{}{}
	return err
}

func (n notify) Submit(rec audit.Record, done func(error)) {
	n.Recorder.Submit(rec, func(err error) {
		done(err)
		n.written <- struct{}{}
	})
}

func TestStartRefuses(t *testing.T) {
	if _, err := Start(Config{}); err == nil {
		t.Error("started without an address")
	}
	// 192.0.2.1 is nobody's, so not this machine's either.
	addr := netip.MustParseAddrPort("192.0.2.1:53")
	rules := compile(t, policy.ScopeSource)
	_, err := Start(Config{Listen: addr, Upstream: []netip.AddrPort{addr}, Pins: pin.New(pin.Options{}), Rules: func() *policy.Ruleset { return rules }})
	if err == nil || !strings.Contains(err.Error(), "DNS on 192.0.2.1:53") {
		t.Errorf("listening on a foreign address: %v", err)
	}
}

func BenchmarkUDP(b *testing.B) {
	r := start(b, Config{})
	b.RunParallel(func(pb *testing.PB) {
		c := &dns.Client{Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 1, 0, 4)}}}
		conn, err := c.Dial(r.config.Listen.String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		m := new(dns.Msg).SetQuestion("api.example.org.", dns.TypeA)
		for pb.Next() {
			if _, _, err := c.ExchangeWithConn(m, conn); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
