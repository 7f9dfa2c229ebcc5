package pin

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Ask resolves a name on behalf of a source, past the cache, and pins what comes
// back, as if the source had asked. The enforcer needs it for stale pins, and the
// verify scope for names that agents resolve elsewhere. Concurrent calls for one
// source and name share one question.
func (p *Pin) Ask(ctx context.Context, src netip.Addr, name string) error {
	normal, ok := policy.NormalizeName(name)
	if !ok {
		return fmt.Errorf("%q is not a host name", name)
	}
	done := p.asking.DoChan(src.String()+" "+normal, func() (any, error) {
		// Whoever waits first may give up; the others want the answer still.
		// The plugins below have their own time limit.
		return nil, p.ask(context.WithoutCancel(ctx), src.Unmap(), normal)
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Pin) ask(ctx context.Context, src netip.Addr, name string) error {
	q := &question{src: netip.AddrPortFrom(src, 0), proto: policy.UDP, name: name, wire: dns.Fqdn(name), qtype: dns.TypeA, at: p.Now()}
	a := p.record(q, p.resolve(ctx, q, onBehalf{src}, true))
	switch {
	case !a.Permitted():
		return fmt.Errorf("%s is refused to %s: rule=%s; reason=%s", name, src, a.Rule, a.Reason)
	case len(a.addrs) == 0:
		return fmt.Errorf("%s has no address: %s %s", name, dns.RcodeToString[a.code()], a.message)
	}
	return nil
}

// onBehalf is the response writer of a question that no client sent. The plugins
// below look at its addresses only.
type onBehalf struct{ src netip.Addr }

func (w onBehalf) RemoteAddr() net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.src, 0))
}
func (w onBehalf) LocalAddr() net.Addr       { return &net.UDPAddr{} }
func (w onBehalf) Network() string           { return "udp" }
func (w onBehalf) WriteMsg(*dns.Msg) error   { return net.ErrClosed }
func (w onBehalf) Write([]byte) (int, error) { return 0, net.ErrClosed }
func (w onBehalf) Close() error              { return nil }
func (w onBehalf) TsigStatus() error         { return nil }
func (w onBehalf) TsigTimersOnly(bool)       {}
func (w onBehalf) Hijack()                   {}

var _ dns.ResponseWriter = onBehalf{}
