package pin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"
	"github.com/miekg/dns"

	pins "github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	// bufferSize is the EDNS buffer that we announce and honour: what crosses any
	// path without fragments (DNS flag day 2020).
	bufferSize = 1232
	// maxChain is how many aliases an answer may go through. Resolvers stop at
	// about as many.
	maxChain = 16
	// maxAddrs is how many addresses of one answer are judged; more are not given.
	maxAddrs = 32
)

// A client is given a TTL of at least minTTL, so that TTL 0 does not cost a
// question for every connection, and of at most maxTTL, the floor of a pin: it asks
// again, and so renews the pin, long before the pin's grace is over.
const (
	minTTL = 5 * time.Second
	maxTTL = pins.DefaultFloor
)

// answer is what came of a question. It is handed on by its pointer: each question has a
// goroutine of its own, whose stack starts small and is slow to grow.
type answer struct {
	policy.Decision
	rcode   int      // of failures, and of what upstream said
	noData  bool     // a refusal that must not deny the name's existence
	owners  []string // the aliases' targets, on the way to the addresses
	addrs   []pins.Answer
	at      time.Time // when it came: TTLs count from here
	ends    time.Time // when the lowest of them is over
	rules   Rules     // that judged it
	whole   bool      // no address was left out
	again   bool      // it was given before
	direct  bool      // it is not to be pinned
	pinned  bool      // something new was, or a pin was renewed
	digest  string
	message string
	evidence
}

func invariant(why policy.Reason) policy.Decision {
	return policy.Decision{Verdict: policy.Deny, Rule: policy.RuleInvariant, Mode: policy.ModeEnforce,
		Decrypt: policy.DecryptNotAllowed, Tier: policy.TierKernel, Stage: policy.StageDNS, Reason: why, Log: true, Index: -1}
}

func refused(d policy.Decision, rules Rules, message string) *answer {
	return &answer{Decision: d, digest: rules.Digest(), message: message}
}

// failed is a refusal that is the gateway's fault and not the name's.
func failed(why policy.Reason, message string) *answer {
	return &answer{Decision: invariant(why), rcode: dns.RcodeServerFailure, message: message}
}

// lookup resolves a permitted name below and judges what comes back.
func (p *Pin) lookup(ctx context.Context, q *question, w dns.ResponseWriter, rules Rules, asked *policy.Question, fresh bool) *answer {
	limits := p.limits.of(q.src.Addr())
	if !limits.begin(q.src.Addr()) {
		return failed(policy.ReasonOverload, "too many questions of one source wait for an answer")
	}
	defer limits.end(q.src.Addr())
	a := &answer{Decision: asked.Decision, digest: rules.Digest()}
	next := p.Next
	if fresh && p.Upstream != nil {
		next = p.Upstream
	}
	// A message of our own: the client's spelling of the name, its EDNS options
	// (client subnet, cookies, padding) and its flags could all carry data.
	ask := new(dns.Msg).SetQuestion(dns.Fqdn(q.name), dns.TypeA)
	ask.SetEdns0(bufferSize, false)
	nw := nonwriter.New(w)
	rcode, err := plugin.NextOrFailure(p.Name(), next, ctx, nw, ask)
	q.at = p.Now() // TTLs count from here
	if nw.Msg == nil {
		a.rcode, a.message = dns.RcodeServerFailure, fmt.Sprintf("upstream: %s", dns.RcodeToString[rcode])
		if err != nil {
			a.message = "upstream: " + err.Error()
		}
		return a
	}
	m := nw.Msg
	switch {
	case m.Rcode == dns.RcodeNameError:
		a.rcode = dns.RcodeNameError
		return a
	case m.Rcode != dns.RcodeSuccess:
		a.rcode, a.message = dns.RcodeServerFailure, "upstream: "+dns.RcodeToString[m.Rcode]
		return a
	case m.Truncated:
		// Some addresses are missing, and the client could not ask for them
		// over TCP either: we asked over TCP already.
		a.rcode, a.message = dns.RcodeServerFailure, "upstream: truncated over TCP"
		return a
	}
	c, err := follow(m.Answer, q.name)
	if err != nil {
		a.rcode, a.message = dns.RcodeServerFailure, "upstream: "+err.Error()
		return a
	}
	return judge(rules, q, asked, a, c)
}

// chain is an answer's way from the question to its addresses.
type chain struct {
	owners []string // every owner name after the question
	ttl    uint32   // the lowest of the aliases
	bound  string   // its owner
	addrs  []pins.Answer
}

var (
	errLoop  = errors.New("aliases go in a circle")
	errLong  = fmt.Errorf("more than %d aliases", maxChain)
	errOwner = errors.New("an alias to what is not a host name")
	errTwo   = errors.New("two aliases for one name")
)

// follow walks the records from the question's name. What is not on the way is
// left out: an answer may speak for no other name.
func follow(rrs []dns.RR, question string) (*chain, error) {
	aliases, addrs := map[string]*dns.CNAME{}, map[string][]*dns.A{}
	for _, rr := range rrs {
		owner, ok := policy.NormalizeName(rr.Header().Name)
		if !ok || rr.Header().Class != dns.ClassINET {
			continue
		}
		switch rr := rr.(type) {
		case *dns.CNAME:
			if old := aliases[owner]; old != nil && !strings.EqualFold(old.Target, rr.Target) {
				return nil, errTwo
			}
			aliases[owner] = rr
		case *dns.A:
			addrs[owner] = append(addrs[owner], rr)
		}
	}
	c := &chain{ttl: ^uint32(0), bound: question}
	at, seen := question, map[string]bool{question: true}
	for alias := aliases[at]; alias != nil; alias = aliases[at] {
		if alias.Hdr.Ttl < c.ttl {
			c.ttl, c.bound = alias.Hdr.Ttl, at
		}
		target, ok := policy.NormalizeName(alias.Target)
		switch {
		case !ok:
			return nil, errOwner
		case seen[target]:
			return nil, errLoop
		case len(c.owners) == maxChain:
			return nil, errLong
		}
		seen[target] = true
		c.owners = append(c.owners, target)
		at = target
	}
	for _, rr := range addrs[at] {
		addr, _ := netip.AddrFromSlice(rr.A)
		if addr = addr.Unmap(); !addr.Is4() || len(c.addrs) == maxAddrs {
			continue
		}
		a := pins.Answer{Addr: addr, TTL: seconds(rr.Hdr.Ttl), Bound: at}
		if c.ttl < rr.Hdr.Ttl {
			a.TTL, a.Bound = seconds(c.ttl), c.bound
		}
		c.addrs = append(c.addrs, a)
	}
	return c, nil
}

func seconds(ttl uint32) time.Duration { return time.Duration(ttl) * time.Second }

// judge asks the ruleset about every address, drops those that are refused, and
// refuses the question if none is left.
func judge(rules Rules, q *question, asked *policy.Question, a *answer, c *chain) *answer {
	var first *policy.Decision
	var ttl time.Duration
	a.addrs = make([]pins.Answer, 0, len(c.addrs))
	for _, x := range c.addrs {
		d := rules.Answer(asked, c.owners, x.Addr)
		if d.Permitted() {
			if len(a.addrs) == 0 || x.TTL < ttl {
				ttl = x.TTL
			}
			a.addrs = append(a.addrs, x)
			continue
		}
		dropped.WithLabelValues(string(d.Reason)).Inc()
		if first == nil {
			refusal := d // of its own, so that what is permitted stays on the stack
			first = &refusal
		}
	}
	if len(a.addrs) == 0 {
		if first != nil {
			a.Decision = *first
		}
		return a
	}
	a.owners, a.at, a.ends, a.rules, a.whole = c.owners, q.at, q.at.Add(ttl), rules, first == nil
	return a
}

// repeatable reports whether the answer may be given again for a while without asking anybody.
// What is not whole is judged and counted each time; what ends too soon is not worth the place.
func (a *answer) repeatable() bool {
	return a.Permitted() && a.whole && !a.again && a.ends.Sub(a.at) >= minTTL
}

// records writes the answer section anew: the aliases, then the addresses.
func (a *answer) records(q *question) []dns.RR {
	ttl := uint32(max(min(a.ends.Sub(q.at), maxTTL), minTTL) / time.Second)
	hdr := func(owner string, t uint16) dns.RR_Header {
		return dns.RR_Header{Name: owner, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
	}
	owner, rrs := q.wire, make([]dns.RR, 0, len(a.owners)+len(a.addrs))
	for _, target := range a.owners {
		target = dns.Fqdn(target)
		rrs = append(rrs, &dns.CNAME{Hdr: hdr(owner, dns.TypeCNAME), Target: target})
		owner = target
	}
	as, ips := make([]dns.A, len(a.addrs)), make([]byte, 0, net.IPv4len*len(a.addrs))
	for i, x := range a.addrs {
		ip := x.Addr.As4()
		ips = append(ips, ip[:]...)
		as[i] = dns.A{Hdr: hdr(owner, dns.TypeA), A: net.IP(ips[i*net.IPv4len : (i+1)*net.IPv4len : (i+1)*net.IPv4len])}
		rrs = append(rrs, &as[i])
	}
	return rrs
}
