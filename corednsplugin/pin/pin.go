// Package pin is a CoreDNS plugin that lets agents resolve only the names that a
// ruleset permits, and remembers for whom each name was resolved to which
// addresses.
//
// The plugin stands above the cache, so that every answer passes it, cached or not.
// For each question it
//
//  1. asks the ruleset, before anything goes upstream, whether this source may know
//     this name: what is refused never leaves, so a name cannot carry data out;
//  2. has the plugins below resolve it, with nothing of the client's message but the
//     name and the type;
//  3. walks the answer from the question along its CNAMEs, and asks the ruleset about
//     every address: private addresses of public names and known-bad ones are dropped;
//  4. admits what is left to the kernel's gate, pins it to the question's name, writes
//     the decision down, and only then answers.
//
// What a source was told a moment ago it is told again without steps 1 to 3, as long as the
// same ruleset is in force, the answer's TTL lasts and its pins are held.
//
// Whatever fails on the way, nothing is answered.
package pin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	pins "github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const name = "pin"

// Rules is what the plugin asks of a compiled ruleset.
type Rules interface {
	Question(src netip.Addr, name string) policy.Question
	Answer(q *policy.Question, chain []string, addr netip.Addr) policy.Decision
	Gate(src, dst netip.Addr, name string) []policy.ProtoPort
	Digest() string
}

// Options is what a Pin works with.
type Options struct {
	// Rules returns the ruleset in force, nil while there is none.
	Rules func() Rules
	Pins  *pins.Store
	Gate  pins.Gate      // nil: no kernel gate
	Audit audit.Recorder // nil: decisions are not written down
	Now   func() time.Time
}

// Pin is the plugin's handler.
type Pin struct {
	Next plugin.Handler
	// Upstream resolves without the cache, for Ask. Nil: Next does.
	Upstream plugin.Handler

	Options
	limits *limits
	recent *recent
	asking singleflight.Group
}

// New returns a handler without a Next.
func New(o Options) *Pin {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Pin{Options: o, limits: newLimits(o.Pins.Scope() != policy.ScopeSource), recent: newRecent()}
}

// Name implements plugin.Handler.
func (p *Pin) Name() string { return name }

// question is what of a client's message is of interest.
type question struct {
	src   netip.AddrPort
	proto policy.Proto
	name  string // normalised
	wire  string // as the client wrote it, which its answer must repeat
	qtype uint16
	at    time.Time // when it came
}

// ServeDNS implements plugin.Handler. It always writes a reply.
func (p *Pin) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	server := metrics.WithServer(ctx)
	q := question{at: p.Now()}
	q.src, q.proto = endpoint(w.RemoteAddr())
	if rcode := malformed(r); rcode != dns.RcodeSuccess {
		questions.WithLabelValues(server, "error", "").Inc()
		m := new(dns.Msg).SetRcode(r, rcode)
		return dns.RcodeSuccess, w.WriteMsg(m)
	}
	q.wire, q.qtype = r.Question[0].Name, r.Question[0].Qtype
	q.name, _ = policy.NormalizeName(q.wire)

	a := p.resolve(ctx, &q, w, false)
	if recorded := p.record(&q, a); recorded != a {
		a = recorded
	} else if a.repeatable() {
		p.recent.put(recentKey{q.src.Addr(), q.name}, a)
	}
	questions.WithLabelValues(server, string(a.Verdict), string(a.Reason)).Inc()
	return dns.RcodeSuccess, w.WriteMsg(a.reply(&q, r))
}

// malformed returns the response code for messages that are not one plain question.
func malformed(r *dns.Msg) int {
	switch {
	case r.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented
	case r.Response || len(r.Question) != 1 || len(r.Answer) > 0 || len(r.Ns) > 0:
		return dns.RcodeFormatError
	case r.Question[0].Qclass != dns.ClassINET:
		return dns.RcodeRefused
	}
	return dns.RcodeSuccess
}

func endpoint(a net.Addr) (netip.AddrPort, policy.Proto) {
	switch a := a.(type) {
	case *net.UDPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), policy.UDP
	case *net.TCPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), policy.TCP
	}
	// An address of no known kind is no agent's; the ruleset refuses it.
	return netip.AddrPort{}, policy.UDP
}

// resolve goes the whole way from the question to pinned addresses. With fresh,
// the cache is passed by, and the limits are, which guard against agents.
func (p *Pin) resolve(ctx context.Context, q *question, w dns.ResponseWriter, fresh bool) *answer {
	src := q.src.Addr()
	rules := p.Rules()
	if rules == nil {
		return failed(policy.ReasonNotReady, "no ruleset is in force")
	}
	if !fresh && !p.limits.of(src).question(src, q.at) {
		q.name = "" // one event for the flood, not one for every name in it
		return failed(policy.ReasonOverload, "too many questions from one source")
	}
	if q.name == "" {
		return refused(invariant(policy.ReasonNoName), rules, "not a host name")
	}
	if !fresh && q.qtype == dns.TypeA {
		if a := p.recent.get(recentKey{src, q.name}, rules, q.at); a != nil && p.stillHeld(q, a) {
			return a
		}
	}
	asked := rules.Question(src, q.name)
	if !asked.Permitted() {
		a := refused(asked.Decision, rules, "")
		a.noData = asked.NoData
		return a
	}
	switch q.qtype {
	case dns.TypeA:
	case dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB:
		// No IPv6 leaves the gateway. HTTPS and SVCB would carry ECH keys, which
		// hide the name, and address hints, which nobody pinned.
		return &answer{Decision: asked.Decision, digest: rules.Digest()}
	default:
		// NODATA and not NXDOMAIN: the name does exist, and a client that
		// caches NXDOMAIN would no longer ask for its address either.
		a := refused(invariant(policy.ReasonTunnelling), rules, "record type "+typeName(q.qtype))
		a.noData = true
		return a
	}
	if !fresh && !asked.Exact {
		if why := p.limits.of(src).name(src, q.name, q.at); why != "" {
			return refused(invariant(policy.ReasonTunnelling), rules, why)
		}
	}
	a := p.lookup(ctx, q, w, rules, &asked, fresh)
	if !a.Permitted() || len(a.addrs) == 0 {
		return a
	}
	if a.direct = asked.Direct; !a.direct {
		held, failure := p.pin(ctx, src, q.name, a.addrs, rules)
		if failure != nil {
			failure.digest = a.digest
			return failure
		}
		a.pinned = !held
	}
	return a
}

// stillHeld reports whether an answer that was given before needs no pin anew.
func (p *Pin) stillHeld(q *question, a *answer) bool {
	if a.direct {
		return true
	}
	held, err := p.Pins.StillHeld(q.src.Addr(), q.name, a.addrs, q.at.Sub(a.at))
	return held && err == nil
}

// pin commits the gate and then the pins. The order matters: whoever finds pins
// held may answer at once, because their gate keys are in force.
func (p *Pin) pin(ctx context.Context, src netip.Addr, name string, addrs []pins.Answer, rules Rules) (held bool, failure *answer) {
	fail := func(why policy.Reason, message string) (bool, *answer) {
		return false, failed(why, message)
	}
	held, err := p.Pins.Held(src, name, addrs)
	if err != nil {
		return fail(policy.ReasonOverload, err.Error())
	}
	if held {
		return true, nil
	}
	if p.Gate != nil {
		owner, life := p.Pins.Owner(src), time.Duration(0)
		var keys []pins.GateKey
		for _, a := range addrs {
			keys = pins.Keys(keys, owner, name, a.Addr, rules.Gate)
			life = max(life, p.Pins.Life(a.TTL))
		}
		if err := p.admit(ctx, keys, life); err != nil {
			return fail(policy.ReasonNotReady, "kernel gate: "+err.Error())
		}
	}
	if err := p.Pins.Add(src, name, addrs); err != nil {
		return fail(policy.ReasonOverload, err.Error())
	}
	sources, count := p.Pins.Len()
	pinnedSources.Set(float64(sources))
	pinned.Set(float64(count))
	return false, nil
}

const (
	// admitTimeout is when a client would give up on us anyway.
	admitTimeout = 3 * time.Second
	// admitKeys bounds one call of the gate. An answer has more keys than that where its
	// addresses and the ports on which its name is permitted are many.
	admitKeys = 1024
)

func (p *Pin) admit(ctx context.Context, keys []pins.GateKey, life time.Duration) error {
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, admitTimeout)
	defer cancel()
	start := time.Now()
	defer func() { admitDuration.Observe(time.Since(start).Seconds()) }()
	for some := range slices.Chunk(keys, admitKeys) {
		if err := p.Gate.Admit(ctx, some, life); err != nil {
			return err
		}
	}
	return nil
}

// record writes the decision down. What cannot be written down is not answered.
func (p *Pin) record(q *question, a *answer) *answer {
	if p.Audit == nil {
		return a
	}
	if a.evidence.dns == nil {
		a.evidence = a.describe(q)
	}
	rec := audit.Record{
		Class: audit.DNSActivity, Activity: audit.Open, Time: q.at, Src: q.src, Proto: q.proto, Host: q.name,
		Decision: a.Decision, Digest: a.digest, Message: a.message, DNS: a.evidence.dns, Pin: a.evidence.pin,
		Repeat: a.Permitted() && !a.pinned && a.message == "",
	}
	if !a.Permitted() {
		rec.Activity = audit.Refuse
	}
	err := p.Audit.Record(rec)
	switch {
	case err == nil:
		return a
	case errors.Is(err, audit.ErrQuota):
		a = failed(policy.ReasonOverload, err.Error())
		rec.Activity, rec.Decision, rec.Message, rec.Pin, rec.Repeat = audit.Refuse, a.Decision, a.message, nil, false
		rec.DNS = a.describe(q).dns
		p.Audit.Record(rec) // counted with its like; it is refused in any case
		return a
	}
	return failed(policy.ReasonNotReady, "audit: "+err.Error())
}

// evidence is what an answer's audit events say. Events share it, and nobody changes it.
type evidence struct {
	dns *audit.DNS
	pin *audit.Pin
}

func (a *answer) describe(q *question) evidence {
	e := evidence{dns: &audit.DNS{Type: typeName(q.qtype), Rcode: dns.RcodeToString[a.code()]}}
	if len(a.addrs) == 0 {
		return e
	}
	e.dns.Answers = make([]string, len(a.addrs))
	for i, x := range a.addrs {
		e.dns.Answers[i] = x.Addr.String()
	}
	first := a.addrs[0]
	e.pin = &audit.Pin{Question: q.name, Answer: first.Addr, Asked: q.at, TTL: first.TTL, Bound: first.Bound}
	return e
}

func typeName(t uint16) string { return dns.Type(t).String() }

var _ plugin.Handler = (*Pin)(nil)
