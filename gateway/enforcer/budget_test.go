package enforcer

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/budget"
	"github.com/bulkhead-dev/bulkhead/gateway/inspect"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestBudget sends more than a rule's budget over a spliced flow, and then tries another.
func TestBudget(t *testing.T) {
	const limit = 1 << 20
	text := strings.Replace(rules, "webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT",
		"webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT, budget: {bytesOut: 1048576, window: 24h}", 1)
	dir := t.TempDir()
	ledger, err := budget.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(o *Options) { o.Budgets = ledger })
	l.rules.Store(compile(t, text))
	var arrived atomic.Int64
	l.host(t, github, 443, func(c *net.TCPConn) {
		defer c.Close()
		n, _ := io.Copy(io.Discard, c)
		arrived.Add(n)
	})
	l.pin(t, agent, "api.github.com", github)

	c := l.dial(t, agent, github, 443)
	hello := firstFlight("api.github.com")
	if _, err := c.Write(hello); err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte{7}, 64<<10)
	sent := 0
	for err == nil && sent < 16*limit {
		var n int
		n, err = c.Write(block)
		sent += n
	}
	if err == nil {
		t.Fatalf("%d bytes went into the flow", sent)
	}
	r := l.log.wait(t, audit.Close)
	if r.Decision.Reason != policy.ReasonBudgetExceeded || r.Decision.Permitted() || r.BytesOut > limit || r.BytesOut < limit/2 {
		t.Errorf("%d bytes out, %+v", r.BytesOut, r.Decision)
	}
	if n := arrived.Load(); n > limit {
		t.Errorf("%d bytes arrived, of a budget of %d", n, limit)
	}

	_, err = talk(l.dial(t, agent, github, 443), "api.github.com")
	if err == nil {
		t.Fatal("permitted beyond its budget")
	}
	if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != policy.ReasonBudgetExceeded || r.Decision.Rule != "allow-tools" {
		t.Errorf("%+v", r.Decision)
	}
	if err := ledger.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := budget.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if left := again.Left("allow-tools "+agent.String(), limit, 24*time.Hour); left > limit/16 {
		t.Errorf("%d bytes are left after a restart", left)
	}
}

// TestBudgetOfSmallFlows holds that a flow gives back what it did not use.
func TestBudgetOfSmallFlows(t *testing.T) {
	text := strings.Replace(rules, "webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT",
		"webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT, budget: {bytesOut: 1048576, window: 24h}", 1)
	ledger, err := budget.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ledger.Close() })
	l := newLab(t, func(o *Options) { o.Budgets = ledger })
	l.rules.Store(compile(t, text))
	l.host(t, github, 443, tlsEcho)
	l.pin(t, agent, "api.github.com", github)
	// Each takes 16 KiB at a time: without giving back, 64 of them would use it up.
	for i := range 100 {
		if got, err := talk(l.dial(t, agent, github, 443), "api.github.com"); err != nil || got != "hello" {
			t.Fatal(i, got, err)
		}
		l.log.wait(t, audit.Close)
	}
}

// TestBudgetOfRequests holds that what a request's head carries is charged, however many
// connections it is spread over.
func TestBudgetOfRequests(t *testing.T) {
	const limit = 1 << 20
	text := strings.Replace(rules, "webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT",
		"webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT, budget: {bytesOut: 1048576, window: 24h}", 1)
	ledger, err := budget.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ledger.Close() })
	h := inspect.New(t.Logf)
	t.Cleanup(func() { h.Close() })
	l := newLab(t, func(o *Options) { o.HTTP, o.Budgets = h, ledger })
	l.rules.Store(compile(t, text))
	l.pin(t, agent, "api.github.com", github)
	var arrived atomic.Int64
	l.host(t, github, 80, func(c *net.TCPConn) {
		defer c.Close()
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		arrived.Add(int64(len(r.Header.Get("X-Data"))))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	head := "GET / HTTP/1.1\r\nHost: api.github.com\r\nX-Data: " + strings.Repeat("x", 48<<10) + "\r\nConnection: close\r\n\r\n"
	refused := 0
	for range 40 {
		c := l.dial(t, agent, github, 80)
		if status, _ := request(t, c, bufio.NewReader(c), head); status != 200 {
			refused++
		}
		c.Close()
	}
	if n := arrived.Load(); n > limit || n < limit/2 || refused == 0 {
		t.Errorf("%d bytes arrived of a budget of %d, %d requests refused", n, limit, refused)
	}
}
