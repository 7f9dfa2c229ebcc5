package inspect

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Every way to cut a request into two segments.
func TestSegments(t *testing.T) {
	raw := []byte("POST /a HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n" +
		"GET /b HTTP/1.1\r\nHost: good.example\r\n\r\n")
	for cut := 1; cut < len(raw); cut++ {
		c1, c2 := net.Pipe()
		g := newGuard(c2)
		g.owed.add(-2) // nobody waits for answers
		go func() {
			_, _ = c1.Write(raw[:cut])
			_, _ = c1.Write(raw[cut:])
			c1.Close()
		}()
		got, err := io.ReadAll(g)
		if err != nil || !bytes.Equal(got, raw) || len(g.heads) != 2 {
			t.Fatalf("cut at %d: %q, %d heads, %v", cut, got, len(g.heads), err)
		}
	}
}

// A body that breaks its framing reaches nobody as a second request.
func TestBrokenChunks(t *testing.T) {
	for _, body := range []string{"3;ext=1\r\nabc\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n", "-1\r\n\r\n", "fffffffffffffffff\r\n"} {
		t.Run(body, func(t *testing.T) {
			var second sync.Map
			o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/1" {
					second.Store("seen", true)
				}
				_, _ = io.Copy(io.Discard, r.Body)
			}))
			defer o.Close()
			g := newGate(t)
			g.origin = o.Listener.Addr().String()
			c := start(t, g)
			_, _ = io.WriteString(c, "POST /1 HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n"+body+"GET /2 HTTP/1.1\r\nHost: good.example\r\n\r\n")
			_, _ = io.ReadAll(c)
			if _, seen := second.Load("seen"); seen {
				t.Error("the origin saw a second request")
			}
		})
	}
}

// FuzzGuard holds that what the guard lets through is for the standard library exactly the
// requests that the guard says.
func FuzzGuard(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"))
	f.Add([]byte("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.0\r\nHost: b\r\n\r\n"))
	f.Add([]byte("POST http://a/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\nHost: a\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		g := newGuard(readConn{Reader: bytes.NewReader(raw)})
		br := bufio.NewReader(g)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			h, ok := g.next()
			if !ok {
				t.Fatal("the library reads a request more than the guard")
			}
			g.owed.add(-1) // it is not answered
			if h.err != nil || h.upgrade {
				return
			}
			if r.Method != h.method || r.RequestURI != h.target {
				t.Fatalf("library: %s %q; guard: %s %q", r.Method, r.RequestURI, h.method, h.target)
			}
			if strings.HasPrefix(h.target, "/") && r.Host != h.host {
				t.Fatalf("library: host %q; guard: %q", r.Host, h.host)
			}
			if _, _, err := parseAuthority(h.host, 80); err == nil {
				_, _ = parseTarget(h.target, "http", 80)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
		}
	})
}

// FuzzHTTP2Head holds that what is taken of an HTTP/2 request would be taken of an HTTP/1 one, so
// that neither can say what the other could not.
func FuzzHTTP2Head(f *testing.F) {
	f.Add("GET", "a.example", "/x?y", "a.example")
	f.Add("OPTIONS", "a.example:443", "*", "")
	f.Add("POST", "a b", "https://a/", "x")
	f.Fuzz(func(t *testing.T, method, authority, path, host string) {
		r := &http.Request{Method: method, Host: authority, RequestURI: path, Header: http.Header{}}
		if host != "" {
			r.Header["Host"] = []string{host}
		}
		if headOf(r).err != nil {
			return
		}
		if host != "" && host != authority || len(r.Header["Host"]) != 0 {
			t.Fatalf("Host %q beside %q", host, authority)
		}
		var h head
		if _, err := h.parseRequestLine([]byte(method + " " + path + " HTTP/1.1")); err != nil {
			if _, uriErr := url.ParseRequestURI(path); method != "PRI" && uriErr == nil {
				t.Fatalf("%q %q: %v", method, path, err)
			}
			return // the server has parsed the path before
		}
		if h.method != method || h.target != path || !isHost(authority) {
			t.Fatalf("%q %q %q became %+v", method, path, authority, h)
		}
	})
}

type readConn struct {
	net.Conn
	io.Reader
}

func (c readConn) Read(b []byte) (int, error) { return c.Reader.Read(b) }
