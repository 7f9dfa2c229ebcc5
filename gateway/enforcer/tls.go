package enforcer

import (
	"context"
	"net"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TLS ends the TLS of a flow whose name is permitted, and serves its requests until it
// ends. Where it fails before it has sent anything it leaves the client open, to be refused
// with an alert.
type TLS interface {
	ServeTLS(ctx context.Context, client net.Conn, facts policy.Flow, gate Gate)
}

// decrypts reports whether a permitted flow is to be decrypted. Without a name there is nothing
// to show a certificate for.
func (s *Server) decrypts(d *policy.Decision, facts *policy.Flow) bool {
	return s.opt.TLS != nil && facts.Wire == policy.WireTLS && facts.Name != "" && facts.Stage != policy.StagePacket &&
		d.Permitted() && d.Tier == policy.TierDecrypt
}

// needsRequests reports whether a permitted flow may not go on without a look at its
// requests. Plain HTTP always has them looked at.
func (s *Server) needsRequests(d *policy.Decision, wire policy.Wire) bool {
	if wire == policy.WireHTTP {
		return false
	}
	if d.Pending != "" {
		return true
	}
	if d.Tier != policy.TierDecrypt {
		return false
	}
	o := s.opt.Ruleset().Obligations(d)
	return len(o.Headers) > 0 || o.MaxRequestBytes > 0
}

// goesOn reports whether a live flow, permitted under a new ruleset, may be treated as it
// is: decrypted or not.
func (f *flow) goesOn(d *policy.Decision, facts *policy.Flow) bool {
	if f.decrypted || f.srv.decrypts(d, facts) {
		return f.decrypted && f.srv.decrypts(d, facts)
	}
	return !f.srv.needsRequests(d, facts.Wire)
}

// serveTLS hands a TLS flow over, from its first byte on. Its permit, by name, is written down before
// its destination is dialled; each request is then judged.
func (f *flow) serveTLS(ctx context.Context, v verdict, p *peeked) {
	client := &counted{Conn: f.client, peeked: p.data}
	g := &httpGate{flow: f, client: client, facts: v.facts, named: &v}
	f.srv.opt.TLS.ServeTLS(ctx, client, v.facts, g)
	if g.failed && client.in.Load() == 0 {
		alert(f.client)
	}
	g.end(client, "")
	f.withdraw()
}

// opening is the verdict that a flow is open by. A decrypted flow is opened by its name, when its
// destination is first dialled.
func (g *httpGate) opening() (*verdict, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.open != nil:
	case g.named == nil:
		return nil, errNotJudged
	case g.flow.opened(*g.named) != nil:
		return nil, net.ErrClosed
	default:
		g.open = g.named
	}
	return g.open, nil
}

// Fail is called once at most, by the goroutine that serves the flow.
func (g *httpGate) Fail(d policy.Decision, message string) {
	g.failed = true
	v := verdict{Decision: d, facts: g.facts, digest: g.flow.srv.opt.Ruleset().Digest()}
	if g.named != nil {
		v.Rule, v.pin = g.named.Rule, g.named.pin
	}
	r := g.flow.record(v)
	r.Activity, r.Message = audit.Refuse, message
	g.flow.write(r)
}
