package attacks

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// race has the upstream hold an answer back until a reload has withdrawn the name. The
// agent may come to know the address by then, but not go there.
func race(t *testing.T, s *scene) {
	x := s.target(t)
	asked, release := make(chan struct{}), make(chan struct{})
	s.Upstream.Handle(x.name, func(q dns.Question) []dns.RR {
		close(asked)
		<-release
		rr, _ := dns.NewRR(x.name + ". 60 IN A " + x.addr.String())
		return []dns.RR{rr}
	})
	got := make(chan sight, 1)
	go func() { got <- ask(t, s.invoice, "udp", lab.GatewayAddr, x.name) }()
	select {
	case <-asked:
	case v := <-got:
		t.Fatalf("not asked upstream: %q (%s)", v.what, v.detail)
	}
	s.reload(t, strings.ReplaceAll(ruleset(), x.name, "withdrawn.example"), applied)
	close(release)
	<-got
	if v := s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name}, nil); v.what != refused && v.what != denied && v.what != reset {
		t.Errorf("saw %q (%s)", v.what, v.detail)
	}
	s.sealed(t)
}

// TestSharedAddress hides behind an address that several names share.
func TestSharedAddress(t *testing.T) {
	s := shared.open(t)
	// Both names are permitted to everybody, and lead to one address; but only one was asked for.
	a, b := s.target(t), s.target(t)
	if err := s.Upstream.Set(b.name + ". 60 IN A " + a.addr.String()); err != nil {
		t.Fatal(err)
	}
	s.resolve(t, s.invoice, a.name)
	at := func(name string) func(*testing.T) sight {
		return func(t *testing.T) sight {
			return s.handshake(t, s.invoice, a.tls(), &tls.Config{ServerName: name}, nil)
		}
	}
	s.play(t, bypass{name: "by a permitted name that was not asked for", try: at(b.name), want: denied,
		event: named(a.tls(), b.name, byInternet, policy.ReasonAddressMismatch), permits: []netip.AddrPort{a.tls()},
		twin: func(t *testing.T) sight { s.resolve(t, s.invoice, b.name); return at(b.name)(t) }})

	// An alias on the way to the address is permitted as well, and was not asked for either.
	d, e := s.target(t), s.target(t)
	if err := s.Upstream.Set(d.name+". 60 IN CNAME "+e.name+".", e.name+". 60 IN A "+d.addr.String()); err != nil {
		t.Fatal(err)
	}
	s.resolve(t, s.invoice, d.name)
	through := func(name string) func(*testing.T) sight {
		return func(t *testing.T) sight {
			return s.handshake(t, s.invoice, d.tls(), &tls.Config{ServerName: name}, nil)
		}
	}
	s.play(t, bypass{name: "by the alias of the name that was asked for", try: through(e.name), want: denied,
		event: named(d.tls(), e.name, byInternet, policy.ReasonAddressMismatch), permits: []netip.AddrPort{d.tls()}, twin: through(d.name)})

	// `sni: optional` lets a nameless flow pass where all names of the address are the rule's.
	registry := netip.AddrPortFrom(lab.Registry, 443)
	s.names["mcr.microsoft.com"] = true
	c := s.target(t)
	if err := s.Upstream.Set(c.name + ". 60 IN A " + lab.Registry.String()); err != nil {
		t.Fatal(err)
	}
	nameless := func(t *testing.T) sight { return hello(t, s.research, registry, records(clientHello(), 1<<14)) }
	s.resolve(t, s.research, c.name)
	s.resolve(t, s.research, "mcr.microsoft.com")
	s.play(t, bypass{name: "without a name, where another name of the address is not the rule's", from: s.research,
		try: nameless, want: denied, event: named(registry, "", byInternet, policy.ReasonNoName), permits: []netip.AddrPort{registry},
		twin: func(t *testing.T) sight {
			return s.handshake(t, s.research, registry, &tls.Config{ServerName: "mcr.microsoft.com"}, nil)
		}})
}

// TestOddSegments sends what no TCP stack would, past the first packet on which the decision hangs.
func TestOddSegments(t *testing.T) {
	s := shared.open(t)
	s.openInfra(t)
	me := s.invoice.Addr
	twin := func(t *testing.T) sight { return connect(t, s.invoice, netip.AddrPortFrom(lab.AgentInfra, 80)) }
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	for i, tc := range []struct {
		name  string
		to    netip.Addr
		flags byte
		data  string
	}{
		{"SYN with data", lab.Exfil, syn, loot},
		{"ACK in the middle of nothing", lab.Exfil, ack | psh, loot},
		{"ACK with data to a pinned address", x.addr, ack | psh, loot},
		{"SYN and ACK, as if the other side had opened", lab.Exfil, syn | ack, ""},
		{"FIN", lab.Exfil, fin, loot},
		{"no flags", lab.Exfil, 0, loot},
		{"all flags", lab.Exfil, fin | syn | rst | psh | ack | urg, loot},
		{"RST with data", lab.Exfil, rst, loot},
		{"urgent data", lab.Exfil, ack | urg, loot},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src, dst := netip.AddrPortFrom(me, uint16(42000+i)), netip.AddrPortFrom(tc.to, 443)
			if tc.to == lab.Exfil {
				dst = netip.AddrPortFrom(tc.to, 444) // refusals at 443 are another test's
			}
			for range 3 {
				send(t, s.invoice, ip4{src: me, dst: tc.to, proto: policy.TCP, payload: segment(src, dst, 1000, 2000, tc.flags, 4, []byte(tc.data))})
			}
			// Behind it, in order, what is permitted: then what was sent has come out, or never will.
			if got := twin(t); got.what != reached {
				t.Errorf("the twin saw %q", got.what)
			}
			s.sealed(t)
		})
	}
}

// TestRelated hangs packets on flows that are permitted, as connection tracking might see them.
func TestRelated(t *testing.T) {
	s := shared.open(t)
	s.openInfra(t)
	me := s.invoice.Addr
	from := netip.AddrPortFrom(me, 43210)
	packet := ip4{src: me, dst: infra.Addr(), proto: policy.UDP, payload: udp(from, infra, []byte("open"))}
	if got := throw(t, s.invoice, packet); got.what != reached {
		t.Fatalf("the flow saw %q", got.what)
	}
	twin := func(t *testing.T) sight { return throw(t, s.invoice, packet) }
	there, back := packet.bytes(), ip4{src: infra.Addr(), dst: me, proto: policy.UDP, payload: udp(infra, from, []byte("open"))}.bytes()
	for name, quoted := range map[string][]byte{"there": there, "back": back} {
		for i, to := range []netip.Addr{lab.Exfil, lab.DatabaseIP, lab.Malicious} {
			t.Run("ICMP error that quotes the way "+name+", to "+to.String(), func(t *testing.T) {
				for _, kind := range []byte{3, 11, 12} {
					send(t, s.invoice, ip4{src: me, dst: to, proto: policy.ICMP, payload: icmp(kind, byte(i), append(append([]byte{0, 0, 0, 0}, quoted...), loot...))})
				}
				if got := twin(t); got.what != reached {
					t.Errorf("the twin saw %q", got.what)
				}
				s.sealed(t)
			})
		}
	}
}

// TestOptions has IP options choose another way (RFC 791: loose and strict source routing, record route).
func TestOptions(t *testing.T) {
	s := shared.open(t)
	s.openInfra(t)
	me := s.invoice.Addr
	via := lab.Exfil.As4()
	for name, kind := range map[string]byte{"loose": 131, "strict": 137, "record": 7} {
		for _, to := range []netip.AddrPort{infra, netip.AddrPortFrom(lab.GatewayAddr, 53), netip.AddrPortFrom(lab.Exfil, 4445)} {
			t.Run(name+" to "+to.String(), func(t *testing.T) {
				src := netip.AddrPortFrom(me, 43300+uint16(kind))
				p := ip4{src: me, dst: to.Addr(), proto: policy.UDP, options: append([]byte{kind, 7, 4}, append(via[:], 0)...),
					payload: udp(src, to, []byte(loot))}
				send(t, s.invoice, p)
				p.options, p.dst, p.payload = nil, infra.Addr(), udp(src, infra, []byte(loot))
				if got := throw(t, s.invoice, p); got.what != reached {
					t.Errorf("the twin without options saw %q", got.what)
				}
				s.sealed(t)
			})
		}
	}
}

// TestSourcePort speaks from ports that filters are known to trust.
func TestSourcePort(t *testing.T) {
	s := shared.open(t)
	s.openInfra(t)
	me := s.invoice.Addr
	for _, port := range []uint16{53, 67, 123, 443, 14433} {
		from := netip.AddrPortFrom(me, port)
		to := netip.AddrPortFrom(lab.Exfil, 8000+port)
		s.play(t, bypass{name: from.String(),
			try: func(t *testing.T) sight {
				return throw(t, s.invoice, ip4{src: me, dst: to.Addr(), proto: policy.UDP, payload: udp(from, to, []byte(loot))})
			},
			want: prohibited, event: first(policy.UDP, to, byInternet, policy.ReasonRule),
			twin: func(t *testing.T) sight {
				return throw(t, s.invoice, ip4{src: me, dst: infra.Addr(), proto: policy.UDP, payload: udp(from, infra, []byte(loot))})
			}})
	}
}

// TestRedirect has the gateway told, as by its router, to send others' packets another way (RFC 792, Redirect).
func TestRedirect(t *testing.T) {
	s := shared.open(t)
	s.openInfra(t)
	me, router := s.invoice.Addr, netip.MustParseAddr("10.20.0.1")
	from := netip.AddrPortFrom(me, 43400)
	flow := ip4{src: me, dst: infra.Addr(), proto: policy.UDP, payload: udp(from, infra, []byte("open"))}
	twin := func() {
		t.Helper()
		if got := throw(t, s.invoice, flow); got.what != reached {
			t.Fatalf("the flow saw %q", got.what)
		}
	}
	way := func() (via string) {
		t.Helper()
		if err := s.Host(lab.Gateway).Do(func() error {
			routes, err := netlink.RouteGet(infra.Addr().AsSlice())
			if err == nil {
				via = routes[0].Gw.String()
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return via
	}
	twin()
	before := way()
	// What left the gateway for that flow, as its router would quote it; and what the agent sent.
	masqueraded := ip4{src: lab.GatewayAddr, dst: infra.Addr(), proto: policy.UDP, payload: udp(netip.AddrPortFrom(lab.GatewayAddr, from.Port()), infra, []byte("open"))}
	instead := netip.MustParseAddr("10.20.0.66").As4()
	for _, src := range []netip.Addr{router, me} {
		for _, quoted := range []ip4{masqueraded, flow} {
			for code := range byte(4) {
				send(t, s.invoice, ip4{src: src, dst: lab.GatewayAddr, proto: policy.ICMP, payload: icmp(5, code, append(instead[:], quoted.bytes()...))})
			}
		}
	}
	twin() // and behind them, in order, the flow goes on
	if after := way(); after != before {
		t.Errorf("to %s by way of %s, before %s", infra.Addr(), after, before)
	}
	s.sealed(t)
}
