package chaos

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// synFlood sends n first packets from a host, from as many ports, and drops the answers:
// every connection stays half-open.
func (s *stage) synFlood(h *lab.Host, to netip.Addr, n int) (sent int, err error) {
	err = h.Do(func() error {
		if err := dropAnswers(to); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for ; sent < n; sent++ {
			p := syn(h.Addr, to, uint16(10000+sent), 443)
			if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil && err != unix.ENOBUFS {
				return err
			}
		}
		return nil
	})
	return sent, err
}

// dropAnswers keeps the host's kernel from resetting what it does not know.
func dropAnswers(from netip.Addr) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Name: "flood", Family: nftables.TableFamilyIPv4})
	ch := c.AddChain(&nftables.Chain{Name: "in", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	a := from.As4()
	c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a[:]},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return c.Flush()
}

// syn is a TCP header with nothing but the flag (RFC 9293, section 3.1).
func syn(src, dst netip.Addr, sport, dport uint16) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint32(b[4:], uint32(sport)<<8)
	b[12], b[13] = 5<<4, 0x02
	binary.BigEndian.PutUint16(b[14:], 65535)
	s4, d4 := src.As4(), dst.As4()
	sum := uint32(unix.IPPROTO_TCP + len(b))
	for _, part := range [][]byte{s4[:], d4[:], b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum))
	return b
}
