package enforcer

import (
	"context"
	"slices"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// maxReasked bounds the names that one nameless flow makes us ask for again.
const maxReasked = 4

// verdict is a decision with the facts that it rests on and the evidence for it.
type verdict struct {
	policy.Decision
	rules  *policy.Ruleset // that it was made by; nil: by none
	facts  policy.Flow
	digest string
	pin    *audit.Pin
}

// judge decides facts under the current ruleset, with the pins as they are now.
// Names that were resolved too long ago are resolved again, but only where a permit
// hangs on them, so that refused flows cause no traffic.
func (s *Server) judge(ctx context.Context, facts policy.Flow) verdict {
	rs := s.opt.Ruleset()
	v := verdict{rules: rs, facts: facts, digest: rs.Digest()}
	switch {
	case facts.Stage == policy.StagePacket:
		v.facts.PinnedNames = s.opt.Pins.Names(facts.Src, facts.Dst)
		if len(v.facts.PinnedNames) > 0 {
			v.facts.Pin = policy.PinMatch
		}
		v.Decision = rs.Decide(&v.facts)
	case facts.Name != "":
		s.judgeNamed(ctx, rs, &v)
	default:
		s.judgeNameless(ctx, rs, &v)
	}
	return v
}

func (s *Server) judgeNamed(ctx context.Context, rs *policy.Ruleset, v *verdict) {
	f := &v.facts
	m := s.opt.Pins.Lookup(f.Src, f.Dst, f.Name)
	f.Pin = m.State
	v.Decision = rs.Decide(f)
	if !m.Stale || !v.Permitted() {
		v.evidence(m)
		return
	}
	// Without its pin: does the permit stand all the same, by address say?
	f.Pin = policy.PinOther
	bare := rs.Decide(f)
	if bare.Permitted() && bare.Index == v.Index {
		v.Decision = bare
		return
	}
	if s.opt.Resolver.Ask(ctx, f.Src, f.Name) == nil {
		if m = s.opt.Pins.Lookup(f.Src, f.Dst, f.Name); m.State == policy.PinMatch && !m.Stale {
			f.Pin = policy.PinMatch
			v.Decision = rs.Decide(f)
			v.evidence(m)
			return
		}
	}
	v.Decision = bare
	if !bare.Permitted() {
		v.Reason = policy.ReasonPinExpired
	}
}

// judgeNameless decides a flow without a name. Where a rule says `sni: optional`, the
// names pinned to the destination stand in for it: all of them have to be the
// rule's, and one of them must be fresh.
func (s *Server) judgeNameless(ctx context.Context, rs *policy.Ruleset, v *verdict) {
	f := &v.facts
	bare := rs.Decide(f)
	v.Decision = bare
	if f.Wire != policy.WireTLS {
		return
	}
	f.PinnedNames = s.opt.Pins.Names(f.Src, f.Dst)
	if len(f.PinnedNames) == 0 {
		return
	}
	f.Pin = policy.PinMatch
	v.Decision = rs.Decide(f)
	if !v.Permitted() || bare.Permitted() && bare.Index == v.Index {
		return
	}
	fresh := func(name string) bool {
		m := s.opt.Pins.Lookup(f.Src, f.Dst, name)
		ok := m.State == policy.PinMatch && !m.Stale
		if ok {
			v.evidence(m)
		}
		return ok
	}
	if slices.ContainsFunc(f.PinnedNames, fresh) {
		return
	}
	for _, name := range f.PinnedNames[:min(len(f.PinnedNames), maxReasked)] {
		if s.opt.Resolver.Ask(ctx, f.Src, name) == nil && fresh(name) {
			return
		}
	}
	f.Pin, f.PinnedNames = policy.PinNone, nil
	v.Decision = bare
	if !bare.Permitted() {
		v.Reason = policy.ReasonPinExpired
	}
}

func (v *verdict) evidence(m pin.Match) {
	if m.State == policy.PinMatch {
		e := m.Entry
		v.pin = &audit.Pin{Question: e.Name, Answer: e.Addr, Asked: e.Asked, TTL: e.TTL, Bound: e.Bound}
	}
}

// refuse turns a verdict into a denial that no rule of the document made.
func (v verdict) refuse(reason policy.Reason) verdict {
	v.Decision = policy.Decision{
		Verdict: policy.Deny, Rule: policy.RuleInvariant, Mode: policy.ModeEnforce, Decrypt: policy.DecryptNotAllowed,
		Tier: policy.TierSplice, Stage: v.facts.Stage, Reason: reason, Log: true, Index: -1,
	}
	return v
}

// refuseRule refuses what a rule permits, for something else that the rule asks for.
func (v verdict) refuseRule(reason policy.Reason) verdict {
	rule := v.Rule
	v = v.refuse(reason)
	v.Rule = rule
	return v
}
