package inspect

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// peer is an origin's side of one connection.
type peer struct {
	net.Conn
	br *bufio.Reader
	n  int // of the connection, from 1
}

// request reads the head of a request.
func (p *peer) request() error {
	_, err := http.ReadRequest(p.br)
	return err
}

func (p *peer) say(s string) { _, _ = io.WriteString(p, s) }

// ok is the answer that says by which connection it came.
func (p *peer) ok() string { return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", p.n) }

// wires opens flows to an origin whose connections a test plays itself: in clear and decrypted.
func wires(t *testing.T, play func(*peer), test func(t *testing.T, g *fakeGate, c net.Conn, br *bufio.Reader)) {
	for _, encrypted := range []bool{false, true} {
		t.Run(map[bool]string{false: "clear", true: "TLS"}[encrypted], func(t *testing.T) {
			r := newRig(t)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if encrypted {
				ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{r.back.leaf(t, site)}})
			}
			t.Cleanup(func() { ln.Close() })
			r.gate.origin = ln.Addr().String()
			go func() {
				for n := 1; ; n++ {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						play(&peer{c, bufio.NewReader(c), n})
					}()
				}
			}()
			if encrypted {
				c := r.dial(t, protoHTTP1)
				test(t, r.gate, c, bufio.NewReader(c))
				return
			}
			r.gate.obligations.VerifyOrigin = false
			c := start(t, r.gate)
			test(t, r.gate, c, bufio.NewReader(c))
		})
	}
}

const (
	getRequest  = "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"
	postRequest = "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 2\r\n\r\nhi"
)

func want(t *testing.T, c net.Conn, br *bufio.Reader, raw string, status int, body string) {
	t.Helper()
	if s, b := roundTrip(t, c, br, raw); s != status || !strings.Contains(b, body) {
		t.Fatalf("%d %q, want %d with %q", s, b, status, body)
	}
}

// A connection serves one request after the other.
func TestLineIsKept(t *testing.T) {
	wires(t, func(p *peer) {
		for p.request() == nil {
			p.say(p.ok())
		}
	}, func(t *testing.T, _ *fakeGate, c net.Conn, br *bufio.Reader) {
		for range 3 {
			want(t, c, br, getRequest, 200, "1")
		}
	})
}

// What an origin sends unasked is no answer to the next request: neither behind an answer in the
// same bytes nor in later ones.
func TestUnaskedBytes(t *testing.T) {
	const forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	said := make(chan struct{}, 1)
	for name, unasked := range map[string]func(*peer){
		"at once": func(p *peer) { p.say(p.ok() + forged); said <- struct{}{} },
		"later":   func(p *peer) { p.say(p.ok()); p.say(forged); said <- struct{}{} },
		"empty answer": func(p *peer) {
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + forged)
			said <- struct{}{}
		},
		"end": func(p *peer) { p.say(p.ok()); p.Close(); said <- struct{}{} },
	} {
		t.Run(name, func(t *testing.T) {
			wires(t, func(p *peer) {
				for p.request() == nil {
					unasked(p)
				}
			}, func(t *testing.T, _ *fakeGate, c net.Conn, br *bufio.Reader) {
				for n := 1; n <= 3; n++ {
					body := fmt.Sprint(n)
					if name == "empty answer" {
						body = ""
					}
					s, b := roundTrip(t, c, br, getRequest)
					if s != 200 || b != body {
						t.Fatalf("%d %q, want the answer of connection %d", s, b, n)
					}
					<-said
				}
			})
		})
	}
}

// An origin that hangs up under a request gets it once more where that does no harm.
func TestHangUp(t *testing.T) {
	var asked atomic.Int64
	play := func(p *peer) {
		for n := 0; p.request() == nil; n++ {
			if asked.Add(1); n > 0 {
				return
			}
			_, _ = io.CopyN(io.Discard, p.br, int64(p.br.Buffered()))
			p.say(p.ok())
		}
	}
	wires(t, play, func(t *testing.T, _ *fakeGate, c net.Conn, br *bufio.Reader) {
		asked.Store(0)
		want(t, c, br, getRequest, 200, "1")
		want(t, c, br, getRequest, 200, "2")
		want(t, c, br, postRequest, 502, "unreachable")
		if n := asked.Load(); n != 4 {
			t.Errorf("the origin was asked %d times, want 4", n)
		}
		want(t, c, br, getRequest, 200, "3")
	})
}

func TestInformational(t *testing.T) {
	wires(t, func(p *peer) {
		for p.request() == nil {
			p.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + p.ok())
		}
	}, func(t *testing.T, _ *fakeGate, c net.Conn, br *bufio.Reader) {
		want(t, c, br, getRequest, 200, "1")
		want(t, c, br, getRequest, 200, "1")
	})
}

// Headers without end are not read to it.
func TestLongAnswers(t *testing.T) {
	for name, endless := range map[string]string{
		"header":        strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 10),
		"informational": strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 300),
	} {
		t.Run(name, func(t *testing.T) {
			wires(t, func(p *peer) {
				_ = p.request()
				if name == "header" {
					p.say("HTTP/1.1 200 OK\r\n")
				}
				var err error
				for err == nil {
					_, err = io.WriteString(p, endless)
				}
			}, func(t *testing.T, _ *fakeGate, c net.Conn, br *bufio.Reader) {
				want(t, c, br, getRequest, 502, "unreachable")
			})
		})
	}
}

// An origin may answer before it has the body, or without wanting it.
func TestEarlyAnswer(t *testing.T) {
	const no = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n"
	for name, head := range map[string]string{
		"unread":   "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 1000000\r\n\r\nsome",
		"unwanted": "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			wires(t, func(p *peer) {
				if p.request() == nil {
					p.say(no)
					if b, _ := io.ReadAll(p.br); name == "unwanted" && len(b) > 0 {
						t.Errorf("a body came that nobody wanted: %q", b)
					}
				}
			}, func(t *testing.T, _ *fakeGate, c net.Conn, br *bufio.Reader) {
				want(t, c, br, head, 413, "no")
			})
		})
	}
}

// A client that goes takes its request along.
func TestClientGoes(t *testing.T) {
	asked, ended := make(chan struct{}), make(chan struct{})
	wires(t, func(p *peer) {
		if p.request() == nil {
			asked <- struct{}{}
			_, _ = io.Copy(io.Discard, p.br)
			ended <- struct{}{}
		}
	}, func(_ *testing.T, _ *fakeGate, c net.Conn, _ *bufio.Reader) {
		_, _ = io.WriteString(c, getRequest)
		<-asked
		abandon(t, c)
		<-ended
	})
}

// abandon ends a connection as a process does that is killed with answers unread. Any other end looks like
// that of a client that has no more to ask, and waits.
func abandon(t *testing.T, c net.Conn) {
	t.Helper()
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A field that would be two is not sent.
func TestUnsendableFields(t *testing.T) {
	var asked atomic.Int64
	wires(t, func(p *peer) {
		for p.request() == nil {
			asked.Add(1)
			p.say(p.ok())
		}
	}, func(t *testing.T, g *fakeGate, c net.Conn, br *bufio.Reader) {
		g.obligations.Headers = []policy.Header{{Name: "X-Token", Set: "a\r\nX-Other: b"}}
		want(t, c, br, getRequest, 502, "")
		want(t, c, br, postRequest, 502, "")
		if asked.Load() > 0 {
			t.Error("sent")
		}
	})
}

// An answer may be closed while it is being read.
func TestCloseWhileReading(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	l := &line{dial: func(context.Context) (net.Conn, error) { return client, nil }}
	go func() {
		_, _ = http.ReadRequest(bufio.NewReader(server))
		_, _ = io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin")
	}()
	r, err := http.NewRequest(http.MethodGet, "http://good.example/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := l.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := resp.Body.Read(make([]byte, 1))
		done <- err
	}()
	resp.Body.Close()
	if <-done == nil {
		t.Error("the rest came from nowhere")
	}
}

// writes counts them.
type writes struct {
	net.Conn
	n atomic.Int64
}

func (p *writes) Write(b []byte) (int, error) {
	p.n.Add(1)
	return p.Conn.Write(b)
}

// A long body goes in pieces of the size of TLS records, not of a header's buffer.
func TestLongBodyInLargePieces(t *testing.T) {
	const size = 1 << 20
	client, server := net.Pipe()
	defer server.Close()
	p := &writes{Conn: client}
	l := &line{dial: func(context.Context) (net.Conn, error) { return p, nil }}
	go func() {
		r, err := http.ReadRequest(bufio.NewReader(server))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(server, "HTTP/1.1 204 No Content\r\n\r\n")
	}()
	r, err := http.NewRequest(http.MethodPost, "http://good.example/", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = size
	if _, err := l.RoundTrip(r); err != nil {
		t.Fatal(err)
	}
	if n := p.n.Load(); n > size/(16<<10) {
		t.Errorf("%d pieces", n)
	}
}
