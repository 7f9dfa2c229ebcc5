package attacks

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// failed puts an error into what an agent sees.
func failed(err error) sight {
	see := func(what string) sight { return sight{what: what, detail: err.Error()} }
	var timeout net.Error
	switch {
	// crypto/tls has no exported type for an alert outside QUIC.
	case strings.Contains(err.Error(), "remote error: tls: access denied"):
		return see(denied)
	case errors.Is(err, syscall.ECONNREFUSED):
		return see(refused)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return see(reset)
	case errors.Is(err, syscall.EHOSTUNREACH):
		return see(prohibited)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return see(closed)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return see(silence)
	}
	return see(err.Error())
}

// dial connects and bounds the connection.
func dial(t testing.TB, from *lab.Host, network string, to netip.AddrPort) (net.Conn, error) {
	t.Helper()
	ctx := within(t)
	conn, err := from.Dial(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	return conn, nil
}

// connect opens a TCP connection, sends and reads something.
func connect(t testing.TB, from *lab.Host, to netip.AddrPort) sight {
	t.Helper()
	return exchange(t, from, "tcp", to, []byte("GET / HTTP/1.1\r\nHost: x.example\r\n\r\n"))
}

// exchange sends one message and waits for one back.
func exchange(t testing.TB, from *lab.Host, network string, to netip.AddrPort, msg []byte) sight {
	t.Helper()
	conn, err := dial(t, from, network, to)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	if _, err := conn.Write(msg); err != nil {
		return failed(err)
	}
	buf := make([]byte, 2048)
	n, err := conn.Read(buf)
	if err != nil {
		return failed(err)
	}
	return sight{what: reached, detail: fmt.Sprintf("%q", buf[:n])}
}

// shaper is a connection that sends a ClientHello in other pieces than the TLS stack wrote it.
type shaper struct {
	net.Conn
	shape func([]byte) [][]byte
	// then, if set, is called between two pieces.
	then func()
	done bool
}

func (s *shaper) Write(b []byte) (int, error) {
	if s.done || s.shape == nil {
		return s.Conn.Write(b)
	}
	s.done = true
	for _, piece := range s.shape(bytes.Clone(b)) {
		if _, err := s.Conn.Write(piece); err != nil {
			return 0, err
		}
		if s.then != nil {
			s.then()
		}
	}
	return len(b), nil
}

// handshake shakes hands with TLS at an address and fetches a page.
func (s *scene) handshake(t testing.TB, from *lab.Host, to netip.AddrPort, cfg *tls.Config, shape func([]byte) [][]byte) sight {
	t.Helper()
	conn, err := dial(t, from, "tcp", to)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	cfg.RootCAs = s.Roots()
	client := tls.Client(&shaper{Conn: conn, shape: shape}, cfg)
	if err := client.Handshake(); err != nil {
		return failed(err)
	}
	host := cfg.ServerName
	if host == "" {
		host = to.Addr().String()
	}
	return page(client, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
}

// hello sends bytes that are, or are not, a ClientHello and looks at the answer.
func hello(t testing.TB, from *lab.Host, to netip.AddrPort, pieces ...[]byte) sight {
	t.Helper()
	conn, err := dial(t, from, "tcp", to)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	for _, p := range pieces {
		if _, err := conn.Write(p); err != nil {
			break // refused already: the answer is there to be read
		}
	}
	return helloAnswer(conn)
}

// helloAnswer reads what a server or the gateway says to a hello.
func helloAnswer(r io.Reader) sight {
	var head [7]byte
	if n, err := io.ReadFull(r, head[:]); err != nil {
		got := failed(err)
		got.detail += fmt.Sprintf(" after %x", head[:n])
		return got
	}
	const alert, fatal, accessDenied = 21, 2, 49
	if head[0] != alert {
		return sight{what: reached, detail: fmt.Sprintf("%x", head)}
	}
	if head[5] != fatal || head[6] != accessDenied {
		return sight{what: reached, detail: fmt.Sprintf("alert %d of the origin", head[6])}
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n > 0 {
		return sight{what: "alert without an end", detail: fmt.Sprint(n, err)}
	}
	return sight{what: denied}
}

// page sends a request and reads the answer.
func page(conn io.ReadWriter, request string) sight {
	if _, err := io.WriteString(conn, request); err != nil {
		return failed(err)
	}
	return answer(bufio.NewReader(conn))
}

func answer(r *bufio.Reader) sight {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return failed(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return failed(err)
	}
	if resp.StatusCode == http.StatusOK {
		return sight{what: reached, detail: string(body)}
	}
	var why struct{ Error, Rule, Reason, Help string }
	if err := json.Unmarshal(body, &why); err != nil || why.Error != "egress denied" || why.Help == "" {
		return sight{what: "an illegible refusal", detail: fmt.Sprintf("%s %q", resp.Status, body)}
	}
	return sight{what: status(resp.StatusCode), rule: why.Rule, reason: why.Reason, detail: string(body)}
}

// plain sends a request, as it is, without TLS.
func plain(t testing.TB, from *lab.Host, to netip.AddrPort, request string) sight {
	t.Helper()
	conn, err := dial(t, from, "tcp", to)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	return page(conn, request)
}

// ask asks a resolver for an address.
func ask(t testing.TB, from *lab.Host, network string, at netip.Addr, name string) sight {
	t.Helper()
	got, _ := query(t, from, network, at, name, dns.TypeA)
	return got
}

func query(t testing.TB, from *lab.Host, network string, at netip.Addr, name string, qtype uint16) (sight, *dns.Msg) {
	t.Helper()
	conn, err := dial(t, from, network, netip.AddrPortFrom(at, 53))
	if err != nil {
		return failed(err), nil
	}
	defer conn.Close()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	m.SetEdns0(1232, false)
	r, _, err := new(dns.Client).ExchangeWithConn(m, &dns.Conn{Conn: conn})
	if err != nil {
		return failed(err), nil
	}
	return verdict(r), r
}

func verdict(r *dns.Msg) sight {
	got := sight{detail: fmt.Sprint(r)}
	var ede *dns.EDNS0_EDE
	if opt := r.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				ede = e
			}
		}
	}
	if ede != nil {
		rule, reason, _ := strings.Cut(ede.ExtraText, "; ")
		got.rule, got.reason = strings.TrimPrefix(rule, "rule="), strings.TrimPrefix(reason, "reason=")
	}
	switch {
	case r.Rcode == dns.RcodeSuccess && len(r.Answer) > 0:
		got.what = reached
	case r.Rcode == dns.RcodeSuccess:
		got.what = noData
	case r.Rcode == dns.RcodeNameError && ede != nil && ede.InfoCode == dns.ExtendedErrorCodeBlocked:
		got.what = blocked
	default:
		got.what = dns.RcodeToString[r.Rcode]
	}
	return got
}

// resolve asks the resolver that agents are given for a name that must be known to it.
func (s *scene) resolve(t testing.TB, from *lab.Host, name string) {
	t.Helper()
	if got := ask(t, from, "udp", s.NextHop(), name); got.what != reached {
		t.Fatalf("%s does not resolve: %s (%s)", name, got.what, got.detail)
	}
}
