package inspect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// event is what a fakeGate was asked or told.
type event struct {
	what         string // judge, refuse, dial
	name, method string
	path         string
	status       int
	reason       policy.Reason
}

// fakeGate permits a set of names and dials one origin.
type fakeGate struct {
	permit map[string]bool
	origin string

	mu     sync.Mutex
	events []event
}

func (g *fakeGate) add(e event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
}

func (g *fakeGate) log() []event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]event(nil), g.events...)
}

func (g *fakeGate) Judge(_ context.Context, name, method, path string) (policy.Decision, string) {
	g.add(event{what: "judge", name: name, method: method, path: path})
	if g.permit[name] {
		return policy.Decision{Verdict: policy.Permit, Rule: "allow", Reason: policy.ReasonRule}, path
	}
	return policy.Decision{Verdict: policy.Deny, Rule: policy.RuleDefault, Reason: policy.ReasonDefault}, path
}

func (g *fakeGate) Refuse(d policy.Decision, name, method, path string, status int, _ string) {
	g.add(event{what: "refuse", name: name, method: method, path: path, status: status, reason: d.Reason})
}

func (g *fakeGate) Dial(ctx context.Context) (net.Conn, error) {
	g.add(event{what: "dial"})
	var d net.Dialer
	return d.DialContext(ctx, "tcp", g.origin)
}

// start serves one flow to port 80 and returns the client's end of it.
func start(t *testing.T, g *fakeGate) net.Conn {
	t.Helper()
	s := New(t.Logf)
	t.Cleanup(func() { s.Close() })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ServeFlow(t.Context(), server, policy.Flow{Port: 80}, g)
	}()
	t.Cleanup(func() {
		client.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the flow does not end with its connection")
		}
	})
	_ = client.SetDeadline(time.Now().Add(20 * time.Second))
	return client
}

// origin answers with what it was asked.
func origin(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %q", r.Method, r.Host, r.RequestURI, body)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func newGate(t *testing.T) *fakeGate {
	return &fakeGate{permit: map[string]bool{"good.example": true, "other.example": true}, origin: origin(t)}
}

// roundTrip sends raw bytes and reads one answer.
func roundTrip(t *testing.T, c net.Conn, br *bufio.Reader, raw string) (status int, body string) {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("after %.80q: %v", raw, err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestRequests(t *testing.T) {
	const good = "Host: good.example\r\n"
	tests := []struct {
		name, raw string
		status    int
		want      string // body of a permitted one, reason of a refused one
	}{
		{"plain", "GET /a?b=c HTTP/1.1\r\n" + good + "\r\n", 200, `GET good.example /a?b=c ""`},
		{"upper case, final dot, port", "GET / HTTP/1.1\r\nHost: GOOD.example.:80\r\n\r\n", 200, `GET good.example:80 / ""`},
		{"absolute form", "GET http://good.example/x HTTP/1.1\r\n" + good + "\r\n", 200, `GET good.example /x ""`},
		{"absolute form without path", "GET http://good.example?q HTTP/1.1\r\n" + good + "\r\n", 200, `GET good.example /?q ""`},
		{"whole server", "OPTIONS * HTTP/1.1\r\n" + good + "\r\n", 200, ""}, // which Go answers by itself,
		{"escaped path", "GET /a%2Fb//c HTTP/1.1\r\n" + good + "\r\n", 200, `GET good.example /a%2Fb//c ""`},
		{"body", "POST / HTTP/1.1\r\n" + good + "Content-Length: 3\r\n\r\nabc", 200, `POST good.example / "abc"`},
		{"chunks", "POST / HTTP/1.1\r\n" + good + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, `POST good.example / "abcde"`},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n" + good + "\r\n", 200, `GET good.example / ""`},
		{"Latin-1 in a value", "GET / HTTP/1.1\r\n" + good + "X: \xe9\r\n\r\n", 200, `GET good.example / ""`},

		{"forbidden Host", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "default"},
		{"address as Host", "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", 403, "default"},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, "bad-request"},
		{"no Host, HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 400, "bad-request"},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "bad-request"},
		{"two Hosts", "GET / HTTP/1.1\r\n" + good + "Host: evil.example\r\n\r\n", 400, "bad-request"},
		{"the same Host twice", "GET / HTTP/1.1\r\n" + good + good + "\r\n", 400, "bad-request"},
		{"list of Hosts", "GET / HTTP/1.1\r\nHost: good.example, evil.example\r\n\r\n", 400, "bad-request"},
		{"user in Host", "GET / HTTP/1.1\r\nHost: good.example@evil.example\r\n\r\n", 400, "bad-request"},
		{"port without number", "GET / HTTP/1.1\r\nHost: good.example:\r\n\r\n", 400, "bad-request"},
		{"other port", "GET / HTTP/1.1\r\nHost: good.example:8080\r\n\r\n", 421, "authority-mismatch"},
		{"absolute form, other host", "GET http://evil.example/ HTTP/1.1\r\n" + good + "\r\n", 421, "authority-mismatch"},
		{"absolute form, other port", "GET http://good.example:8080/ HTTP/1.1\r\n" + good + "\r\n", 421, "authority-mismatch"},
		{"absolute form with user", "GET http://u@good.example/ HTTP/1.1\r\n" + good + "\r\n", 400, "bad-request"},
		{"absolute form, https", "GET https://good.example/ HTTP/1.1\r\n" + good + "\r\n", 400, "bad-request"},
		{"authority form", "GET good.example:80 HTTP/1.1\r\n" + good + "\r\n", 400, "bad-request"},
		{"CONNECT", "CONNECT good.example:443 HTTP/1.1\r\n" + good + "\r\n", 400, "bad-request"},
		{"h2c preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad-request"},
		{"h2c upgrade", "GET / HTTP/1.1\r\n" + good + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", 400, "bad-request"},
		{"folded line", "GET / HTTP/1.1\r\n" + good + "X: a\r\n b\r\n\r\n", 400, "bad-request"},
		{"folded first line", "GET / HTTP/1.1\r\n Host: evil.example\r\n" + good + "\r\n", 400, "bad-request"},
		{"space before colon", "GET / HTTP/1.1\r\n" + good + "X : a\r\n\r\n", 400, "bad-request"},
		{"empty name", "GET / HTTP/1.1\r\n" + good + ": a\r\n\r\n", 400, "bad-request"},
		{"no colon", "GET / HTTP/1.1\r\n" + good + "X\r\n\r\n", 400, "bad-request"},
		{"NUL", "GET / HTTP/1.1\r\n" + good + "X: a\x00b\r\n\r\n", 400, "bad-request"},
		{"bare CR", "GET / HTTP/1.1\r\n" + good + "X: a\rHost: evil.example\r\n\r\n", 400, "bad-request"},
		{"bare LF", "GET / HTTP/1.1\n" + "Host: good.example\n\n", 400, "bad-request"},
		{"one bare LF", "GET / HTTP/1.1\r\nX: a\nHost: evil.example\r\n" + good + "\r\n", 400, "bad-request"},
		{"leading empty line", "\r\nGET / HTTP/1.1\r\n" + good + "\r\n", 400, "bad-request"},
		{"two spaces", "GET  / HTTP/1.1\r\n" + good + "\r\n", 400, "bad-request"},
		{"tab", "GET\t/ HTTP/1.1\r\n" + good + "\r\n", 400, "bad-request"},
		{"space in target", "GET /a b HTTP/1.1\r\n" + good + "\r\n", 400, "bad-request"},
		{"fragment", "GET /a#b HTTP/1.1\r\n" + good + "\r\n", 400, "bad-request"},
		{"HTTP/0.9", "GET /\r\n\r\n", 400, "bad-request"},
		{"HTTP/1.2", "GET / HTTP/1.2\r\n" + good + "\r\n", 400, "bad-request"},
		{"two lengths", "POST / HTTP/1.1\r\n" + good + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400, "bad-request"},
		{"list of lengths", "POST / HTTP/1.1\r\n" + good + "Content-Length: 1, 1\r\n\r\na", 400, "bad-request"},
		{"signed length", "POST / HTTP/1.1\r\n" + good + "Content-Length: +1\r\n\r\na", 400, "bad-request"},
		{"length and chunks", "POST / HTTP/1.1\r\n" + good + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad-request"},
		{"other coding", "POST / HTTP/1.1\r\n" + good + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "bad-request"},
		{"coding with a tail", "POST / HTTP/1.1\r\n" + good + "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", 400, "bad-request"},
		{"chunks in HTTP/1.0", "POST / HTTP/1.0\r\n" + good + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad-request"},
		{"long header", "GET / HTTP/1.1\r\n" + good + "X: " + strings.Repeat("a", maxHead) + "\r\n\r\n", 400, "bad-request"},
		{"many fields", "GET / HTTP/1.1\r\n" + good + strings.Repeat("X: a\r\n", maxFields) + "\r\n", 400, "bad-request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t)
			c := start(t, g)
			status, body := roundTrip(t, c, bufio.NewReader(c), tt.raw)
			if status != tt.status {
				t.Fatalf("status %d, want %d: %s", status, tt.status, body)
			}
			if status == 200 {
				if body != tt.want {
					t.Errorf("the origin saw %s, want %s", body, tt.want)
				}
				return
			}
			var r refusal
			if err := json.Unmarshal([]byte(body), &r); err != nil || r.Error != "egress denied" || string(r.Reason) != tt.want || r.Help == "" {
				t.Errorf("body %s: %v, want reason %s", body, err, tt.want)
			}
			refused := 0
			for _, e := range g.log() {
				if e.what == "dial" {
					t.Error("a refused request was dialled for")
				}
				if e.what == "refuse" {
					refused++
					if string(e.reason) != tt.want || e.status != tt.status {
						t.Errorf("audited as %+v", e)
					}
				}
			}
			if refused != 1 {
				t.Errorf("%d refusals in the audit, want 1", refused)
			}
			// And the connection ends.
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%d more bytes after the refusal", n)
			}
		})
	}
}

// Every way to cut a request into two segments.
func TestSegments(t *testing.T) {
	raw := []byte("POST /a HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n3;\r\n")
	raw = append(raw[:len(raw)-4], "3\r\nabc\r\n0\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\nHost: good.example\r\n\r\n"...)
	for cut := 1; cut < len(raw); cut++ {
		c1, c2 := net.Pipe()
		g := newGuard(c2)
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

func TestKeepAliveBelongsToOneName(t *testing.T) {
	g := newGate(t)
	c := start(t, g)
	br := bufio.NewReader(c)
	for range 3 {
		if status, body := roundTrip(t, c, br, "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 1\r\n\r\nx"); status != 200 {
			t.Fatal(status, body)
		}
	}
	status, body := roundTrip(t, c, br, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
	if status != 421 || !strings.Contains(body, `"authority-mismatch"`) {
		t.Fatal(status, body)
	}
	dials := 0
	for _, e := range g.log() {
		if e.what == "dial" {
			dials++
		}
	}
	if dials != 1 {
		t.Errorf("%d connections to the origin, want 1", dials)
	}
}

// A proxy in the gateway's own environment is not for agents.
func TestEnvironmentIsIgnored(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	c := start(t, newGate(t))
	if status, body := roundTrip(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"); status != 200 {
		t.Fatal(status, body)
	}
}

func TestPipelinedRefusalComesInTurn(t *testing.T) {
	c := start(t, newGate(t))
	br := bufio.NewReader(c)
	status, body := roundTrip(t, c, br, "GET /1 HTTP/1.1\r\nHost: good.example\r\n\r\nGET /2 HTTP/1.1\nHost: evil.example\n\n")
	if status != 200 || body != `GET good.example /1 ""` {
		t.Fatal(status, body)
	}
	if status, body = roundTrip(t, c, br, ""); status != 400 {
		t.Fatal(status, body)
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

func TestStreamIsFlushed(t *testing.T) {
	release := make(chan struct{})
	o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		<-release
		_, _ = io.WriteString(w, "second")
	}))
	defer o.Close()
	g := newGate(t)
	g.origin = o.Listener.Addr().String()
	c := start(t, g)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "first" {
		t.Fatalf("%q %v", buf, err) // would block until the deadline, were it held back
	}
	close(release)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "second" {
		t.Fatalf("%q %v", rest, err)
	}
}

func TestWebSocket(t *testing.T) {
	o, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	go func() {
		c, err := o.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, br)
	}()
	g := newGate(t)
	g.origin = o.Addr().String()
	c := start(t, g)
	_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n\x81\x01a")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	_, _ = io.WriteString(c, "\x81\x01\nb")
	got := make([]byte, 7)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "\x81\x01a\x81\x01\nb" {
		t.Fatalf("%q %v", got, err)
	}
}

// An origin that declines the upgrade ends the connection: what the client sent behind
// it must not be taken for requests.
func TestDeclinedUpgrade(t *testing.T) {
	g := newGate(t)
	c := start(t, g)
	br := bufio.NewReader(c)
	status, _ := roundTrip(t, c, br, "GET /ws HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
	if status != 200 {
		t.Fatal(status)
	}
	if rest, _ := io.ReadAll(br); len(rest) != 0 {
		t.Fatalf("answered again: %q", rest)
	}
	for _, e := range g.log() {
		if e.name == "evil.example" {
			t.Errorf("judged %+v", e)
		}
	}
}

func TestUnreachable(t *testing.T) {
	g := newGate(t)
	g.origin = "127.0.0.1:1"
	c := start(t, g)
	status, body := roundTrip(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
	if status != 502 || !strings.Contains(body, "destination unreachable") {
		t.Fatal(status, body)
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
				_, _ = parseTarget(h.target, 80)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
		}
	})
}

type readConn struct {
	net.Conn
	io.Reader
}

func (c readConn) Read(b []byte) (int, error) { return c.Reader.Read(b) }

func TestExpectContinue(t *testing.T) {
	c := start(t, newGate(t))
	br := bufio.NewReader(c)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	if line, err := br.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatal(line, err)
	}
	if line, err := br.ReadString('\n'); err != nil || line != "\r\n" {
		t.Fatal(line, err)
	}
	if status, body := roundTrip(t, c, br, "abc"); status != 200 || body != `POST good.example / "abc"` {
		t.Fatal(status, body)
	}
}

func TestTrailersPass(t *testing.T) {
	o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Sum", r.Trailer.Get("Checksum"))
	}))
	defer o.Close()
	g := newGate(t)
	g.origin = o.Listener.Addr().String()
	c := start(t, g)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: good.example\r\nTrailer: Checksum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nChecksum: 42\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil || resp.Trailer.Get("Sum") != "42" {
		t.Fatal(resp.Trailer, err)
	}
}

// A large body passes both ways, and the framing is followed all along.
func TestLargeBodies(t *testing.T) {
	g := newGate(t)
	c := start(t, g)
	br := bufio.NewReader(c)
	big := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	for _, raw := range []string{
		fmt.Sprintf("POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: %d\r\n\r\n%s", len(big), big),
		fmt.Sprintf("POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(big), big),
	} {
		if status, body := roundTrip(t, c, br, raw); status != 200 || !strings.Contains(body, big) {
			t.Fatal(status, len(body))
		}
	}
}
