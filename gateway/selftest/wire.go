// Package selftest sends packets into the gateway as an agent would, so that a gateway
// can prove that it refuses and that it lets through before it calls itself ready.
//
// The packets come in on a cable of their own (a veth pair) and from an address that
// Azure reserves in every subnet (Azure Virtual Network FAQ: the first four and the
// last), so they meet the real kernel program, resolver and enforcer, and cannot be
// mistaken for an agent's. The cable exists only while a [Wire] is open.
package selftest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The two ends of the cable: the gateway receives on one what is sent on the other.
const (
	gatewayEnd = "bulkhead-test0"
	agentEnd   = "bulkhead-test1"
)

// nobody is the made-up agent's MAC address. It is not the agent end's, so the kernel
// takes nothing that is sent to it for its own.
var nobody = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}

// patience is how long an answer may take. Refusals and handshakes are local.
const patience = 2 * time.Second

// Wire is a cable into the gateway with one made-up agent at its end.
type Wire struct {
	src  netip.Addr
	sock *os.File // AF_PACKET on the agent's end
	to   unix.SockaddrLinklayer
	port uint16
}

// Source is the address that the self-test of a gateway with these agents uses.
func Source(agents []netip.Prefix) (netip.Addr, error) {
	for _, p := range agents {
		if p.Addr().Is4() && p.Bits() <= 29 {
			a := p.Masked().Addr()
			return a.Next().Next().Next(), nil
		}
	}
	return netip.Addr{}, errors.New("self-test: no agents' subnet has an address that Azure reserves (it needs a /29 or larger)")
}

// Open lays the cable and routes src to it. It needs CAP_NET_ADMIN and CAP_NET_RAW.
func Open(src netip.Addr) (*Wire, error) {
	removeCable() // of a run that crashed
	w := &Wire{src: src, port: 40000}
	if err := w.lay(); err != nil {
		w.Close()
		return nil, fmt.Errorf("self-test: %w", err)
	}
	return w, nil
}

func (w *Wire) lay() error {
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: gatewayEnd}, PeerName: agentEnd}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("veth pair (needs CAP_NET_ADMIN): %w", err)
	}
	near, err := netlink.LinkByName(gatewayEnd)
	if err != nil {
		return err
	}
	far, err := netlink.LinkByName(agentEnd)
	if err != nil {
		return err
	}
	host := &net.IPNet{IP: w.src.AsSlice(), Mask: net.CIDRMask(32, 32)}
	for _, step := range []func() error{
		func() error { return netlink.LinkSetUp(near) },
		func() error { return netlink.LinkSetUp(far) },
		func() error {
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: near.Attrs().Index, State: netlink.NUD_PERMANENT,
				IP: w.src.AsSlice(), HardwareAddr: nobody})
		},
		func() error {
			return netlink.RouteReplace(&netlink.Route{LinkIndex: near.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: host})
		},
	} {
		if err := step(); err != nil {
			return fmt.Errorf("cable: %w", err)
		}
	}
	if err := plugged(near.Attrs().Index, far.Attrs().Index); err != nil {
		return err
	}
	w.to = unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: far.Attrs().Index, Halen: 6}
	copy(w.to.Addr[:], near.Attrs().HardwareAddr)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("packet socket (needs CAP_NET_RAW): %w", err)
	}
	w.sock = os.NewFile(uintptr(fd), agentEnd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: far.Attrs().Index}); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	return nil
}

// plugged waits until the kernel has noticed that both ends are connected, which it does
// behind our back; until then they drop what they are to send.
func plugged(ends ...int) error {
	deadline := time.Now().Add(patience)
	for _, end := range ends {
		for {
			link, err := netlink.LinkByIndex(end)
			if err != nil {
				return err
			}
			if link.Attrs().OperState == netlink.OperUp {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s stays %s", link.Attrs().Name, link.Attrs().OperState)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

func removeCable() {
	if link, err := netlink.LinkByName(gatewayEnd); err == nil {
		_ = netlink.LinkDel(link) // its peer and route go with it
	}
}

// Close removes the cable and its route.
func (w *Wire) Close() error {
	removeCable()
	if w.sock == nil {
		return nil
	}
	return w.sock.Close()
}

// Answer is what became of a first packet.
type Answer string

const (
	Accepted Answer = "accepted" // the handshake was answered
	Refused  Answer = "refused"  // a reset, or ICMP
	Silent   Answer = "silence"
)

// Dial sends one SYN, and a reset where it is answered: no byte of data, so nothing
// goes on to the destination.
func (w *Wire) Dial(ctx context.Context, dst netip.AddrPort) (Answer, error) {
	w.port++
	if err := w.send(segment(w.src, dst, w.port, 1000, 0, flagSYN)); err != nil {
		return "", err
	}
	answer, err := w.await(ctx, func(p []byte) Answer {
		proto, body := payload(p)
		switch {
		case proto == unix.IPPROTO_ICMP && len(body) > 0 && body[0] == 3: // destination unreachable (RFC 792)
			return Refused
		case proto != unix.IPPROTO_TCP || len(body) < 20 || binary.BigEndian.Uint16(body[2:]) != w.port:
			return ""
		case body[13]&flagRST != 0:
			return Refused
		case body[13]&(flagSYN|flagACK) == flagSYN|flagACK:
			return Accepted
		}
		return ""
	})
	if answer == Accepted {
		err = errors.Join(err, w.send(segment(w.src, dst, w.port, 1001, 0, flagRST)))
	}
	return answer, err
}

// Ask sends one question for an address and returns the response code (miekg/dns's
// RcodeToString names them).
func (w *Wire) Ask(ctx context.Context, server netip.AddrPort, name string) (rcode int, err error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	data, err := q.Pack()
	if err != nil {
		return 0, err
	}
	w.port++
	if err := w.send(datagram(w.src, server, w.port, data)); err != nil {
		return 0, err
	}
	var m dns.Msg
	answer, err := w.await(ctx, func(p []byte) Answer {
		proto, body := payload(p)
		if proto != unix.IPPROTO_UDP || len(body) < 8 || binary.BigEndian.Uint16(body[2:]) != w.port || m.Unpack(body[8:]) != nil || m.Id != q.Id {
			return ""
		}
		return Accepted
	})
	if err == nil && answer != Accepted {
		err = errors.New("the resolver does not answer")
	}
	return m.Rcode, err
}

func (w *Wire) send(p []byte) error {
	raw, err := w.sock.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Sendto(int(fd), p, 0, &w.to) }); err != nil {
		return err
	}
	return failed
}

// await reads packets until one is an answer.
func (w *Wire) await(ctx context.Context, recognise func([]byte) Answer) (Answer, error) {
	deadline := time.Now().Add(patience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := w.sock.SetReadDeadline(deadline); err != nil {
		return "", err
	}
	buf := make([]byte, 2048)
	for {
		n, err := w.sock.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return Silent, nil
		case err != nil:
			return "", err
		}
		if a := recognise(buf[:n]); a != "" {
			return a, nil
		}
	}
}
