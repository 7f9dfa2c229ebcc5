package pin

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// FuzzServeDNS feeds whole messages, as the server parses them, from an agent.
func FuzzServeDNS(f *testing.F) {
	for _, name := range []string{"api.example.org.", "x.wild.example.org.", ".", "10.0.0.1."} {
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, true)
		b, _ := m.Pack()
		f.Add(b)
	}
	rules := compile(f, ruleset, environment())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		r := newRig(t, rules, policy.ScopeSource)
		r.up.zone = zone()
		reply := r.exchange(t, "10.20.1.4", m)
		if len(reply.Answer) > 0 && len(slices.Collect(r.Pins.Entries())) == 0 && !strings.HasSuffix(strings.ToLower(m.Question[0].Name), "openai.example.") {
			t.Errorf("answered without a pin: %v", reply)
		}
	})
}

// FuzzFollow feeds answers, as a hostile upstream would send them.
func FuzzFollow(f *testing.F) {
	for name, m := range zone() {
		m.SetQuestion(dns.Fqdn(name), dns.TypeA)
		b, _ := m.Pack()
		f.Add(b)
	}
	rules := compile(f, ruleset, environment())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		r := newRig(t, rules, policy.ScopeSource)
		m.Rcode &= 0xf
		r.up.zone["api.example.org"] = m
		reply := r.query(t, "10.20.1.4", "api.example.org", dns.TypeA)
		for _, rr := range reply.Answer {
			if a, ok := rr.(*dns.A); ok {
				addr, _ := netip.AddrFromSlice(a.A)
				if !policy.IsInternet(addr.Unmap()) {
					t.Errorf("gave %s", addr)
				}
			}
		}
	})
}

func BenchmarkServeDNS(b *testing.B) {
	r := newRig(b, compile(b, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	r.Audit = nil
	r.Next = plugin.HandlerFunc(func(_ context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
		m := zoneAPI.Copy()
		m.SetReply(q)
		m.Answer = zoneAPI.Answer
		return 0, w.WriteMsg(m)
	})
	r.Now = func() time.Time { r.clock = r.clock.Add(time.Second); return r.clock }
	q := new(dns.Msg).SetQuestion("api.example.org.", dns.TypeA)
	w := &test.ResponseWriter{RemoteIP: "10.20.1.4"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.ServeDNS(context.Background(), w, q); err != nil {
			b.Fatal(err)
		}
	}
}

var zoneAPI = msg("api.example.org. 300 IN A 93.184.216.34", "api.example.org. 300 IN A 93.184.216.35")
