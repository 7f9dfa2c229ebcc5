package enforcer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/enforcer/hello"
	"github.com/bulkhead-dev/bulkhead/gateway/enforcer/relay"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// flow is one intercepted connection, from accept until both sides are closed.
type flow struct {
	srv      *Server
	client   *net.TCPConn
	src, dst netip.AddrPort
	start    time.Time
	facts    policy.Flow // as known at accept
	cancel   context.CancelFunc

	mu        sync.Mutex
	live      *verdict // what permitted it; nil while undecided
	held      policy.Obligations
	requests  map[context.Context]*underWay // by the request's
	decrypted bool                          // it is served by TLS
	server    *net.TCPConn                  // the destination's side, nil until dialled
	pair      *relay.Pair                   // dials the destination, or has both sides, and then they are nil here
	gone      bool                          // reset
	revoked   *verdict                      // what ended it before its time
	why       string                        // in words
	account   *account                      // that what leaves is charged to; nil: none
	meter     *relay.Meter                  // of the relay for it
}

// run takes a flow through its stages. It reports whether the relay has it then.
func (f *flow) run(ctx context.Context) (handed bool) {
	s := f.srv
	v := f.admit(func() verdict { return s.judge(ctx, f.facts) })
	switch {
	case !v.Permitted():
		reset(f.client)
		f.refused(v, "")
		return false
	case v.Pending == "":
		// Addresses alone permit it; waiting for a name would stall protocols in
		// which the server speaks first.
		v.Tier = policy.TierSplice
		if reason, why := f.posture(ctx, &v, nil, f.dst.Addr()); reason != "" {
			reset(f.client)
			f.refused(v.refuseRule(reason), why)
			return false
		}
		return f.join(ctx, v, nil)
	}

	p, err := peek(f.client, f.start.Add(s.opt.Limits.HelloTimeout), &s.peeks)
	defer p.release()
	facts := f.facts
	facts.Stage, facts.Wire = policy.StageName, p.wire
	var bad hello.Error
	switch {
	case errors.As(err, &bad):
		f.refuseTLS(verdict{facts: facts, digest: s.opt.Ruleset().Digest()}.refuse(policy.ReasonBadClientHello), bad.Error())
		return false
	case errors.Is(err, errBudget):
		reset(f.client)
		f.refused(verdict{facts: facts, digest: s.opt.Ruleset().Digest()}.refuse(policy.ReasonOverload), err.Error())
		return false
	case err != nil: // the client is gone and has asked for nothing
		reset(f.client)
		return false
	}
	switch p.wire {
	case policy.WireHTTP:
		f.serveHTTP(ctx, facts, p)
	case policy.WireTLS:
		facts.Name, _ = policy.NormalizeName(p.hello.Name)
		return f.decideName(ctx, facts, p)
	default:
		return f.decideName(ctx, facts, p)
	}
	return false
}

// decideName judges a flow by the name that it claims and joins or refuses it.
func (f *flow) decideName(ctx context.Context, facts policy.Flow, p *peeked) (handed bool) {
	v := f.admit(func() verdict { return f.srv.judge(ctx, facts) })
	message := ""
	if v.Permitted() && f.srv.decrypts(&v.Decision, &facts) {
		f.serveTLS(ctx, v, p)
		return false
	}
	if v.Permitted() && f.srv.needsRequests(&v.Decision, facts.Wire) {
		v = v.refuseRule(policy.ReasonNotReady)
		message = "the verdict depends on the request, and this gateway does not decrypt"
	}
	if v.Permitted() {
		v.Tier = policy.TierSplice // first, for what is decrypted owes more
		if reason, why := f.posture(ctx, &v, p.offer(), f.dst.Addr()); reason != "" {
			f.withdraw()
			v, message = v.refuseRule(reason), why
		}
	}
	switch {
	case v.Permitted():
		return f.join(ctx, v, p)
	case facts.Wire == policy.WireTLS:
		f.refuseTLS(v, message)
	default:
		reset(f.client)
		f.refused(v, message)
	}
	return false
}

// admit judges and, if that permits for good, enters the flow among those that a
// reload judges again. A reload in between makes it judge once more, so no flow slips
// through under a ruleset that was withdrawn before it went live.
func (f *flow) admit(judge func() verdict) verdict {
	for {
		gen := f.srv.gen.Load()
		v := judge()
		decrypted := f.srv.decrypts(&v.Decision, &v.facts)
		if !v.Permitted() || !decrypted && f.srv.needsRequests(&v.Decision, v.facts.Wire) {
			return v
		}
		f.mu.Lock()
		if f.srv.gen.Load() == gen {
			f.live, f.decrypted = &v, decrypted
			f.held = f.owesLocked(v.rules, v.Decision)
			f.mu.Unlock()
			return v
		}
		f.mu.Unlock()
	}
}

// withdraw takes the flow from among the live ones; its fate is open again.
func (f *flow) withdraw() {
	f.mu.Lock()
	f.live = nil
	f.mu.Unlock()
}

// join writes the permit down, dials the destination and has the two relayed. While it
// dials and from then on the flow has no goroutine.
func (f *flow) join(ctx context.Context, v verdict, p *peeked) (handed bool) {
	account, reason, why := f.charge(&v)
	if reason != "" {
		f.withdraw()
		if v = v.refuseRule(reason); v.facts.Wire == policy.WireTLS {
			f.refuseTLS(v, why)
		} else {
			reset(f.client)
			f.refused(v, why)
		}
		return false
	}
	f.account, f.meter = account, account.meter()
	if f.opened(v) != nil {
		if v.facts.Wire == policy.WireTLS {
			alert(f.client)
		} else {
			reset(f.client)
		}
		return false
	}
	return f.dial(ctx, v, p)
}

// relay gives both sides away. An error means that they have been reset.
func (f *flow) relay(done func(relay.Totals)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return net.ErrClosed
	}
	pair, err := f.srv.engine.Join(f.client, f.server, f.meter, done)
	if err != nil {
		return fmt.Errorf("the gateway could not relay: %w", err)
	}
	f.pair, f.client, f.server = pair, nil, nil
	f.cancel() // nothing is waited for any more
	return nil
}

// attach makes server, which answered at an address, the flow's other side, unless the flow
// was reset meanwhile. From then on a reload judges the flow by that address; where it is not
// the one that the agent meant, a reload may have come between the choice and now.
func (f *flow) attach(server *net.TCPConn, at netip.Addr) bool {
	f.mu.Lock()
	gone, moved := f.gone, f.live != nil && at != f.live.facts.Dst
	if gone {
		f.mu.Unlock()
		reset(server)
		return false
	}
	f.server = server
	if moved {
		live := *f.live
		live.facts.Dst = at
		f.live = &live
	}
	f.mu.Unlock()
	return !moved || !f.rejudge(f.srv.opt.Ruleset())
}

// reset ends both sides at once.
func (f *flow) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resetLocked()
}

func (f *flow) resetLocked() {
	f.gone = true
	if f.pair != nil {
		f.pair.Reset()
	}
	if f.client != nil {
		reset(f.client)
	}
	if f.server != nil {
		reset(f.server)
	}
	f.cancel() // last, for whoever hears of it closes without a RST
}

// rejudge resets a live flow that rs does not permit, and reports whether it did. The
// pin counts as it was when the flow began: a live flow outlives its pin.
func (f *flow) rejudge(rs *policy.Ruleset) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.live == nil || f.gone {
		return false
	}
	facts := f.live.facts
	d := rs.Decide(&facts)
	request := f.forbiddenLocked(rs)
	more := d.Permitted() && f.owesMoreLocked(rs, d)
	if d.Permitted() && f.goesOn(&d, &facts) && request == nil && !more {
		f.live = &verdict{Decision: f.live.Decision, facts: facts, digest: f.live.digest, pin: f.live.pin}
		return false
	}
	v := verdict{Decision: d, facts: facts, digest: rs.Digest(), pin: f.live.pin}
	switch {
	case !d.Permitted():
	case request != nil:
		v.Decision = *request
	case more:
		v = v.refuse(policy.ReasonNotReady)
	case f.decrypted: // and is not to be any more: what is open cannot be sealed again
		v = v.refuse(policy.ReasonRule)
	case d.Pending == policy.PendingName: // it was not asked for one when it began
		v = v.refuse(policy.ReasonNoName)
	default:
		v = v.refuse(policy.ReasonNotReady)
	}
	f.revoked, f.why = &v, "withdrawn by a reload of the ruleset"
	f.resetLocked()
	return true
}

// revoke ends a live flow that a rule permits no longer.
func (f *flow) revoke(v verdict, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.revoked == nil {
		f.revoked, f.why = &v, why
	}
}

// record is what every event about the flow has in common.
func (f *flow) record(v verdict) audit.Record {
	return audit.Record{
		Class: audit.NetworkActivity, Time: f.srv.opt.Now(), Src: f.src, Dst: f.dst, Proto: policy.TCP,
		Host: v.facts.Name, Decision: v.Decision, Digest: v.digest, Pin: v.pin,
	}
}

// opened writes down that the flow is permitted. With an error it must not go on, and that it
// does not is written down.
func (f *flow) opened(v verdict) error {
	r := f.record(v)
	r.Activity = audit.Open
	err := f.srv.opt.Audit.Record(r)
	if err != nil {
		f.withdraw()
		f.refused(v.refuse(unwritten(err)), err.Error())
	}
	return err
}

// unwritten is the reason for refusing what could not be written down.
func unwritten(err error) policy.Reason {
	if errors.Is(err, audit.ErrQuota) {
		return policy.ReasonOverload
	}
	return policy.ReasonNotReady
}

func (f *flow) refused(v verdict, message string) {
	r := f.record(v)
	r.Activity, r.Message = audit.Refuse, message
	f.write(r)
}

// closed writes down the end of a permitted flow.
func (f *flow) closed(v verdict, out, in int64, message string) {
	f.write(f.closing(v, out, in, message))
}

// ended is closed for a flow that has no goroutine. It leaves the table when its end is written.
func (f *flow) ended(v verdict, out, in int64, message string) {
	defer f.survive()
	f.srv.opt.Audit.Submit(f.closing(v, out, in, message), func(err error) {
		f.unwritten(err)
		f.srv.leave(f)
	})
}

func (f *flow) closing(v verdict, out, in int64, message string) audit.Record {
	f.mu.Lock()
	if f.revoked != nil {
		v, message = *f.revoked, f.why
	}
	f.live = nil
	f.mu.Unlock()
	if f.account != nil && f.meter != nil {
		f.account.close(f.meter.Left)
	}
	r := f.record(v)
	r.Activity, r.BytesOut, r.BytesIn, r.Message = audit.Close, out, in, message
	r.Duration = r.Time.Sub(f.start)
	return r
}

// write records what has happened already and cannot be refused any more.
func (f *flow) write(r audit.Record) {
	f.unwritten(f.srv.opt.Audit.Record(r))
}

func (f *flow) unwritten(err error) {
	if err != nil {
		f.srv.opt.Logf("audit: flow %s to %s: %v", f.src, f.dst, err)
	}
}
