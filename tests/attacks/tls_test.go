package attacks

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// name is the event of a refusal by the name that a flow claims.
func named(dst netip.AddrPort, host, rule string, reason policy.Reason) event {
	return event{dst: dst, host: host, rule: rule, reason: reason, stage: policy.StageName}
}

// first is the event of a refusal at the first packet.
func first(proto policy.Proto, dst netip.AddrPort, rule string, reason policy.Reason) event {
	return event{dst: dst, proto: proto, rule: rule, reason: reason, stage: policy.StagePacket}
}

// TestName claims names and goes to addresses that do not belong together.
func TestName(t *testing.T) {
	s := shared.open(t)
	visit := func(x target, cfg *tls.Config, shape func([]byte) [][]byte) func(*testing.T) sight {
		return func(t *testing.T) sight { return s.handshake(t, s.invoice, x.tls(), cfg, shape) }
	}
	// pinned is a target that the agent has asked for.
	pinned := func(t *testing.T) target {
		x := s.target(t)
		s.resolve(t, s.invoice, x.name)
		return x
	}

	t.Run("permitted names", func(t *testing.T) {
		a, b := pinned(t), pinned(t)
		elsewhere := s.stranger(t)
		attacker := netip.AddrPortFrom(lab.Exfil, 443)
		s.play(t,
			bypass{name: "at the attacker's address",
				try: func(t *testing.T) sight {
					return s.handshake(t, s.invoice, attacker, &tls.Config{ServerName: a.name}, nil)
				},
				want: refused, event: first(policy.TCP, attacker, byInternet, policy.ReasonNotPinned),
				permits: []netip.AddrPort{a.tls()}, twin: visit(a, &tls.Config{ServerName: a.name}, nil)},
			bypass{name: "at an address that no name has",
				try: func(t *testing.T) sight {
					return s.handshake(t, s.invoice, netip.AddrPortFrom(elsewhere, 443), &tls.Config{ServerName: a.name}, nil)
				},
				want: refused, event: first(policy.TCP, netip.AddrPortFrom(elsewhere, 443), byInternet, policy.ReasonNotPinned),
				twin: visit(a, &tls.Config{ServerName: a.name}, nil)},
			bypass{name: "at the address of another permitted name",
				try:  visit(b, &tls.Config{ServerName: a.name}, nil),
				want: denied, event: named(b.tls(), a.name, byInternet, policy.ReasonAddressMismatch),
				permits: []netip.AddrPort{b.tls()}, twin: visit(b, &tls.Config{ServerName: b.name}, nil)},
		)
	})
	t.Run("permitted address", func(t *testing.T) {
		for i, tc := range []struct {
			name, sni string
			host      string // in the audit
			rule      string
			reason    policy.Reason
		}{
			{"attacker's name", lab.ExfilName, lab.ExfilName, byInternet, policy.ReasonRule},
			{"address as a name", "51.10.0.1", "", byInternet, policy.ReasonNoName},
			{"denied name", "upload.wild.example", "upload.wild.example", "deny-uploads", policy.ReasonRule},
			{"denied name in upper case", "UPLOAD.Wild.EXAMPLE", "upload.wild.example", "deny-uploads", policy.ReasonRule},
			{"denied name with a final dot", "upload.wild.example.", "upload.wild.example", "deny-uploads", policy.ReasonRule},
			{"denied name as an A-label", "xn--bcher-kva.wild.example", "xn--bcher-kva.wild.example", "deny-uploads", policy.ReasonRule},
			{"denied name in Unicode", "bücher.wild.example", "xn--bcher-kva.wild.example", "deny-uploads", policy.ReasonRule},
			{"denied name in upper-case Unicode", "BÜCHER.wild.example", "xn--bcher-kva.wild.example", "deny-uploads", policy.ReasonRule},
			{"denied name with an ideographic dot", "upload\u3002wild\u3002example", "upload.wild.example", "deny-uploads", policy.ReasonRule},
			{"space before the name", " api.github.com", "", byInternet, policy.ReasonNoName},
			{"name that is longer than a name", string(bytes.Repeat([]byte("a."), 200)) + "example", "", byInternet, policy.ReasonNoName},
		} {
			x := pinned(t)
			twin := visit(x, &tls.Config{ServerName: x.name}, nil)
			if i%2 == 1 { // the permitted name is as permitted in upper case
				twin = func(t *testing.T) sight {
					return hello(t, s.invoice, x.tls(), records(clientHello(serverNames(string(bytes.ToUpper([]byte(x.name))))), 1<<14))
				}
			}
			s.play(t, bypass{name: tc.name,
				try: func(t *testing.T) sight {
					return hello(t, s.invoice, x.tls(), records(clientHello(serverNames(tc.sni)), 1<<14))
				},
				want: denied, event: named(x.tls(), tc.host, tc.rule, tc.reason),
				permits: []netip.AddrPort{x.tls()}, twin: twin})
		}
	})
	t.Run("no name", func(t *testing.T) {
		x := pinned(t)
		// `sni: optional` stands in the rule of Microsoft's names.
		s.resolve(t, s.invoice, "mcr.microsoft.com")
		s.names["mcr.microsoft.com"] = true
		registry := netip.AddrPortFrom(lab.Registry, 443)
		s.play(t, bypass{name: "without the extension",
			try:  func(t *testing.T) sight { return hello(t, s.invoice, x.tls(), records(clientHello(), 1<<14)) },
			want: denied, event: named(x.tls(), "", byInternet, policy.ReasonNoName),
			permits: []netip.AddrPort{registry},
			twin:    func(t *testing.T) sight { return hello(t, s.invoice, registry, records(clientHello(), 1<<14)) }})
	})
	t.Run("IP literal", func(t *testing.T) {
		x, nobody := pinned(t), s.stranger(t)
		literal := netip.AddrPortFrom(nobody, 443)
		s.play(t, bypass{name: "https://ADDRESS",
			try: func(t *testing.T) sight {
				return s.handshake(t, s.invoice, literal, &tls.Config{ServerName: nobody.String()}, nil)
			},
			want: refused, event: first(policy.TCP, literal, byInternet, policy.ReasonNotPinned),
			permits: []netip.AddrPort{x.tls()}, twin: visit(x, &tls.Config{ServerName: x.name}, nil)})
	})
}

// TestHello sends hellos that are hard to read: of names that are denied, which must be
// found in them, and of names that are permitted, which must get through.
func TestHello(t *testing.T) {
	s := shared.open(t)
	// long are application protocols that make a hello as long.
	long := func(n int) []string {
		var out []string
		for ; n > 0; n -= 256 {
			out = append(out, string(bytes.Repeat([]byte{'x'}, 255)))
		}
		return append(out, "http/1.1")
	}
	whole := func(b []byte) [][]byte { return [][]byte{b} }
	for _, tc := range []struct {
		name   string
		shape  func([]byte) [][]byte
		protos []string
	}{
		{"cut at every byte", bytewise, nil},
		{"over records of one byte", inRecords(1), nil},
		{"over records of 100 bytes", inRecords(100), nil},
		{"first byte alone", func(b []byte) [][]byte { return [][]byte{b[:1], b[1:]} }, nil},
		{"record header cut", func(b []byte) [][]byte { return [][]byte{b[:3], b[3:]} }, nil},
		{"above 16 KiB", whole, long(20 << 10)},
		{"above 16 KiB and cut", inRecords(999), long(20 << 10)},
		{"just below 64 KiB", whole, long(62 << 10)},
	} {
		x := s.target(t)
		s.resolve(t, s.invoice, x.name)
		sni := fmt.Sprintf("h%d.%s", len(tc.name), lab.ExfilName)
		s.play(t, bypass{name: tc.name,
			try: func(t *testing.T) sight {
				return s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: sni, NextProtos: tc.protos}, tc.shape)
			},
			want: denied, event: named(x.tls(), sni, byInternet, policy.ReasonRule),
			permits: []netip.AddrPort{x.tls()},
			twin: func(t *testing.T) sight {
				return s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name, NextProtos: tc.protos}, tc.shape)
			}})
	}
}

// TestBadHello sends what two parsers could read in two ways, with the permitted
// name in it, to the address that belongs to the name.
func TestBadHello(t *testing.T) {
	s := shared.open(t)
	for _, tc := range []struct {
		name string
		sent func(name string) []byte
	}{
		{"two names", func(n string) []byte { return records(clientHello(serverNames(n, lab.ExfilName)), 1<<14) }},
		{"two names, the forbidden first", func(n string) []byte { return records(clientHello(serverNames(lab.ExfilName, n)), 1<<14) }},
		{"two extensions", func(n string) []byte {
			return records(clientHello(serverNames(n), serverNames(lab.ExfilName)), 1<<14)
		}},
		{"empty name", func(string) []byte { return records(clientHello(serverNames("")), 1<<14) }},
		{"empty list of names", func(string) []byte { return records(clientHello(extension(0, []byte{0, 0})), 1<<14) }},
		{"NUL in the name", func(n string) []byte { return records(clientHello(serverNames(n+"\x00."+lab.ExfilName)), 1<<14) }},
		{"above 64 KiB", func(n string) []byte {
			return records(clientHello(padding(0x4200, 40<<10), padding(0x4201, 30<<10), serverNames(n)), 1<<14)
		}},
		{"above 64 KiB by record headers", func(n string) []byte {
			return records(clientHello(serverNames(n), padding(0x4200, 12<<10)), 1)
		}},
		{"record of another type in between", func(n string) []byte {
			r := records(clientHello(serverNames(n)), 50)
			return append(append(append([]byte{}, r[:55]...), 21, 3, 3, 0, 2, 1, 0), r[55:]...)
		}},
		{"garbage in its record", func(n string) []byte {
			return records(append(clientHello(serverNames(n)), "and more"...), 1<<14)
		}},
		{"ServerHello", func(n string) []byte {
			m := clientHello(serverNames(n))
			m[0] = 2
			return records(m, 1<<14)
		}},
		{"length of the list too long", func(n string) []byte {
			return records(bytes.Replace(clientHello(serverNames(n)), []byte{0, 0, 0, byte(len(n) + 5), 0, byte(len(n) + 3)},
				[]byte{0, 0, 0, byte(len(n) + 5), 0, byte(len(n) + 4)}, 1), 1<<14)
		}},
		{"record without a body", func(n string) []byte {
			return append([]byte{22, 3, 1, 0, 0}, records(clientHello(serverNames(n)), 1<<14)...)
		}},
		{"stalled", func(n string) []byte { return records(clientHello(serverNames(n)), 1<<14)[:60] }},
	} {
		x := s.target(t)
		s.resolve(t, s.invoice, x.name)
		s.play(t, bypass{name: tc.name,
			try:  func(t *testing.T) sight { return hello(t, s.invoice, x.tls(), tc.sent(x.name)) },
			want: denied, event: named(x.tls(), "", policy.RuleInvariant, policy.ReasonBadClientHello),
			permits: []netip.AddrPort{x.tls()},
			twin: func(t *testing.T) sight {
				return hello(t, s.invoice, x.tls(), records(clientHello(serverNames(x.name)), 1<<14))
			}})
	}
	t.Run("trickle", func(t *testing.T) { trickle(t, s) })
	t.Run("garbage behind", func(t *testing.T) { garbage(t, s) })
}

// trickle sends a hello so slowly that it never ends, and its twin just fast enough.
func trickle(t *testing.T, s *scene) {
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	send := func(t *testing.T, pieces [][]byte, every time.Duration) sight {
		conn, err := dial(t, s.invoice, "tcp", x.tls())
		if err != nil {
			return failed(err)
		}
		defer conn.Close()
		got := make(chan sight, 1)
		go func() { got <- helloAnswer(conn) }()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for _, p := range pieces {
			conn.Write(p)
			select {
			case v := <-got:
				return v
			case <-tick.C:
			}
		}
		return <-got
	}
	b := records(clientHello(serverNames(x.name)), 1<<14)
	s.play(t, bypass{name: "a byte at a time",
		try:  func(t *testing.T) sight { return send(t, bytewise(b), 50*time.Millisecond) },
		want: denied, event: named(x.tls(), "", policy.RuleInvariant, policy.ReasonBadClientHello),
		permits: []netip.AddrPort{x.tls()},
		twin:    func(t *testing.T) sight { return send(t, [][]byte{b[:9], b[9:40], b[40:]}, 50*time.Millisecond) }})
}

// garbage sends more behind the hello in the same segment. It belongs to the origin, and
// must neither confuse the gateway nor get past it.
func garbage(t *testing.T, s *scene) {
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	behind := bytes.Repeat([]byte("\x17\x03\x03\x00\x05loot!"), 20)
	send := func(t *testing.T, name string) sight {
		return hello(t, s.invoice, x.tls(), append(records(clientHello(serverNames(name)), 1<<14), behind...))
	}
	sni := "garbage." + lab.ExfilName
	s.play(t, bypass{name: "in the same segment",
		try:  func(t *testing.T) sight { return send(t, sni) },
		want: denied, event: named(x.tls(), sni, byInternet, policy.ReasonRule),
		permits: []netip.AddrPort{x.tls()},
		twin:    func(t *testing.T) sight { return send(t, x.name) }})
}
