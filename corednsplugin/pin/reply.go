package pin

import (
	"fmt"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// negativeTTL is how long clients may remember that there was nothing: short,
// because a ruleset may change, but enough to stop a retry loop.
const negativeTTL = 10 * time.Second

// code is the answer's response code.
func (a *answer) code() int {
	switch {
	case a.rcode != dns.RcodeSuccess:
		return a.rcode
	case !a.Permitted() && !a.noData:
		return dns.RcodeNameError
	}
	return dns.RcodeSuccess
}

// reply is the message for the client.
func (a *answer) reply(q *question, r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetRcode(r, a.code())
	m.RecursionAvailable = true
	m.Compress = true
	if a.Permitted() && m.Rcode == dns.RcodeSuccess && len(a.addrs) > 0 {
		m.Answer = a.records(q)
	}
	if len(m.Answer) == 0 && m.Rcode != dns.RcodeServerFailure {
		m.Ns = []dns.RR{soa(q.wire)}
	}
	size := dns.MinMsgSize
	if opt := r.IsEdns0(); opt != nil {
		// Only who speaks EDNS may be answered with it (RFC 6891, 7).
		m.SetEdns0(bufferSize, false)
		if ede := a.explanation(); ede != nil {
			out := m.IsEdns0()
			out.Option = append(out.Option, ede)
		}
		size = min(max(int(opt.UDPSize()), dns.MinMsgSize), bufferSize)
	}
	if q.proto == policy.TCP {
		size = dns.MaxMsgSize
	}
	m.Truncate(size)
	return m
}

// explanation tells a client that asks why it was refused (RFC 8914).
func (a *answer) explanation() *dns.EDNS0_EDE {
	code := dns.ExtendedErrorCodeBlocked
	switch {
	case a.Permitted() && a.rcode == dns.RcodeServerFailure:
		return &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNetworkError, ExtraText: a.message}
	case a.Permitted():
		return nil
	case a.rcode == dns.RcodeServerFailure && a.Reason == policy.ReasonNotReady:
		code = dns.ExtendedErrorCodeNotReady
	case a.rcode == dns.RcodeServerFailure:
		code = dns.ExtendedErrorCodeOther
	}
	return &dns.EDNS0_EDE{InfoCode: code, ExtraText: fmt.Sprintf("rule=%s; reason=%s", a.Rule, a.Reason)}
}

// soa makes a negative answer cacheable (RFC 2308). It claims no zone but the
// name's parent, so it hides nothing beside the name.
func soa(name string) dns.RR {
	ttl := uint32(negativeTTL / time.Second)
	parent := "."
	if i, end := dns.NextLabel(name, 0); !end {
		parent = name[i:]
	}
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: parent, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "pin.invalid.", Mbox: "hostmaster.pin.invalid.",
		Serial: 1, Refresh: ttl, Retry: ttl, Expire: ttl, Minttl: ttl,
	}
}
