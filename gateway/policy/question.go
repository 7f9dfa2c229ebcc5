package policy

import (
	"net/netip"
	"slices"
)

// direct is a compiled Resolve entry.
type direct struct {
	names   []string
	answers []AddrRange
}

// resolvable precomputes which denies make a permit by name unreachable, which
// names lie above resolvable ones, and what `resolve` answers.
func (c *compiler) resolvable() error {
	c.ancestors = map[string]struct{}{}
	above := func(pattern string) {
		for _, p := range parents(pattern) {
			c.ancestors[p] = struct{}{}
		}
	}
	seen := map[string]bool{}
	c.blockers, c.badBlockers = make([]bitset, len(c.rules)), make([]bitset, len(c.rules))
	for i := range c.rules {
		p := &c.rules[i]
		if p.Action != Permit || !p.byName {
			continue
		}
		c.blockers[i], c.badBlockers[i] = c.bits(), c.bits()
		p.named = c.named(p)
		for k := 0; k < i; k++ {
			d := &c.rules[k]
			if !c.blocksPorts(d, p) {
				continue
			}
			if covered(p.destinations, d.destinations) {
				c.blockers[i].set(k)
			}
			// A threat group that holds the name refuses it at any address.
			if d.byThreat {
				c.badBlockers[i].set(k)
			}
		}
		for _, g := range p.WebGroups {
			if seen[g] {
				continue
			}
			seen[g] = true
			for _, f := range c.web[g].FQDNs {
				above(f)
			}
			for _, u := range c.web[g].URLs {
				above(u.Host)
			}
			for _, m := range c.web[g].MCP {
				above(m.Host)
			}
		}
	}
	for _, res := range c.doc.Resolve {
		d := direct{names: res.Names}
		var ps []netip.Prefix
		for _, name := range res.Answers {
			if g := c.smart[name]; g != nil {
				ps = append(ps, c.prefixesOf(g)...)
			}
		}
		d.answers = ranges(ps)
		c.direct = append(c.direct, d)
		for _, n := range res.Names {
			above(n)
		}
	}
	return nil
}

// blocksPorts reports whether a deny covers every port on which the permit could
// allow a name.
func (c *compiler) blocksPorts(d, p *rule) bool {
	if d.Action != Deny || d.TLSOnly() && !p.TLSOnly() {
		return false
	}
	if len(d.Ports) == 0 {
		return true
	}
	var denied []PortRange
	for _, x := range d.Ports {
		if x.Proto == TCP {
			denied = append(denied, x)
		}
	}
	denied = mergePorts(denied)
	for _, x := range p.named {
		if !slices.ContainsFunc(denied, func(y PortRange) bool { return y.Lo <= x.Lo && x.Hi <= y.Hi }) {
			return false
		}
	}
	return true
}

// named returns the ports on which a rule's name test can match: its TCP ports among
// those that carry names.
func (c *compiler) named(r *rule) []PortRange {
	if len(r.Ports) == 0 {
		return c.namePorts
	}
	var out []PortRange
	for _, x := range r.Ports {
		for _, y := range c.namePorts {
			if lo, hi := max(x.Lo, y.Lo), min(x.Hi, y.Hi); x.Proto == TCP && lo <= hi {
				out = append(out, PortRange{TCP, lo, hi})
			}
		}
	}
	return mergePorts(out)
}

// asked are a question's places in every dimension.
type asked struct {
	src            bitset
	everyone       bool // on behalf of all agents together
	internet       bool // the source is globally reachable
	web, host, bad bitset
}

func (r *Ruleset) ask(src netip.Addr, name string) asked {
	q := asked{src: r.none(), internet: IsInternet(src), everyone: within(r.env.DNSClients, src)}
	if id, ok := r.src.Lookup(src); ok {
		q.src = r.in.sets[id]
	}
	q.web = r.fqdns.lookup(name, nil)
	q.host = r.hosts.lookup(name, nil)
	q.bad = r.bad.lookup(name, nil)
	return q
}

func (r *Ruleset) asks(i int, q *asked) bool {
	if q.everyone {
		return r.allAgents.has(i)
	}
	return q.src.has(i) || r.srcAny.has(i) || q.internet && r.srcInternet.has(i)
}

// refusesName reports whether a deny holds the name, as far as names go: a deny
// without web groups holds every name, one by threat group the names of its feeds.
func (r *Ruleset) refusesName(i int, q *asked) bool {
	u := &r.rules[i]
	if u.byName && !q.web.has(i) {
		return false
	}
	return !u.threatOnly || q.bad.has(i)
}

// Question judges a DNS question before anything is sent upstream. Name must be
// normalised.
func (r *Ruleset) Question(src netip.Addr, name string) Question {
	src = src.Unmap()
	if !r.governs(src) && !within(r.env.DNSClients, src) {
		return Question{Decision: Decision{Verdict: Deny, Rule: RuleInvariant, Mode: ModeEnforce, Decrypt: DecryptNotAllowed,
			Tier: TierKernel, Stage: StageDNS, Reason: ReasonInvariant, Log: true, Index: -1}, src: src, name: name}
	}
	q := r.ask(src, name)
	out, isDirect := r.judgeQuestion(&q, name, false)
	ans := Question{Decision: r.decision(StageDNS, out), Direct: isDirect, Exact: r.fqdns.exact[name] != empty || r.hosts.exact[name] != empty, src: src, name: name, asked: q}
	ans.Tier = r.questionTier(out)
	if r.watches {
		forced, forcedDirect := r.judgeQuestion(&q, name, true)
		if !forcedDirect && (forced.index != out.index || out.index < 0 && r.defaultMonitored && !isDirect) {
			ans.Would = &Would{Rule: r.ruleName(forced.index), Verdict: forced.verdict}
		}
	}
	if isDirect {
		ans.Rule, ans.Reason, ans.Mode = RuleResolve, ReasonRule, ModeEnforce
	}
	if _, above := r.ancestors[name]; above && ans.Verdict == Deny {
		ans.NoData = true
	}
	return ans
}

// RuleResolve is the rule name of answers that the document's `resolve` list gives.
const RuleResolve = "resolve"

func (r *Ruleset) questionTier(out outcome) Tier {
	switch {
	case out.verdict == Deny:
		return TierKernel
	case out.index >= 0 && r.rules[out.index].decrypts:
		return TierDecrypt
	}
	return TierSplice
}

// judgeQuestion finds the permit that a name is resolved for, or the rule that
// refuses it: the first deny that holds a public address of no group.
func (r *Ruleset) judgeQuestion(q *asked, name string, all bool) (outcome, bool) {
	if i := r.permitFor(q, all); i >= 0 {
		return outcome{index: i, verdict: Permit}, false
	}
	refused := r.refusal(q, all)
	if i := r.namedRefusal(q, all); i < 0 || r.rules[i].Ports != nil {
		for _, d := range r.direct {
			if slices.ContainsFunc(d.names, func(p string) bool { return MatchPattern(p, name) }) {
				return outcome{index: -1, verdict: Permit}, true
			}
		}
	}
	if refused.index < 0 && r.defaultMonitored && !all {
		refused.verdict = Permit
	}
	return refused, false
}

// permitFor returns the first permit by name that the question could serve, or -1.
func (r *Ruleset) permitFor(q *asked, all bool) int {
	for w := range q.web {
		word := (q.web[w] | q.host[w]) & r.permits[w]
		if !all {
			word &= r.enforced[w]
		}
		for b := next(word); b >= 0; word, b = word&(word-1), next(word&(word-1)) {
			i := w*64 + b
			u := &r.rules[i]
			reachable := len(u.named) > 0 && (len(u.destinations) > 0 || q.bad.has(i))
			if reachable && r.asks(i, q) && !r.blocked(i, q, all) {
				return i
			}
		}
	}
	return -1
}

// blocked reports whether a deny above the permit refuses all that it could allow.
func (r *Ruleset) blocked(i int, q *asked, all bool) bool {
	for w := range r.blockers[i] {
		word := r.blockers[i][w] | r.badBlockers[i][w]&q.bad[w]
		word &= ^r.byNames[w] | q.web[w]
		if !all {
			word &= r.enforced[w]
		}
		for b := next(word); b >= 0; word, b = word&(word-1), next(word&(word-1)) {
			if r.asks(w*64+b, q) {
				return true
			}
		}
	}
	return false
}

// refusal finds the first rule that denies the name at a public address which is in
// no group, whatever the port.
func (r *Ruleset) refusal(q *asked, all bool) outcome {
	for i := range r.rules {
		u := &r.rules[i]
		if u.Action != Deny || u.monitored && !all || len(u.Ports) > 0 || u.TLSOnly() || !r.asks(i, q) || !r.refusesName(i, q) {
			continue
		}
		if q.bad.has(i) && r.threats.has(i) {
			return outcome{index: i, verdict: Deny, why: causeThreatName}
		}
		if r.dstAny.has(i) || r.dstInternet.has(i) {
			return outcome{index: i, verdict: Deny}
		}
	}
	return outcome{index: -1, verdict: Deny}
}

// namedRefusal finds the first deny whose name test holds the name, or -1.
func (r *Ruleset) namedRefusal(q *asked, all bool) int {
	for w := range q.web {
		word := (q.web[w]&r.byNames[w] | q.bad[w]) &^ r.permits[w]
		if !all {
			word &= r.enforced[w]
		}
		for b := next(word); b >= 0; word, b = word&(word-1), next(word&(word-1)) {
			if i := w*64 + b; r.asks(i, q) && r.refusesName(i, q) {
				return i
			}
		}
	}
	return -1
}

// Answer judges one address of an answer: whether it may be given for the question,
// which this ruleset has judged, to the source, and pinned. Chain holds every owner name
// after the question's own, normalised; each is judged by the denies that stand above
// the permit.
func (r *Ruleset) Answer(q *Question, chain []string, addr netip.Addr) Decision {
	addr = addr.Unmap()
	d := q.Decision
	if !d.Permitted() {
		return d
	}
	for _, name := range chain {
		link := r.ask(q.src, name)
		if i := r.namedRefusal(&link, false); i >= 0 && len(r.rules[i].Ports) == 0 && (d.Index < 0 || i < d.Index) {
			why := causeMatch
			if link.bad.has(i) {
				why = causeThreatName
			}
			refused := r.decision(StageDNS, outcome{index: i, verdict: Deny, why: why})
			refused.Tier = TierKernel
			return refused
		}
	}
	if r.answersDirectly(q.name, addr) {
		return d
	}
	if q.Direct || !addr.Is4() || !IsInternet(addr) && !r.expects(&q.asked, addr) {
		d.Verdict, d.Reason, d.Tier = Deny, ReasonRebind, TierKernel
		return d
	}
	return r.reachable(q, addr)
}

// answersDirectly reports whether `resolve` says that the name has this address.
func (r *Ruleset) answersDirectly(name string, addr netip.Addr) bool {
	for _, d := range r.direct {
		if !slices.ContainsFunc(d.names, func(p string) bool { return MatchPattern(p, name) }) {
			continue
		}
		if inRanges(d.answers, addr) {
			return true
		}
	}
	return false
}

func inRanges(rs []AddrRange, a netip.Addr) bool {
	for _, x := range rs {
		if !a.Less(x.From) && !x.To.Less(a) {
			return true
		}
	}
	return false
}

// expects reports whether a permit for the name covers a private address with one
// of its smart groups.
func (r *Ruleset) expects(q *asked, addr netip.Addr) bool {
	for i := range r.rules {
		u := &r.rules[i]
		if u.Action == Permit && u.byName && (!u.monitored || r.defaultMonitored) &&
			(q.web.has(i) || q.host.has(i)) && r.asks(i, q) && inRanges(u.explicit, addr) {
			return true
		}
	}
	return false
}

// reachable reports whether a flow to the address, once pinned to the name, could
// be permitted on any port where names exist. An address that could not is not given:
// the client would only be refused there.
func (r *Ruleset) reachable(q *Question, addr netip.Addr) Decision {
	if q.asked.everyone {
		return q.Decision // no single agent to judge for; its packets are judged when they come
	}
	var refused Decision
	names := []string{q.name}
	for _, p := range r.namePorts {
		flow := Flow{Stage: StagePacket, Src: q.src, Dst: addr, Proto: TCP, Port: p.Lo, Pin: PinMatch, PinnedNames: names}
		got := r.Decide(&flow)
		if got.Permitted() {
			return q.Decision
		}
		if refused.Verdict == "" || p.Lo <= portTLS && portTLS <= p.Hi {
			refused = got
		}
	}
	refused.Stage = StageDNS
	return refused
}

// Gate lists what the kernel must hand to the enforcer once an address is pinned to
// a name for a source. With the zero source (pins for all agents) it lists what any
// agent's flow could need.
func (r *Ruleset) Gate(src, dst netip.Addr, name string) []ProtoPort {
	var out []ProtoPort
	names := []string{name}
	for _, p := range r.namePorts {
		for port := int(p.Lo); port <= int(p.Hi); port++ {
			if src.IsValid() {
				flow := Flow{Stage: StagePacket, Src: src.Unmap(), Dst: dst.Unmap(), Proto: TCP, Port: uint16(port),
					Pin: PinMatch, PinnedNames: names}
				if d := r.Decide(&flow); !d.Permitted() || d.Tier == TierKernel {
					continue
				}
			}
			out = append(out, ProtoPort{TCP, uint16(port)})
		}
	}
	return out
}
