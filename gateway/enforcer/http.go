package enforcer

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// serveHTTP hands a plain HTTP connection over. Its first permitted request opens the
// flow; from then on it is that name's.
func (f *flow) serveHTTP(ctx context.Context, facts policy.Flow, p *peeked) {
	client := &counted{Conn: f.client, peeked: p.data}
	g := &httpGate{flow: f, facts: facts}
	f.srv.opt.HTTP.ServeFlow(ctx, client, facts, g)
	if g.open != nil {
		f.closed(*g.open, client.out.Load(), client.in.Load(), "")
	}
}

// httpGate is a Gate. Requests of a connection come one at a time.
type httpGate struct {
	flow  *flow
	facts policy.Flow // at the name stage, without a name
	open  *verdict    // of the first permitted request
}

func (g *httpGate) Judge(ctx context.Context, name, method, path string) (policy.Decision, string) {
	f := g.flow
	facts := g.facts
	facts.Name = name
	judge := func() verdict { return f.srv.judge(ctx, facts) }
	var v verdict
	if g.open == nil {
		v = f.admit(judge)
	} else {
		// The flow is live and keeps what ties it to its name.
		rs := f.srv.opt.Ruleset()
		v = verdict{facts: g.open.facts, digest: rs.Digest(), pin: g.open.pin}
		v.Decision = rs.Decide(&v.facts)
		if name != g.open.facts.Name {
			v = v.refuse(policy.ReasonAuthorityMismatch)
		}
	}
	if v.Permitted() && v.Pending == policy.PendingRequest {
		request, send, ok := f.judgeRequest(v, method, path)
		path = send
		if ok && request.Permitted() && request.Pending != "" {
			request = request.refuse(policy.ReasonNotReady) // the message is not read here
		}
		if !ok || !request.Permitted() {
			if g.open == nil {
				f.withdraw()
			}
			return request.Decision, path
		}
		request.facts = v.facts // a reload judges the flow, not this one request
		v = request
	}
	if !v.Permitted() {
		return v.Decision, path
	}
	if g.open == nil {
		if !f.opened(v) {
			return v.refuse(policy.ReasonNotReady).Decision, path
		}
		g.open = &v
	}
	r := f.record(v)
	r.Class, r.Activity, r.HTTP = audit.HTTPActivity, audit.Open, &audit.HTTP{Method: method, Path: path}
	if err := f.srv.opt.Audit.Record(r); err != nil {
		return v.refuse(unwritten(err)).Decision, path
	}
	return v.Decision, path
}

// judgeRequest decides at the request stage. What is judged is what is sent, so the
// path is replaced by its normal form.
func (f *flow) judgeRequest(v verdict, method, path string) (verdict, string, bool) {
	normal, err := policy.NormalizePath(path)
	v.facts.Stage = policy.StageRequest
	if err != nil {
		return v.refuse(policy.ReasonBadRequest), path, false
	}
	v.facts.Method, v.facts.Path = method, normal
	rs := f.srv.opt.Ruleset()
	v.digest = rs.Digest()
	v.Decision = rs.Decide(&v.facts)
	return v, normal, true
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

// errNotJudged guards against a chain that dials before it has asked.
var errNotJudged = errors.New("no request of this connection has been permitted")

func (g *httpGate) Dial(ctx context.Context) (net.Conn, error) {
	if g.open == nil {
		return nil, errNotJudged
	}
	server, to, err := g.flow.srv.connect(ctx, &g.open.facts)
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
}

func (c *counted) Read(b []byte) (n int, err error) {
	if len(c.peeked) > 0 {
		n = copy(b, c.peeked)
		c.peeked = c.peeked[n:]
	} else {
		n, err = c.Conn.Read(b)
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
