package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// From linux/netfilter/nfnetlink_log.h.
const (
	nfulMsgPacket = 0
	nfulMsgConfig = 1

	nfulaMark    = 2
	nfulaPayload = 9

	nfulaCfgCmd     = 1
	nfulaCfgMode    = 2
	nfulaCfgTimeout = 4

	nfulCmdBind    = 1
	nfulCopyPacket = 2
)

// logBuffer is how many bytes of messages may wait for us in the kernel.
const logBuffer = 1 << 20

// openLog binds the log group. Only one socket can have it. What is logged from then on
// may come before the answers to our own commands; those messages are returned too.
func openLog() (*netlink.Conn, []netlink.Message, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, nil, err
	}
	err = c.SetReadBuffer(logBuffer)
	var early []netlink.Message
	mode := binary.BigEndian.AppendUint32(nil, snapLen)
	for _, a := range []netlink.Attribute{
		{Type: nfulaCfgCmd, Data: []byte{nfulCmdBind}},
		{Type: nfulaCfgMode, Data: append(mode, nfulCopyPacket, 0)},
		// In hundredths of a second: messages wait no longer than that for company.
		{Type: nfulaCfgTimeout, Data: binary.BigEndian.AppendUint32(nil, 1)},
	} {
		if err == nil {
			err = configureLog(c, a, &early)
		}
	}
	if err != nil {
		c.Close()
		return nil, nil, fmt.Errorf("nflog group %d (does another process read it?): %w", logGroup, explain(err))
	}
	return c, early, nil
}

// answerTimeout bounds the wait for the kernel's answer to a command, which it has given by the
// time that the command was sent, and which a full buffer can lose.
const answerTimeout = 2 * time.Second

// configureLog sends a command and waits for its answer, past packets that are logged meanwhile.
func configureLog(c *netlink.Conn, a netlink.Attribute, early *[]netlink.Message) error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{a})
	if err != nil {
		return err
	}
	sent, err := c.Send(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_ULOG<<8 | nfulMsgConfig),
			Flags: netlink.Request | netlink.Acknowledge,
		},
		Data: append(nfgenmsg(unix.AF_UNSPEC, logGroup), attrs...),
	})
	if err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	for {
		msgs, err := c.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			return err
		}
		answered := false
		for _, m := range msgs {
			if m.Header.Type == netlink.Error && m.Header.Sequence == sent.Header.Sequence {
				answered = true
			} else {
				*early = append(*early, m)
			}
		}
		if answered {
			return c.SetReadDeadline(time.Time{})
		}
	}
}

// nfgenmsg is the header that every netfilter message begins with.
func nfgenmsg(family uint8, resource uint16) []byte {
	return []byte{family, unix.NFNETLINK_V0, byte(resource >> 8), byte(resource)}
}

const nfgenmsgLen = 4

// probeLog asks for the log's subsystem without taking the group from its reader.
func probeLog() error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	// PF_UNBIND has had no effect since Linux 3.17, and is still answered.
	const pfUnbind = 4
	return configureLog(c, netlink.Attribute{Type: nfulaCfgCmd, Data: []byte{pfUnbind}}, new([]netlink.Message))
}

// parseLog reads one logged packet.
func parseLog(data []byte) (Denial, bool) {
	if len(data) < nfgenmsgLen {
		return Denial{}, false
	}
	ad, err := netlink.NewAttributeDecoder(data[nfgenmsgLen:])
	if err != nil {
		return Denial{}, false
	}
	ad.ByteOrder = binary.BigEndian
	var mark uint32
	var header []byte
	for ad.Next() {
		switch ad.Type() {
		case nfulaMark:
			if len(ad.Bytes()) == 4 {
				mark = ad.Uint32()
			}
		case nfulaPayload:
			header = ad.Bytes()
		}
	}
	cause, ok := causeOf(mark)
	if ad.Err() != nil || !ok {
		return Denial{}, false
	}
	t, ok := parseHeader(header)
	return Denial{Src: t.src, Dst: t.dst, Proto: t.proto, Cause: cause, Count: 1}, ok
}
