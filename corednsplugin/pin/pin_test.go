package pin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	pins "github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func zone() map[string]*dns.Msg {
	return map[string]*dns.Msg{
		"prod-cluster-dns-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9.example.org": msg("prod-cluster-dns-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9.example.org. 60 IN A 93.184.216.34"),
		"api.example.org": msg("api.example.org. 300 IN A 93.184.216.34", "api.example.org. 1 IN A 93.184.216.35"),
		"a.wild.example.org": msg("a.wild.example.org. 30 IN CNAME b.example.net.", "b.example.net. 7 IN CNAME c.example.net.",
			"c.example.net. 600 IN A 93.184.216.34"),
		"unrelated.wild.example.org": msg("unrelated.wild.example.org. 60 IN A 93.184.216.34", "bank.example. 60 IN A 93.184.216.99",
			"bank.example. 60 IN CNAME unrelated.wild.example.org."),
		"rebind.wild.example.org":     msg("rebind.wild.example.org. 60 IN A 10.20.1.7"),
		"loopback.wild.example.org":   msg("loopback.wild.example.org. 60 IN A 127.0.0.1"),
		"imds.wild.example.org":       msg("imds.wild.example.org. 60 IN A 169.254.169.254"),
		"half.wild.example.org":       msg("half.wild.example.org. 60 IN A 10.20.1.7", "half.wild.example.org. 60 IN A 93.184.216.34"),
		"private.wild.example.org":    msg("private.wild.example.org. 60 IN CNAME db.internal.", "db.internal. 60 IN A 10.30.0.5"),
		"threat.wild.example.org":     msg("threat.wild.example.org. 60 IN A 93.184.216.66"),
		"tobad.wild.example.org":      msg("tobad.wild.example.org. 60 IN CNAME bad.example.com.", "bad.example.com. 60 IN A 93.184.216.34"),
		"loop.wild.example.org":       msg("loop.wild.example.org. 60 IN CNAME x.example.", "x.example. 60 IN CNAME loop.wild.example.org."),
		"two.wild.example.org":        msg("two.wild.example.org. 60 IN CNAME x.example.", "two.wild.example.org. 60 IN CNAME y.example."),
		"odd.wild.example.org":        msg(`odd.wild.example.org. 60 IN CNAME a\032b.example.`),
		"none.wild.example.org":       msg(),
		"alias-only.wild.example.org": msg("alias-only.wild.example.org. 60 IN CNAME b.example.net."),
		"gone.wild.example.org":       rcode(dns.RcodeNameError),
		"broken.wild.example.org":     rcode(dns.RcodeServerFailure),
		"refused.wild.example.org":    rcode(dns.RcodeRefused),
		"cut.wild.example.org":        {MsgHdr: dns.MsgHdr{Truncated: true}, Answer: msg("cut.wild.example.org. 60 IN A 93.184.216.34").Answer},
		"my.openai.example":           msg("my.openai.example. 60 IN CNAME my.privatelink.openai.example.", "my.privatelink.openai.example. 60 IN A 10.20.2.7"),
		"leak.openai.example":         msg("leak.openai.example. 60 IN A 93.184.216.34"),
		"inside.example.org":          msg("inside.example.org. 60 IN A 10.40.1.1"),
		"secret.example.org":          msg("secret.example.org. 60 IN A 93.184.216.34"),
	}
}

func TestAnswers(t *testing.T) {
	rules := compile(t, ruleset, environment())
	long := make([]string, 0, 20)
	for i := range 18 {
		owner := fmt.Sprintf("l%d.example", i)
		if i == 0 {
			owner = "long.wild.example.org"
		}
		long = append(long, fmt.Sprintf("%s. 60 IN CNAME l%d.example.", owner, i+1))
	}
	long = append(long, "l18.example. 60 IN A 93.184.216.34")

	for _, tc := range []struct {
		name    string
		qtype   uint16
		src     string // default 10.20.1.4
		rcode   int
		answer  []string
		ede     string
		pinned  []string // addresses pinned to the name afterwards
		asked   int      // questions upstream
		comment string
	}{
		{name: "api.example.org", answer: []string{"api.example.org. 5 IN A 93.184.216.34", "api.example.org. 5 IN A 93.184.216.35"},
			pinned: []string{"93.184.216.34", "93.184.216.35"}, asked: 1, comment: "the lowest TTL, raised to five seconds"},
		{name: "API.Example.ORG", answer: []string{"API.Example.ORG. 5 IN A 93.184.216.34", "API.Example.ORG. 5 IN A 93.184.216.35"},
			pinned: []string{"93.184.216.34", "93.184.216.35"}, asked: 1, comment: "the client's spelling comes back"},
		{name: "a.wild.example.org", answer: []string{"a.wild.example.org. 7 IN CNAME b.example.net.", "b.example.net. 7 IN CNAME c.example.net.",
			"c.example.net. 7 IN A 93.184.216.34"}, pinned: []string{"93.184.216.34"}, asked: 1},
		{name: "unrelated.wild.example.org", answer: []string{"unrelated.wild.example.org. 60 IN A 93.184.216.34"}, pinned: []string{"93.184.216.34"}, asked: 1},
		{name: "inside.example.org", answer: []string{"inside.example.org. 60 IN A 10.40.1.1"}, pinned: []string{"10.40.1.1"}, asked: 1,
			comment: "a smart group of the rule covers the private address"},
		{name: "secret.example.org", src: "10.20.1.9", answer: []string{"secret.example.org. 60 IN A 93.184.216.34"}, pinned: []string{"93.184.216.34"}, asked: 1},
		{name: "my.openai.example", answer: []string{"my.openai.example. 60 IN CNAME my.privatelink.openai.example.",
			"my.privatelink.openai.example. 60 IN A 10.20.2.7"}, asked: 1, comment: "resolve: answered and not pinned"},

		{name: "prod-cluster-dns-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9.example.org",
			answer: []string{"prod-cluster-dns-0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9.example.org. 60 IN A 93.184.216.34"},
			pinned: []string{"93.184.216.34"}, asked: 1, comment: "long, but the ruleset spells it out"},

		{name: "evil.example.com", rcode: dns.RcodeNameError, ede: "15 rule=deny-internet; reason=rule", comment: "never leaves"},
		{name: "bad.example.com", rcode: dns.RcodeNameError, ede: "15 rule=deny-bad; reason=rule"},
		{name: "secret.example.org", rcode: dns.RcodeNameError, ede: "15 rule=deny-internet; reason=rule", comment: "another agent's name"},
		{name: "api.example.org", src: "10.99.0.1", rcode: dns.RcodeNameError, ede: "15 rule=invariant; reason=invariant", comment: "no agent"},
		{name: "api.example.org", src: "fe80::1", rcode: dns.RcodeNameError, ede: "15 rule=invariant; reason=invariant"},
		{name: "10.1.2.3", rcode: dns.RcodeNameError, ede: "15 rule=invariant; reason=no-name"},
		{name: `a\032b.wild.example.org`, rcode: dns.RcodeNameError, ede: "15 rule=invariant; reason=no-name"},
		{name: ".", rcode: dns.RcodeNameError, ede: "15 rule=invariant; reason=no-name"},
		{name: "4.3.2.10.in-addr.arpa", qtype: dns.TypePTR, rcode: dns.RcodeNameError, ede: "15 rule=deny-internet; reason=rule"},
		{name: "below.example.net", ede: "15 rule=deny-internet; reason=rule", comment: "a name above a permitted one: NODATA"},

		{name: "api.example.org", qtype: dns.TypeAAAA},
		{name: "api.example.org", qtype: dns.TypeHTTPS},
		{name: "api.example.org", qtype: dns.TypeSVCB},
		{name: "api.example.org", qtype: dns.TypeTXT, ede: "15 rule=invariant; reason=tunnelling"},
		{name: "api.example.org", qtype: dns.TypeNULL, ede: "15 rule=invariant; reason=tunnelling"},
		{name: "api.example.org", qtype: dns.TypeANY, ede: "15 rule=invariant; reason=tunnelling"},
		{name: "api.example.org", qtype: dns.TypeMX, ede: "15 rule=invariant; reason=tunnelling"},
		{name: "api.example.org", qtype: dns.TypeCNAME, ede: "15 rule=invariant; reason=tunnelling"},
		{name: "evil.example.com", qtype: dns.TypeTXT, rcode: dns.RcodeNameError, ede: "15 rule=deny-internet; reason=rule"},

		{name: "rebind.wild.example.org", rcode: dns.RcodeNameError, ede: "15 rule=allow-tools; reason=rebind", asked: 1},
		{name: "loopback.wild.example.org", rcode: dns.RcodeNameError, ede: "15 rule=allow-tools; reason=rebind", asked: 1},
		{name: "imds.wild.example.org", rcode: dns.RcodeNameError, ede: "15 rule=allow-tools; reason=rebind", asked: 1},
		{name: "private.wild.example.org", rcode: dns.RcodeNameError, ede: "15 rule=allow-tools; reason=rebind", asked: 1},
		{name: "half.wild.example.org", answer: []string{"half.wild.example.org. 60 IN A 93.184.216.34"}, pinned: []string{"93.184.216.34"}, asked: 1},
		{name: "threat.wild.example.org", rcode: dns.RcodeNameError, ede: "15 rule=deny-threats; reason=threat-address", asked: 1},
		{name: "tobad.wild.example.org", rcode: dns.RcodeNameError, ede: "15 rule=deny-bad; reason=rule", asked: 1},
		{name: "leak.openai.example", rcode: dns.RcodeNameError, ede: "15 rule=resolve; reason=rebind", asked: 1, comment: "outside answers"},

		{name: "none.wild.example.org", asked: 1},
		{name: "alias-only.wild.example.org", asked: 1},
		{name: "gone.wild.example.org", rcode: dns.RcodeNameError, asked: 1},
		{name: "broken.wild.example.org", rcode: dns.RcodeServerFailure, ede: "23 upstream: SERVFAIL", asked: 1},
		{name: "refused.wild.example.org", rcode: dns.RcodeServerFailure, ede: "23 upstream: REFUSED", asked: 1},
		{name: "dead.wild.example.org", rcode: dns.RcodeServerFailure, ede: "23 upstream: no route to host", asked: 1},
		{name: "cut.wild.example.org", rcode: dns.RcodeServerFailure, ede: "23 upstream: truncated over TCP", asked: 1},
		{name: "loop.wild.example.org", rcode: dns.RcodeServerFailure, ede: "23 upstream: aliases go in a circle", asked: 1},
		{name: "long.wild.example.org", rcode: dns.RcodeServerFailure, ede: "23 upstream: more than 16 aliases", asked: 1},
		{name: "two.wild.example.org", rcode: dns.RcodeServerFailure, ede: "23 upstream: two aliases for one name", asked: 1},
		{name: "odd.wild.example.org", rcode: dns.RcodeServerFailure, ede: "23 upstream: an alias to what is not a host name", asked: 1},
	} {
		if tc.src == "" {
			tc.src = "10.20.1.4"
		}
		if tc.qtype == 0 {
			tc.qtype = dns.TypeA
		}
		t.Run(fmt.Sprintf("%s %s from %s", tc.name, dns.TypeToString[tc.qtype], tc.src), func(t *testing.T) {
			r := newRig(t, rules, policy.ScopeSource)
			r.up.zone = zone()
			r.up.zone["long.wild.example.org"] = msg(long...)
			m := r.query(t, tc.src, tc.name, tc.qtype)
			if m.Rcode != tc.rcode {
				t.Errorf("rcode %s, want %s", dns.RcodeToString[m.Rcode], dns.RcodeToString[tc.rcode])
			}
			if got := answers(m); !slices.Equal(got, tc.answer) {
				t.Errorf("answer %q, want %q", got, tc.answer)
			}
			if got := ede(m); got != tc.ede {
				t.Errorf("extended error %q, want %q", got, tc.ede)
			}
			if got := r.up.count(); got != tc.asked {
				t.Errorf("%d questions went upstream, want %d", got, tc.asked)
			}
			if negative := len(m.Answer) == 0 && m.Rcode != dns.RcodeServerFailure; negative != (len(m.Ns) == 1) {
				t.Errorf("authority %v", m.Ns)
			}
			var got []string
			for e := range r.Pins.Entries() {
				if e.Name != strings.ToLower(tc.name) {
					t.Errorf("pinned to %s", e.Name)
				}
				got = append(got, e.Addr.String())
				if r.gate.Life(pins.GateKey{Src: e.Source, Dst: e.Addr, Proto: policy.TCP, Port: 443}) != r.Pins.Life(5*time.Minute) &&
					r.gate.Life(pins.GateKey{Src: e.Source, Dst: e.Addr, Proto: policy.TCP, Port: 443}) != r.Pins.Life(time.Minute) {
					t.Errorf("%s is pinned and not in the gate", e.Addr)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.pinned) {
				t.Errorf("pinned %q, want %q", got, tc.pinned)
			}
			if len(r.log.all) != 1 {
				t.Fatalf("%d audit records, want 1", len(r.log.all))
			}
			rec := r.log.all[0]
			if rec.Class != audit.DNSActivity || rec.Decision.Stage != policy.StageDNS || rec.DNS.Rcode != dns.RcodeToString[tc.rcode] || len(rec.DNS.Answers) != len(tc.answer)-aliases(m) {
				t.Errorf("record %+v, DNS %+v", rec, rec.DNS)
			}
			if rec.Decision.Rule != policy.RuleInvariant && rec.Digest != rules.Digest() {
				t.Errorf("record names the ruleset %q", rec.Digest)
			}
		})
	}
}

func aliases(m *dns.Msg) (n int) {
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == dns.TypeCNAME {
			n++
		}
	}
	return n
}

// TestUpstreamMessage: of the client's message only the name and type go on.
func TestUpstreamMessage(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	m := new(dns.Msg).SetQuestion("aPi.eXample.oRg.", dns.TypeA)
	m.CheckingDisabled, m.AuthenticatedData, m.Zero = true, true, true
	m.SetEdns0(4096, true)
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{1, 2, 3, 0}},
		&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("exfiltrated")}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"})
	m.Extra = append(m.Extra, &dns.TXT{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"exfiltrated"}})
	reply := r.exchange(t, "10.20.1.4", m)

	up := r.up.asked[0]
	if up.Question[0].Name != "api.example.org." || up.CheckingDisabled || up.AuthenticatedData || up.Zero || !up.RecursionDesired {
		t.Errorf("upstream got %v", up)
	}
	if o := up.IsEdns0(); len(up.Extra) != 1 || o.UDPSize() != bufferSize || o.Do() || len(o.Option) != 0 {
		t.Errorf("upstream got EDNS %v", up.Extra)
	}
	if o := reply.IsEdns0(); o == nil || len(o.Option) != 0 || len(reply.Extra) != 1 {
		t.Errorf("the client got %v", reply.Extra)
	}
	if reply.Question[0].Name != "aPi.eXample.oRg." {
		t.Errorf("the question came back as %s", reply.Question[0].Name)
	}
}

// Who did not speak EDNS gets none, and no more than 512 bytes over UDP.
func TestPlainClient(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	var rrs []string
	for i := range 40 {
		rrs = append(rrs, fmt.Sprintf("api.example.org. 60 IN A 93.184.217.%d", i))
	}
	r.up.zone["api.example.org"] = msg(rrs...)
	for _, tc := range []struct {
		edns      uint16
		truncated bool
	}{{0, true}, {100, true}, {512, true}, {1232, false}, {65535, false}} {
		m := new(dns.Msg).SetQuestion("api.example.org.", dns.TypeA)
		if tc.edns > 0 {
			m.SetEdns0(tc.edns, false)
		}
		reply := r.exchange(t, "10.20.1.4", m)
		limit := max(512, min(int(tc.edns), bufferSize))
		if reply.Truncated != tc.truncated || reply.Len() > limit || (reply.IsEdns0() != nil) != (tc.edns > 0) {
			t.Errorf("EDNS %d: truncated %v, %d bytes, OPT %v", tc.edns, reply.Truncated, reply.Len(), reply.IsEdns0())
		}
		if !tc.truncated && len(reply.Answer) != maxAddrs {
			t.Errorf("EDNS %d: %d addresses, want the bound %d", tc.edns, len(reply.Answer), maxAddrs)
		}
	}
	refused := r.exchange(t, "10.20.1.4", new(dns.Msg).SetQuestion("evil.example.com.", dns.TypeA))
	if refused.Rcode != dns.RcodeNameError || len(refused.Extra) != 0 {
		t.Errorf("refusal without EDNS: %v", refused)
	}
}

func TestMalformed(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	good := func() *dns.Msg { return new(dns.Msg).SetQuestion("api.example.org.", dns.TypeA) }
	for name, tc := range map[string]struct {
		change func(*dns.Msg)
		rcode  int
	}{
		"two questions": {func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		"no question":   {func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
		"an answer":     {func(m *dns.Msg) { m.Answer = msg("a. 1 IN A 1.2.3.4").Answer }, dns.RcodeFormatError},
		"authority":     {func(m *dns.Msg) { m.Ns = msg("a. 1 IN A 1.2.3.4").Answer }, dns.RcodeFormatError},
		"a response":    {func(m *dns.Msg) { m.Response = true }, dns.RcodeFormatError},
		"update":        {func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		"chaos":         {func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
	} {
		m := good()
		tc.change(m)
		if got := r.exchange(t, "10.20.1.4", m); got.Rcode != tc.rcode {
			t.Errorf("%s: %s, want %s", name, dns.RcodeToString[got.Rcode], dns.RcodeToString[tc.rcode])
		}
	}
	if r.up.count() != 0 {
		t.Errorf("%d malformed messages went upstream", r.up.count())
	}
}

// Nothing is answered where the gate, the pins, the audit or the ruleset fail.
func TestFailClosed(t *testing.T) {
	rules := compile(t, ruleset, environment())
	for name, tc := range map[string]struct {
		breakIt func(*rig)
		ede     string
	}{
		"gate":    {func(r *rig) { r.gate.Fail(errors.New("netlink")) }, "14 rule=invariant; reason=not-ready"},
		"audit":   {func(r *rig) { r.log.err = errors.New("disk full") }, "14 rule=invariant; reason=not-ready"},
		"ruleset": {func(r *rig) { r.Rules = func() Rules { return nil } }, "14 rule=invariant; reason=not-ready"},
		"quota":   {func(r *rig) { r.Pins = pins.New(pins.Options{PerSource: 1}) }, "0 rule=invariant; reason=overload"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rules, policy.ScopeSource)
			r.up.zone = zone()
			tc.breakIt(r)
			m := r.query(t, "10.20.1.4", "api.example.org", dns.TypeA)
			if m.Rcode != dns.RcodeServerFailure || len(m.Answer) != 0 || ede(m) != tc.ede {
				t.Errorf("%s, answer %v, extended error %q, want %q", dns.RcodeToString[m.Rcode], m.Answer, ede(m), tc.ede)
			}
			if name == "audit" {
				return
			}
			if got := r.Pins.Lookup(netip.MustParseAddr("10.20.1.4"), netip.MustParseAddr("93.184.216.34"), "api.example.org").State; got != policy.PinNone {
				t.Errorf("pinned although it was not answered: %v", got)
			}
		})
	}
}

// order is a writer that looks at the gate and the pins when the answer is written.
type order struct {
	test.ResponseWriter
	check func()
}

func (w *order) WriteMsg(*dns.Msg) error { w.check(); return nil }

func TestPinnedBeforeAnswered(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	src, dst := netip.MustParseAddr("10.20.1.4"), netip.MustParseAddr("93.184.216.34")
	written := false
	w := &order{ResponseWriter: test.ResponseWriter{RemoteIP: "10.20.1.4"}, check: func() {
		written = true
		if r.gate.Life(pins.GateKey{Src: src, Dst: dst, Proto: policy.TCP, Port: 443}) == 0 {
			t.Error("answered before the gate was committed")
		}
		if r.Pins.Lookup(src, dst, "api.example.org").State != policy.PinMatch {
			t.Error("answered before the pin")
		}
		if len(r.log.all) != 1 {
			t.Error("answered before the audit record")
		}
	}}
	if _, err := r.ServeDNS(context.Background(), w, new(dns.Msg).SetQuestion("api.example.org.", dns.TypeA)); err != nil || !written {
		t.Fatal(err, written)
	}
	admissions := r.gate.Admissions()
	r.query(t, "10.20.1.4", "api.example.org", dns.TypeA)
	if r.gate.Admissions() != admissions {
		t.Error("a pin that is held was admitted again")
	}
}

func TestEvidence(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	r.query(t, "10.20.1.4", "a.wild.example.org", dns.TypeA)
	rec := r.log.all[0]
	want := audit.Pin{Question: "a.wild.example.org", Answer: netip.MustParseAddr("93.184.216.34"), Asked: r.clock, TTL: 7 * time.Second, Bound: "b.example.net"}
	if rec.Pin == nil || *rec.Pin != want {
		t.Errorf("evidence %+v, want %+v", rec.Pin, want)
	}
	if rec.Src != netip.MustParseAddrPort("10.20.1.4:40212") || rec.Proto != policy.UDP || rec.Activity != audit.Open || rec.Decision.Rule != "allow-tools" {
		t.Errorf("record %+v", rec)
	}
}

// TestManyKeys: an answer with many addresses, permitted on many ports, is more than one
// call of the kernel's gate takes.
func TestManyKeys(t *testing.T) {
	wide := strings.Replace(ruleset, "webGroups: [tools], ports: [tcp/443]", "webGroups: [tools], ports: [tcp/8000-8199]", 1)
	r := newRig(t, compile(t, wide, environment()), policy.ScopeSource)
	answer := msg()
	for i := range maxAddrs {
		answer.Answer = append(answer.Answer, msg(fmt.Sprintf("api.example.org. 60 IN A 93.184.216.%d", i)).Answer...)
	}
	r.up.zone["api.example.org"] = answer
	gate := &boundedGate{Gate: r.gate}
	r.Gate = gate
	if m := r.query(t, "10.20.1.4", "api.example.org", dns.TypeA); len(m.Answer) != maxAddrs {
		t.Errorf("%d addresses, %s", len(m.Answer), ede(m))
	}
	if gate.most > 4096 || r.gate.Len() < 200*maxAddrs {
		t.Errorf("%d keys at once, %d in all", gate.most, r.gate.Len())
	}
}

// boundedGate notes the most keys that came at once.
type boundedGate struct {
	pins.Gate
	most int
}

func (g *boundedGate) Admit(ctx context.Context, keys []pins.GateKey, ttl time.Duration) error {
	g.most = max(g.most, len(keys))
	return g.Gate.Admit(ctx, keys, ttl)
}

// TestRepeat: a question that pins nothing new is said to repeat what was written down,
// and one that pins or renews is not, nor is one that fails.
func TestRepeat(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	r.up.zone["api.example.org"] = msg("api.example.org. 300 IN A 93.184.216.34")
	for i, step := range []struct {
		after  time.Duration
		src    string
		name   string
		qtype  uint16
		repeat bool
	}{
		{0, "10.20.1.4", "api.example.org", dns.TypeA, false},
		{0, "10.20.1.4", "api.example.org", dns.TypeA, true},
		{0, "10.20.1.4", "api.example.org", dns.TypeAAAA, true},
		{0, "10.20.1.5", "api.example.org", dns.TypeA, false},
		{time.Minute, "10.20.1.4", "api.example.org", dns.TypeA, false}, // renewed
		{0, "10.20.1.4", "refused.example.com", dns.TypeA, false},
		{0, "10.20.1.4", "nowhere.wild.example.org", dns.TypeA, false}, // upstream fails
		{0, "10.20.1.4", "nowhere.wild.example.org", dns.TypeA, false},
	} {
		r.clock = r.clock.Add(step.after)
		r.query(t, step.src, step.name, step.qtype)
		if rec := r.log.all[len(r.log.all)-1]; len(r.log.all) != i+1 || rec.Repeat != step.repeat {
			t.Errorf("question %d: repeat %v; %+v", i, rec.Repeat, rec)
		}
	}
}

// TestBeyondItsShare: an answer that the audit has no share for is refused as overload, and the
// refusal goes to the audit, which counts it with its like.
func TestBeyondItsShare(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	r.log.err = audit.ErrQuota
	m := r.query(t, "10.20.1.4", "api.example.org", dns.TypeA)
	if got := ede(m); m.Rcode != dns.RcodeServerFailure || got != "0 rule=invariant; reason=overload" {
		t.Errorf("%s, %s", dns.RcodeToString[m.Rcode], got)
	}
	if len(r.log.all) != 2 {
		t.Fatalf("%d records", len(r.log.all))
	}
	rec := r.log.all[1]
	if rec.Decision.Permitted() || rec.Decision.Reason != policy.ReasonOverload || rec.Activity != audit.Refuse || rec.Pin != nil || len(rec.DNS.Answers) > 0 {
		t.Errorf("%+v", rec)
	}
}
