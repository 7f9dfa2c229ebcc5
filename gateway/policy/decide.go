package policy

import "sync"

// tri is a three-valued answer: later facts can turn maybe into yes or no.
type tri uint8

const (
	no tri = iota
	maybe
	yes
)

// cause says which test gave a rule's answer. Explain puts it into words.
type cause uint8

const (
	causeMatch cause = iota
	causeSource
	causePort
	causeDestination
	causeThreatAddress
	causeThreatName
	causeNameUnknown
	causeNamesNotHere
	causeNoName
	causeOtherName
	causeNotPinned
	causeAddressMismatch
	causeNotTLS
	causeWireUnknown
	causeBudget
	causeRequestUnknown
	causeNeedsDecryption
	causeRequest
	causeMCP // it matches by an `mcp` entry
	causeMessageUnknown
	causeUnclear
	causeNotHTTP
)

// nearMiss maps the causes by which only the binding of name and address, and
// nothing else, kept a PERMIT from matching, to the reason that a person should
// read with the denial.
var nearMiss = map[cause]Reason{
	causeNotPinned:       ReasonNotPinned,
	causeAddressMismatch: ReasonAddressMismatch,
	causeNoName:          ReasonNoName,
	causeNotTLS:          ReasonNotTLS,
	causeUnclear:         ReasonBadRequest,
}

// scratchWords bounds the rules (64 per word) for which a decision allocates
// nothing.
const scratchWords = 16

// scratch is room for the unions that one decision may need.
type scratch [10][scratchWords]uint64

// scratches keeps that room off the stacks: a goroutine that decides once, as one for a DNS
// question does, would spend more on growing its stack than on the decision.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

// buffer returns the k-th set, with what it held before.
func (s *scratch) buffer(k, words int) bitset {
	if words > scratchWords {
		return newBitset(words * 64)
	}
	return s[k][:words]
}

// facts are a flow's places in every dimension, looked up once per decision.
type facts struct {
	*Flow
	src, dst, port     bitset
	internet, fromInet bool
	hasNames           bool // names exist on this protocol and port
	web, host, bad     bitset
	pinAny, pinAll     bitset // of the names pinned to the destination
	hits               hits   // of the request
}

func (r *Ruleset) none() bitset { return r.in.sets[empty] }

// gather looks a flow up in every table.
func (r *Ruleset) gather(flow *Flow, s *scratch) facts {
	none := r.none()
	f := facts{Flow: flow, src: none, dst: none, web: none, host: none, bad: none, pinAny: none, pinAll: none, hits: hits{none, none, none, none},
		port: r.in.sets[r.otherProtos], internet: IsInternet(flow.Dst), fromInet: IsInternet(flow.Src),
		hasNames: r.isNamePort(flow.Proto, flow.Port)}
	if id, ok := r.src.Lookup(flow.Src); ok {
		f.src = r.in.sets[id]
	}
	if id, ok := r.dst.Lookup(flow.Dst); ok {
		f.dst = r.in.sets[id]
	}
	if t := r.protoPorts[flow.Proto]; t != nil {
		f.port = r.in.sets[t.lookup(flow.Port)]
	}
	if !f.hasNames {
		return f
	}
	words := len(none)
	if flow.Name != "" {
		f.web = r.fqdns.lookup(flow.Name, s.buffer(0, words))
		f.host = r.hosts.lookup(flow.Name, s.buffer(1, words))
		f.bad = r.bad.lookup(flow.Name, s.buffer(2, words))
		if flow.Stage == StageRequest && r.requests.entries > 0 {
			f.hits = hits{s.buffer(6, words), s.buffer(7, words), s.buffer(8, words), s.buffer(9, words)}
			for _, b := range []bitset{f.hits.certain, f.hits.byMCP, f.hits.waiting, f.hits.unclear} {
				clear(b)
			}
			r.requests.lookup(flow, r.in, &f.hits)
		}
	}
	if len(flow.PinnedNames) > 0 && (flow.Stage == StagePacket || flow.Name == "") {
		f.pinAny, f.pinAll = s.buffer(3, words), s.buffer(4, words)
		clear(f.pinAny)
		for k, name := range flow.PinnedNames {
			web := r.fqdns.lookup(name, s.buffer(5, words))
			f.pinAny.or(web)
			if k == 0 {
				copy(f.pinAll, web)
			} else {
				f.pinAll.and(web)
			}
			f.pinAny.or(r.hosts.lookup(name, s.buffer(5, words)))
		}
	}
	return f
}

func (r *Ruleset) isNamePort(proto Proto, port uint16) bool {
	if proto != TCP {
		return false
	}
	for _, p := range r.namePorts {
		if p.Lo <= port && port <= p.Hi {
			return true
		}
	}
	return false
}

// match says whether one rule matches what is known of a flow, and why. It is the
// only place that compares a flow with a rule.
func (r *Ruleset) match(i int, f *facts) (tri, cause) {
	u := &r.rules[i]
	if !f.src.has(i) && !r.srcAny.has(i) && !(f.fromInet && r.srcInternet.has(i)) {
		return no, causeSource
	}
	if !f.port.has(i) {
		return no, causePort
	}
	answer, why := r.matchDestination(i, f)
	if answer == no {
		return no, why
	}
	if u.Budget != nil && f.Proto != TCP {
		return no, causeBudget // bytes are metered where they are spliced
	}
	if u.handlesRequests() {
		// Requests are seen in HTTP only, and in TLS that can be decrypted, for which
		// there has to be a name.
		switch {
		case !f.hasNames:
			return no, causeNotHTTP
		case f.Stage == StagePacket:
			answer, why = maybe, causeWireUnknown
		case f.Wire != WireTLS && f.Wire != WireHTTP:
			return no, causeNotHTTP
		case f.Wire == WireTLS && !u.decrypts:
			return no, causeNeedsDecryption
		case f.Wire == WireTLS && f.Name == "":
			return no, causeNoName
		}
	}
	if u.TLSOnly() {
		switch {
		case f.Proto != TCP:
			return no, causeNotTLS
		case f.Stage == StagePacket:
			answer, why = maybe, causeWireUnknown
		case f.Wire != WireTLS:
			return no, causeNotTLS
		}
	}
	if u.byName {
		named, c := r.matchName(i, f)
		if named < answer || c != causeMatch {
			answer, why = min(answer, named), c
		}
	}
	return answer, why
}

func (r *Ruleset) matchDestination(i int, f *facts) (tri, cause) {
	u := &r.rules[i]
	if f.dst.has(i) || r.dstAny.has(i) || f.internet && r.dstInternet.has(i) {
		if u.threatOnly {
			return yes, causeThreatAddress
		}
		return yes, causeMatch
	}
	if r.threatNames.has(i) && f.hasNames {
		if f.bad.has(i) {
			return yes, causeThreatName
		}
		if f.Stage == StagePacket && f.Name == "" {
			return maybe, causeNameUnknown
		}
	}
	return no, causeDestination
}

func (r *Ruleset) matchName(i int, f *facts) (tri, cause) {
	u := &r.rules[i]
	switch {
	case !f.hasNames:
		return no, causeNamesNotHere
	case f.Stage == StagePacket:
		return r.matchNameAhead(i, f)
	case f.Name == "":
		if u.SNI == SNIOptional && f.Wire == WireTLS && f.pinAll.has(i) {
			return yes, causeMatch
		}
		return no, causeNoName
	case !f.web.has(i) && !f.host.has(i):
		return no, causeOtherName
	case u.Action == Permit && f.Pin == PinNone:
		return no, causeNotPinned
	case u.Action == Permit && f.Pin == PinOther:
		return no, causeAddressMismatch
	case f.web.has(i):
		return yes, causeMatch
	case f.Stage == StageRequest:
		return r.matchRequest(i, f)
	case f.Wire == WireTLS && (u.monitored || !u.decrypts):
		return maybe, causeNeedsDecryption
	}
	return maybe, causeRequestUnknown
}

// matchNameAhead judges a name test before the name is known. A PERMIT can still
// match only if the destination is pinned to a name of its groups.
func (r *Ruleset) matchNameAhead(i int, f *facts) (tri, cause) {
	u := &r.rules[i]
	switch {
	case f.Name != "" && !f.web.has(i) && !f.host.has(i):
		return no, causeOtherName // a name told ahead, as explain does
	case u.Action == Deny:
		return maybe, causeNameUnknown
	case f.Pin == PinNone:
		return no, causeNotPinned
	case len(f.PinnedNames) > 0 && !f.pinAny.has(i):
		return no, causeOtherName
	}
	return maybe, causeNameUnknown
}

// matchRequest says whether one of the requests that a rule names is this one.
func (r *Ruleset) matchRequest(i int, f *facts) (tri, cause) {
	switch {
	case f.hits.byMCP.has(i):
		return yes, causeMCP
	case f.hits.certain.has(i):
		return yes, causeMatch
	case f.hits.unclear.has(i) && r.rules[i].Action == Deny:
		return yes, causeUnclear
	case f.hits.waiting.has(i):
		return maybe, causeMessageUnknown
	case f.hits.unclear.has(i):
		return no, causeUnclear
	}
	return no, causeRequest
}

// outcome is what the ruleset makes of some facts.
type outcome struct {
	index   int // the rule that decides, or the first that could still permit; -1: the default
	verdict Action
	pending bool
	why     cause // of a deciding rule
	missed  cause // of the first PERMIT that only lacked its binding; 0: none
	decrypt bool  // a rule on the way needs the request, and may have it decrypted
}

// judge goes through the rules in priority order. With all, monitored rules and
// the default count as enforced.
func (r *Ruleset) judge(f *facts, all bool) outcome {
	out := outcome{index: -1}
	mayDeny := false
	for w := range r.enforced {
		word := (f.src[w] | r.srcAny[w] | r.srcInternet[w]) & f.port[w] &
			(f.dst[w] | r.dstAny[w] | r.dstInternet[w] | r.threatNames[w])
		word &= r.worthAsking(f, w, out.missed != 0)
		if !all {
			word &= r.enforced[w]
		}
		for b := next(word); b >= 0; word, b = word&(word-1), next(word&(word-1)) {
			i := w*64 + b
			answer, why := r.match(i, f)
			permit := r.rules[i].Action == Permit
			if why == causeNeedsDecryption {
				answer = no // monitoring never decrypts, so the test stays unknown
			}
			if answer == maybe && why == causeRequestUnknown && r.rules[i].decrypts {
				out.decrypt = true
			}
			switch {
			case answer == no:
				if permit && out.missed == 0 && nearMiss[why] != "" {
					out.missed = why
				}
			case permit:
				out.index, out.verdict, out.why = i, Permit, why
				out.pending = answer == maybe || mayDeny
				return out
			case answer == maybe:
				mayDeny = true
			default:
				out.index, out.verdict, out.why = i, Deny, why
				return out
			}
		}
	}
	out.verdict = Deny
	if r.defaultMonitored && !all {
		out.verdict, out.pending = Permit, mayDeny
	}
	return out
}

// worthAsking masks out of a word the rules whose name test is certain to fail
// without saying anything of interest, so that a thousand rules by name cost no
// more than the few that hold the name.
func (r *Ruleset) worthAsking(f *facts, w int, missed bool) uint64 {
	switch {
	case missed && f.Stage == StagePacket && f.Pin == PinNone:
		return ^r.byNames[w] | ^r.permits[w]
	case !f.hasNames:
		return ^r.byNames[w]
	case f.Name != "" && f.Stage == StageRequest && f.Pin == PinMatch:
		// Bound as it is, a permit misses by its requests alone.
		return ^r.byNames[w] | f.web[w] | f.hits.certain[w] | f.hits.waiting[w] | f.hits.unclear[w]
	case f.Name != "":
		return ^r.byNames[w] | f.web[w] | f.host[w]
	case f.Stage == StagePacket && len(f.PinnedNames) > 0 && f.Pin != PinNone:
		return ^r.byNames[w] | f.pinAny[w] | ^r.permits[w]
	}
	return ^uint64(0)
}

// Decide answers for a flow at StagePacket, StageName or StageRequest. It
// allocates nothing for rulesets of up to 1,024 rules.
func (r *Ruleset) Decide(flow *Flow) Decision {
	if why := r.invariant(flow); why != "" {
		return Decision{Verdict: Deny, Rule: RuleInvariant, Mode: ModeEnforce, Tier: TierKernel, Decrypt: DecryptNotAllowed,
			Stage: StagePacket, Reason: why, Log: true, Index: -1}
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	f := r.gather(flow, s)
	out := r.judge(&f, false)
	d := r.decision(flow.Stage, out)
	d.Tier = r.tier(&f, out)
	if r.watches {
		r.addWould(&d, &f, out)
	}
	return d
}

// addWould adds what would have happened with everything in force. While the name
// is unknown and could change that, a permitted flow waits for it: its verdict will
// not change, but what is written down about it will.
func (r *Ruleset) addWould(d *Decision, f *facts, out outcome) {
	forced := r.judge(f, true)
	switch {
	case forced.pending:
		if d.Pending == "" && d.Verdict == Permit {
			d.Pending = pendingAt(f.Stage)
			if d.Tier == TierKernel {
				d.Tier = TierSplice
			}
		}
	case forced.index != out.index || out.index < 0 && r.defaultMonitored:
		d.Would = &Would{Rule: r.ruleName(forced.index), Verdict: forced.verdict}
	}
}

func pendingAt(s Stage) Fact {
	switch s {
	case StagePacket:
		return PendingName
	case StageName:
		return PendingRequest
	}
	return PendingMessage
}

func (r *Ruleset) ruleName(i int) string {
	if i < 0 {
		return RuleDefault
	}
	return r.rules[i].Name
}

// decision puts an outcome into the form that callers read.
func (r *Ruleset) decision(stage Stage, out outcome) Decision {
	d := Decision{Verdict: out.verdict, Rule: r.ruleName(out.index), Mode: ModeEnforce, Decrypt: DecryptNotAllowed,
		Stage: stage, Reason: ReasonRule, Log: true, Index: out.index}
	if out.index < 0 {
		d.Reason = ReasonDefault
		if r.defaultMonitored {
			d.Mode = ModeMonitor
		}
	} else {
		u := &r.rules[out.index]
		d.Log = u.Logged()
		if u.decrypts {
			d.Decrypt = DecryptAllowed
		}
		if u.monitored {
			d.Mode = ModeMonitor
		}
	}
	d.MCP = out.verdict == Permit && out.why == causeMCP
	if out.pending {
		d.Pending = pendingAt(stage)
	}
	if out.verdict == Deny {
		switch {
		case out.why == causeThreatAddress:
			d.Reason = ReasonThreatAddress
		case out.why == causeThreatName:
			d.Reason = ReasonThreatName
		case out.why == causeUnclear:
			d.Reason = ReasonBadRequest
		case out.missed != 0:
			d.Reason = nearMiss[out.missed]
		}
	}
	return d
}

// tier names the cheapest machinery that can carry out an outcome.
func (r *Ruleset) tier(f *facts, out outcome) Tier {
	u := &rule{Rule: &Rule{}}
	if out.index >= 0 {
		u = &r.rules[out.index]
	}
	readsNames := f.hasNames && f.Proto == TCP
	switch {
	case out.verdict == Deny && f.Stage == StagePacket:
		return TierKernel
	case out.verdict == Deny:
		return TierSplice
	case f.Stage == StageRequest && f.Wire == WireTLS:
		return TierDecrypt // or there would be no request
	case out.decrypt && out.pending && f.Wire != WireHTTP:
		return TierDecrypt
	case u.decrypts && readsNames && f.Wire != WireHTTP && (f.Stage != StagePacket || !out.pending && !u.byName):
		return TierDecrypt
	case f.Stage == StagePacket && !out.pending && u.Budget == nil:
		return TierKernel
	}
	return TierSplice
}
