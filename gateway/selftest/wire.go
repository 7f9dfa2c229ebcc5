// Package selftest sends packets into the gateway as an agent would, so that a gateway
// can prove that it refuses and that it lets through before it calls itself ready.
//
// The packets come in on a TUN device and from an address that Azure reserves in every
// subnet (Azure Virtual Network FAQ: the first four and the last), so they meet the real
// kernel program, resolver and enforcer, and cannot be mistaken for an agent's. The
// device exists only while a [Wire] is open.
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

// device is the TUN device's name.
const device = "bulkhead-test"

// patience is how long an answer may take. Refusals and handshakes are local.
const patience = 2 * time.Second

// Wire is a cable into the gateway with one made-up agent at its end.
type Wire struct {
	src  netip.Addr
	tun  *os.File
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

// Open makes the device and routes src to it. It needs CAP_NET_ADMIN and /dev/net/tun.
func Open(src netip.Addr) (*Wire, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("self-test: /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(device)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("self-test: TUN device (needs CAP_NET_ADMIN): %w", err)
	}
	w := &Wire{src: src, tun: os.NewFile(uintptr(fd), device), port: 40000}
	link, err := netlink.LinkByName(device)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err == nil {
		err = netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK,
			Dst: &net.IPNet{IP: src.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("self-test: route: %w", err)
	}
	return w, nil
}

// Close removes the device and its route.
func (w *Wire) Close() error { return w.tun.Close() }

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
	_, err := w.tun.Write(p)
	return err
}

// await reads packets until one is an answer.
func (w *Wire) await(ctx context.Context, recognise func([]byte) Answer) (Answer, error) {
	deadline := time.Now().Add(patience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := w.tun.SetReadDeadline(deadline); err != nil {
		return "", err
	}
	buf := make([]byte, 2048)
	for {
		n, err := w.tun.Read(buf)
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
