package packet

import (
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// setLease holds one element while there is somebody who writes down what the kernel
// forwards. New flows are forwarded only then.
const setLease = "lease"

// fieldFamily is the one key of the lease.
var fieldFamily = field{"meta nfproto", nftables.TypeNFProto, meta(expr.MetaKeyNFPROTO), false}

// Renew lets the kernel begin to forward new flows for the next ttl; zero ends that at
// once. Call it more often than that while flows are being written down: when the process
// dies the lease lapses, and what nobody writes down no longer begins. Flows
// that were admitted go on.
func (t *Table) Renew(ttl time.Duration) error {
	c, err := dial()
	if err != nil {
		return err
	}
	s := &nftables.Set{Table: kernelTable(), Name: setLease, HasTimeout: true}
	key := []byte{unix.NFPROTO_IPV4}
	steps := []error{
		c.SetAddElements(s, []nftables.SetElement{{Key: key}}),
		c.SetDeleteElements(s, []nftables.SetElement{{Key: key}}),
	}
	if ttl > 0 {
		steps = append(steps, c.SetAddElements(s, []nftables.SetElement{{Key: key, Timeout: ttl}}))
	}
	for _, err := range steps {
		if err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("lease of the forwarding: %w", explain(err))
	}
	return nil
}
