package enforcer

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// serveHTTP hands a plain HTTP connection over. Its first permitted request opens the
// flow; from then on it is that name's.
func (f *flow) serveHTTP(ctx context.Context, facts policy.Flow, p *peeked) {
	client := &counted{Conn: f.client, peeked: p.data}
	g := &httpGate{flow: f, client: client, facts: facts}
	f.srv.opt.HTTP.ServeFlow(ctx, client, facts, g)
	g.end(client, "")
}

// end writes down the end of a flow that was opened.
func (g *httpGate) end(client *counted, message string) {
	client.settle()
	if open := g.opened(); open != nil {
		g.flow.closed(*open, client.out.Load(), client.in.Load(), message)
	}
}

// httpGate is a Gate.
type httpGate struct {
	flow   *flow
	client *counted
	facts  policy.Flow // at the name stage; without a name on plain HTTP

	mu     sync.Mutex
	open   *verdict // what the flow was opened by; on plain HTTP the first permitted request
	named  *verdict // of a decrypted flow: the name's, which opens it
	failed bool
}

func (g *httpGate) opened() *verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *httpGate) Judge(ctx context.Context, name, method, path string, messages []policy.RPC) (policy.Decision, policy.Obligations, string) {
	f := g.flow
	open := g.opened()
	var v verdict
	if open != nil {
		v = *open
		if name != open.facts.Name {
			return v.refuse(policy.ReasonAuthorityMismatch).Decision, policy.Obligations{}, path
		}
	} else {
		facts := g.facts
		facts.Name = name
		if v = f.admit(func() verdict { return f.srv.judge(ctx, facts) }); !v.Permitted() {
			return v.Decision, policy.Obligations{}, path
		}
	}
	// From here on all is judged under one ruleset: the flow, which keeps what ties it to
	// its name, the request, and its messages.
	var rs *policy.Ruleset
	request, send, tool := v, path, ""
	for {
		gen := f.srv.gen.Load()
		rs = f.srv.opt.Ruleset()
		request.facts, request.digest = v.facts, rs.Digest()
		request.Decision = rs.Decide(&request.facts)
		if request.Permitted() && request.Pending == policy.PendingRequest {
			request, send, tool = f.judgeRequest(rs, request, method, path, messages)
		}
		if !request.Permitted() || request.Pending != "" || f.enter(ctx, gen, newUnderWay(rs.Digest(), v.facts, method, send, messages)) {
			break
		}
	}
	path = send
	obligations := rs.Obligations(&request.Decision)
	if request.Permitted() && request.Pending == "" && obligations.Budget != nil {
		request.rules = rs
		if reason := g.client.charge(f, &request); reason != "" {
			request = request.refuseRule(reason)
		}
	}
	switch {
	case !request.Permitted(), request.Pending == policy.PendingMessage:
		if open == nil {
			f.withdraw()
		}
		return request.Decision, obligations, path
	case request.Pending != "":
		return request.refuse(policy.ReasonNotReady).Decision, obligations, path
	}
	request.facts = v.facts // a reload judges the flow, not this one request
	if open == nil {
		if err := f.opened(request); err != nil {
			return request.refuse(unwritten(err)).Decision, obligations, path
		}
		g.mu.Lock()
		g.open = &request
		g.mu.Unlock()
	}
	r := f.record(request)
	r.Class, r.Activity, r.HTTP = audit.HTTPActivity, audit.Open, &audit.HTTP{Method: method, Path: path, Tool: tool}
	if err := f.srv.opt.Audit.Record(r); err != nil {
		return request.refuse(unwritten(err)).Decision, obligations, path
	}
	return request.Decision, obligations, path
}

// judgeRequest decides at the request stage, and each message by itself: one refused
// message refuses them all. What is judged is what is sent, so the path is replaced by its normal
// form. It returns the tools that are called, for the audit.
func (f *flow) judgeRequest(rs *policy.Ruleset, v verdict, method, path string, messages []policy.RPC) (out verdict, send, tools string) {
	normal, err := policy.NormalizePath(path)
	v.facts.Stage = policy.StageRequest
	if err != nil {
		return v.refuse(policy.ReasonBadRequest), path, ""
	}
	v.facts.Method, v.facts.Path = method, normal
	v.Decision = rs.Decide(&v.facts)
	if v.Pending != policy.PendingMessage || messages == nil {
		return v, normal, ""
	}
	for i := range messages {
		v.facts.RPC = &messages[i]
		v.Decision = rs.Decide(&v.facts)
		if !v.Permitted() {
			break
		}
		if messages[i].Tool != "" {
			tools = strings.TrimPrefix(tools+", "+messages[i].Tool, ", ")
		}
	}
	return v, normal, tools
}

// Callable asks the ruleset in force.
func (g *httpGate) Callable(name, method, path, tool string) bool {
	open := g.opened()
	if open == nil || name != open.facts.Name {
		return false
	}
	facts := open.facts
	facts.Stage, facts.Method, facts.Path = policy.StageRequest, method, path
	facts.RPC = &policy.RPC{Method: "tools/call", Tool: tool}
	d := g.flow.srv.opt.Ruleset().Decide(&facts)
	return d.Permitted() && d.Pending == ""
}

func (g *httpGate) Refuse(d policy.Decision, name, method, path string, status int, message string) {
	f := g.flow
	facts := g.facts
	facts.Name = name
	r := f.record(verdict{Decision: d, facts: facts, digest: f.srv.opt.Ruleset().Digest()})
	r.Class, r.Activity, r.Message = audit.HTTPActivity, audit.Refuse, message
	r.HTTP = &audit.HTTP{Method: method, Path: path, Status: status}
	f.write(r)
}

func (g *httpGate) Answered(ctx context.Context, d policy.Decision, name, method, path string, status int, out, in int64, took time.Duration) {
	f := g.flow
	v := verdict{Decision: d, facts: g.facts, digest: f.srv.opt.Ruleset().Digest()}
	if open := g.opened(); open != nil {
		v.digest, v.pin = open.digest, open.pin
	}
	if u := f.leave(ctx); u != nil { // a reload may have come between the flow's beginning and the request's
		v.digest = u.digest
	}
	v.facts.Name = name
	r := f.record(v)
	r.Class, r.Activity, r.BytesOut, r.BytesIn, r.Duration = audit.HTTPActivity, audit.Close, out, in, took
	r.HTTP = &audit.HTTP{Method: method, Path: path, Status: status}
	f.srv.opt.Audit.Submit(r, f.unwritten)
}

// errNotJudged guards against a chain that dials before it has asked.
var errNotJudged = errors.New("no request of this connection has been permitted")

func (g *httpGate) Dial(ctx context.Context) (net.Conn, error) {
	open, err := g.opening()
	if err != nil {
		return nil, err
	}
	server, to, err := g.flow.srv.connect(ctx, &open.facts, nil)
	if err != nil {
		return nil, err
	}
	if !g.flow.attach(server, to) {
		return nil, net.ErrClosed
	}
	return server, nil
}

// counted is the client's side of an HTTP flow: the peeked bytes come first, and all
// are counted. Requests have to be parsed anyway, so there is no splicing to lose.
type counted struct {
	net.Conn // its fast paths, which would escape the count, stay hidden
	peeked   []byte
	out, in  atomic.Int64

	mu      sync.Mutex
	account *account // that what is read from now on is charged to; nil: none
	left    int64
	until   time.Time
}

// errSpent ends a connection whose budget does.
var errSpent = errors.New("the budget is spent")

// charge has what is read from now on charged to the budget of a permit. A connection's requests
// may be permitted by several rules; each byte is charged to the one that was asked last.
func (c *counted) charge(f *flow, v *verdict) policy.Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.account != nil && c.account.rule.Rule == v.Rule {
		return ""
	}
	a, reason, _ := f.charge(v)
	if a == nil {
		return reason
	}
	owed := c.out.Load() // the head that was read before anybody knew the rule
	if c.account != nil {
		owed = 0
		c.account.close(c.left)
	}
	c.account, c.left, c.until = a, a.grant.Bytes, a.grant.Until
	if c.payLocked(owed) != nil {
		return policy.ReasonBudgetExceeded
	}
	return ""
}

// pay charges n bytes that were read and are not passed on yet.
func (c *counted) pay(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.payLocked(int64(n))
}

func (c *counted) payLocked(n int64) error {
	if c.account == nil {
		return nil
	}
	for c.left -= n; c.left < 0 || !time.Now().Before(c.until); {
		owed := min(c.left, 0)
		more, until := c.account.spend(max(c.left, 0))
		if more == 0 {
			return errSpent
		}
		c.left, c.until = more+owed, until
	}
	return nil
}

// settle gives back what was not used.
func (c *counted) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.account != nil {
		c.account.close(c.left)
		c.account = nil
	}
}

func (c *counted) Read(b []byte) (n int, err error) {
	if len(c.peeked) > 0 {
		n = copy(b, c.peeked)
		c.peeked = c.peeked[n:]
	} else {
		n, err = c.Conn.Read(b)
	}
	if payErr := c.pay(n); payErr != nil {
		return 0, payErr
	}
	c.out.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.in.Add(int64(n))
	return n, err
}

// CloseWrite lets a server end its side and still read what the client sends.
func (c *counted) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }
