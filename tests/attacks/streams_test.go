package attacks

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// TestUrgentData hides a byte of the name in urgent data, which some readers see in the stream and
// others do not: one would judge another name than the origin is given.
func TestUrgentData(t *testing.T) {
	s := shared.open(t)
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	urgent := func(name string) func(*testing.T) sight {
		return func(t *testing.T) sight {
			conn, err := dial(t, s.invoice, "tcp", x.tls())
			if err != nil {
				return failed(err)
			}
			defer conn.Close()
			b := records(clientHello(serverNames(name)), 1<<14)
			cut := bytes.Index(b, []byte(name)) + 3
			conn.Write(b[:cut])
			raw, err := conn.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if cerr := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }); cerr != nil || err != nil {
				t.Fatal(cerr, err)
			}
			conn.Write(b[cut:])
			return helloAnswer(conn)
		}
	}
	const hidden = "upload.wild.example"
	s.play(t, bypass{name: "in a denied name", try: urgent(hidden), want: denied,
		event: named(x.tls(), hidden, "deny-uploads", policy.ReasonRule), permits: []netip.AddrPort{x.tls()}, twin: urgent(x.name)})
}

// TestPipelinedQuestions has forbidden questions ride between permitted ones on one connection.
func TestPipelinedQuestions(t *testing.T) {
	s := shared.open(t)
	x := s.target(t)
	conn, err := dial(t, s.invoice, "tcp", netip.AddrPortFrom(lab.GatewayAddr, 53))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const pairs = 20
	var all []byte
	names := map[uint16]string{}
	for i := range uint16(2 * pairs) {
		names[i] = x.name
		if i%2 == 1 {
			names[i] = fmt.Sprintf("p%d.t.%s", i, lab.AttackerDomain)
		}
		m := new(dns.Msg).SetQuestion(dns.Fqdn(names[i]), dns.TypeA)
		m.Id = i
		m.SetEdns0(1232, false)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(b))), b...)
	}
	if _, err := conn.Write(all); err != nil {
		t.Fatal(err)
	}
	c := dns.Conn{Conn: conn}
	for range 2 * pairs {
		r, err := c.ReadMsg()
		if err != nil {
			t.Fatalf("%v, with %d unanswered", err, len(names))
		}
		want := reached
		if r.Id%2 == 1 {
			want = blocked
		}
		if got := verdict(r); got.what != want || r.Question[0].Name != dns.Fqdn(names[r.Id]) {
			t.Errorf("%s: %q (%s)", names[r.Id], got.what, got.detail)
		}
		delete(names, r.Id)
	}
	s.sealed(t)
	if len(names) > 0 {
		t.Errorf("without an answer: %v", names)
	}
}

// TestHalfClosed ends its own side behind what it asks for: the refusal must come all the same, and
// so must the answer of the permitted twin.
func TestHalfClosed(t *testing.T) {
	s := shared.open(t)
	x := s.target(t)
	s.resolve(t, s.invoice, x.name)
	ask := func(host string) func(*testing.T) sight {
		return func(t *testing.T) sight {
			conn, err := dial(t, s.invoice, "tcp", x.http())
			if err != nil {
				return failed(err)
			}
			defer conn.Close()
			return page(halfClosing{conn}, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		}
	}
	host := "half." + lab.ExfilName
	s.play(t, bypass{name: "forbidden Host", try: ask(host), want: status(403),
		event: request(x.http(), host, byInternet, policy.ReasonRule, policy.StageName), permits: []netip.AddrPort{x.http()}, twin: ask(x.name)})
}

// halfClosing ends its side after one write.
type halfClosing struct{ net.Conn }

func (c halfClosing) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		err = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
	}
	return n, err
}
