package packet

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// FlowEvent is what happened to a forwarded flow.
type FlowEvent uint8

const (
	FlowOpened FlowEvent = iota + 1
	FlowClosed
	// FlowsLost: what began and ended before is not known, because nobody read or because
	// events came faster than they were read. Flow.Conn is zero. It is the first of all.
	FlowsLost
)

// Flow is the beginning or the end of a flow that the kernel forwards.
type Flow struct {
	Event FlowEvent
	Conn
	// At the end: bytes of IP packets from and to the agent. Duration needs the
	// kernel's nf_conntrack_timestamp and is zero without.
	BytesOut, BytesIn uint64
	Duration          time.Duration
}

// gather is how long events are left to gather once there are no more: a wakeup for each of
// many flows costs more than what is done about it. Nothing waits for an event but the audit.
const gather = 5 * time.Millisecond

// Flows calls f for the beginning and the end of every forwarded flow until ctx
// ends. Flows that the enforcer has are not among them: it knows more of those.
func (t *Table) Flows(ctx context.Context, f func(Flow)) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	if err := c.SetReadBuffer(receiveBuffer); err != nil {
		return err
	}
	for _, group := range []uint32{unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_DESTROY} {
		if err := c.JoinGroup(group); err != nil {
			return fmt.Errorf("conntrack events: %w", explain(err))
		}
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	f(Flow{Event: FlowsLost})
	in := reader{raw: raw, buf: make([]byte, 64<<10)}
	for {
		b, err := in.next()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			f(Flow{Event: FlowsLost})
			continue
		case err != nil:
			return fmt.Errorf("reading conntrack events: %w", err)
		}
		eachMessage(b, func(kind uint16, data []byte) {
			if flow, ok := parseFlow(kind, data); ok {
				f(flow)
			}
		})
	}
}

// reader reads a netlink socket datagram by datagram into one buffer.
type reader struct {
	raw syscall.RawConn
	buf []byte
}

// next waits for a datagram, which is valid until the next one.
func (r *reader) next() ([]byte, error) {
	var n int
	var err error
	gathered := false
	closed := r.raw.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Read(int(fd), r.buf)
			switch {
			case err == unix.EINTR:
			case err != unix.EAGAIN:
				return true
			case gathered:
				return false
			default:
				gathered = true
				time.Sleep(gather)
			}
		}
	})
	if err = cmp.Or(closed, err); err != nil {
		return nil, err
	}
	return r.buf[:n], nil
}

// eachMessage walks the messages of a datagram; what is malformed ends the walk.
func eachMessage(b []byte, f func(kind uint16, data []byte)) {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:n])
		b = b[min(align(n), len(b)):]
	}
}

func parseFlow(kind uint16, data []byte) (Flow, bool) {
	var event FlowEvent
	switch kind {
	case unix.NFNL_SUBSYS_CTNETLINK<<8 | ctMsgNew:
		event = FlowOpened
	case unix.NFNL_SUBSYS_CTNETLINK<<8 | ctMsgDelete:
		event = FlowClosed
	default:
		return Flow{}, false
	}
	e, ok := parseTracked(data)
	if !ok || e.mark != ctForward {
		return Flow{}, false
	}
	flow := Flow{Event: event, Conn: e.conn}
	if event == FlowClosed {
		flow.BytesOut, flow.BytesIn, flow.Duration = e.bytesOut, e.bytes, e.duration()
	}
	return flow, true
}

// Sweep ends the forwarded flows for which keep says no, and returns how many. The
// next packet of such a flow is a new one to the program and is refused by what is
// then in force; so call it after Load.
func (t *Table) Sweep(ctx context.Context, keep func(Conn) bool) (int, error) {
	return sweep(ctx, keep)
}

func sweep(ctx context.Context, keep func(Conn) bool) (int, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	if err := c.SetReadBuffer(receiveBuffer); err != nil {
		return 0, err
	}
	msgs, err := ctRequest(c, ctMsgGet, netlink.Request|netlink.Dump, []netlink.Attribute{
		{Type: ctaMark, Data: binary.BigEndian.AppendUint32(nil, ctForward)},
		{Type: ctaMarkMask, Data: binary.BigEndian.AppendUint32(nil, ^uint32(0))},
	})
	if err != nil {
		return 0, fmt.Errorf("listing connections: %w", err)
	}
	swept := 0
	for _, m := range msgs {
		e, ok := parseTracked(m.Data)
		if !ok || e.mark != ctForward || keep(e.conn) {
			continue
		}
		_, err := ctRequest(c, ctMsgDelete, netlink.Request|netlink.Acknowledge, []netlink.Attribute{
			{Type: ctaTupleOrig | unix.NLA_F_NESTED, Data: e.rawTuple},
			{Type: ctaID, Data: e.rawID},
		})
		switch {
		case errors.Is(err, unix.ENOENT): // it ended meanwhile
		case err != nil:
			return swept, fmt.Errorf("ending %v to %v: %w", e.conn.Src, e.conn.Dst, err)
		default:
			swept++
		}
	}
	return swept, ctx.Err()
}

func ctRequest(c *netlink.Conn, kind uint16, flags netlink.HeaderFlags, attrs []netlink.Attribute) ([]netlink.Message, error) {
	b, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil, err
	}
	return c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | kind), Flags: flags},
		Data:   append(nfgenmsg(unix.AF_INET, 0), b...),
	})
}
