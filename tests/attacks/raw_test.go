package attacks

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// ip4 is an IPv4 packet (RFC 791). The kernel fills in length and checksum.
type ip4 struct {
	src, dst netip.Addr
	proto    policy.Proto
	id       uint16
	fragment uint16 // flags and offset
	options  []byte // a multiple of four bytes
	payload  []byte
}

const moreFragments = 0x2000

func (p ip4) bytes() []byte {
	head := 20 + len(p.options)
	b := make([]byte, 20, head+len(p.payload))
	b[0] = 0x40 | byte(head/4)
	binary.BigEndian.PutUint16(b[2:], uint16(head+len(p.payload)))
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], p.fragment)
	b[8], b[9] = 64, byte(p.proto)
	src, dst := p.src.As4(), p.dst.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	return append(append(b, p.options...), p.payload...)
}

// checksum is the Internet checksum (RFC 1071) over parts that have an even length, but
// for the last.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudo is the header that TCP and UDP checksums cover beside their own.
func pseudo(src, dst netip.Addr, proto policy.Proto, n int) []byte {
	s, d := src.As4(), dst.As4()
	return append(append(append([]byte{}, s[:]...), d[:]...), 0, byte(proto), byte(n>>8), byte(n))
}

// udp is a datagram (RFC 768).
func udp(src, dst netip.AddrPort, data []byte) []byte {
	b := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(b, src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[6:], checksum(pseudo(src.Addr(), dst.Addr(), policy.UDP, len(b)), b))
	return b
}

// TCP flags (RFC 9293).
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
	urg
)

// segment is a TCP segment without options.
func segment(src, dst netip.AddrPort, seq, acked uint32, flags byte, urgent uint16, data []byte) []byte {
	b := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(b, src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], acked)
	b[12], b[13] = 5<<4, flags
	binary.BigEndian.PutUint16(b[14:], 0xffff) // window
	binary.BigEndian.PutUint16(b[18:], urgent)
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[16:], checksum(pseudo(src.Addr(), dst.Addr(), policy.TCP, len(b)), b))
	return b
}

// icmp is a message (RFC 792): rest is the second word of the header and the data.
func icmp(kind, code byte, rest []byte) []byte {
	b := append([]byte{kind, code, 0, 0}, rest...)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// send puts a packet on the wire as it is, whatever it says of its source.
func send(t testing.TB, from *lab.Host, p ip4) {
	t.Helper()
	err := from.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, p.bytes(), 0, &unix.SockaddrInet4{Addr: p.dst.As4()})
	})
	if err != nil {
		t.Fatalf("send to %s: %v", p.dst, err)
	}
}

// wire is what arrives at a host from now on.
type wire struct {
	*lab.Capture
	next int
}

func listen(t testing.TB, h *lab.Host) *wire {
	t.Helper()
	c, err := h.Capture()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{Capture: c}
}

// wait returns the next packet that satisfies want.
func (w *wire) wait(t testing.TB, want func(lab.Packet) bool) (lab.Packet, bool) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		for packets := w.Packets(); w.next < len(packets); {
			p := packets[w.next]
			if w.next++; want(p) {
				return p, true
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return lab.Packet{}, false
		}
	}
}

// throw sends a packet and tells what the agent saw of it.
func throw(t testing.TB, from *lab.Host, packets ...ip4) sight {
	t.Helper()
	w := listen(t, from)
	for _, p := range packets {
		send(t, from, p)
	}
	to := packets[0].dst
	var got sight
	w.wait(t, func(p lab.Packet) bool {
		body := p.Data[min(len(p.Data), int(p.Data[0]&15)*4):]
		const unreachable, filtered = 3, 13
		switch {
		case p.Proto == policy.ICMP && len(body) >= 28 && body[0] == unreachable && netip.AddrFrom4([4]byte(body[24:28])) == to:
			got = sight{what: fmt.Sprintf("ICMP unreachable, code %d", body[1])}
			if body[1] == filtered {
				got.what = prohibited
			}
		case p.Proto == policy.TCP && p.Src.Addr() == to && len(body) >= 14 && body[13]&rst != 0:
			got.what = refused
		case p.Src.Addr() == to:
			got = sight{what: reached, detail: p.String()}
		}
		return got.what != ""
	})
	if got.what == "" {
		got.what = silence
	}
	return got
}
