package chaos

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// TestConntrackFull: the kernel has no room for more connections. The bound belongs to the
// machine, but each namespace is counted alone, so the gateway's is filled with connections
// that nobody has; they count as answered, so that the kernel gives none of them up.
func TestConntrackFull(t *testing.T) {
	s := open(t, lab.Options{})
	machine := s.Host(lab.Gateway)
	s.must(s.tool())
	live, err := s.infraConn()
	s.must(err)
	defer live.Close()
	s.must(exchange(live))

	most, err := setting("nf_conntrack_max")
	s.must(err)
	if most > 1<<20 {
		faults(-1)
		t.Skipf("%d connections are too many to fill the table with", most)
	}
	s.must(machine.Do(func() error { return fill(most) }))
	failed := 0
	var opened []net.Conn
	for range 10 {
		conn, err := s.infraConn()
		if err != nil {
			failed++
			continue
		}
		opened = append(opened, conn)
	}
	if failed == 0 {
		t.Error("the table is never full")
	}
	if err := exchange(live); err != nil {
		t.Errorf("a flow from before: %v", err)
	}
	if s.Process.PID() == 0 {
		t.Error("the gateway ended")
	}
	for _, conn := range opened {
		conn.Close()
	}
	t.Logf("%d connections fill the table; %d of 10 new ones failed", most, failed)

	s.must(machine.Do(empty))
	s.works("a tool call", s.tool)
	s.works("a forwarded flow", s.infra)
	s.eventually("ready", func() bool { return s.ready() == http.StatusOK })
	s.close()
}

func setting(name string) (int, error) {
	b, err := os.ReadFile("/proc/sys/net/netfilter/" + name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// From linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h.
const (
	ctNew    = unix.NFNL_SUBSYS_CTNETLINK << 8
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2

	ctaTupleOrig  = 1 | unix.NLA_F_NESTED
	ctaTupleReply = 2 | unix.NLA_F_NESTED
	ctaStatus     = 3
	ctaTimeout    = 7
	ctaMark       = 8
	ctaMarkMask   = 21

	seenReplyAssuredConfirmed = 1<<1 | 1<<2 | 1<<3
)

// filler marks the connections of fill.
const filler = 0x46494c4c

// fill enters connections into the table of the calling thread's namespace until it has
// no room for another.
func fill(most int) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	// Addresses for benchmarks (RFC 2544): nothing in the lab has one.
	from, to := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.19.0.1")
	batch := make([]netlink.Message, 0, 256)
	for i := range most {
		if i%0xf000 == 0 {
			to = to.Next()
		}
		port := uint16(1024 + i%0xf000)
		// The last ones find no room. Their answers are not read: the count says enough.
		batch = append(batch, message(ctNew, netlink.Request|netlink.Create|netlink.Excl,
			netlink.Attribute{Type: ctaTupleOrig, Data: datagrams(from, to, port)},
			netlink.Attribute{Type: ctaTupleReply, Data: datagrams(to, from, port)},
			netlink.Attribute{Type: ctaStatus, Data: be32(seenReplyAssuredConfirmed)},
			netlink.Attribute{Type: ctaTimeout, Data: be32(3600)},
			netlink.Attribute{Type: ctaMark, Data: be32(filler)}))
		if len(batch) == cap(batch) || i == most-1 {
			if _, err := c.SendMessages(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	n, err := setting("nf_conntrack_count")
	if err == nil && n < most-100 { // some may have lapsed since
		err = fmt.Errorf("%d of %d connections in the table", n, most)
	}
	return err
}

// empty takes them out again.
func empty() error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Execute(message(ctDelete, netlink.Request|netlink.Acknowledge,
		netlink.Attribute{Type: ctaMark, Data: be32(filler)}, netlink.Attribute{Type: ctaMarkMask, Data: be32(^uint32(0))}))
	return err
}

func message(kind uint16, flags netlink.HeaderFlags, attrs ...netlink.Attribute) netlink.Message {
	return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: flags},
		Data: append([]byte{unix.AF_INET, unix.NFNETLINK_V0, 0, 0}, nested(attrs...)...)}
}

// datagrams is the tuple of a UDP flow from and to the same port.
func datagrams(src, dst netip.Addr, port uint16) []byte {
	const ip, proto, ipSrc, ipDst, protoNum, protoSrc, protoDst = 1, 2, 1, 2, 1, 2, 3
	p := binary.BigEndian.AppendUint16(nil, port)
	return nested(
		netlink.Attribute{Type: ip | unix.NLA_F_NESTED, Data: nested(
			netlink.Attribute{Type: ipSrc, Data: src.AsSlice()}, netlink.Attribute{Type: ipDst, Data: dst.AsSlice()})},
		netlink.Attribute{Type: proto | unix.NLA_F_NESTED, Data: nested(
			netlink.Attribute{Type: protoNum, Data: []byte{unix.IPPROTO_UDP}},
			netlink.Attribute{Type: protoSrc, Data: p}, netlink.Attribute{Type: protoDst, Data: p})})
}

func nested(attrs ...netlink.Attribute) []byte {
	b, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		panic(err) // an attribute of more than 64 KiB
	}
	return b
}

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
