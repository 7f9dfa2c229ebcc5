package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// tuple is what identifies a refused packet. Ports are zero where the protocol has
// none, or where the packet was cut before them.
type tuple struct {
	src, dst netip.AddrPort
	proto    policy.Proto
}

// parseHeader reads the beginning of an IP packet. Nothing in it is trusted: lengths
// are checked against what is there.
func parseHeader(b []byte) (tuple, bool) {
	if len(b) == 0 {
		return tuple{}, false
	}
	switch b[0] >> 4 {
	case 4:
		return parseIPv4(b)
	case 6:
		return parseIPv6(b)
	}
	return tuple{}, false
}

func parseIPv4(b []byte) (tuple, bool) {
	if len(b) < 20 {
		return tuple{}, false
	}
	length := int(b[0]&0x0f) * 4
	if length < 20 {
		return tuple{}, false
	}
	t := tuple{proto: policy.Proto(b[9])}
	var sport, dport uint16
	// Only the first fragment carries ports.
	if first := binary.BigEndian.Uint16(b[6:])&0x1fff == 0; first && len(b) >= length {
		sport, dport = parsePorts(t.proto, b[length:])
	}
	t.src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), sport)
	t.dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), dport)
	return t, true
}

// parseIPv6 does not walk extension headers: a packet that has them is told by the
// first one's number.
func parseIPv6(b []byte) (tuple, bool) {
	if len(b) < 40 {
		return tuple{}, false
	}
	t := tuple{proto: policy.Proto(b[6])}
	sport, dport := parsePorts(t.proto, b[40:])
	t.src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), sport)
	t.dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), dport)
	return t, true
}

func parsePorts(p policy.Proto, b []byte) (sport, dport uint16) {
	if !p.HasPorts() || len(b) < 4 {
		return 0, 0
	}
	return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
}
