// Package pin remembers which name was resolved to which address, for whom and
// until when.
//
// A pin ties a permitted name to the addresses that the gateway's own resolver gave
// for it. The enforcer lets a flow through for its name only if the flow's
// destination is pinned to that name for its source; so neither a forged SNI nor a
// stale or guessed address gains anything.
package pin

import (
	"context"
	"net/netip"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// GateKey admits first packets from Src to Dst to the enforcer. Src is the zero
// Addr where pins hold for all agents.
type GateKey struct {
	Src, Dst netip.Addr
	Proto    policy.Proto
	Port     uint16
}

// Gate is the kernel's set of destinations that the enforcer may accept flows for.
// Admit returns after the kernel has committed every key, so that an answer written
// afterwards can be used at once; the keys lapse after ttl unless admitted again.
type Gate interface {
	Admit(ctx context.Context, keys []GateKey, ttl time.Duration) error
	Revoke(ctx context.Context, keys []GateKey) error
}
