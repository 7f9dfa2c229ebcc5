package attacks

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// live is a connection that stays open, and is used for one request after the other.
type live struct {
	conn net.Conn
	r    *bufio.Reader
	host string
}

// stay opens a connection, with TLS if there is a name for it.
func (s *scene) stay(t *testing.T, to netip.AddrPort, sni string) *live {
	t.Helper()
	conn, err := s.invoice.Dial(within(t), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	l := &live{conn: conn, host: to.Addr().String()}
	if sni != "" {
		l.conn, l.host = tls.Client(conn, &tls.Config{ServerName: sni, RootCAs: s.Roots()}), sni
	}
	l.r = bufio.NewReader(l.conn)
	if got := l.use(); got.what != reached {
		t.Fatalf("%s: %q (%s)", to, got.what, got.detail)
	}
	return l
}

// use sends a request and reads the answer.
func (l *live) use() sight {
	l.conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(l.conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", l.host); err != nil {
		return failed(err)
	}
	return answer(l.r)
}

// ended reads until the connection is gone, and tells how.
func (l *live) ended() sight {
	l.conn.SetDeadline(time.Now().Add(patience))
	_, err := l.r.ReadByte()
	if err == nil {
		return sight{what: reached}
	}
	return failed(err)
}

func (s *scene) pinsFile() string { return filepath.Join(s.Paths.Dir, "state", "pins") }

// start brings the gateway back.
func (s *scene) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Process.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestKill ends the gateway as a crash would, with flows open and between flows.
func TestKill(t *testing.T) {
	s := open(t, lab.Options{})
	s.openInfra(t)
	x := s.target(t)
	visit := func() sight { return s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name}, nil) }
	attacker := netip.AddrPortFrom(lab.Exfil, 443)

	s.resolve(t, s.invoice, x.name)
	s.permit(policy.TCP, x.tls())
	spliced, forwarded := s.stay(t, x.tls(), x.name), s.stay(t, infra, "")
	// Pins are saved now and then; a crash before that costs a question.
	deadline := time.Now().Add(2 * patience)
	for saved := false; !saved; {
		data, err := os.ReadFile(s.pinsFile())
		saved = err == nil && bytes.Contains(data, []byte(" "+x.name+" "))
		if !saved && time.Now().After(deadline) {
			t.Fatal("pins are not saved")
		}
		if !saved {
			<-time.After(50 * time.Millisecond)
		}
	}
	s.Process.Kill()

	if got := spliced.ended(); got.what != closed && got.what != reset {
		t.Errorf("the spliced flow saw %q", got.what)
	}
	if got := forwarded.use(); got.what != reached {
		t.Errorf("the forwarded flow saw %q (%s)", got.what, got.detail)
	}
	s.sealed(t)
	delete(s.permitted, destination{policy.TCP, x.tls()})
	for round := range 2 { // just after, and with nothing open any more
		if got := visit(); got.what != refused {
			t.Errorf("round %d: a pinned destination: %q (%s)", round, got.what, got.detail)
		}
		if got := connect(t, s.invoice, attacker); got.what != refused {
			t.Errorf("round %d: the attacker: %q", round, got.what)
		}
		if got := exchange(t, s.invoice, "udp", netip.AddrPortFrom(lab.Exfil, 4444), []byte(loot)); got.what != prohibited {
			t.Errorf("round %d: the attacker over UDP: %q", round, got.what)
		}
		for _, at := range []netip.Addr{lab.GatewayAddr, lab.Exfil} {
			for _, network := range []string{"udp", "tcp"} {
				if got := ask(t, s.invoice, network, at, x.name); got.what != refused {
					t.Errorf("round %d: DNS over %s at %s: %q (%s)", round, network, at, got.what, got.detail)
				}
			}
		}
		if got := forwarded.use(); got.what != reached {
			t.Errorf("round %d: the forwarded flow saw %q (%s)", round, got.what, got.detail)
		}
	}
	// What the kernel forwards by itself begins only while somebody writes it down.
	eventually(t, "no new flow is forwarded", func() bool { return connect(t, s.invoice, infra).what == refused })
	if got := forwarded.use(); got.what != reached {
		t.Errorf("the forwarded flow saw %q (%s)", got.what, got.detail)
	}
	s.sealed(t)

	// An agent that remembers the address goes on, without a question.
	asked := len(s.Upstream.Queries())
	s.start(t)
	s.permit(policy.TCP, x.tls())
	if got := visit(); got.what != reached {
		t.Errorf("after the restart: %q (%s)", got.what, got.detail)
	}
	if n := len(s.Upstream.Queries()); n != asked {
		t.Errorf("after the restart: %d questions", n-asked)
	}
	since := time.Now()
	attacker = netip.AddrPortFrom(lab.Exfil, 8443) // the kernel still counts the refusals at the other port
	if got := s.handshake(t, s.invoice, attacker, &tls.Config{ServerName: x.name}, nil); got.what != refused {
		t.Errorf("after the restart, the attacker: %q", got.what)
	}
	s.denial(t, s.invoice, since, first(policy.TCP, attacker, byInternet, policy.ReasonRule))
	s.sealed(t)
}

// TestExpiredPin goes to addresses that were given two hours ago: one still belongs to its name,
// the other does not.
func TestExpiredPin(t *testing.T) {
	s := open(t, lab.Options{})
	kept, moved := s.target(t), s.target(t)
	if err := s.Process.Stop(within(t)); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-2 * time.Hour)
	old := pin.New(pin.Options{Scope: policy.ScopeSource, Now: func() time.Time { return past }})
	for _, x := range []target{kept, moved} {
		if err := old.Add(s.invoice.Addr, x.name, []pin.Answer{{Addr: x.addr, TTL: time.Minute, Bound: x.name}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.SaveFile(s.pinsFile()); err != nil {
		t.Fatal(err)
	}
	if err := s.Upstream.Set(moved.name + ". 60 IN A " + s.stranger(t).String()); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	visit := func(x target) func(*testing.T) sight {
		return func(t *testing.T) sight {
			return s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name}, nil)
		}
	}
	s.play(t, bypass{name: "address that the name has left", try: visit(moved), want: denied,
		event: named(moved.tls(), moved.name, byInternet, policy.ReasonPinExpired), permits: []netip.AddrPort{kept.tls()}, twin: visit(kept)})
	if !s.Upstream.Asked(kept.name) || !s.Upstream.Asked(moved.name) {
		t.Error("the names were not asked for again")
	}
}

// TestStop ends the gateway as an update does: nothing is open afterwards either.
func TestStop(t *testing.T) {
	s := open(t, lab.Options{})
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway ends", func() bool { return s.Process.PID() == 0 })
	if got := s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name}, nil); got.what != refused {
		t.Errorf("stopped: %q (%s)", got.what, got.detail)
	}
	s.sealed(t)
	s.start(t)
	s.permit(policy.TCP, x.tls())
	if got := s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name}, nil); got.what != reached {
		t.Errorf("started again: %q (%s)", got.what, got.detail)
	}
}
