package packet

import (
	"encoding/binary"
	"fmt"

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

// openLog binds the log group. Only one socket can have it.
func openLog() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	err = c.SetReadBuffer(logBuffer)
	if err == nil {
		err = configureLog(c, netlink.Attribute{Type: nfulaCfgCmd, Data: []byte{nfulCmdBind}})
	}
	if err == nil {
		mode := binary.BigEndian.AppendUint32(nil, snapLen)
		err = configureLog(c, netlink.Attribute{Type: nfulaCfgMode, Data: append(mode, nfulCopyPacket, 0)})
	}
	if err == nil {
		// In hundredths of a second: messages wait no longer than that for company.
		err = configureLog(c, netlink.Attribute{Type: nfulaCfgTimeout, Data: binary.BigEndian.AppendUint32(nil, 1)})
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("nflog group %d (does another process read it?): %w", logGroup, explain(err))
	}
	return c, nil
}

func configureLog(c *netlink.Conn, a netlink.Attribute) error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{a})
	if err != nil {
		return err
	}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_ULOG<<8 | nfulMsgConfig),
			Flags: netlink.Request | netlink.Acknowledge,
		},
		Data: append(nfgenmsg(unix.AF_UNSPEC, logGroup), attrs...),
	})
	return err
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
	return configureLog(c, netlink.Attribute{Type: nfulaCfgCmd, Data: []byte{pfUnbind}})
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
