package attacks

import (
	"crypto/tls"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// basics are the attacks that must fail however the gateway is set up.
func (s *scene) basics(t *testing.T) {
	t.Helper()
	s.openInfra(t)
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	attacker := netip.AddrPortFrom(lab.Exfil, 443)
	web := netip.AddrPortFrom(lab.AgentInfra, 80)
	visit := func(to netip.AddrPort, sni string) func(*testing.T) sight {
		return func(t *testing.T) sight { return s.handshake(t, s.invoice, to, &tls.Config{ServerName: sni}, nil) }
	}
	sni := "front." + lab.ExfilName
	s.play(t,
		bypass{name: "permitted name, other address", try: visit(attacker, x.name), want: refused,
			event: first(policy.TCP, attacker, byInternet, policy.ReasonNotPinned), permits: []netip.AddrPort{x.tls()}, twin: visit(x.tls(), x.name)},
		bypass{name: "permitted address, other name", try: visit(x.tls(), sni), want: denied,
			event: named(x.tls(), sni, byInternet, policy.ReasonRule), twin: visit(x.tls(), x.name)},
		bypass{name: "next door", try: func(t *testing.T) sight { return connect(t, s.invoice, netip.AddrPortFrom(lab.DatabaseIP, 5432)) }, want: refused,
			event: first(policy.TCP, netip.AddrPortFrom(lab.DatabaseIP, 5432), byEastWest, policy.ReasonRule),
			twin:  func(t *testing.T) sight { return connect(t, s.invoice, web) }},
		bypass{name: "another resolver", try: func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.Exfil, sni) }, want: blocked,
			event: question(sni, byInternet, policy.ReasonRule), twin: func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.Exfil, x.name) }},
	)
}

// from tells whether the last visit to a site came from an address.
func (s *scene) from(t *testing.T, site string, to, want netip.Addr) {
	t.Helper()
	visits := s.Sites[site].Visits()
	for i := len(visits) - 1; i >= 0; i-- {
		if visits[i].To.Addr() == to {
			if got := visits[i].From.Addr(); got != want {
				t.Errorf("%s saw %s, want %s", site, got, want)
			}
			return
		}
	}
	t.Errorf("%s was not visited at %s", site, to)
}

func TestTwoArms(t *testing.T) {
	s := open(t, lab.Options{TwoArm: true})
	s.basics(t)
	s.from(t, lab.Platform, lab.AgentInfra, lab.GatewayAddr)
}

// TestKeepSource lets private destinations see the agents, and the internet nothing of them.
func TestKeepSource(t *testing.T) {
	s := open(t, lab.Options{Configure: func(c map[string]any) { c["snat"] = "internet" }})
	// What an agent's address is shown to must send its answers by the gateway.
	if err := s.Host(lab.Fabric).Do(func() error {
		r := netlink.NewRule()
		r.IifName, r.Table, r.Priority, r.Family = "to-platform", 107, 900, netlink.FAMILY_V4
		if err := netlink.RuleAdd(r); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Table: 107, Gw: lab.GatewayAddr.AsSlice(),
			Dst: &net.IPNet{IP: lab.AgentSubnet.Addr().AsSlice(), Mask: net.CIDRMask(lab.AgentSubnet.Bits(), 32)}})
	}); err != nil {
		t.Fatal(err)
	}
	s.basics(t)
	s.from(t, lab.Platform, lab.AgentInfra, s.invoice.Addr)
	if got := connect(t, s.invoice, infra); got.what != reached { // forwarded by the kernel
		t.Errorf("%q", got.what)
	}
	s.from(t, lab.Platform, lab.AgentInfra, s.invoice.Addr)
	for _, v := range s.Sites[lab.Internet].Visits() {
		if v.From.Addr() != lab.GatewayAddr {
			t.Errorf("the internet saw %s", v.From)
		}
	}
}

// TestSharedPins has a resolver ask for all agents: what it was given, all of them may use.
func TestSharedPins(t *testing.T) {
	s := open(t, lab.Options{Configure: func(c map[string]any) {
		dns := c["dns"].(map[string]any)
		dns["pinScope"], dns["clients"] = "shared", []string{lab.OpenAI.String() + "/32"}
	}})
	s.basics(t)
	x := s.target(t)
	if got := ask(t, s.Host(lab.PrivateEndpoints), "udp", lab.GatewayAddr, x.name); got.what != reached {
		t.Fatalf("the resolver saw %q (%s)", got.what, got.detail)
	}
	nobody := s.stranger(t)
	to := netip.AddrPortFrom(nobody, 443)
	s.play(t, bypass{name: "what nobody asked for", from: s.research,
		try:  func(t *testing.T) sight { return s.handshake(t, s.research, to, &tls.Config{ServerName: x.name}, nil) },
		want: refused, event: first(policy.TCP, to, byInternet, policy.ReasonNotPinned), permits: []netip.AddrPort{x.tls()},
		twin: func(t *testing.T) sight {
			return s.handshake(t, s.research, x.tls(), &tls.Config{ServerName: x.name}, nil)
		}})
}
