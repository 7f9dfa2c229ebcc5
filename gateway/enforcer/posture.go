package enforcer

import (
	"context"
	"net/netip"

	"github.com/bulkhead-dev/bulkhead/gateway/enforcer/hello"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Origins looks, out of band, at what stands behind an address.
type Origins interface {
	// Probe returns no reason if the origin holds a valid certificate for the name, where that is
	// to be verified, and negotiates at least minTLS (0: any); else the reason to refuse, and a
	// sentence about it.
	Probe(ctx context.Context, src netip.Addr, origin netip.AddrPort, name string, verify bool, minTLS uint16) (policy.Reason, string)
}

// posture holds a flow that is permitted, and will be spliced to the origin at an address, to
// what its rule asks of it. It returns the reason to refuse it all the same.
func (f *flow) posture(ctx context.Context, v *verdict, offered *hello.Info, at netip.Addr) (policy.Reason, string) {
	o := v.rules.Obligations(&v.Decision)
	switch {
	case o.MinTLS == 0 && !o.VerifyOrigin:
		return "", ""
	case offered == nil || v.facts.Name == "":
		return policy.ReasonNoName, "the rule asks for a certificate or a version, and the flow names no origin"
	case offered.Version < o.MinTLS:
		return policy.ReasonTLSVersion, "the client offers only an older TLS"
	case f.srv.opt.Origins == nil:
		return policy.ReasonNotReady, "origins cannot be looked at"
	}
	return f.srv.opt.Origins.Probe(ctx, f.src.Addr(), netip.AddrPortFrom(at, f.dst.Port()), v.facts.Name, o.VerifyOrigin, o.MinTLS)
}
