package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// connect lays a cable from the interface name on a to peer on b and sets both up.
func connect(a *Host, name string, b *Host, peer string) error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: name, MTU: 1500},
		PeerName:      peer,
		PeerNamespace: netlink.NsFd(int(b.ns)),
		PeerMTU:       1500,
	}
	if err := a.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("cable %s:%s to %s:%s: %w", a.Name, name, b.Name, peer, err)
	}
	if err := a.linkUp(name); err != nil {
		return err
	}
	return b.linkUp(peer)
}

func (h *Host) link(name string) (netlink.Link, error) {
	link, err := h.nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("host %s: interface %s: %w", h.Name, name, err)
	}
	return link, nil
}

func (h *Host) linkUp(name string) error {
	link, err := h.link(name)
	if err != nil {
		return err
	}
	if err := h.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("host %s: interface %s up: %w", h.Name, name, err)
	}
	return nil
}

// address gives an interface an address. Duplicate address detection is left out:
// it would make an IPv6 address wait for a second.
func (h *Host) address(dev string, p netip.Prefix) error {
	link, err := h.link(dev)
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.nl.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("host %s: address %s on %s: %w", h.Name, p, dev, err)
	}
	return nil
}

// route sends p through dev, by way of via if that is valid, in a routing table
// (0 is the main one). It replaces what the table says of p.
func (h *Host) route(table int, p netip.Prefix, via netip.Addr, dev string) error {
	link, err := h.link(dev)
	if err != nil {
		return err
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p), Table: table}
	if via.IsValid() {
		r.Gw = via.AsSlice()
	} else if p.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := h.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("host %s: route %s via %s dev %s: %w", h.Name, p, via, dev, err)
	}
	return nil
}

// noRoute puts a row without a next hop into a routing table: one that drops
// (RTN_BLACKHOLE), or one that ends the search in this table (RTN_THROW).
func (h *Host) noRoute(table int, p netip.Prefix, kind int) error {
	if err := h.nl.RouteReplace(&netlink.Route{Dst: ipNet(p), Table: table, Type: kind}); err != nil {
		return fmt.Errorf("host %s: route for %s: %w", h.Name, p, err)
	}
	return nil
}

// rulePast makes packets that come in on dev for a prefix follow the main table before
// any other.
func (h *Host) rulePast(dev string, p netip.Prefix) error {
	r := netlink.NewRule()
	r.IifName, r.Table, r.Priority, r.Dst = dev, unix.RT_TABLE_MAIN, 900, ipNet(p)
	if err := h.nl.RuleAdd(r); err != nil {
		return fmt.Errorf("host %s: rule for packets from %s to %s: %w", h.Name, dev, p, err)
	}
	return nil
}

// ruleFrom makes packets that come in on dev follow a table before the main one.
func (h *Host) ruleFrom(dev string, table, family int) error {
	r := netlink.NewRule()
	r.IifName, r.Table, r.Priority, r.Family = dev, table, 1000, family
	if err := h.nl.RuleAdd(r); err != nil {
		return fmt.Errorf("host %s: rule for packets from %s: %w", h.Name, dev, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// bridge creates a switch and sets it up.
func (h *Host) bridge(name string) error {
	if err := h.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}}); err != nil {
		return fmt.Errorf("host %s: bridge %s: %w", h.Name, name, err)
	}
	return h.linkUp(name)
}

// answerForNeighbours has a switch's own address answer who looks for others on it, so
// that everything between its ports is routed (RFC 3069; ip-sysctl, proxy_arp_pvlan).
func (h *Host) answerForNeighbours(bridge string) error {
	for _, set := range []struct{ key, value string }{
		{"conf/" + bridge + "/proxy_arp", "1"}, {"conf/" + bridge + "/proxy_arp_pvlan", "1"}, {"neigh/" + bridge + "/proxy_delay", "0"},
	} {
		if err := h.Sysctl("net/ipv4/"+set.key, set.value); err != nil {
			return err
		}
	}
	return nil
}

// attach plugs an interface into a bridge. Isolated ports reach the bridge itself and no
// other port.
func (h *Host) attach(dev, bridge string, isolated bool) error {
	link, err := h.link(dev)
	if err != nil {
		return err
	}
	master, err := h.link(bridge)
	if err != nil {
		return err
	}
	if err := h.nl.LinkSetMaster(link, master); err != nil {
		return fmt.Errorf("host %s: %s into %s: %w", h.Name, dev, bridge, err)
	}
	if !isolated {
		return nil
	}
	if err := h.nl.LinkSetIsolated(link, true); err != nil {
		return fmt.Errorf("host %s: %s isolated in %s: %w", h.Name, dev, bridge, err)
	}
	return nil
}
