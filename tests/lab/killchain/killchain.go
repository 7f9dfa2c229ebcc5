// Package killchain plays what a prompt-injected agent would try, in the order in
// which it would, and says of each step what became of it.
//
// Nothing about the outcome is assumed: what the agent saw comes from its
// sockets, the verdict, rule and reason from the gateway's audit log, and whether
// anything leaked from captures on the other side. A step has ended as it should
// only if all three agree.
package killchain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// Outcome is how a step should end.
type Outcome string

const (
	// Works: the agent reached what it wanted, and the audit says PERMIT.
	Works Outcome = "works"
	// Detected: as Works, but the audit says that a monitored rule would have denied it.
	Detected Outcome = "detected"
	// Refused: the agent learned at once that it may not, the audit says DENY, and no
	// packet came out on the other side.
	Refused Outcome = "refused"
	// Direct: Azure delivers this itself; the gateway never sees it and can promise nothing.
	Direct Outcome = "direct"
	// Closed: a security group of the network drops it. The agent is not told, and the gateway never
	// sees it.
	Closed Outcome = "closed"
)

// Result is one row of the table.
type Result struct {
	Step     string  `json:"step"`
	Tried    string  `json:"tried"`
	Saw      string  `json:"saw"`
	Verdict  string  `json:"verdict"` // PERMIT, DENY, or empty where the gateway has no say
	Rule     string  `json:"rule"`
	Reason   string  `json:"reason"`
	Would    string  `json:"would,omitempty"` // the monitored rule that would have denied
	Expected Outcome `json:"expected"`
	Leaked   int     `json:"leaked"` // packets of the step that came out on the other side
	OK       bool    `json:"ok"`
	Problem  string  `json:"problem,omitempty"` // what was not as expected
}

// String says for a person what was tried, what came of it, and why.
func (r Result) String() string {
	why := "rule: " + r.Rule
	switch {
	case r.Would != "":
		why += ", but " + r.Would + " would deny it"
	case r.Rule == "":
		why = r.Reason
	case r.Reason != string(policy.ReasonRule) && r.Reason != r.Rule:
		why += ", " + r.Reason
	}
	verdict := r.Verdict
	if verdict == "" {
		verdict = string(r.Expected)
	}
	text := fmt.Sprintf("  %-6s  %s\n          the agent saw: %s; %s", verdict, r.Tried, r.Saw, why)
	if !r.OK {
		text += "\n          NOT AS EXPECTED: " + r.Problem
	}
	return text
}

// seen is what the agent got.
type seen struct {
	reached bool
	silent  bool // nothing came back in time
	what    string
}

// step is one thing that the agent tries.
type step struct {
	name, tried string
	want        Outcome
	do          func(context.Context, *attack) seen
	flow        flow // what the audit calls it
}

// flow picks a step's events out of the log.
type flow struct {
	class audit.Class // DNSActivity for a question; zero for a flow
	dst   netip.AddrPort
	proto policy.Proto
	host  string // the claimed name, empty where none comes into it
}

// stepTime bounds a step: a refusal that takes longer is silence.
const stepTime = 5 * time.Second

type attack struct {
	lab   *lab.Lab
	agent *lab.Host
	// The far sides, and the gateway's own interface.
	far     []*lab.Capture
	gateway *lab.Capture
}

// Steps are the names of all steps in the lab's own network, in order.
func Steps() (names []string) {
	for _, s := range steps(lab.Spoke(false)) {
		names = append(names, s.name)
	}
	return names
}

// Run plays the named steps from a host, all of them if none is named, and hands each
// result to report as it is known. The error is of the lab, not of a step.
func Run(ctx context.Context, l *lab.Lab, from string, report func(Result), names ...string) error {
	a, err := open(l, from)
	if err != nil {
		return err
	}
	defer a.close()
	for _, s := range steps(l.Network()) {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		r, err := a.play(ctx, s)
		if err != nil {
			return fmt.Errorf("step %q: %w", s.name, err)
		}
		report(r)
	}
	return nil
}

// open starts the captures that tell what became of a step.
func open(l *lab.Lab, from string) (*attack, error) {
	a := &attack{lab: l, agent: l.Host(from)}
	if a.agent == nil || !l.IsAgent(a.agent) {
		return nil, fmt.Errorf("no agent %q: use %s or %s", from, lab.InvoiceAgent, lab.ResearchAgent)
	}
	if l.Process == nil {
		return nil, errors.New("this lab has no gateway, so there is nothing to attack")
	}
	for _, name := range []string{lab.Internet, lab.Attacker, lab.Database} {
		far := l.Host(name)
		if far == nil {
			continue // no spoke next door
		}
		c, err := far.Capture()
		if err != nil {
			a.close()
			return nil, err
		}
		a.far = append(a.far, c)
	}
	var err error
	if a.gateway, err = l.Host(lab.Gateway).Capture(); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *attack) close() {
	for _, c := range append(a.far, a.gateway) {
		if c != nil {
			c.Close()
		}
	}
}

func (a *attack) play(ctx context.Context, s step) (Result, error) {
	start := time.Now()
	before, err := a.counts(ctx)
	if err != nil {
		return Result{}, err
	}
	short, cancel := context.WithTimeout(ctx, stepTime)
	got := s.do(short, a)
	cancel()
	after, err := a.counts(ctx)
	if err != nil {
		return Result{}, err
	}
	r := Result{Step: s.name, Tried: s.tried, Saw: got.what, Expected: s.want}
	if s.want == Direct || s.want == Closed {
		if r.Reason = "not on the gateway's path"; s.want == Closed {
			r.Reason = "dropped by the subnet's security group"
		}
		switch through := a.through(before.gateway, s.flow.dst); {
		case s.want == Direct && !got.reached:
			r.Problem = "it was not reached"
		case s.want == Closed && got.reached:
			r.Reason, r.Problem = "", "it went through"
		case s.want == Closed && after.far > before.far:
			r.Reason, r.Problem = "", "it came out on the other side"
		case through:
			r.Reason, r.Problem = "", "the gateway saw it after all"
		}
		r.OK = r.Problem == ""
		return r, nil
	}
	r.Leaked = after.far - before.far
	event, err := a.find(ctx, s, start)
	if err != nil {
		r.Problem = "the audit has no event of it"
		return r, nil
	}
	fill(&r, &event)
	r.Problem = problem(s.want, got, &r, &event)
	r.OK = r.Problem == ""
	return r, nil
}

func fill(r *Result, e *audit.Event) {
	if r.Verdict = string(policy.Permit); e.ActionID == 2 {
		r.Verdict = string(policy.Deny)
	}
	if e.FirewallRule != nil {
		r.Rule = e.FirewallRule.Name
	}
	r.Reason = e.StatusDetail
	if w := e.Unmapped.Would; w != nil && w.Verdict == policy.Deny {
		r.Would = w.Rule
	}
}

func problem(want Outcome, got seen, r *Result, e *audit.Event) string {
	const detected = 15
	switch permitted := r.Verdict == string(policy.Permit); {
	case want == Refused && got.reached:
		return "it went through"
	case want == Refused && permitted:
		return "the audit says PERMIT"
	case want == Refused && got.silent:
		return "the agent was left waiting"
	case want == Refused && r.Leaked > 0:
		return fmt.Sprintf("%d packets came out on the other side", r.Leaked)
	case want != Refused && !got.reached:
		return "it was not reached"
	case want != Refused && !permitted:
		return "the audit says DENY"
	case want == Detected && (e.DispositionID != detected || r.Would == ""):
		return "no monitored rule is said to object"
	}
	return ""
}

// tally counts what has been captured so far.
type tally struct{ far, gateway int }

// counts waits until the captures are up to date. On the far side it counts what starts
// something: first packets of connections and everything that has none, so that
// the tail of an earlier, permitted connection is not taken for a leak.
func (a *attack) counts(ctx context.Context) (tally, error) {
	var t tally
	for _, c := range append(slices.Clone(a.far), a.gateway) {
		if err := c.Flush(ctx, a.lab.Host(lab.Fabric)); err != nil {
			return t, err
		}
	}
	for _, c := range a.far {
		for _, p := range c.Packets() {
			if p.Proto != policy.TCP || p.SYN {
				t.far++
			}
		}
	}
	t.gateway = len(a.gateway.Packets())
	// A question that the gateway lets out to Azure's resolver reaches the attacker's
	// name server from there.
	for _, n := range []*lab.Nameserver{a.lab.Upstream, a.lab.Rogue} {
		for _, q := range n.Queries() {
			if lab.Below(q.Name, lab.AttackerDomain) {
				t.far++
			}
		}
	}
	return t, nil
}

// through reports whether the gateway's interface saw a packet to dst since.
func (a *attack) through(since int, dst netip.AddrPort) bool {
	return slices.ContainsFunc(a.gateway.Packets()[since:], func(p lab.Packet) bool { return p.Dst == dst })
}

// find waits for the event of a step. Repeats of a denial are counted before they
// are written again, so when a step has been played before its first event stands.
func (a *attack) find(ctx context.Context, s step, since time.Time) (audit.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	fresh, cancelFresh := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancelFresh()
	e, err := a.lab.WaitEvent(fresh, func(e *audit.Event) bool {
		return e.Time >= since.UnixMilli() && a.matches(s, e)
	})
	if err == nil {
		return e, nil
	}
	return a.lab.WaitEvent(ctx, func(e *audit.Event) bool { return a.matches(s, e) })
}

func (a *attack) matches(s step, e *audit.Event) bool {
	const closed = 2
	f := s.flow
	switch {
	case e.SrcEndpoint == nil || e.SrcEndpoint.IP != a.agent.Addr.String():
		return false
	case f.class == audit.DNSActivity:
		return e.ClassUID == f.class && e.Query != nil && e.Query.Hostname == f.host
	case e.ClassUID == audit.DNSActivity || e.ClassUID == audit.DetectionFinding || e.DstEndpoint == nil:
		return false
	case e.ClassUID == audit.NetworkActivity && e.ActivityID == closed:
		return false
	}
	return e.DstEndpoint.IP == f.dst.Addr().String() && e.DstEndpoint.Port == f.dst.Port() && e.DstEndpoint.Hostname == f.host &&
		e.ConnectionInfo != nil && e.ConnectionInfo.ProtocolName == f.proto.String()
}
