package enforcer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestNames(t *testing.T) {
	tests := []struct {
		name     string
		src, dst netip.Addr
		sni      string
		rule     string // that permits; empty: refused
		reason   policy.Reason
	}{
		{"permitted", agent, github, "api.github.com", "allow-tools", policy.ReasonRule},
		{"upper case", agent, github, "API.GitHub.COM", "allow-tools", policy.ReasonRule},
		{"permitted name, address of no name", agent, github2, "api.github.com", "", policy.ReasonNotPinned},
		{"permitted name, address of another", agent, platform, "api.github.com", "", policy.ReasonAddressMismatch},
		{"permitted address, another name", agent, github, "evil.example", "", policy.ReasonDefault},
		{"permitted address, name below", agent, github, "x.api.github.com", "", policy.ReasonDefault},
		{"permitted address, no name", agent, github, "", "", policy.ReasonNoName},
		{"permitted address, address as name", agent, github, "140.82.112.5", "", policy.ReasonNoName},
		{"pin of another agent", neighbor, github, "api.github.com", "", policy.ReasonNotPinned},
		{"optional name, none sent", agent, platform, "", "allow-platform", policy.ReasonRule},
		{"optional name, another sent", agent, platform, "evil.example", "", policy.ReasonDefault},
		{"by address", agent, ledger, "anything.example", "allow-ledger", policy.ReasonRule},
		{"by address, name denied", agent, ledger, "paste.example.com", "", policy.ReasonRule},
		{"needs decryption", agent, evil, "mcp.example.com", "", policy.ReasonNotReady},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, nil)
			l.pin(t, agent, "api.github.com", github)
			l.pin(t, agent, "mcr.microsoft.com", platform)
			l.pin(t, agent, "mcp.example.com", evil)
			for _, a := range []netip.Addr{github, github2, platform, evil, ledger} {
				l.host(t, a, 443, tlsEcho)
			}
			got, err := talk(l.dial(t, tt.src, tt.dst, 443), tt.sni)
			if tt.rule != "" {
				if err != nil || got != "hello" {
					t.Fatalf("%q, %v", got, err)
				}
				open, end := l.log.wait(t, audit.Open), l.log.wait(t, audit.Close)
				if open.Decision.Rule != tt.rule || open.Decision.Tier != policy.TierSplice || open.Digest == "" {
					t.Errorf("opened as %+v", open.Decision)
				}
				if end.BytesOut < 200 || end.BytesIn < 200 || end.Decision.Verdict != policy.Permit {
					t.Errorf("closed as %+v", end)
				}
				if named := tt.dst != ledger; named != (open.Pin != nil) {
					t.Errorf("pin evidence %+v", open.Pin)
				}
				return
			}
			r := l.log.wait(t, audit.Refuse)
			if r.Decision.Reason != tt.reason || r.Decision.Permitted() {
				t.Errorf("refused for %s by %s, want %s", r.Decision.Reason, r.Decision.Rule, tt.reason)
			}
			if l.world.dialled() != 0 || l.log.count(audit.Open) != 0 {
				t.Error("a refused flow was dialled or opened")
			}
			// Nothing permits some of these at the packet, so they see a reset.
			if r.Decision.Stage == policy.StageName && !strings.Contains(err.Error(), "access denied") {
				t.Errorf("the client saw %v, want access denied", err)
			}
			if r.Decision.Stage == policy.StagePacket && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("the client saw %v, want a reset", err)
			}
		})
	}
}

// What is not one well-formed hello is refused with an alert, whatever name it holds.
func TestBadHellos(t *testing.T) {
	good := firstFlight("api.github.com")
	cut := bytes.Index(good, []byte("api.github.com"))
	nul := bytes.Clone(good)
	nul[cut+3] = 0
	short := bytes.Clone(good)
	short[cut-1]-- // the name's length
	for name, raw := range map[string][]byte{
		"NUL":        nul,
		"lengths":    short,
		"not TLS":    []byte("\x16\x03\x01\x00\x05hello"),
		"SSL 2 size": {0x16, 3, 1, 0xff, 0xff},
		"too long":   append([]byte{0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff}, make([]byte, 100<<10)...),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			l.pin(t, agent, "api.github.com", github)
			c := l.dial(t, agent, github, 443)
			if _, err := c.Write(raw); err != nil {
				t.Fatal(err)
			}
			wantAlert(t, c)
			if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != policy.ReasonBadClientHello || r.Message == "" {
				t.Errorf("refused as %+v", r)
			}
			if l.world.dialled() != 0 {
				t.Error("dialled")
			}
		})
	}
}

// The hello in single bytes, each in its own segment, and early data behind it, arrive as
// they were sent.
func TestFragmentedHelloArrivesWhole(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "api.github.com", github)
	l.host(t, github, 443, echo)
	sent := append(firstFlight("api.github.com"), 20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 3, 1, 2, 3)
	sent = append(sent, bytes.Repeat([]byte("garbage"), 100)...)
	c := l.dial(t, agent, github, 443)
	go func() {
		for i := range sent {
			_, _ = c.Write(sent[i : i+1])
		}
		_ = c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes, %v; want %d", len(got), err, len(sent))
	}
}

func TestTrickledHelloIsCutOff(t *testing.T) {
	l := newLab(t, func(o *Options) { o.Limits.HelloTimeout = 300 * time.Millisecond })
	l.pin(t, agent, "api.github.com", github)
	c := l.dial(t, agent, github, 443)
	raw := firstFlight("api.github.com")
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond) // one byte often enough for any idle timeout
		defer tick.Stop()
		for i := range raw {
			select {
			case <-tick.C:
				_, _ = c.Write(raw[i : i+1])
			case <-stop:
				return
			}
		}
	}()
	got := make([]byte, len(accessDenied))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, accessDenied) {
		t.Errorf("% x, %v", got, err)
	}
	if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != policy.ReasonBadClientHello {
		t.Errorf("refused as %+v", r.Decision)
	}
}

func TestNeitherTLSNorHTTP(t *testing.T) {
	for _, first := range []string{"SSH-2.0-client\r\n", "\x00\x01", ""} {
		l := newLab(t, func(o *Options) { o.Limits.HelloTimeout = 100 * time.Millisecond })
		l.pin(t, agent, "api.github.com", github)
		c := l.dial(t, agent, github, 443)
		_, _ = io.WriteString(c, first)
		wantReset(t, c)
		if r := l.log.wait(t, audit.Refuse); r.Decision.Permitted() {
			t.Errorf("%q: %+v", first, r.Decision)
		}
	}
}

// A server that speaks first is reached where the address alone permits it, also past a
// deny by name that has to wait for one.
func TestServerSpeaksFirst(t *testing.T) {
	for _, port := range []uint16{5432, 443} {
		l := newLab(t, func(o *Options) { o.Limits.HelloTimeout = 100 * time.Millisecond })
		l.host(t, ledger, port, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "banner")
			c.Close()
		})
		c := l.dial(t, agent, ledger, port)
		if got, err := io.ReadAll(c); err != nil || string(got) != "banner" {
			t.Errorf("port %d: %q %v", port, got, err)
		}
	}
}

func TestStalePin(t *testing.T) {
	late := int64(2 * time.Hour)
	t.Run("still given", func(t *testing.T) {
		l := newLab(t, nil)
		l.host(t, github, 443, tlsEcho)
		l.pin(t, agent, "api.github.com", github)
		l.clock.offset.Store(late)
		if got, err := talk(l.dial(t, agent, github, 443), "api.github.com"); err != nil || got != "hello" {
			t.Fatal(got, err)
		}
		if n := l.res.asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("no longer given", func(t *testing.T) {
		l := newLab(t, nil)
		l.pin(t, agent, "api.github.com", github)
		l.res.answer("api.github.com", github2)
		l.clock.offset.Store(late)
		if _, err := talk(l.dial(t, agent, github, 443), "api.github.com"); err == nil {
			t.Fatal("permitted")
		}
		if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != policy.ReasonPinExpired {
			t.Errorf("%+v", r.Decision)
		}
	})
	t.Run("nameless", func(t *testing.T) {
		l := newLab(t, nil)
		l.host(t, platform, 443, tlsEcho)
		l.pin(t, agent, "mcr.microsoft.com", platform)
		l.clock.offset.Store(late)
		if got, err := talk(l.dial(t, agent, platform, 443), ""); err != nil || got != "hello" {
			t.Fatal(got, err)
		}
		l.res.answer("mcr.microsoft.com")
		l.clock.offset.Store(2 * late)
		if _, err := talk(l.dial(t, agent, platform, 443), ""); err == nil {
			t.Fatal("permitted")
		}
		if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != policy.ReasonPinExpired {
			t.Errorf("%+v", r.Decision)
		}
	})
	t.Run("refused flows ask nobody", func(t *testing.T) {
		l := newLab(t, nil)
		l.pin(t, agent, "api.github.com", github)
		l.clock.offset.Store(late)
		_, _ = talk(l.dial(t, agent, github, 443), "evil.example")
		l.log.wait(t, audit.Refuse)
		if n := l.res.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// Names pinned to one address that are not all the rule's: a flow without a name could
// be for any of them.
func TestNamelessNeedsEveryName(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "mcr.microsoft.com", platform)
	l.pin(t, agent, "api.github.com", platform)
	_, err := talk(l.dial(t, agent, platform, 443), "")
	if err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Fatal(err)
	}
}

func TestOtherAddressOfTheName(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "api.github.com", github, github2)
	l.host(t, github2, 443, tlsEcho) // github refuses
	if got, err := talk(l.dial(t, agent, github, 443), "api.github.com"); err != nil || got != "hello" {
		t.Fatal(got, err)
	}
	if r := l.log.wait(t, audit.Close); !strings.Contains(r.Message, github2.String()) {
		t.Errorf("closed with message %q", r.Message)
	}
	if d := l.world.dials; len(d) != 2 || d[0].Addr() != github || d[1].Addr() != github2 {
		t.Errorf("dialled %v", d)
	}
}

// A reload judges a flow by the address that it is connected to, not by the one that it meant.
func TestOtherAddressIsWithdrawn(t *testing.T) {
	for denied, want := range map[netip.Addr]int{github: 0, github2: 1} {
		l := newLab(t, nil)
		l.pin(t, agent, "api.github.com", github, github2)
		l.host(t, github2, 443, echo)
		c := l.dial(t, agent, github, 443)
		raw := firstFlight("api.github.com")
		_, _ = c.Write(raw)
		if _, err := io.ReadFull(c, make([]byte, len(raw))); err != nil {
			t.Fatal(err)
		}
		l.rules.Store(compile(t, denying(denied)))
		if n := l.Rejudge(t.Context()); n != want {
			t.Errorf("%d withdrawn when %s is denied, want %d", n, denied, want)
		}
	}
}

// reloading has a reload come just when an address answers.
type reloading struct {
	Dialer
	reload func()
}

func (d reloading) Dial(ctx context.Context, src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	c, err := d.Dialer.Dial(ctx, src, dst)
	d.reload()
	return c, err
}

// A reload between the choice of another address and its answer counts.
func TestOtherAddressIsJudgedOnceMore(t *testing.T) {
	var l *lab
	l = newLab(t, func(o *Options) {
		o.Dialer = reloading{o.Dialer, func() {
			l.rules.Store(compile(t, denying(github2)))
			l.Rejudge(t.Context())
		}}
	})
	l.pin(t, agent, "api.github.com", github, github2)
	l.host(t, github2, 443, tlsEcho)
	c := l.dial(t, agent, github, 443)
	_, _ = c.Write(firstFlight("api.github.com"))
	wantReset(t, c)
	if r := l.log.wait(t, audit.Close); r.Decision.Permitted() || r.Decision.Rule != "deny-bad" || r.BytesOut != 0 {
		t.Errorf("%+v", r)
	}
}

// denying is the ruleset with an address denied first of all.
func denying(addr netip.Addr) string {
	text := strings.Replace(rules, "smartGroups:", "smartGroups:\n  - {name: bad, cidrs: ["+addr.String()+"/32]}", 1)
	return strings.Replace(text, "rules:", "rules:\n  - {name: deny-bad, priority: 0, destinations: [bad], action: DENY}", 1)
}

// An address that a rule denies is not tried, though the name is pinned to it.
func TestOtherAddressIsJudged(t *testing.T) {
	l := newLab(t, nil)
	l.rules.Store(compile(t, denying(github2)))
	l.pin(t, agent, "api.github.com", github, github2)
	l.host(t, github2, 443, tlsEcho)
	c := l.dial(t, agent, github, 443)
	_, _ = c.Write(firstFlight("api.github.com"))
	wantReset(t, c)
	l.log.wait(t, audit.Close)
	if d := l.world.dials; len(d) != 1 || d[0].Addr() != github {
		t.Errorf("dialled %v", d)
	}
}

func TestUnreachableDestination(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "api.github.com", github)
	c := l.dial(t, agent, github, 443)
	_, _ = c.Write(firstFlight("api.github.com"))
	wantReset(t, c)
	if r := l.log.wait(t, audit.Close); !r.Decision.Permitted() || !strings.Contains(r.Message, "did not answer") {
		t.Errorf("%+v", r)
	}
}

func TestNothingIsDialledWithoutAudit(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "api.github.com", github)
	l.log.fail = errors.New("disk full")
	c := l.dial(t, agent, github, 443)
	_, _ = c.Write(firstFlight("api.github.com"))
	wantAlert(t, c)
	if l.world.dialled() != 0 {
		t.Error("dialled")
	}
}

func TestEarlyHangUp(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "api.github.com", github)
	c := l.dial(t, agent, github, 443)
	_, _ = c.Write(firstFlight("api.github.com")[:100])
	_ = c.CloseWrite()
	wantAlert(t, c)
}

func TestTLSClientSeesTheAlert(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "api.github.com", github)
	err := client(l.dial(t, agent, github, 443), "evil.example").Handshake()
	var alert tls.AlertError
	if !errors.As(err, &alert) || uint8(alert) != 49 {
		var op *net.OpError
		if !errors.As(err, &op) || !strings.Contains(op.Error(), "access denied") {
			t.Fatal(err)
		}
	}
}
