package packet

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

var pinnedKey = pin.GateKey{Src: netip.MustParseAddr(addrAgent), Dst: netip.MustParseAddr(addrPinned), Proto: policy.TCP, Port: 443}

// TestEventsOfForwardedFlowsAlone: the kernel does not tell of flows that the enforcer has,
// nor of questions.
func TestEventsOfForwardedFlowsAlone(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	table := l.open(labConfig())
	l.enforcer()
	resolver(l)
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	l.must(err)
	defer c.Close()
	for _, group := range []uint32{unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_DESTROY} {
		l.must(c.JoinGroup(group))
	}
	admit(t, table, pinnedKey)
	l.must(l.try(l.agent, "tcp", addrAgent, hostPort(addrPinned, 443)))
	l.must(l.try(l.agent, "udp", addrAgent, "8.8.8.8:53"))
	l.must(l.try(l.agent, "udp", addrAgent, hostPort(addrPermit, portEcho)))
	if n, err := table.Sweep(t.Context(), func(Conn) bool { return false }); n != 1 || err != nil {
		t.Fatalf("swept %d, %v; want 1", n, err)
	}
	l.must(c.SetReadDeadline(time.Now().Add(patience)))
	var got []uint16
	for !slices.Contains(got, unix.NFNL_SUBSYS_CTNETLINK<<8|ctMsgDelete) {
		msgs, err := c.Receive()
		l.must(err)
		for _, m := range msgs {
			e, ok := parseTracked(m.Data)
			if !ok || e.conn.Dst.String() != hostPort(addrPermit, portEcho) {
				t.Errorf("told of %+v", e.conn)
			}
			got = append(got, uint16(m.Header.Type))
		}
	}
	if want := []uint16{unix.NFNL_SUBSYS_CTNETLINK<<8 | ctMsgNew, unix.NFNL_SUBSYS_CTNETLINK<<8 | ctMsgDelete}; !slices.Equal(got, want) {
		t.Errorf("got %#x, want %#x", got, want)
	}
}

// TestEnforcedIsNeverForwarded: a connection that was on its way to the enforcer when it ended
// is not forwarded under a ruleset that would forward it, because nobody would be told of its
// beginning. A new one is.
func TestEnforcedIsNeverForwarded(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	table := l.open(labConfig())
	enforcer := l.enforcer()
	admit(t, table, pinnedKey)
	// Nobody has the source, so the connection stays half open. The segment's checksum is wrong.
	const src = "10.20.1.99"
	l.must(os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_checksum", []byte("0"), 0))
	key := pinnedKey
	key.Src = netip.MustParseAddr(src)
	admit(t, table, key)
	syn := ipv4(src, addrPinned, 6, 0, tcp(4000, 443, 2))
	l.inject(l.agent, syn)
	l.settle()
	l.must(enforcer.Close())

	next := labTable()
	for i := range next.Classes {
		next.Classes[i].Enforce = nil
		next.Classes[i].Forward = rangeList([]string{addrPinned + "/32", "198.51.100.0/24"})
	}
	l.must(table.Revoke(t.Context(), []pin.GateKey{pinnedKey, key}))
	l.must(table.Load(next))
	l.inject(l.agent, syn)
	l.settle()
	if l.wire.to(addrPinned) > 0 {
		t.Error("forwarded")
	}
	l.must(l.try(l.agent, "tcp", addrAgent, hostPort(addrPinned, 443)))
}

// TestForwardedIsNeverEnforced: a flow that is forwarded stays one to the audit. An agent that
// opens the gate for its far end and sends a first segment in it again does not hide how it ended.
func TestForwardedIsNeverEnforced(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	table := l.open(labConfig())
	l.enforcer()
	flows := make(chan Flow, 64)
	go table.Flows(t.Context(), func(f Flow) { flows <- f })
	if f := <-flows; f.Event != FlowsLost {
		t.Fatalf("first %+v", f)
	}
	live, err := l.dial(l.agent, "tcp", addrAgent, hostPort(addrPermit, 443))
	l.must(err)
	l.must(ask(live))
	local := live.LocalAddr().(*net.TCPAddr).AddrPort()
	await := func(event FlowEvent) {
		t.Helper()
		for deadline := time.After(patience); ; {
			select {
			case f := <-flows:
				if f.Event == event && f.Src == local {
					return
				}
			case <-deadline:
				t.Fatalf("no event %d of the flow", event)
			}
		}
	}
	await(FlowOpened)

	admit(t, table, pin.GateKey{Src: netip.MustParseAddr(addrAgent), Dst: netip.MustParseAddr(addrPermit), Proto: policy.TCP, Port: 443})
	l.must(os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_checksum", []byte("0"), 0))
	l.inject(l.agent, ipv4(addrAgent, addrPermit, 6, 0, tcp(local.Port(), 443, 2)))
	l.settle()
	if n, err := table.Sweep(t.Context(), func(c Conn) bool { return c.Src != local }); n != 1 || err != nil {
		t.Errorf("swept %d, %v; want 1", n, err)
	}
	await(FlowClosed)
}
