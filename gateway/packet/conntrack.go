package packet

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// From linux/netfilter/nfnetlink_conntrack.h.
const (
	ctMsgNew    = 0
	ctMsgGet    = 1
	ctMsgDelete = 2

	ctaTupleOrig    = 1
	ctaMark         = 8
	ctaCountersOrig = 9
	ctaCountersRepl = 10
	ctaID           = 12
	ctaTimestamp    = 20
	ctaMarkMask     = 21

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaIPv4Src    = 1
	ctaIPv4Dst    = 2
	ctaProtoNum   = 1
	ctaProtoSrc   = 2
	ctaProtoDst   = 3

	ctaCountersBytes  = 2
	ctaTimestampStart = 1
	ctaTimestampStop  = 2
)

// Conn is a connection that the kernel forwards. Src is the agent, Dst what it
// asked for; ports are zero where the protocol has none.
type Conn struct {
	Src, Dst netip.AddrPort
	Proto    policy.Proto
}

// tracked is a conntrack entry as far as we read it.
type tracked struct {
	conn            Conn
	mark            uint32
	bytesOut, bytes uint64 // from the agent, and back
	start, stop     int64  // ns since 1970, zero without nf_conntrack_timestamp
	// What names the entry to the kernel again.
	rawTuple, rawID []byte
}

func (e *tracked) duration() time.Duration {
	if e.start == 0 || e.stop < e.start {
		return 0
	}
	return time.Duration(e.stop - e.start)
}

// parseTracked reads one conntrack message of IPv4.
func parseTracked(data []byte) (tracked, bool) {
	var e tracked
	if len(data) < nfgenmsgLen || data[0] != unix.AF_INET {
		return e, false
	}
	whole := each(data[nfgenmsgLen:], func(kind uint16, b []byte) {
		switch kind {
		case ctaTupleOrig:
			e.rawTuple = b
			e.conn = parseTuple(b)
		case ctaMark:
			e.mark = uint32(number(b))
		case ctaCountersOrig:
			e.bytesOut = nested(b, ctaCountersBytes)
		case ctaCountersRepl:
			e.bytes = nested(b, ctaCountersBytes)
		case ctaTimestamp:
			e.start, e.stop = int64(nested(b, ctaTimestampStart)), int64(nested(b, ctaTimestampStop))
		case ctaID:
			e.rawID = b
		}
	})
	return e, whole && e.conn.Src.IsValid() && e.conn.Dst.IsValid()
}

func parseTuple(b []byte) Conn {
	var c Conn
	var src, dst netip.Addr
	each(b, func(kind uint16, b []byte) {
		switch kind {
		case ctaTupleIP:
			each(b, func(kind uint16, b []byte) {
				if len(b) != 4 {
					return
				}
				switch kind {
				case ctaIPv4Src:
					src = netip.AddrFrom4([4]byte(b))
				case ctaIPv4Dst:
					dst = netip.AddrFrom4([4]byte(b))
				}
			})
		case ctaTupleProto:
			var sport, dport uint16
			each(b, func(kind uint16, b []byte) {
				switch kind {
				case ctaProtoNum:
					c.Proto = policy.Proto(number(b))
				case ctaProtoSrc:
					sport = uint16(number(b))
				case ctaProtoDst:
					dport = uint16(number(b))
				}
			})
			c.Src, c.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
		}
	})
	if !c.Proto.HasPorts() { // conntrack keeps GRE keys and the like there
		c.Src, c.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	} else {
		c.Src, c.Dst = netip.AddrPortFrom(src, c.Src.Port()), netip.AddrPortFrom(dst, c.Dst.Port())
	}
	return c
}

// each walks attributes, and reports whether it came to their end. What is malformed ends the
// walk. A kind comes without the flags of its upper bits (NLA_TYPE_MASK of linux/netlink.h).
func each(b []byte, f func(kind uint16, b []byte)) (whole bool) {
	for len(b) >= unix.SizeofNlAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return false
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:n])
		b = b[min(align(n), len(b)):]
	}
	return len(b) == 0
}

// nested is the number in an attribute within b.
func nested(b []byte, want uint16) uint64 {
	var n uint64
	each(b, func(kind uint16, b []byte) {
		if kind == want {
			n = number(b)
		}
	})
	return n
}

// number is a big-endian number of 1, 2, 4 or 8 bytes; anything else is 0.
func number(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
