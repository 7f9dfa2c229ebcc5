package server

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// upstream is a resolver on loopback with some records.
func upstream(t *testing.T, records ...string) config.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for _, text := range records {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
			} else if rr.Header().Name == q.Question[0].Name {
				m.Answer = append(m.Answer, rr)
			}
		}
		w.WriteMsg(m)
	})}
	go srv.ActivateAndServe()
	t.Cleanup(func() { srv.Shutdown() })
	return config.AddrPort{AddrPort: netip.MustParseAddrPort(conn.LocalAddr().String())}
}

// TestEgressFollowsRuleset: the kernel is told the hosts of the ruleset's feeds, on port 443 of addresses on the Internet, and what the
// configuration implies; a ruleset that no longer names a feed closes its host.
func TestEgressFollowsRuleset(t *testing.T) {
	cfg, err := config.Parse([]byte("policy: {file: r.yaml}\nagents: [10.20.1.0/24]\negress: [10.0.0.9, updates.example]\n" +
		"serviceTags: {discovery: {location: eastus2, subscription: 00000000-0000-4000-8000-000000000000}}\nca: {keyVault: https://Contoso.vault.azure.net, key: k}\n"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.DNS.Upstream = []config.AddrPort{upstream(t, "updates.example. 60 IN A 20.1.0.1", "management.azure.com. 60 IN A 20.2.0.1", "management.azure.com. 60 IN A 20.2.0.2",
		"contoso.vault.azure.net. 60 IN A 10.20.2.9", "a.example. 60 IN A 20.3.0.1", "inside.example. 60 IN A 10.20.2.5", "inside.example. 60 IN A 169.254.169.254")}
	s := &Server{cfg: cfg, log: hclog.NewNullLogger()}
	compile := func(urls ...string) *policy.Ruleset {
		var feeds string
		for i, url := range urls {
			feeds += fmt.Sprintf("{name: f%d, format: netset, url: %q}, ", i, url)
		}
		doc, err := policy.Decode([]byte("version: 1\nthreatGroups: [{name: bad, feeds: [" + feeds + "]}]\nrules: [{name: deny, priority: 1, destinations: [bad], action: DENY}]"))
		if err != nil {
			t.Fatal(err)
		}
		rules, err := policy.Compile(doc, policy.Environment{})
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
	const implied = "[10.20.2.9:443 20.2.0.1:443 20.2.0.2:443"
	for _, tt := range []struct {
		rules    *policy.Ruleset
		services string
		complete bool
	}{
		{nil, implied + "]", true},
		{compile("https://A.example/list", "https://a.example/other"), implied + " 20.3.0.1:443]", true},
		{compile("https://inside.example/list"), implied + "]", true},
		{compile("https://a.example:8443/list", "https://8.8.8.8/list", "file:///list"), implied + "]", true},
		{compile("https://nowhere.example/list"), implied + "]", false},
	} {
		found := s.findEgress(t.Context(), tt.rules)
		complete := len(s.unresolved.list()) == 0
		if fmt.Sprint(found.services) != tt.services || fmt.Sprint(found.prefixes) != "[10.0.0.9/32 20.1.0.1/32]" || complete != tt.complete {
			t.Errorf("%v, %v, %v; want %s", found.prefixes, found.services, complete, tt.services)
		}
	}

	// What is reached is what was told, whatever the resolver says a moment later, or if it says nothing any more.
	s.firstEgress(t.Context(), nil)
	cfg.DNS.Upstream = []config.AddrPort{{AddrPort: netip.MustParseAddrPort("127.0.0.1:9")}}
	if addrs, err := s.reach(t.Context(), "Management.azure.com"); err != nil || !slices.Equal(addrs, []netip.Addr{netip.MustParseAddr("20.2.0.1"), netip.MustParseAddr("20.2.0.2")}) {
		t.Errorf("%v, %v", addrs, err)
	}
	if again := s.findEgress(t.Context(), nil); len(s.unresolved.list()) == 0 || !again.equal(s.egress.known) {
		t.Errorf("while no resolver answers: %+v, %v", again, s.unresolved.list())
	}
}
