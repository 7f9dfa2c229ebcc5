package enforcer

import (
	"context"
	"reflect"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// underWay is a request that was permitted and has not ended: a stream of events, say, or a
// WebSocket, which would outlive its permit if a reload asked for the flow's name alone. It is what
// the ruleset was asked, once for each message.
type underWay struct {
	digest string // of the ruleset that permitted it
	asked  []policy.Flow
}

func newUnderWay(digest string, facts policy.Flow, method, path string, messages []policy.RPC) *underWay {
	facts.Stage, facts.Method, facts.Path = policy.StageRequest, method, path
	if len(messages) == 0 {
		return &underWay{digest, []policy.Flow{facts}}
	}
	u := &underWay{digest: digest}
	for i := range messages {
		facts.RPC = &messages[i]
		u.asked = append(u.asked, facts)
	}
	return u
}

// enter adds a request to those that a reload judges again, until ctx, the request's, is
// over. It does not, and the request has to be judged once more, where the ruleset was replaced since gen.
func (f *flow) enter(ctx context.Context, gen uint64, u *underWay) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.srv.gen.Load() != gen {
		return false
	}
	if f.requests == nil {
		f.requests = map[context.Context]*underWay{}
	}
	f.requests[ctx] = u
	context.AfterFunc(ctx, func() { f.leave(ctx) })
	return true
}

// leave takes a request that has ended from among those under way, and returns it; nil if its
// context was over before.
func (f *flow) leave(ctx context.Context) *underWay {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.requests[ctx]
	delete(f.requests, ctx)
	return u
}

// forbiddenLocked returns the verdict on a request under way that rs does not permit, or nil.
func (f *flow) forbiddenLocked(rs *policy.Ruleset) *policy.Decision {
	for _, u := range f.requests {
		for i := range u.asked {
			d := rs.Decide(&u.asked[i])
			switch {
			case !d.Permitted():
				return &d
			case d.Pending != "": // it was not asked for what is wanted now
				d = verdict{Decision: d}.refuse(policy.ReasonNotReady).Decision
				return &d
			}
		}
	}
	return nil
}

// owesLocked is what rs asks of the flow itself.
func (f *flow) owesLocked(rs *policy.Ruleset, d policy.Decision) policy.Obligations {
	if rs == nil {
		return policy.Obligations{}
	}
	if !f.decrypted {
		d.Tier = policy.TierSplice
	}
	return rs.Obligations(&d)
}

// owesMoreLocked reports whether rs asks more of a flow than it was held to when it began. Requests
// are charged to a budget one by one; what is spliced is charged to that of its beginning.
func (f *flow) owesMoreLocked(rs *policy.Ruleset, d policy.Decision) bool {
	o := f.owesLocked(rs, d)
	spliced := !f.decrypted && f.live.facts.Wire != policy.WireHTTP
	return o.MinTLS > f.held.MinTLS || o.VerifyOrigin && !f.held.VerifyOrigin ||
		spliced && o.Budget != nil && !reflect.DeepEqual(o.Budget, f.held.Budget)
}
