package server

import (
	"net/netip"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/packet"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// recorder counts what is audited.
func (s *Server) recorder() audit.Recorder { return recorder{s} }

type recorder struct{ s *Server }

func (r recorder) Record(rec audit.Record) error {
	r.s.denials.note(&rec)
	err := r.s.audit.Record(rec)
	r.count(&rec, err)
	return err
}

func (r recorder) Submit(rec audit.Record, done func(error)) {
	r.s.denials.note(&rec)
	r.s.audit.Submit(rec, func(err error) {
		r.count(&rec, err)
		done(err)
	})
}

// count has what came of a record in the metrics, and tells the operator that the audit fails, now
// and then.
func (r recorder) count(rec *audit.Record, err error) {
	r.s.events.recorded(rec, err == nil)
	if err == nil {
		return
	}
	if ok, more := r.s.auditFaults.say(); ok {
		r.s.log.Error("audit", "error", err, "unsaid", more)
	}
}

// reasons maps what the kernel refuses by itself to the reason ids. What is not here
// the ruleset explains.
var reasons = map[packet.Cause]policy.Reason{
	packet.CauseInvariant: policy.ReasonInvariant,
	packet.CauseQUIC:      policy.ReasonQUIC,
	packet.CauseFragment:  policy.ReasonInvariant,
	packet.CauseSpoof:     policy.ReasonInvariant,
	packet.CauseIPv6:      policy.ReasonInvariant,
	packet.CauseOverload:  policy.ReasonOverload,
	packet.CauseNotReady:  policy.ReasonNotReady,
	packet.CauseEgress:    policy.ReasonInvariant,
}

// denied writes down packets that the kernel refused, in the ruleset's words: the
// evaluator that the kernel's program was generated from says which rule it was.
func (s *Server) denied(d packet.Denial) {
	rules := s.rules.Load()
	flow := s.packetFlow(d.Src.Addr(), d.Dst.Addr(), d.Proto, d.Dst.Port())
	decision := rules.Decide(&flow)
	if reason, own := reasons[d.Cause]; own || decision.Permitted() {
		if !own {
			// Refused under the ruleset before, or while its pin was on the way.
			reason = policy.ReasonNotReady
		}
		decision = policy.Decision{Verdict: policy.Deny, Rule: policy.RuleInvariant, Mode: policy.ModeEnforce,
			Decrypt: policy.DecryptNotAllowed, Tier: policy.TierKernel, Stage: policy.StagePacket, Reason: reason, Log: true, Index: -1}
	}
	rec := audit.Record{Class: audit.NetworkActivity, Activity: audit.Refuse, Time: time.Now(), Src: d.Src, Dst: d.Dst, Proto: d.Proto,
		Decision: decision, Digest: rules.Digest(), Count: d.Count, Message: explainCause(d.Cause)}
	s.recorder().Record(rec) // a failure is in the log; the packet is refused whatever happens here
}

func explainCause(c packet.Cause) string {
	switch c {
	case packet.CauseFragment:
		return "fragment"
	case packet.CauseSpoof:
		return "source address that does not belong there"
	case packet.CauseIPv6:
		return "IPv6"
	case packet.CauseEgress:
		return "the gateway's own traffic to where it has no business"
	}
	return ""
}

func (s *Server) packetFlow(src, dst netip.Addr, proto policy.Proto, port uint16) policy.Flow {
	f := policy.Flow{Stage: policy.StagePacket, Src: src.Unmap(), Dst: dst.Unmap(), Proto: proto, Port: port}
	if f.PinnedNames = s.pins.Names(f.Src, f.Dst); len(f.PinnedNames) > 0 {
		f.Pin = policy.PinMatch
	}
	return f
}
