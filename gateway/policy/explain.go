package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Explanation is a decision with the way to it, rule by rule. Its JSON form is part
// of the product's contract.
type Explanation struct {
	Verdict Action  `json:"verdict"`
	Rule    string  `json:"rule"`
	Mode    Mode    `json:"mode"`
	Decrypt Decrypt `json:"decrypt"`
	Tier    Tier    `json:"tier"`
	Stage   string  `json:"stage"`
	Pending Fact    `json:"pending,omitempty"`
	Reason  Reason  `json:"reason"`
	Would   []Would `json:"would"`
	Trace   []Step  `json:"trace"`
	// Missing names the feeds and service tags that the ruleset uses and that have
	// no data: their groups match nothing.
	Missing []string `json:"missing,omitempty"`
	// Conditions are what the deciding rule asks of what it permits, see Obligations.
	Conditions []string `json:"conditions,omitempty"`
	// NoData says that a refused question gets an empty answer, not NXDOMAIN.
	NoData bool `json:"nodata,omitempty"`
}

// Step is what one rule said.
type Step struct {
	Rule    string `json:"rule"`
	Match   string `json:"match"` // yes, no or unknown
	Because string `json:"because"`
}

// Explain answers for a flow and says why. It walks the stages as a flow does: what
// the first packet decides is not asked again. nameKnown says that flow.Name is told,
// even if it is empty (the flow claims none).
func (r *Ruleset) Explain(flow Flow, nameKnown bool) Explanation {
	if flow.Stage == StageDNS {
		return r.explainQuestion(flow)
	}
	last := flow.Stage
	flow.Stage = StagePacket
	ahead := flow
	if nameKnown && flow.Pin == PinOther {
		ahead.Pin = PinMatch // to some name: at the packet that is all that is known
	}
	if nameKnown && flow.Pin == PinMatch && len(flow.PinnedNames) == 0 && flow.Name != "" {
		ahead.PinnedNames = []string{flow.Name}
	}
	d := r.Decide(&ahead)
	judged := ahead
	for d.Pending != "" && judged.Stage < last && (nameKnown || judged.Stage != StagePacket) {
		flow.Stage = judged.Stage + 1
		judged = flow
		d = r.Decide(&judged)
	}
	e := r.explanation(d)
	if d.Rule == RuleInvariant {
		e.Trace = []Step{{RuleInvariant, "yes", r.sayInvariant(&judged)}}
		return e
	}
	var s scratch
	f := r.gather(&judged, &s)
	for i := range r.rules {
		answer, why := r.match(i, &f)
		e.Trace = append(e.Trace, Step{r.rules[i].Name, sayTri(answer), r.say(i, why, &judged) + r.sayMode(i, answer)})
		if answer == yes && !r.rules[i].monitored && d.Pending == "" {
			return e
		}
	}
	e.Trace = append(e.Trace, r.defaultStep())
	return e
}

func (r *Ruleset) explainQuestion(flow Flow) Explanation {
	q := r.Question(flow.Src, flow.Name)
	e := r.explanation(q.Decision)
	e.NoData = q.NoData
	if q.Rule == RuleInvariant {
		e.Trace = []Step{{RuleInvariant, "yes", "the source is not one of the gateway's agents"}}
		return e
	}
	asked := r.ask(flow.Src, flow.Name)
	for i := range r.rules {
		answer, because := r.sayQuestion(i, &asked)
		e.Trace = append(e.Trace, Step{r.rules[i].Name, answer, because})
		if i == q.Index {
			return e
		}
	}
	if q.Direct {
		e.Trace = append(e.Trace, Step{RuleResolve, "yes", "the name is listed under resolve: answered, and reached without the gateway"})
		return e
	}
	e.Trace = append(e.Trace, r.defaultStep())
	return e
}

func (r *Ruleset) explanation(d Decision) Explanation {
	e := Explanation{Verdict: d.Verdict, Rule: d.Rule, Mode: d.Mode, Decrypt: d.Decrypt, Tier: d.Tier, Stage: d.Stage.String(),
		Pending: d.Pending, Reason: d.Reason, Would: []Would{}, Trace: []Step{}, Missing: r.Missing()}
	if d.Permitted() && d.Index >= 0 && d.Pending == "" {
		e.Conditions = r.rules[d.Index].conditions()
	}
	if d.Would != nil {
		e.Would = append(e.Would, *d.Would)
	}
	return e
}

func (r *Ruleset) defaultStep() Step {
	if r.defaultMonitored {
		return Step{RuleDefault, "yes", "nothing above decides, and the default is monitored: permitted"}
	}
	return Step{RuleDefault, "yes", "nothing above decides"}
}

// Missing names the feeds and service tags without data, sorted.
func (r *Ruleset) Missing() []string {
	var out []string
	for _, g := range r.doc.SmartGroups {
		for _, tag := range g.ServiceTags {
			if len(r.env.Data.ServiceTags[tag]) == 0 {
				out = append(out, "service tag "+tag)
			}
		}
	}
	for _, g := range r.doc.ThreatGroups {
		for _, f := range g.Feeds {
			if d := r.env.Data.Feeds[f.Name]; len(d.Prefixes)+len(d.Names) == 0 {
				out = append(out, "feed "+f.Name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func sayTri(t tri) string { return [...]string{"no", "unknown", "yes"}[t] }

func (r *Ruleset) sayMode(i int, t tri) string {
	if t == no || !r.rules[i].monitored {
		return ""
	}
	return " (monitored: does not decide)"
}

func (r *Ruleset) sayInvariant(f *Flow) string {
	switch {
	case !r.governs(f.Src):
		return "the source is not one of the gateway's agents"
	case !f.Dst.Is4():
		return "IPv6 is refused until egress over it is configured"
	case f.Proto == UDP && f.Port == portTLS:
		return "QUIC is refused, so that clients fall back to TLS over TCP"
	case f.Port == portDoT:
		return "DNS over TLS would go around the gateway's resolver"
	case f.Port == portDNS:
		return "DNS is answered by the gateway's own resolver, whatever address it is sent to"
	}
	return "no rule may permit loopback, link-local, metadata, platform, multicast or the gateway's own addresses"
}

// say puts a cause into words.
func (r *Ruleset) say(i int, why cause, f *Flow) string {
	u := r.rules[i].Rule
	switch why {
	case causeSource:
		return fmt.Sprintf("source %s is not in %s", f.Src, strings.Join(u.Sources, ", "))
	case causePort:
		return fmt.Sprintf("%s is not in its ports", PortRange{f.Proto, f.Port, f.Port})
	case causeDestination:
		return fmt.Sprintf("destination %s is not in %s", f.Dst, strings.Join(r.destinationNames(u), ", "))
	case causeThreatAddress:
		return fmt.Sprintf("destination %s is in a threat feed of %s", f.Dst, strings.Join(u.Destinations, ", "))
	case causeThreatName:
		return fmt.Sprintf("name %s, or a parent of it, is in a threat feed of %s", f.Name, strings.Join(u.Destinations, ", "))
	case causeNameUnknown:
		return "it depends on the name, which the first bytes will tell"
	case causeNamesNotHere:
		return fmt.Sprintf("it needs a name, and there are none on %s", PortRange{f.Proto, f.Port, f.Port})
	case causeNoName:
		return "it needs a name and the flow claims none"
	case causeOtherName:
		if f.Name == "" {
			return "the address is pinned to no name in its web groups"
		}
		return fmt.Sprintf("name %s is not in %s", f.Name, strings.Join(u.WebGroups, ", "))
	case causeNotPinned:
		return fmt.Sprintf("the gateway's resolver gave %s to %s for no name", f.Dst, f.Src)
	case causeAddressMismatch:
		return fmt.Sprintf("the gateway's resolver gave %s to %s, but not for %s", f.Dst, f.Src, f.Name)
	case causeNotTLS:
		return "it takes TLS only, and this is not"
	case causeWireUnknown:
		return "it takes TLS only, and the first bytes have not come yet"
	case causeBudget:
		return "it has a budget, and only TCP can be metered"
	case causeRequestUnknown:
		return "it depends on the request"
	case causeNeedsDecryption:
		return "needs decryption"
	case causeRequest:
		if f.RPC != nil && f.RPC.Method == methodCall {
			return fmt.Sprintf("%s %s calling the tool %q is not among its requests", f.Method, f.Path, f.RPC.Tool)
		}
		return fmt.Sprintf("%s %s is not among its requests", f.Method, f.Path)
	case causeMessageUnknown:
		return "it depends on the message in the request"
	case causeUnclear:
		return "the message could be read differently by different parsers or people"
	case causeNotHTTP:
		return "it handles requests, and this is no HTTP that it can read"
	}
	return "all that it names matches"
}

func (r *Ruleset) destinationNames(u *Rule) []string {
	switch {
	case len(u.Destinations) > 0:
		return u.Destinations
	case u.Action == Permit:
		return []string{GroupInternet}
	}
	return []string{GroupAny}
}

// sayQuestion says what a rule has to do with a DNS question.
func (r *Ruleset) sayQuestion(i int, q *asked) (match, because string) {
	u := &r.rules[i]
	named := q.web.has(i) || q.host.has(i)
	mode := r.sayMode(i, yes)
	switch {
	case !r.asks(i, q):
		return "no", "the source is not in its sources"
	case u.byName && !named:
		return "no", "the name is not in its web groups"
	case u.Action == Permit && !u.byName:
		return "no", "a permit by address makes no name resolvable"
	case u.Action == Permit && r.blocked(i, q, false):
		return "no", "a rule above it refuses all that it could permit"
	case u.Action == Permit:
		return "yes", "it permits the name" + mode
	case u.threatOnly && !q.bad.has(i):
		return "unknown", "the name is in no feed; its addresses will be judged in the answer"
	case q.bad.has(i):
		return "yes", "the name, or a parent of it, is in a threat feed" + mode
	case len(u.Ports) > 0 || !r.dstAny.has(i) && !r.dstInternet.has(i):
		return "unknown", "it depends on the address or port"
	case u.byName:
		return "yes", "it denies the name" + mode
	}
	return "yes", "it denies every public address that no rule above permits" + mode
}
