package packet

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Probe says which capability of the kernel or the process is missing, and changes
// nothing: every construct of the program is tried in a table that the same
// transaction takes away again.
func Probe() error {
	c, err := dial()
	if err != nil {
		return fmt.Errorf("probing netfilter: %w", err)
	}
	if err := transparency(); err != nil {
		return err
	}
	for _, need := range needs() {
		if err := try(c, need.rule); err != nil {
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
				return errors.New("CAP_NET_ADMIN is missing: the process may not load nftables programs; run as root or grant it")
			}
			return fmt.Errorf("the kernel lacks %s (%s): %w", need.what, need.option, err)
		}
	}
	if err := probeEvents(); err != nil {
		return fmt.Errorf("the kernel lacks conntrack events (CONFIG_NF_CONNTRACK_EVENTS, CONFIG_NF_CT_NETLINK): %w", err)
	}
	if err := probeLog(); err != nil {
		return fmt.Errorf("the kernel lacks nflog (CONFIG_NETFILTER_NETLINK_LOG): %w", err)
	}
	return nil
}

type need struct {
	what, option string
	rule         rule
}

func needs() []need {
	return []need{
		{"nftables", "CONFIG_NF_TABLES_INET", rule{accept}},
		{"connection tracking", "CONFIG_NFT_CT", rule{established, confirmed, setCtMark(ctForward), noEvents}},
		{"TPROXY", "CONFIG_NFT_TPROXY", rule{isIPv4, proto(policy.TCP), {exprs: []expr.Any{
			&expr.Immediate{Register: reg1, Data: be16(1)}, &expr.TProxy{Family: unix.NFPROTO_IPV4, RegPort: reg1}}}}},
		{"socket matching", "CONFIG_NFT_SOCKET", rule{transparentSocket}},
		{"route lookups", "CONFIG_NFT_FIB_INET", rule{notUnicast, notReturnable}},
		{"masquerading", "CONFIG_NFT_MASQ", rule{masquerade}},
		{"destination NAT", "CONFIG_NFT_NAT", rule{{exprs: []expr.Any{
			&expr.Immediate{Register: reg1, Data: []byte{192, 0, 2, 1}},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1}}}}},
		{"rejection", "CONFIG_NFT_REJECT_INET", rule{proto(policy.TCP), reset}},
		{"rejection by ICMP", "CONFIG_NFT_REJECT_INET", rule{prohibited}},
		{"rate limits", "CONFIG_NFT_LIMIT", rule{withinRate(1, 5)}},
		{"connection limits", "CONFIG_NFT_CONNLIMIT", rule{{exprs: []expr.Any{&expr.Connlimit{Count: 1}}}}},
		{"nflog", "CONFIG_NFT_LOG, CONFIG_NETFILTER_NETLINK_LOG", rule{logged()}},
	}
}

// try loads a rule into a chain without a hook, and takes it away in the same
// transaction.
func try(c *nftables.Conn, r rule) error {
	t := c.AddTable(&nftables.Table{Name: tableName + "_probe", Family: nftables.TableFamilyINet})
	ch := c.AddChain(&nftables.Chain{Name: "probe", Table: t})
	c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: r.exprs()})
	c.DelTable(t)
	return c.Flush()
}

// transparency asks whether sockets may be bound to addresses that are not ours, which
// the enforcer's listener needs.
func transparency() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1); err != nil {
		return fmt.Errorf("CAP_NET_ADMIN is missing: sockets cannot be made transparent: %w", err)
	}
	return nil
}

func probeEvents() error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.JoinGroup(unix.NFNLGRP_CONNTRACK_DESTROY)
}
