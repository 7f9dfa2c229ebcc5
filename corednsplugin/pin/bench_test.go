package pin

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// deaf is a response writer that packs what it is given and sends it nowhere.
type deaf struct {
	test.ResponseWriter
	from net.Addr
}

func (w *deaf) RemoteAddr() net.Addr { return w.from }

func (w *deaf) WriteMsg(m *dns.Msg) error {
	_, err := m.Pack()
	return err
}

// BenchmarkKnownName is a question that was answered before, without the server around the
// plugin: an upstream that costs little stands for the cache.
func BenchmarkKnownName(b *testing.B) {
	r := newRig(b, compile(b, ruleset, environment()), policy.ScopeSource)
	r.up.zone["api.example.org"] = msg("api.example.org. 300 IN A 93.184.216.34")
	r.Audit = nil
	w, q := &deaf{from: &net.UDPAddr{IP: net.IPv4(10, 20, 1, 4), Port: 40000}}, new(dns.Msg).SetQuestion("api.example.org.", dns.TypeA)
	b.ReportAllocs()
	for b.Loop() {
		r.clock = r.clock.Add(time.Second / questionsPerSecond) // no more than a source may ask
		r.up.asked = nil
		if _, err := r.ServeDNS(context.Background(), w, q); err != nil {
			b.Fatal(err)
		}
	}
}
