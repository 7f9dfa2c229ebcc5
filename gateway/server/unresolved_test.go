package server

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
)

// answering is a resolver that answers every question with one code, and with an address where
// the code is success and there is one.
type answering struct {
	code atomic.Int32
	addr atomic.Pointer[string]
	at   netip.AddrPort
}

func newAnswering(t *testing.T) *answering {
	t.Helper()
	a := &answering{}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.at = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	up := make(chan struct{})
	s := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetRcode(r, int(a.code.Load()))
		if addr := a.addr.Load(); addr != nil {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: r.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(*addr)}}
		}
		w.WriteMsg(m)
	})}
	go s.ActivateAndServe()
	<-up
	t.Cleanup(func() { s.Shutdown() })
	return a
}

// TestUnresolvedEgress follows a name in `egress` through everything that resolvers answer: the log
// says once that it does not resolve, and why, and once that it does again.
func TestUnresolvedEgress(t *testing.T) {
	one, other := newAnswering(t), newAnswering(t)
	address := "192.0.2.7"
	var out bytes.Buffer
	s := &Server{log: hclog.New(&hclog.LoggerOptions{Output: &out}), cfg: &config.Config{Egress: []string{"vault.example", "192.0.2.128/25"}}}
	for _, a := range []*answering{one, other} {
		s.cfg.DNS.Upstream = append(s.cfg.DNS.Upstream, config.AddrPort{AddrPort: a.at})
	}
	static := netip.MustParsePrefix("192.0.2.128/25")
	look := func() {
		t.Helper()
		got := s.findEgress(t.Context(), nil).prefixes
		want := []netip.Prefix{netip.MustParsePrefix(address + "/32"), static}
		if len(s.unresolved.list()) > 0 {
			want = want[1:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	said := func() string { defer out.Reset(); return out.String() }
	answer := func(code int, addr *string) {
		for _, a := range []*answering{one, other} {
			a.code.Store(int32(code))
			a.addr.Store(addr)
		}
	}
	for _, tc := range []struct {
		name string
		code int
		want string
	}{
		{"no such name", dns.RcodeNameError, "NXDOMAIN from " + one.at.String()},
		{"no address", dns.RcodeSuccess, "no IPv4 address in the answer of " + one.at.String()},
		{"a resolver that fails, and another", dns.RcodeServerFailure, "SERVFAIL from " + other.at.String()},
		{"a resolver that refuses", dns.RcodeRefused, "REFUSED from " + other.at.String()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer(tc.code, nil)
			look()
			if text := said(); strings.Count(text, "\n") != 1 || !strings.Contains(text, tc.want) || !strings.Contains(text, "name=vault.example") || !strings.Contains(text, "help=") {
				t.Errorf("said %q", text)
			}
			if list := s.unresolved.list(); len(list) != 1 || !strings.HasPrefix(list[0], "vault.example: "+tc.want) {
				t.Errorf("/readyz has %q", list)
			}
			var waits []time.Duration
			for range 6 {
				waits = append(waits, s.unresolved.wait())
				look()
			}
			if waits[0] != egressAgain || waits[1] != 2*egressAgain || waits[5] != egressRefresh {
				t.Errorf("waits %v", waits)
			}
			if text := said(); text != "" {
				t.Errorf("said again %q", text)
			}
			answer(dns.RcodeSuccess, &address)
			look()
			look()
			if text := said(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "egress name resolves again: name=vault.example") {
				t.Errorf("said %q", text)
			}
			if list := s.unresolved.list(); len(list) != 0 || s.unresolved.wait() != egressRefresh {
				t.Errorf("still %q", list)
			}
		})
	}
	t.Run("one resolver fails", func(t *testing.T) {
		one.code.Store(dns.RcodeServerFailure)
		look()
		if text := said(); text != "" {
			t.Errorf("the other resolver knows the name, and the log says %q", text)
		}
	})
	t.Run("the gateway ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.findEgress(ctx, nil)
		if text := said(); text != "" {
			t.Errorf("said %q", text)
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 0)
		defer cancel()
		s.findEgress(ctx, nil)
		if text := said(); !strings.Contains(text, "no answer: ") || strings.Contains(text, "<nil>") {
			t.Errorf("said %q", text)
		}
	})
}
