package attacks

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// question is the event of a refused question.
func question(name, rule string, reason policy.Reason) event {
	return event{class: audit.DNSActivity, host: name, rule: rule, reason: reason, stage: policy.StageDNS}
}

// TestResolvers asks for the attacker's names, at the gateway and around it. The twin asks the
// same resolver for a permitted name, which the gateway answers in its place.
func TestResolvers(t *testing.T) {
	s := shared.open(t)
	for i, tc := range []struct {
		name, network string
		at            netip.Addr
	}{
		{"gateway over UDP", "udp", lab.GatewayAddr},
		{"gateway over TCP", "tcp", lab.GatewayAddr},
		{"attacker's over UDP", "udp", lab.Exfil},
		{"attacker's over TCP", "tcp", lab.Exfil},
		{"known-bad one over UDP", "udp", lab.Malicious},
		{"one that does not exist over UDP", "udp", netip.MustParseAddr("9.9.9.9")},
		{"next door over TCP", "tcp", lab.DatabaseIP},
	} {
		x := s.target(t)
		name := fmt.Sprintf("r%d.t.%s", i, lab.AttackerDomain)
		s.play(t, bypass{name: tc.name,
			try:  func(t *testing.T) sight { return ask(t, s.invoice, tc.network, tc.at, name) },
			want: blocked, event: question(name, byInternet, policy.ReasonRule),
			twin: func(t *testing.T) sight { return ask(t, s.invoice, tc.network, tc.at, x.name) }})
	}
	t.Run("DNS over TLS", func(t *testing.T) {
		x := s.target(t)
		s.resolve(t, s.invoice, x.name)
		for _, at := range []netip.Addr{lab.Exfil, x.addr} {
			to := netip.AddrPortFrom(at, 853)
			s.play(t, bypass{name: at.String(),
				try:  func(t *testing.T) sight { return s.handshake(t, s.invoice, to, &tls.Config{ServerName: x.name}, nil) },
				want: refused, event: first(policy.TCP, to, policy.RuleInvariant, policy.ReasonInvariant),
				twin: func(t *testing.T) sight { return ask(t, s.invoice, "tcp", lab.Exfil, x.name) }})
		}
	})
	t.Run("not DNS at all", func(t *testing.T) {
		// A shell on port 53 of the attacker ends at the gateway's own resolver, which does not
		// understand it.
		conn, err := dial(t, s.invoice, "tcp", netip.AddrPortFrom(lab.Exfil, 53))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte("\x00\x05uname and so on"))
		conn.(*net.TCPConn).CloseWrite()
		if n, err := conn.Read(make([]byte, 64)); n > 0 || failed(err).what == silence {
			t.Errorf("%d bytes, %v", n, err)
		}
		s.sealed(t)
	})
}

// TestTunnel carries data out in the names that it asks for.
func TestTunnel(t *testing.T) {
	s := shared.open(t)
	x := s.target(t)
	s.names["www.wild.example"], s.names["txt.wild.example"] = true, true
	s.record(t, "www.wild.example", x.addr)
	s.record(t, "txt.wild.example", x.addr)
	www := func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.GatewayAddr, "www.wild.example") }
	long := strings.Repeat("mzxw6ytboi4dqnzq", 3) + "mzxw6ytb"
	full := "nfxhm33jmnssandxgeywizlem43.qnjxgy3hfzwgs3tbmf2ca.z3fnfxgqzjamrxxe4t.2oqqhi4tfmfzs4ylp"
	s.play(t,
		bypass{name: "long label below a permitted wildcard",
			try:  func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.GatewayAddr, long+".wild.example") },
			want: blocked, event: question(long+".wild.example", policy.RuleInvariant, policy.ReasonTunnelling), twin: www},
		bypass{name: "many labels below a permitted wildcard",
			try:  func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.GatewayAddr, full+".wild.example") },
			want: blocked, event: question(full+".wild.example", policy.RuleInvariant, policy.ReasonTunnelling), twin: www},
		bypass{name: "TXT of a permitted name",
			try: func(t *testing.T) sight {
				got, _ := query(t, s.invoice, "udp", lab.GatewayAddr, "txt.wild.example", dns.TypeTXT)
				return got
			},
			want: noData, event: question("txt.wild.example", policy.RuleInvariant, policy.ReasonTunnelling),
			twin: func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.GatewayAddr, "txt.wild.example") }},
		bypass{name: "denied name below a permitted wildcard",
			try:  func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.GatewayAddr, "UPLOAD.wild.example") },
			want: blocked, event: question("upload.wild.example", "deny-uploads", policy.ReasonRule), twin: www},
	)
	t.Run("many names", func(t *testing.T) {
		// What gets through before the limit may be asked; it must stop.
		var got sight
		var name string
		for i := range 100 {
			name = fmt.Sprintf("n%d.wild.example", i)
			s.names[name] = true
			if got = ask(t, s.research, "udp", lab.GatewayAddr, name); got.reason == string(policy.ReasonTunnelling) {
				break
			}
		}
		if got.what != blocked || s.Upstream.Asked(name) {
			t.Errorf("%s: %q, asked upstream: %v", name, got.what, s.Upstream.Asked(name))
		}
		s.sealed(t)
	})
	t.Run("case of letters", func(t *testing.T) {
		// A resolver that passes 0x20 bits on is a channel of a bit a letter.
		y := s.target(t)
		got, reply := query(t, s.invoice, "udp", lab.GatewayAddr, strings.ToUpper(y.name), dns.TypeA)
		if got.what != reached || reply.Question[0].Name != strings.ToUpper(y.name)+"." {
			t.Fatalf("%q (%s)", got.what, got.detail)
		}
		s.sealed(t)
	})
	t.Run("labels that are spelt with escapes", func(t *testing.T) {
		// On the wire a label may hold any byte, a dot too (RFC 2181, section 11): text and wire then
		// disagree about where the labels are.
		for _, label := range []string{`data\.out`, `data\000`, `data\032out`, `data\\`, `\255data`, `*`, `-data`} {
			got := ask(t, s.invoice, "udp", lab.GatewayAddr, label+".wild.example")
			if got.what != blocked || got.reason != string(policy.ReasonNoName) {
				t.Errorf("%s: %q (%s)", label, got.what, got.detail)
			}
		}
		y := s.target(t)
		escaped := strings.Replace(y.name, ".", `\.`, 1)
		if got := ask(t, s.invoice, "udp", lab.GatewayAddr, escaped); got.what != blocked {
			t.Errorf("%s: %q (%s)", escaped, got.what, got.detail)
		}
		if got := ask(t, s.invoice, "udp", lab.GatewayAddr, y.name); got.what != reached {
			t.Errorf("the twin saw %q (%s)", got.what, got.detail)
		}
		s.sealed(t)
	})
	t.Run("AAAA and HTTPS", func(t *testing.T) {
		y := s.target(t)
		for _, qtype := range []uint16{dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB} {
			if got, _ := query(t, s.invoice, "udp", lab.GatewayAddr, y.name, qtype); got.what != noData {
				t.Errorf("type %d: %q (%s)", qtype, got.what, got.detail)
			}
		}
	})
}

// TestRebind has a permitted name lead into private networks.
func TestRebind(t *testing.T) {
	s := shared.open(t)
	database := netip.AddrPortFrom(lab.DatabaseIP, 443)
	for _, tc := range []struct {
		name    string
		records func(name string) []string
	}{
		{"next door", func(n string) []string { return []string{n + ". 60 IN A " + lab.DatabaseIP.String()} }},
		{"the gateway", func(n string) []string { return []string{n + ". 60 IN A " + lab.GatewayAddr.String()} }},
		{"metadata", func(n string) []string { return []string{n + ". 60 IN A 169.254.169.254"} }},
		{"loopback", func(n string) []string { return []string{n + ". 60 IN A 127.0.0.1"} }},
		{"agent infrastructure", func(n string) []string { return []string{n + ". 60 IN A " + lab.AgentInfra.String()} }},
		{"by CNAME to a private name", func(n string) []string {
			return []string{n + ". 60 IN CNAME db.internal.example.", "db.internal.example. 60 IN A " + lab.DatabaseIP.String()}
		}},
		{"by CNAME to a private endpoint", func(n string) []string {
			return []string{n + ". 60 IN CNAME contoso.privatelink.openai.azure.com."}
		}},
	} {
		x, y := s.target(t), s.target(t)
		if err := s.Upstream.Set(tc.records(x.name)...); err != nil {
			t.Fatal(err)
		}
		s.play(t, bypass{name: tc.name,
			try:  func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.GatewayAddr, x.name) },
			want: blocked, event: question(x.name, "allow-tool-calls", policy.ReasonRebind),
			twin: func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.GatewayAddr, y.name) }})
	}
	t.Run("one private address among public ones", func(t *testing.T) {
		x := s.target(t)
		s.record(t, x.name, lab.DatabaseIP)
		s.play(t, bypass{name: "is dropped",
			try: func(t *testing.T) sight {
				got, reply := query(t, s.invoice, "udp", lab.GatewayAddr, x.name, dns.TypeA)
				if got.what != reached || len(reply.Answer) != 1 || !strings.HasSuffix(reply.Answer[0].String(), x.addr.String()) {
					t.Errorf("%q (%s)", got.what, got.detail)
				}
				return s.handshake(t, s.invoice, database, &tls.Config{ServerName: x.name}, nil)
			},
			want: refused, event: first(policy.TCP, database, byEastWest, policy.ReasonRule),
			permits: []netip.AddrPort{x.tls()},
			twin: func(t *testing.T) sight {
				return s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name}, nil)
			}})
	})
	t.Run("CNAME to a denied name", func(t *testing.T) {
		x, y := s.target(t), s.target(t)
		if err := s.Upstream.Set(x.name+". 60 IN CNAME upload.wild.example.", "upload.wild.example. 60 IN A "+x.addr.String()); err != nil {
			t.Fatal(err)
		}
		s.play(t, bypass{name: "is refused",
			try:  func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.GatewayAddr, x.name) },
			want: blocked, event: question(x.name, "deny-uploads", policy.ReasonRule),
			twin: func(t *testing.T) sight { return ask(t, s.invoice, "udp", lab.GatewayAddr, y.name) }})
	})
}

// TestAnothersPin goes where another agent was led.
func TestAnothersPin(t *testing.T) {
	s := shared.open(t)
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	visit := func(from *lab.Host) sight { return s.handshake(t, from, x.tls(), &tls.Config{ServerName: x.name}, nil) }
	s.play(t, bypass{name: "without asking", from: s.research,
		try:  func(t *testing.T) sight { return visit(s.research) },
		want: refused, event: first(policy.TCP, x.tls(), byInternet, policy.ReasonNotPinned),
		permits: []netip.AddrPort{x.tls()},
		twin: func(t *testing.T) sight {
			if got := visit(s.invoice); got.what != reached {
				return got
			}
			s.resolve(t, s.research, x.name)
			return visit(s.research)
		}})
}
