package resolver

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// The agents of these tests are loopback addresses: 127.1.0.4 may ask for the
// tools, 127.1.0.9 for one name more.
const ruleset = `
version: 1
mode: enforce
default: {action: DENY, mode: enforce}
smartGroups:
  - {name: agents, cidrs: [127.1.0.0/24]}
  - {name: privileged, cidrs: [127.1.0.9/32]}
webGroups:
  - {name: tools, fqdns: [api.example.org, "*.wild.example.org"], urls: [{host: mcp.example.org, paths: ["/mcp"]}]}
  - {name: secret, fqdns: [secret.example.org]}
rules:
  - {name: allow-tools, priority: 1, sources: [agents], webGroups: [tools], ports: [tcp/443], action: PERMIT, decrypt: DECRYPT_ALLOWED}
  - {name: allow-secret, priority: 2, sources: [privileged], webGroups: [secret], ports: [tcp/443], action: PERMIT}
  - {name: deny-internet, priority: 3, sources: [agents], destinations: [internet], action: DENY}
`

var (
	agent      = netip.MustParseAddr("127.1.0.4")
	colleague  = netip.MustParseAddr("127.1.0.5")
	privileged = netip.MustParseAddr("127.1.0.9")
	public     = netip.MustParseAddr("93.184.216.34")
)

func compile(t testing.TB, scope policy.PinScope) *policy.Ruleset {
	t.Helper()
	doc, err := policy.Decode([]byte(ruleset))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := policy.Compile(doc, policy.Environment{Agents: []netip.Prefix{netip.MustParsePrefix("127.1.0.0/24")}, PinScope: scope})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// freePort finds a port that is free for UDP and TCP on loopback.
func freePort(t testing.TB) netip.AddrPort {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		u, err := net.ListenPacket("udp", addr.String())
		l.Close()
		if err == nil {
			u.Close()
			return addr
		}
	}
	t.Fatal("no port is free for both UDP and TCP")
	return netip.AddrPort{}
}

// upstream is a real DNS server on loopback, which counts what it is asked.
type upstream struct {
	addr  netip.AddrPort
	mu    sync.Mutex
	asked map[string]int // "name network"
}

func (u *upstream) count(name, network string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[name+" "+network]
}

func (u *upstream) total() (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.asked {
		n += c
	}
	return n
}

func records(rrs ...string) (all []dns.RR) {
	for _, s := range rrs {
		rr, err := dns.NewRR(s)
		if err != nil {
			panic(err)
		}
		all = append(all, rr)
	}
	return all
}

// serve answers as the name asks for.
func (u *upstream) serve(w dns.ResponseWriter, r *dns.Msg) {
	name, network := r.Question[0].Name, w.RemoteAddr().Network()
	if r.Question[0].Qtype == dns.TypeA {
		u.mu.Lock()
		u.asked[name+" "+network]++
		u.mu.Unlock()
	}
	m := new(dns.Msg).SetReply(r)
	m.Extra = records("api.example.org. 60 IN A 93.184.216.99") // glue that nobody asked for
	m.Ns = records("wild.example.org. 60 IN NS ns.evil.example.")
	switch name {
	case "api.example.org.", "mcp.example.org.", "secret.example.org.":
		m.Answer = records(name + " 300 IN A 93.184.216.34")
	case "alias.wild.example.org.":
		m.Answer = records(name+" 300 IN CNAME cdn.example.net.", "cdn.example.net. 20 IN CNAME edge.example.net.", "edge.example.net. 300 IN A 93.184.216.34")
	case "rebind.wild.example.org.":
		m.Answer = records(name + " 300 IN A 10.0.0.1")
	case "truncated.wild.example.org.":
		if network == "udp" {
			m.Truncated = true
			break
		}
		for i := range 30 {
			m.Answer = append(m.Answer, records(fmt.Sprintf("%s 300 IN A 93.184.216.%d", name, i+1))...)
		}
	case "other-name.wild.example.org.":
		m.Answer = records("bank.example. 300 IN A 93.184.216.34")
	case "other-question.wild.example.org.":
		m.Question[0].Name = "bank.example."
		m.Answer = records("bank.example. 300 IN A 93.184.216.34")
	case "wrong-id.wild.example.org.":
		m.Id++
		m.Answer = records(name + " 300 IN A 93.184.216.34")
	case "garbage.wild.example.org.":
		w.Write([]byte{byte(r.Id >> 8), byte(r.Id), 0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0, 0xc0})
		return
	case "silent.wild.example.org.":
		return
	default:
		m.Rcode = dns.RcodeNameError
	}
	w.WriteMsg(m)
}

func newUpstream(t testing.TB) *upstream {
	u := &upstream{addr: freePort(t), asked: map[string]int{}}
	for _, network := range []string{"udp", "tcp"} {
		started, failed := make(chan struct{}), make(chan error, 1)
		s := &dns.Server{Addr: u.addr.String(), Net: network, Handler: dns.HandlerFunc(u.serve), NotifyStartedFunc: func() { close(started) }}
		go func() { failed <- s.ListenAndServe() }()
		select {
		case <-started:
		case err := <-failed:
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Shutdown() })
	}
	return u
}

// recorder keeps audit records.
type recorder struct {
	mu  sync.Mutex
	all []audit.Record
}

func (r *recorder) Record(rec audit.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, rec)
	return nil
}

func (r *recorder) Submit(rec audit.Record, done func(error)) { done(r.Record(rec)) }

// rig is a running server with everything around it.
type rig struct {
	*Server
	up      *upstream
	gate    *pin.FakeGate
	log     *recorder
	stopped sync.Once
}

// end stops the server, where the test has not done so itself.
func (r *rig) end(t testing.TB) {
	t.Helper()
	r.stopped.Do(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
}

func start(t testing.TB, c Config) *rig {
	t.Helper()
	r := &rig{up: newUpstream(t), gate: &pin.FakeGate{}, log: &recorder{}}
	c.Listen = freePort(t)
	if c.Upstream == nil {
		c.Upstream = []netip.AddrPort{r.up.addr}
	}
	if c.Rules == nil {
		rules := compile(t, policy.ScopeSource)
		c.Rules = func() *policy.Ruleset { return rules }
	}
	if c.Pins == nil {
		c.Pins = pin.New(pin.Options{})
	}
	c.Gate, c.Audit = r.gate, r.log
	var err error
	if r.Server, err = Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.end(t) })
	// A server that is only about to serve cannot be stopped.
	for _, network := range []string{"udp", "tcp"} {
		r.query(t, colleague, network, "invalid.", dns.TypeA)
	}
	return r
}

func (r *rig) query(t testing.TB, src netip.Addr, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.SetEdns0(1232, false)
	c := &dns.Client{Net: network, Timeout: 10 * time.Second, Dialer: &net.Dialer{}}
	c.Dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
	if network == "tcp" {
		c.Dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
	}
	got, _, err := c.Exchange(m, r.config.Listen.String())
	if err != nil {
		t.Fatalf("%s over %s: %v", name, network, err)
	}
	return got
}

func (r *rig) pinned(src netip.Addr, name string) (all []string) {
	for e := range r.config.Pins.Entries() {
		if e.Source == src && e.Name == name {
			all = append(all, e.Addr.String())
		}
	}
	slices.Sort(all)
	return all
}

func ede(m *dns.Msg) string {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return e.ExtraText
			}
		}
	}
	return ""
}
