package packet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// knob is one setting of the kernel under /proc/sys/net. The path may be a glob.
type knob struct {
	path, value string
	// wanted settings only better what comes back; a kernel may lack them or keep
	// them from a container.
	wanted bool
}

// knobs are written in this order; forwarding comes last.
var knobs = []knob{
	// A router on one leg tells its neighbours of the shorter way, around itself.
	{path: "ipv4/conf/*/send_redirects", value: "0"},
	{path: "ipv4/conf/*/accept_redirects", value: "0"},
	{path: "ipv4/conf/all/accept_source_route", value: "0"},
	{path: "ipv6/conf/all/forwarding", value: "0", wanted: true},
	// Bytes, duration and events of forwarded flows.
	{path: "netfilter/nf_conntrack_acct", value: "1"},
	{path: "netfilter/nf_conntrack_timestamp", value: "1", wanted: true},
	{path: "netfilter/nf_conntrack_events", value: "1", wanted: true},
	// An agent whose datagram is refused is told, also when it asks a lot.
	{path: "ipv4/icmp_ratelimit", value: "5", wanted: true}, // ms for each destination
	{path: "ipv4/icmp_msgs_per_sec", value: "10000", wanted: true},
	{path: "ipv4/icmp_msgs_burst", value: "1000", wanted: true},
	{path: "ipv4/ip_forward", value: "1"},
}

// prepareHost makes the kernel route for agents: the way of TPROXY's packets to
// their sockets, the fence, then the settings. The program must be loaded before.
func prepareHost(agents []netip.Prefix) error {
	if err := routeRedirected(); err != nil {
		return fmt.Errorf("routing to the enforcer: %w", explain(err))
	}
	if err := fence(agents); err != nil {
		return fmt.Errorf("shutting routes from agents: %w", explain(err))
	}
	for _, k := range knobs {
		if err := k.set("/proc/sys/net"); err != nil && !k.wanted {
			return err
		}
	}
	return nil
}

func (k knob) set(root string) error {
	paths, err := filepath.Glob(filepath.Join(root, k.path))
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("the kernel has no setting %s", filepath.Join(root, k.path))
	}
	for _, p := range paths {
		if old, err := os.ReadFile(p); err == nil && string(old) == k.value+"\n" {
			continue // /proc/sys is often read-only in containers, with the value already set
		}
		// An interface may have gone since the glob.
		if err := os.WriteFile(p, []byte(k.value), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("setting %s to %s: %w", p, k.value, err)
		}
	}
	return nil
}

// routeRedirected makes every address local to packets that carry the redirect mark.
func routeRedirected() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	err = netlink.RouteReplace(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Table: routeTable, Dst: all,
		Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	})
	if err != nil {
		return err
	}
	rule := netlink.NewRule()
	rule.Family = unix.AF_INET
	rule.Priority, rule.Mark, rule.Table = rulePriority, redirectMark, routeTable
	if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
