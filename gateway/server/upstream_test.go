package server

import (
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
)

// upstreamOf is a resolver on loopback that answers each question for an address with one, or fails.
func upstreamOf(t *testing.T, rcode int) config.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetRcode(r, rcode)
		if q := r.Question[0]; rcode == dns.RcodeSuccess && q.Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(20, 60, 40, 4)}}
		}
		w.WriteMsg(m)
	})}
	go srv.ActivateAndServe()
	t.Cleanup(func() { srv.Shutdown() })
	return config.AddrPort{AddrPort: pc.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// nobody is an address on loopback where nobody listens.
func nobody(t *testing.T) config.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	return config.AddrPort{AddrPort: pc.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// TestSecondUpstream: what the gateway itself resolves does not hang on the first of its resolvers.
func TestSecondUpstream(t *testing.T) {
	for what, first := range map[string]config.AddrPort{"nobody": nobody(t), "one that fails": upstreamOf(t, dns.RcodeServerFailure)} {
		s := &Server{cfg: &config.Config{DNS: config.DNS{Upstream: []config.AddrPort{first, upstreamOf(t, dns.RcodeSuccess)}}}}
		want := netip.MustParseAddr("20.60.40.4")
		if got, err := s.lookup(t.Context(), "contoso.blob.core.windows.net"); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("egress, behind %s: %v, %v", what, got, err)
		}
	}
}
