package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/enforcer"
	"github.com/bulkhead-dev/bulkhead/gateway/originprobe"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// origins puts a prober's answers into the ruleset's reasons.
type origins struct{ *originprobe.Prober }

var _ enforcer.Origins = origins{}

// newOrigins returns a prober that dials as the enforcer does.
func newOrigins(d enforcer.Dialer) (origins, error) {
	p, err := originprobe.New(func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
		conn, err := d.Dial(ctx, src, dst)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}, time.Now)
	return origins{p}, err
}

// Probe asks an origin, or remembers.
func (o origins) Probe(ctx context.Context, src netip.Addr, origin netip.AddrPort, name string, verify bool, minTLS uint16) (policy.Reason, string) {
	err := o.Prober.Probe(ctx, originprobe.Question{Source: src, Origin: origin, Name: name, Verify: verify, MinTLS: minTLS})
	switch {
	case err == nil:
		return "", ""
	case errors.Is(err, originprobe.ErrCertificate):
		return policy.ReasonOriginCertificate, err.Error()
	case errors.Is(err, originprobe.ErrVersion):
		return policy.ReasonTLSVersion, err.Error()
	}
	return policy.ReasonNotReady, err.Error()
}
