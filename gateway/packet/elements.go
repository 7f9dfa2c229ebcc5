package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// elementSocket changes elements of sets. It writes nf_tables' messages itself into one
// buffer that it keeps, and asks for one acknowledgement of all: a transaction for every
// question that an agent asks is too much for a library that allocates each attribute and has
// each message acknowledged.
//
// The format is that of linux/netfilter/nf_tables.h, nfnetlink.h and netlink.h.
type elementSocket struct {
	fd    int
	seq   uint32
	last  int // where the last message begins in batch
	batch []byte
	reply []byte
}

// gateElement is one key of a set; without a timeout the set's own holds.
type gateElement struct {
	key     []byte
	timeout time.Duration
}

// ackTimeout is when the kernel would have answered: it does so before a send returns.
const ackTimeout = 5 * time.Second

func openElements() (*elementSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	// Forcing needs CAP_NET_ADMIN in the initial user namespace.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	}
	timeout := unix.NsecToTimeval(int64(ackTimeout))
	err = errors.Join(err, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1), // errors without what they are about
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &elementSocket{fd: fd, reply: make([]byte, 16<<10)}, nil
}

func (s *elementSocket) close() { unix.Close(s.fd) }

// begin starts a transaction.
func (s *elementSocket) begin() {
	s.batch = s.batch[:0]
	s.message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	s.end()
}

// add appends elements to the transaction that are to be in a set. Those that are there
// already stay as they are.
func (s *elementSocket) add(set string, list []gateElement) {
	s.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, set, list)
}

// remove appends elements that are to leave a set. One that is not there fails the
// transaction.
func (s *elementSocket) remove(set string, list []gateElement) {
	s.elements(unix.NFT_MSG_DELSETELEM, 0, set, list)
}

func (s *elementSocket) elements(kind, flags uint16, set string, list []gateElement) {
	for len(list) > 0 {
		n := min(len(list), elementsPerMessage)
		s.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, unix.NFPROTO_INET, 0)
		s.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		s.text(unix.NFTA_SET_ELEM_LIST_SET, set)
		all := s.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for _, e := range list[:n] {
			one := s.nest(unix.NFTA_LIST_ELEM)
			key := s.nest(unix.NFTA_SET_ELEM_KEY)
			s.attribute(unix.NFTA_DATA_VALUE, len(e.key))
			s.batch = append(s.batch, e.key...) // a multiple of four bytes, as keys of sets are
			s.endNest(key)
			if e.timeout > 0 {
				s.attribute(unix.NFTA_SET_ELEM_TIMEOUT, 8)
				s.batch = binary.BigEndian.AppendUint64(s.batch, uint64(e.timeout.Milliseconds()))
			}
			s.endNest(one)
		}
		s.endNest(all)
		s.end()
		list = list[n:]
	}
}

// commit ends the transaction, sends it and returns when the kernel has made all of it true, or
// nothing. After an error the socket may hold answers still and is of no use.
func (s *elementSocket) commit() error {
	flags, want := s.batch[s.last+6:], s.seq
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	s.message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	s.end()
	if err := unix.Sendto(s.fd, s.batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(s.fd, s.reply, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if done, err := acknowledged(s.reply[:n], want); done || err != nil {
			return err
		}
	}
}

// acknowledged reads the kernel's answers. Errors come before the acknowledgement of the last
// message: nfnetlink collects them in order, and says before them that a commit failed
// (nfnetlink_rcv_batch).
func acknowledged(b []byte, want uint32) (bool, error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			break
		}
		if binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR || size < unix.NLMSG_HDRLEN+4 {
			return false, fmt.Errorf("netlink: an answer of type %d and %d bytes", binary.NativeEndian.Uint16(b[4:]), size)
		}
		if code := int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); code != 0 {
			return false, unix.Errno(-code)
		}
		if binary.NativeEndian.Uint32(b[8:]) == want {
			return true, nil
		}
		b = b[min(align(size), len(b)):]
	}
	if len(b) > 0 {
		return false, errors.New("netlink: an answer that is cut")
	}
	return false, nil
}

func align(n int) int { return (n + 3) &^ 3 }

// message begins one: the header of netlink and that of netfilter.
func (s *elementSocket) message(kind, flags uint16, family uint8, resource uint16) {
	s.seq++
	s.last = len(s.batch)
	s.batch = binary.NativeEndian.AppendUint32(s.batch, 0) // its length, once it is known
	s.batch = binary.NativeEndian.AppendUint16(s.batch, kind)
	s.batch = binary.NativeEndian.AppendUint16(s.batch, flags|unix.NLM_F_REQUEST)
	s.batch = binary.NativeEndian.AppendUint32(s.batch, s.seq)
	s.batch = append(s.batch, 0, 0, 0, 0, family, unix.NFNETLINK_V0)
	s.batch = binary.BigEndian.AppendUint16(s.batch, resource)
}

func (s *elementSocket) end() {
	binary.NativeEndian.PutUint32(s.batch[s.last:], uint32(len(s.batch)-s.last))
}

func (s *elementSocket) attribute(kind uint16, size int) {
	s.batch = binary.NativeEndian.AppendUint16(s.batch, uint16(unix.NLA_HDRLEN+size))
	s.batch = binary.NativeEndian.AppendUint16(s.batch, kind)
}

func (s *elementSocket) text(kind uint16, text string) {
	s.attribute(kind, len(text)+1)
	s.batch = append(s.batch, text...)
	s.batch = append(s.batch, "\x00\x00\x00\x00"[:align(len(text)+1)-len(text)]...)
}

// nest begins an attribute that holds others, and returns where it is.
func (s *elementSocket) nest(kind uint16) int {
	s.attribute(kind|unix.NLA_F_NESTED, 0)
	return len(s.batch) - unix.NLA_HDRLEN
}

func (s *elementSocket) endNest(at int) {
	binary.NativeEndian.PutUint16(s.batch[at:], uint16(len(s.batch)-at))
}
