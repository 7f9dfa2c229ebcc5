package inspect

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
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
	out, in      int64 // bytes of both bodies
	reason       policy.Reason
}

// fakeGate permits a set of names and dials one origin.
type fakeGate struct {
	permit      map[string]bool
	obligations policy.Obligations
	origin      string

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

func (g *fakeGate) Judge(_ context.Context, name, method, path string, messages []policy.RPC) (policy.Decision, policy.Obligations, string) {
	g.add(event{what: "judge", name: name, method: method, path: path})
	permit := policy.Decision{Verdict: policy.Permit, Rule: "allow", Reason: policy.ReasonRule}
	deny := policy.Decision{Verdict: policy.Deny, Rule: policy.RuleDefault, Reason: policy.ReasonDefault}
	if !g.permit[name] {
		return deny, policy.Obligations{}, path
	}
	if g.obligations.MCP && method == http.MethodPost {
		if messages == nil {
			permit.Pending = policy.PendingMessage
		}
		for _, m := range messages {
			if m.Malformed {
				deny.Reason = policy.ReasonBadRequest
			}
			if m.Malformed || m.Tool != "" && !g.Callable(name, method, path, m.Tool) {
				return deny, g.obligations, path
			}
		}
	}
	return permit, g.obligations, path
}

func (g *fakeGate) Callable(_, _, _, tool string) bool { return strings.HasPrefix(tool, "search") }

func (g *fakeGate) Fail(d policy.Decision, message string) {
	g.add(event{what: "fail", reason: d.Reason, path: message})
}

func (g *fakeGate) Answered(_ context.Context, _ policy.Decision, name, method, path string, status int, out, in int64, _ time.Duration) {
	g.add(event{what: "answered", name: name, method: method, path: path, status: status, out: out, in: in})
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
		case <-time.After(patience):
			t.Error("the flow does not end with its connection")
		}
	})
	_ = client.SetDeadline(time.Now().Add(patience))
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

// TestAnswers: what is written down of a permitted request when it is over.
func TestAnswers(t *testing.T) {
	g := newGate(t)
	c := start(t, g)
	br := bufio.NewReader(c)
	_, got := roundTrip(t, c, br, "POST /a HTTP/1.1\r\nHost: good.example\r\nContent-Length: 3\r\n\r\nabc")
	_, got2 := roundTrip(t, c, br, "GET /b HTTP/1.1\r\nHost: good.example\r\n\r\n")
	if status, _ := roundTrip(t, c, br, "GET /c HTTP/1.1\r\nHost: evil.example\r\n\r\n"); status == 200 {
		t.Fatal("permitted")
	}
	var answered []event
	for _, e := range g.log() { // a refusal comes after them
		if e.what == "answered" {
			answered = append(answered, e)
		}
	}
	want := []event{
		{what: "answered", name: "good.example", method: "POST", path: "/a", status: 200, out: 3, in: int64(len(got))},
		{what: "answered", name: "good.example", method: "GET", path: "/b", status: 200, in: int64(len(got2))},
	}
	if !slices.Equal(answered, want) {
		t.Errorf("%+v, want %+v", answered, want)
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
