package inspect

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// halves is a connection of which a client can end its own half.
type halves interface {
	net.Conn
	CloseWrite() error
}

// TestHalfClose has clients end their side as soon as they have asked. The origin answers only
// when it has been told, long after the gateway has seen the end.
func TestHalfClose(t *testing.T) {
	const head = " HTTP/1.1\r\nHost: " + site + "\r\n"
	requests := map[string]struct {
		raw  string
		want []string
	}{
		"without a body":  {"GET /a" + head + "\r\n", []string{"GET /a \"\""}},
		"with a body":     {"POST /a" + head + "Content-Length: 3\r\n\r\nabc", []string{"POST /a \"abc\""}},
		"in chunks":       {"POST /a" + head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", []string{"POST /a \"abc\""}},
		"HTTP/1.0":        {"GET /a HTTP/1.0\r\nHost: " + site + "\r\n\r\n", []string{"GET /a \"\""}},
		"two in a row":    {"GET /a" + head + "\r\nPOST /b" + head + "Content-Length: 1\r\n\r\nx", []string{"GET /a \"\"", "POST /b \"x\""}},
		"and half a next": {"GET /a" + head + "\r\nGET /b HTTP/1.1\r\nHo", []string{"GET /a \"\""}},
	}
	for name, tc := range requests {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+", "+scheme, func(t *testing.T) {
				begun, answer := make(chan struct{}, 2), make(chan struct{})
				c := opened(t, scheme, func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					begun <- struct{}{}
					select {
					case <-answer:
					case <-r.Context().Done(): // the gateway has given up
						return
					}
					fmt.Fprintf(w, "%s %s %q", r.Method, r.RequestURI, body)
				})
				if _, err := io.WriteString(c, tc.raw); err != nil {
					t.Fatal(err)
				}
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				go func() {
					for range tc.want {
						<-begun
						answer <- struct{}{}
					}
				}()
				br := bufio.NewReader(c)
				for _, want := range tc.want {
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						t.Fatal(err)
					}
					if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(body) != want {
						t.Fatalf("%d %q %v", resp.StatusCode, body, err)
					}
				}
				if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
					t.Errorf("after the last answer %q, %v", rest, err)
				}
			})
		}
	}
}

// opened returns the client's end of a flow to an origin.
func opened(t *testing.T, scheme string, h http.HandlerFunc) halves {
	t.Helper()
	if scheme == "https" {
		r := newRig(t)
		r.serve(t, r.back.leaf(t, site), false, nil, h)
		return r.dial(t, protoHTTP1)
	}
	o := httptest.NewServer(h)
	t.Cleanup(o.Close)
	return start(t, &fakeGate{permit: map[string]bool{site: true}, origin: o.Listener.Addr().String()}).(halves)
}

// TestHalfClosedStream has an answer go on in parts after its client has ended.
func TestHalfClosedStream(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			more := make(chan struct{})
			c := opened(t, scheme, func(w http.ResponseWriter, r *http.Request) {
				for i := range 3 {
					fmt.Fprintf(w, "part %d\n", i)
					w.(http.Flusher).Flush()
					select {
					case <-more:
					case <-r.Context().Done():
						return
					}
				}
			})
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+site+"\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			body := bufio.NewReader(resp.Body)
			for i := range 3 {
				if line, err := body.ReadString('\n'); err != nil || line != fmt.Sprintf("part %d\n", i) {
					t.Fatalf("%q %v", line, err)
				}
				more <- struct{}{}
			}
			if _, err := body.ReadByte(); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
}

// TestBrokenOff has a client end amid a body: the origin must not wait for the rest of it.
func TestBrokenOff(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		for name, body := range map[string]string{
			"length": "Content-Length: 10\r\n\r\nabc", "chunk": "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", "trailer": "Transfer-Encoding: chunked\r\n\r\n0\r\n",
		} {
			t.Run(name+", "+scheme, func(t *testing.T) {
				ended := make(chan error, 1)
				c := opened(t, scheme, func(_ http.ResponseWriter, r *http.Request) {
					_, err := io.ReadAll(r.Body)
					ended <- err
				})
				io.WriteString(c, "POST / HTTP/1.1\r\nHost: "+site+"\r\n"+body)
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if err := <-ended; err == nil {
					t.Error("the origin took the body for whole")
				}
			})
		}
	}
}

// waiting is a guard whose client has asked, ended its side, and is being answered.
func waiting(t *testing.T) (g *guard, client net.Conn) {
	t.Helper()
	client, server := net.Pipe()
	g = newGuard(server)
	go func() {
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: "+site+"\r\n\r\n")
		client.Close()
	}()
	for {
		n, err := g.Read(make([]byte, 1024))
		if n == 0 || err != nil {
			t.Fatal(n, err)
		}
		if _, ok := g.next(); ok {
			return g, client
		}
	}
}

// TestHalfOpenEnds lists what ends the wait of a client's half-open connection, on a clock that stands
// still but for who sleeps.
func TestHalfOpenEnds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		do    func(*guard)
		after time.Duration
		want  error
	}{
		{"nothing comes", func(*guard) {}, halfOpen, io.EOF},
		{"bytes come now and then", func(g *guard) {
			for range 3 {
				time.Sleep(halfOpen * 3 / 4)
				g.owed.sent.Add(1)
			}
		}, 4 * halfOpen, io.EOF}, // the silence after the last is found at the second look
		{"it is answered", func(g *guard) { time.Sleep(time.Second); g.owed.add(-1) }, time.Second, io.EOF},
		{"the connection is closed", func(g *guard) { time.Sleep(time.Second); g.Close() }, time.Second, io.EOF},
		{"the server takes its read back", func(g *guard) { time.Sleep(time.Second); g.SetReadDeadline(time.Unix(1, 0)) }, time.Second, os.ErrDeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, _ := waiting(t)
				since := time.Now()
				go tc.do(g)
				if _, err := g.Read(make([]byte, 1)); !errors.Is(err, tc.want) {
					t.Error(err)
				}
				if took := time.Since(since); took != tc.after {
					t.Errorf("after %s, want %s", took, tc.after)
				}
			})
		})
	}
}

// TestHalfOpenFlowEnds ends a flow, as a reload does, while its half-open client waits.
func TestHalfOpenFlowEnds(t *testing.T) {
	r := newRig(t)
	asked, released := make(chan struct{}), make(chan struct{})
	r.serve(t, r.back.leaf(t, site), false, nil, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done() // the origin's side is ended as well
		close(released)
	})
	ctx, cancel := context.WithCancel(t.Context())
	raw, ended := r.within(t, ctx)
	c := tls.Client(raw, &tls.Config{ServerName: site, RootCAs: r.front.pool()})
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+site+"\r\n\r\n")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-asked
	cancel()
	<-released
	<-ended
}
