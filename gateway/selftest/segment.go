package selftest

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// TCP flags (RFC 9293, section 3.1).
const (
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// segment builds an IPv4 packet with a TCP header and no data.
func segment(src netip.Addr, dst netip.AddrPort, port uint16, seq, ack uint32, flags byte) []byte {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, port)
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	binary.BigEndian.PutUint16(tcp[16:], checksum(tcp, pseudo(src, dst.Addr(), unix.IPPROTO_TCP, len(tcp))))
	return packet(src, dst.Addr(), unix.IPPROTO_TCP, tcp)
}

// datagram builds an IPv4 packet with a UDP header and data.
func datagram(src netip.Addr, dst netip.AddrPort, port uint16, data []byte) []byte {
	udp := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(udp, port)
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(data)))
	udp = append(udp, data...)
	binary.BigEndian.PutUint16(udp[6:], checksum(udp, pseudo(src, dst.Addr(), unix.IPPROTO_UDP, len(udp))))
	return packet(src, dst.Addr(), unix.IPPROTO_UDP, udp)
}

func packet(src, dst netip.Addr, proto byte, body []byte) []byte {
	p := make([]byte, 20, 20+len(body))
	p[0], p[8], p[9] = 4<<4|5, 64, proto
	binary.BigEndian.PutUint16(p[2:], uint16(20+len(body)))
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(p[10:], checksum(p, 0))
	return append(p, body...)
}

// payload returns the protocol and body of an IPv4 packet, 0 for anything else.
func payload(p []byte) (proto byte, body []byte) {
	if len(p) < 20 || p[0]>>4 != 4 || int(p[0]&15)*4 > len(p) {
		return 0, nil
	}
	return p[9], p[int(p[0]&15)*4:]
}

// pseudo is the sum of the header that TCP and UDP checksums include beside their own.
func pseudo(src, dst netip.Addr, proto byte, length int) uint32 {
	s, d := src.As4(), dst.As4()
	return uint32(binary.BigEndian.Uint16(s[:])) + uint32(binary.BigEndian.Uint16(s[2:])) +
		uint32(binary.BigEndian.Uint16(d[:])) + uint32(binary.BigEndian.Uint16(d[2:])) + uint32(proto) + uint32(length)
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte, sum uint32) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
