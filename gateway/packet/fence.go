package packet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The fence is a second lock behind the program, in the routing rules: a packet from an
// agent is routed onwards only if it carries a mark, which the program alone gives it.
// So when somebody flushes nftables, forwarding that is still turned on forwards nothing.
//
// The kernel also looks up routes from an agent to find out whether a source is
// plausible, and for the sockets of an enforcer that keeps the agent's address. Those
// lookups come "from lo" and pass the fence.
const (
	fencePass = rulePriority + 1
	fenceShut = rulePriority + 2
)

// fence puts the rules up for the agents' prefixes and takes down those of others.
func fence(agents []netip.Prefix) error {
	have, err := netlink.RuleList(unix.AF_INET)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, p := range agents {
		wanted[p.Masked().String()] = true
		for _, r := range fenceRules(p) {
			if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("routing rule %d for %s: %w", r.Priority, p, err)
			}
		}
	}
	for _, r := range have {
		if (r.Priority == fencePass || r.Priority == fenceShut) && r.Src != nil && !wanted[r.Src.String()] {
			p, err := netip.ParsePrefix(r.Src.String())
			if err != nil {
				continue
			}
			for _, old := range fenceRules(p) {
				if old.Priority == r.Priority {
					_ = netlink.RuleDel(old) // of an earlier configuration: it only shuts too much
				}
			}
		}
	}
	return nil
}

func fenceRules(p netip.Prefix) []*netlink.Rule {
	p = p.Masked()
	from := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
	pass := netlink.NewRule()
	pass.Family, pass.Priority, pass.Src = unix.AF_INET, fencePass, from
	pass.IifName, pass.Table = "lo", unix.RT_TABLE_MAIN
	shut := netlink.NewRule()
	shut.Family, shut.Priority, shut.Src = unix.AF_INET, fenceShut, from
	every := ^uint32(0)
	shut.Mask, shut.Type = &every, nl.FR_ACT_UNREACHABLE // with mark 0
	return []*netlink.Rule{pass, shut}
}
