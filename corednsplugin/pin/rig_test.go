package pin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	pins "github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const ruleset = `
version: 1
mode: enforce
default: {action: DENY, mode: enforce}
smartGroups:
  - {name: agents, cidrs: [10.20.1.0/24]}
  - {name: privileged, cidrs: [10.20.1.9/32]}
  - {name: endpoints, cidrs: [10.20.2.0/24]}
  - {name: service, cidrs: [10.40.0.0/16]}
webGroups:
  - {name: tools, fqdns: [api.example.org, "*.wild.example.org", deep.below.example.net, prod-cluster-dns-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9.example.org]}
  - {name: secret, fqdns: [secret.example.org]}
  - {name: inside, fqdns: [inside.example.org]}
  - {name: bad, fqdns: [bad.example.com]}
threatGroups:
  - {name: threats, feeds: [{name: list, format: netset, url: "file:list"}]}
resolve:
  - {names: ["*.openai.example"], answers: [endpoints]}
rules:
  - {name: deny-threats, priority: 1, sources: [agents], destinations: [threats], action: DENY}
  - {name: deny-bad, priority: 2, sources: [agents], webGroups: [bad], action: DENY}
  - {name: allow-tools, priority: 3, sources: [agents], webGroups: [tools], ports: [tcp/443], action: PERMIT}
  - {name: allow-secret, priority: 4, sources: [privileged], webGroups: [secret], ports: [tcp/443], action: PERMIT}
  - {name: allow-inside, priority: 5, sources: [agents], destinations: [service], webGroups: [inside], ports: [tcp/443], action: PERMIT}
  - {name: deny-internet, priority: 6, sources: [agents], destinations: [internet], action: DENY}
`

func compile(t testing.TB, text string, env policy.Environment) *policy.Ruleset {
	t.Helper()
	doc, err := policy.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := policy.Compile(doc, env)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func environment() policy.Environment {
	return policy.Environment{
		Agents: []netip.Prefix{netip.MustParsePrefix("10.20.1.0/24")},
		Data:   policy.Data{Feeds: map[string]policy.FeedData{"list": {Prefixes: []netip.Prefix{netip.MustParsePrefix("93.184.216.66/32")}}}},
	}
}

// upstream answers from a table, and remembers what it was asked.
type upstream struct {
	mu    sync.Mutex
	zone  map[string]*dns.Msg
	asked []*dns.Msg
}

func (u *upstream) Name() string { return "upstream" }

func (u *upstream) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, r.Copy())
	m, ok := u.zone[strings.TrimSuffix(r.Question[0].Name, ".")]
	if !ok {
		return dns.RcodeServerFailure, errors.New("no route to host")
	}
	m = m.Copy()
	m.Id, m.Response, m.Question = r.Id, true, r.Question
	return dns.RcodeSuccess, w.WriteMsg(m)
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.asked)
}

// msg is an upstream's answer with these records.
func msg(rrs ...string) *dns.Msg {
	m := new(dns.Msg)
	for _, s := range rrs {
		rr, err := dns.NewRR(s)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func rcode(code int) *dns.Msg { return &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: code}} }

// recorder keeps audit records.
type recorder struct {
	mu  sync.Mutex
	all []audit.Record
	err error
}

func (r *recorder) Record(rec audit.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, rec)
	return r.err
}

func (r *recorder) Submit(rec audit.Record, done func(error)) { done(r.Record(rec)) }

// rig is a plugin with everything around it.
type rig struct {
	*Pin
	up    *upstream
	gate  *pins.FakeGate
	log   *recorder
	clock time.Time
}

func newRig(t testing.TB, rules Rules, scope policy.PinScope) *rig {
	r := &rig{up: &upstream{zone: map[string]*dns.Msg{}}, gate: &pins.FakeGate{}, log: &recorder{},
		clock: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	now := func() time.Time { return r.clock }
	r.Pin = New(Options{Rules: func() Rules { return rules }, Pins: pins.New(pins.Options{Scope: scope, Now: now}),
		Gate: r.gate, Audit: r.log, Now: now})
	r.Next = plugin.HandlerFunc(r.up.ServeDNS)
	return r
}

func (r *rig) query(t testing.TB, src, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	m.SetEdns0(4096, true)
	return r.exchange(t, src, m)
}

func (r *rig) exchange(t testing.TB, src string, m *dns.Msg) *dns.Msg {
	t.Helper()
	rec := dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: src})
	if code, err := r.ServeDNS(context.Background(), rec, m); err != nil || code != dns.RcodeSuccess {
		t.Fatalf("ServeDNS: %d, %v", code, err)
	}
	if rec.Msg == nil {
		t.Fatal("nothing was answered")
	}
	if _, err := rec.Msg.Pack(); err != nil {
		t.Fatalf("the answer cannot be sent: %v", err)
	}
	return rec.Msg
}

func ede(m *dns.Msg) string {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return fmt.Sprintf("%d %s", e.InfoCode, e.ExtraText)
			}
		}
	}
	return ""
}

func answers(m *dns.Msg) (all []string) {
	for _, rr := range m.Answer {
		all = append(all, strings.Join(strings.Fields(rr.String()), " "))
	}
	return all
}
