package packet

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestDNSIsBounded: one agent can take neither the resolver's connections nor the kernel's
// table of connections from the others.
func TestDNSIsBounded(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	l.open(labConfig())
	resolver(l)
	for i := range maxDialogues {
		c, err := l.dial(l.agent, "tcp", addrAgent, hostPort(addrRefuse, 53))
		if err != nil {
			t.Fatalf("connection %d to the resolver: %v", i, err)
		}
		defer c.Close()
	}
	if err := l.try(l.agent, "tcp", addrAgent, hostPort(addrPermit, 53)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("one connection too many: %v", err)
	}
	l.must(l.try(l.agent, "tcp", addrAgent2, hostPort(addrRefuse, 53)))

	// Raw packets, because a socket would hear of the refusal and stop.
	overloaded := false
	reader := denialReader{seen: map[deniedKey]int{}, f: func(d Denial) {
		overloaded = overloaded || d.Cause == CauseOverload && d.Src.Addr().String() == addrAgent && d.Proto == policy.UDP
	}}
	question := ipv4(addrAgent, addrRefuse, 17, 0, udp(10000, 53, []byte("question")))
	for deadline := time.Now().Add(patience); !overloaded && time.Now().Before(deadline); {
		l.in(l.agent, func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			l.must(err)
			defer unix.Close(fd)
			for range 2 * questionBurst {
				l.must(unix.Sendto(fd, question, 0, &unix.SockaddrInet4{Addr: [4]byte(question[16:20])}))
			}
		})
		l.must(reader.count())
	}
	if !overloaded {
		t.Error("a flood of questions has no end")
	}
	other, err := l.dial(l.agent, "udp", addrAgent2, hostPort(addrRefuse, 53))
	l.must(err)
	defer other.Close()
	for deadline := time.Now().Add(patience); ; { // the flood fills the resolver's socket for a moment
		_, err = other.Write([]byte("word"))
		l.must(err)
		other.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err = other.Read(make([]byte, 16)); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("another agent suffers: %v", err)
		}
	}
}

// TestErrorsMarkNothing: an agent's ICMP error about a connection that the enforcer has is
// not forwarded where ICMP is, for the connection would be from then on.
func TestErrorsMarkNothing(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	table := l.open(labConfig())
	l.enforcer()
	const port = 8443
	admitted := labTable()
	admitted.Classes[0].Forward, admitted.Classes[0].Enforce = nil, admitted.Classes[0].Forward
	l.must(table.Load(admitted)) // TCP 8443 to addrPermit is the enforcer's, ICMP is forwarded
	c, err := l.dial(l.agent, "tcp", addrAgent, hostPort(addrPermit, port))
	l.must(err)
	l.must(ask(c))
	reply := ipv4(addrPermit, addrAgent, 6, 0, tcp(port, uint16(c.LocalAddr().(*net.TCPAddr).Port), 0x10))
	unreachable := append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, reply...)
	binary.BigEndian.PutUint16(unreachable[2:], checksum(unreachable))
	l.inject(l.agent, ipv4(addrAgent, addrPermit, 1, 0, unreachable))
	l.settle()
	var marks []uint32
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	l.must(err)
	defer conn.Close()
	msgs, err := ctRequest(conn, ctMsgGet, netlink.Request|netlink.Dump, nil)
	l.must(err)
	for _, m := range msgs {
		if e, ok := parseTracked(m.Data); ok && e.conn.Dst.Port() == port {
			marks = append(marks, e.mark)
		}
	}
	if len(marks) != 1 || marks[0] != ctEnforce {
		t.Errorf("marks %#x", marks)
	}
	l.must(ask(c))
}
