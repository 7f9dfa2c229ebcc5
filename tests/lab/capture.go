package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Capture records the IP packets that arrive at a host, from the wire itself, before
// its kernel has judged them. It is how a test shows that nothing leaked.
type Capture struct {
	host *Host
	file *os.File

	mu      sync.Mutex
	packets []Packet
	dropped int
	lost    int                      // packets that the kernel had no room for
	marks   map[string]chan struct{} // flush marks by payload; closed once seen
}

// Packet is one packet that arrived.
type Packet struct {
	Src, Dst netip.AddrPort // port 0 where there is none
	Proto    policy.Proto
	Fragment bool   // not the first: its ports are unknown
	SYN      bool   // the first packet of a TCP connection
	Data     []byte // the IP packet, at most 2 KiB of it
}

func (p Packet) String() string {
	return fmt.Sprintf("%s %s -> %s, %d bytes", p.Proto, p.Src, p.Dst, len(p.Data))
}

const (
	maxPackets = 100_000
	// captureBuffer is room for what comes while the reader is not running: some thousand of the
	// 64 KiB that bulk comes in.
	captureBuffer = 256 << 20
	// markEvery is how often a flush mark is sent until it is seen.
	markEvery = 200 * time.Millisecond
)

// Capture starts recording on eth0 of the host, until the host or the capture is closed.
func (h *Host) Capture() (*Capture, error) {
	link, err := h.link("eth0")
	if err != nil {
		return nil, err
	}
	c := &Capture{host: h, marks: map[string]chan struct{}{}}
	err = h.Do(func() error {
		// ETH_P_ALL in network byte order, as packet(7) wants it.
		proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(proto))
		if err != nil {
			return err
		}
		// Beyond net.core.rmem_max with CAP_NET_ADMIN, else up to it; Flush tells of
		// packets for which it did not suffice.
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, captureBuffer)
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: link.Attrs().Index}); err != nil {
			unix.Close(fd)
			return err
		}
		c.file = os.NewFile(uintptr(fd), "capture on "+h.Name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", h.Name, err)
	}
	h.onClose(c.Close)
	go c.run()
	return c, nil
}

// Close stops the capture.
func (c *Capture) Close() error { return c.file.Close() }

// Packets returns what arrived so far, in order. Call Flush first.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Packet(nil), c.packets...)
}

// Flush returns when everything that the fabric has sent to the host before is in
// Packets: it sends a datagram behind it and waits for that.
func (c *Capture) Flush(ctx context.Context, fabric *Host) error {
	seen := make(chan struct{})
	c.mu.Lock()
	mark := fmt.Sprintf("capture mark %p", seen)
	c.marks[mark] = seen
	c.mu.Unlock()
	conn, err := fabric.Dial(ctx, "udp", netip.AddrPortFrom(c.host.Addr, 9).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	again := time.NewTicker(markEvery)
	defer again.Stop()
	for arrived := false; !arrived; {
		// Nobody listens there, and the second write learns of it: the first arrived.
		if _, err := conn.Write([]byte(mark)); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
		select {
		case <-seen:
			arrived = true
		case <-again.C: // a datagram may be lost where its neighbour is being looked for
		case <-ctx.Done():
			return fmt.Errorf("capture on %s: %w", c.host.Name, ctx.Err())
		}
	}
	missed, err := c.missed()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost += missed
	if c.dropped > 0 || c.lost > 0 {
		return fmt.Errorf("capture on %s: %d packets more than it keeps, %d that the kernel had no room for", c.host.Name, c.dropped, c.lost)
	}
	return nil
}

// missed returns how many packets the kernel had no room for since it was asked last
// (packet(7), PACKET_STATISTICS).
func (c *Capture) missed() (n int, err error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var stats *unix.TpacketStats
	if cerr := raw.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, fmt.Errorf("capture on %s: %w", c.host.Name, err)
	}
	return int(stats.Drops), nil
}

func (c *Capture) run() {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 2048)
	for {
		var n int
		var from unix.Sockaddr
		var recvErr error
		err := raw.Read(func(fd uintptr) bool {
			n, from, recvErr = unix.Recvfrom(int(fd), buf, 0)
			return recvErr != unix.EAGAIN
		})
		if err != nil {
			return // closed
		}
		if recvErr != nil {
			continue // such as ENETDOWN, told once
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if p, ok := parsePacket(buf[:n]); ok {
			c.add(p)
		}
	}
}

func (c *Capture) add(p Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.Proto == policy.UDP && p.Dst.Port() == 9 && len(p.Data) > 28 {
		if seen, ok := c.marks[string(p.Data[28:])]; ok {
			select {
			case <-seen: // sent again before it was seen
			default:
				close(seen)
			}
			return
		}
	}
	if len(c.packets) >= maxPackets {
		c.dropped++
		return
	}
	c.packets = append(c.packets, p)
}

// parsePacket reads IPv4 (RFC 791) and IPv6 (RFC 8200) headers; neighbour
// discovery and what is not IP is no packet.
func parsePacket(b []byte) (Packet, bool) {
	p := Packet{Data: append([]byte(nil), b...)}
	if len(b) < 20 {
		return p, false
	}
	var src, dst netip.Addr
	var payload []byte
	switch b[0] >> 4 {
	case 4:
		head := int(b[0]&15) * 4
		if head < 20 || len(b) < head {
			return p, false
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		p.Proto = policy.Proto(b[9])
		p.Fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
		payload = b[head:]
	case 6:
		if len(b) < 40 {
			return p, false
		}
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		if dst.IsMulticast() || src.IsLinkLocalUnicast() {
			return p, false
		}
		p.Proto, payload = policy.Proto(b[6]), b[40:]
	default:
		return p, false
	}
	var sport, dport uint16
	if p.Proto.HasPorts() && !p.Fragment && len(payload) >= 4 {
		sport, dport = binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
		if p.Proto == policy.TCP && len(payload) >= 14 {
			const syn, ack = 0x02, 0x10
			p.SYN = payload[13]&(syn|ack) == syn
		}
	}
	p.Src, p.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return p, true
}
