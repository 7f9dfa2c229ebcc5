package enforcer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/inspect"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// newHTTPLab is a lab whose plain HTTP flows are served by the real chain.
func newHTTPLab(t *testing.T) *lab {
	h := inspect.New(t.Logf)
	t.Cleanup(func() { h.Close() })
	l := newLab(t, func(o *Options) { o.HTTP = h })
	l.pin(t, agent, "api.github.com", github)
	l.pin(t, agent, "mcp.example.com", evil)
	for _, at := range []netip.AddrPort{
		netip.AddrPortFrom(github, 80), netip.AddrPortFrom(github, 443), netip.AddrPortFrom(evil, 80), netip.AddrPortFrom(ledger, 80),
	} {
		l.host(t, at.Addr(), at.Port(), func(c *net.TCPConn) {
			defer c.Close()
			br := bufio.NewReader(c)
			for {
				r, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				body := fmt.Sprintf("%s %s %s", r.Method, r.Host, r.RequestURI)
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			}
		})
	}
	return l
}

func request(t *testing.T, c net.Conn, br *bufio.Reader, raw string) (int, string) {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestHTTPNames(t *testing.T) {
	get := func(host string) string { return "GET /x?q=secret HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	tests := []struct {
		name   string
		raw    string
		dst    netip.Addr
		status int
		rule   string
		reason policy.Reason
	}{
		{"permitted", get("api.github.com"), github, 200, "allow-tools", policy.ReasonRule},
		{"other name at this address", get("evil.example"), github, 403, "default", policy.ReasonDefault},
		{"name of another address", get("api.github.com"), evil, 403, "default", policy.ReasonAddressMismatch},
		{"two names", "GET / HTTP/1.1\r\nHost: api.github.com\r\nHost: evil.example\r\n\r\n", github, 400, "invariant", policy.ReasonBadRequest},
		{"h2c", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", github, 400, "invariant", policy.ReasonBadRequest},
		{"name denied, address permitted", get("paste.example.com"), ledger, 403, "deny-paste", policy.ReasonRule},
		{"another name, address permitted", get("books.example"), ledger, 200, "allow-ledger", policy.ReasonRule},
		{"URL permitted", "POST /x/../mcp?q=secret HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\n\r\n", evil, 200, "allow-mcp", policy.ReasonRule},
		{"URL of another method", "GET /mcp HTTP/1.1\r\nHost: mcp.example.com\r\n\r\n", evil, 403, "default", policy.ReasonDefault},
		{"URL of another path", "POST /admin HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\n\r\n", evil, 403, "default", policy.ReasonDefault},
		{"URL that parsers read differently", "POST /mcp%2f..%2fadmin HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\n\r\n", evil, 400, "invariant", policy.ReasonBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newHTTPLab(t)
			c := l.dial(t, agent, tt.dst, 80)
			status, body := request(t, c, bufio.NewReader(c), tt.raw)
			if status != tt.status {
				t.Fatalf("%d %s", status, body)
			}
			if status == 200 {
				c.Close()
				end := l.log.wait(t, audit.Close)
				if l.log.count(audit.Open) != 2 { // the flow, and its request
					t.Errorf("events: %+v", l.log.records)
				}
				if end.Decision.Rule != tt.rule || end.BytesOut != int64(len(tt.raw)) || end.BytesIn == 0 {
					t.Errorf("closed as %+v", end)
				}
				ends := 0
				for _, r := range l.log.records {
					if answered(&r) && r.HTTP.Status == 200 && r.BytesIn == int64(len(body)) && r.Decision.Permitted() {
						ends++
					}
					if r.HTTP != nil && strings.Contains(r.HTTP.Path, "secret") {
						t.Error("the query is in the audit")
					}
				}
				if ends != 1 {
					t.Errorf("%d ends of the request: %+v", ends, l.log.records)
				}
				if tt.rule == "allow-mcp" && body != "POST mcp.example.com /mcp?q=secret" {
					t.Errorf("sent on: %s; want the path that was judged", body)
				}
				return
			}
			var got struct{ Error, Rule, Reason, Host string }
			if err := json.Unmarshal([]byte(body), &got); err != nil || got.Rule != tt.rule || got.Reason != string(tt.reason) {
				t.Errorf("body %s: %v", body, err)
			}
			r := l.log.wait(t, audit.Refuse)
			if r.Class != audit.HTTPActivity || r.Decision.Rule != tt.rule || r.Decision.Reason != tt.reason || r.HTTP.Status != tt.status {
				t.Errorf("refused as %+v", r)
			}
			if l.world.dialled() != 0 {
				t.Error("dialled")
			}
		})
	}
}

// Plain HTTP on the TLS port is HTTP all the same.
func TestHTTPOnTLSPort(t *testing.T) {
	l := newHTTPLab(t)
	c := l.dial(t, agent, github, 443)
	if status, body := request(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"); status != 403 {
		t.Fatal(status, body)
	}
	c = l.dial(t, agent, github, 443)
	if status, body := request(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n"); status != 200 {
		t.Fatal(status, body)
	}
}

// A reload between two requests of a connection counts for the second, and resets an idle
// connection.
func TestHTTPReload(t *testing.T) {
	l := newHTTPLab(t)
	c := l.dial(t, agent, github, 80)
	br := bufio.NewReader(c)
	const get = "GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n"
	if status, body := request(t, c, br, get); status != 200 {
		t.Fatal(status, body)
	}
	l.rules.Store(compile(t, strings.ReplaceAll(rules, "[api.github.com]", "[other.example.com]")))
	if status, _ := request(t, c, br, get); status != 403 {
		t.Fatal(status)
	}
	l.log.wait(t, audit.Close) // the refusal ended the flow
	l.rules.Store(compile(t, rules))
	c = l.dial(t, agent, github, 80)
	br = bufio.NewReader(c)
	if status, body := request(t, c, br, get); status != 200 {
		t.Fatal(status, body)
	}
	l.rules.Store(compile(t, strings.ReplaceAll(rules, "[api.github.com]", "[other.example.com]")))
	if n := l.Rejudge(t.Context()); n != 1 {
		t.Fatalf("%d withdrawn", n)
	}
	wantReset(t, c)
}

// Both events of a request name the ruleset that permitted it, whatever was in force when its
// connection began.
func TestHTTPRequestNamesItsRuleset(t *testing.T) {
	l := newHTTPLab(t)
	c := l.dial(t, agent, github, 80)
	br := bufio.NewReader(c)
	for _, path := range []string{"/first", "/second"} {
		if status, body := request(t, c, br, "GET "+path+" HTTP/1.1\r\nHost: api.github.com\r\n\r\n"); status != 200 {
			t.Fatal(status, body)
		}
		end := l.log.find(t, func(r *audit.Record) bool { return answered(r) && r.HTTP.Path == path })
		if now := l.rules.Load().Digest(); end.Digest != now {
			t.Errorf("%s was permitted by %s, and ended by %s", path, now, end.Digest)
		}
		l.rules.Store(compile(t, rules+"  - {name: another, priority: 9, sources: [agents], webGroups: [paste], action: DENY}\n"))
		if n := l.Rejudge(t.Context()); n != 0 {
			t.Fatalf("%d withdrawn", n)
		}
	}
}

// What the audit has no room for is the agent's overload; what it cannot write at all is ours.
func TestHTTPUnwritten(t *testing.T) {
	for err, want := range map[error]policy.Reason{audit.ErrQuota: policy.ReasonOverload, audit.ErrFull: policy.ReasonNotReady} {
		l := newHTTPLab(t)
		l.log.fail = err
		c := l.dial(t, agent, github, 80)
		status, body := request(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n")
		if status != 403 || !strings.Contains(body, `"reason":"`+string(want)+`"`) {
			t.Errorf("%v: %d %s", err, status, body)
		}
	}
}

// A reload while a request is being judged counts for it: else it would be nobody's to withdraw.
func TestHTTPReloadDuringJudgement(t *testing.T) {
	l := newHTTPLab(t)
	var armed atomic.Bool
	l.opt.Ruleset = func() *policy.Ruleset {
		before := l.rules.Load()
		if armed.CompareAndSwap(true, false) {
			l.rules.Store(compile(t, strings.ReplaceAll(rules, "paths: [/mcp]", "paths: [/other]")))
			l.Rejudge(t.Context())
		}
		return before
	}
	c := l.dial(t, agent, evil, 80)
	br := bufio.NewReader(c)
	const post = "POST /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\n\r\n"
	if status, body := request(t, c, br, post); status != 200 {
		t.Fatal(status, body)
	}
	l.log.find(t, answered) // until then the first is under way, and would be withdrawn, too
	armed.Store(true)
	if status, body := request(t, c, br, post); status != 403 {
		t.Fatal(status, body)
	}
}
