package packet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// The test's network. The test process is the gateway; agent, fabric and internet are
// namespaces beside it. On one arm the gateway hangs on the fabric alone, which
// sends agents' packets to it, as a route table in Azure does. On two arms the
// agents' network ends at the gateway.
//
//	one arm:   agent -- fabric -- internet      two arms:   agent -- gateway -- fabric -- internet
//	                      |
//	                   gateway
const (
	addrAgent    = "10.20.1.10"
	addrAgent2   = "10.20.1.11"
	addrStranger = "10.99.0.5" // lives in the agent's namespace, is no agent
	addrGateway  = "10.20.0.4"
	addrPermit   = "198.51.100.1"
	addrRefuse   = "203.0.113.1"
	addrPinned   = "192.0.2.80"
	addrPrivate  = "10.30.0.1"
	addrBehind   = "198.51.100.200" // on two arms the fabric sends it to the gateway
	v6Agent      = "2001:db8:1::10"
	v6Internet   = "2001:db8:2::1"

	portEcho = 7000
)

// serverAddrs are what the internet's namespace answers for.
var serverAddrs = []string{
	addrPermit, "198.51.100.2", addrRefuse, addrPinned, addrPrivate,
	"8.8.8.8", "168.63.129.16", "169.254.169.254",
}

type lab struct {
	t                       *testing.T
	agent, fabric, internet netns.NsHandle
	gateway                 netns.NsHandle
	wire                    *capture // what arrives at the internet
}

// newLab needs namespaced(t).
func newLab(t *testing.T, arms int) *lab {
	t.Helper()
	l := &lab{t: t, agent: newNS(t), fabric: newNS(t), internet: newNS(t)}
	var err error
	l.gateway, err = netns.Get()
	l.must(err)

	l.veth(l.fabric, "net", l.internet, "eth0")
	l.configure(l.fabric, "net", "192.168.9.1/24", "2001:db8:9::1/64")
	l.configure(l.internet, "eth0", "192.168.9.2/24", "2001:db8:9::2/64")
	l.route(l.internet, "0.0.0.0/0", "192.168.9.1", 0)
	l.route(l.internet, "::/0", "2001:db8:9::1", 0)
	for _, a := range serverAddrs {
		l.configure(l.internet, "lo", a+"/32")
		l.route(l.fabric, a+"/32", "192.168.9.2", 0)
	}
	l.configure(l.internet, "lo", v6Internet+"/128")
	l.route(l.fabric, "2001:db8:2::/64", "2001:db8:9::2", 0)

	l.veth(l.fabric, "gw", l.gateway, "eth0")
	l.configure(l.fabric, "gw", "10.20.0.1/24", "2001:db8:0::1/64")
	l.configure(l.gateway, "lo")
	l.configure(l.gateway, "eth0", addrGateway+"/24", "2001:db8:0::4/64")
	l.route(l.gateway, "0.0.0.0/0", "10.20.0.1", 0)
	l.route(l.gateway, "::/0", "2001:db8:0::1", 0)

	router := l.gateway
	if arms == 1 {
		router = l.fabric
	}
	l.veth(router, "agents", l.agent, "eth0")
	l.configure(router, "agents", "10.20.1.1/24", "2001:db8:1::1/64")
	l.configure(l.agent, "lo")
	l.configure(l.agent, "eth0", addrAgent+"/24", addrAgent2+"/24", addrStranger+"/32", v6Agent+"/64")
	l.route(l.agent, "0.0.0.0/0", "10.20.1.1", 0)
	l.route(l.agent, "::/0", "2001:db8:1::1", 0)
	l.route(router, "10.99.0.0/24", addrAgent, 0)
	if arms == 1 {
		// The route table of the agents' subnet.
		l.route(l.fabric, "0.0.0.0/0", addrGateway, 100)
		l.route(l.fabric, "::/0", "2001:db8:0::4", 100)
		l.in(l.fabric, func() {
			for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
				r := netlink.NewRule()
				r.Family, r.Priority, r.IifName, r.Table = family, 100, "agents", 100
				l.must(netlink.RuleAdd(r))
			}
		})
	} else {
		l.route(l.fabric, "10.20.1.0/24", addrGateway, 0)
		l.route(l.fabric, "10.99.0.0/24", addrGateway, 0)
		l.route(l.fabric, addrBehind+"/32", addrGateway, 0)
		l.route(l.fabric, "2001:db8:1::/64", "2001:db8:0::4", 0)
	}
	l.in(l.fabric, func() {
		l.must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
		l.must(os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	})
	l.wire = l.capture(l.internet, "eth0")
	l.serve()
	return l
}

func newNS(t *testing.T) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	var err error
	done := make(chan struct{})
	go func() { // the thread is not unlocked, so it ends with the goroutine
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			ns, err = netns.Get()
		}
	}()
	<-done
	if err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	return ns
}

// in runs f on a thread in the namespace. Sockets that f opens stay there.
func (l *lab) in(ns netns.NsHandle, f func()) {
	l.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(ns); err != nil {
			done <- err
			return
		}
		defer close(done) // also when f ends the test
		f()
	}()
	l.must(<-done)
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		_, file, line, _ := runtime.Caller(1)
		l.t.Errorf("%s:%d: %v", file, line, err)
		runtime.Goexit()
	}
}

func (l *lab) veth(a netns.NsHandle, nameA string, b netns.NsHandle, nameB string) {
	l.t.Helper()
	l.in(a, func() {
		l.must(netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b),
		}))
	})
}

func (l *lab) configure(ns netns.NsHandle, name string, addrs ...string) {
	l.t.Helper()
	l.in(ns, func() {
		link, err := netlink.LinkByName(name)
		l.must(err)
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a)
			l.must(err)
			addr.Flags = unix.IFA_F_NODAD
			l.must(netlink.AddrAdd(link, addr))
		}
		l.must(netlink.LinkSetUp(link))
	})
}

func (l *lab) route(ns netns.NsHandle, to, via string, table int) {
	l.t.Helper()
	l.in(ns, func() {
		_, dst, err := net.ParseCIDR(to)
		l.must(err)
		l.must(netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via), Table: table}))
	})
}

// serve answers on the internet: TCP and UDP echo on a few ports of every address.
func (l *lab) serve() {
	l.in(l.internet, func() {
		for _, port := range []int{portEcho, 53, 80, 443, 853} {
			ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			l.must(err)
			go echoTCP(ln)
			for _, a := range serverAddrs {
				pc, err := net.ListenPacket("udp", fmt.Sprintf("%s:%d", a, port))
				l.must(err)
				go echoUDP(pc)
			}
		}
	})
}

func echoTCP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() { defer c.Close(); io.Copy(c, c) }()
	}
}

func echoUDP(pc net.PacketConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		pc.WriteTo(b[:n], from)
	}
}

// patience bounds every wait; nothing depends on how long something takes.
const patience = 10 * time.Second

// dial connects from an address of a namespace.
func (l *lab) dial(ns netns.NsHandle, network, from, to string, control ...func(fd int) error) (c net.Conn, err error) {
	l.in(ns, func() {
		d := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			raw.Control(func(fd uintptr) {
				for _, f := range control {
					err = errors.Join(err, f(int(fd)))
				}
			})
			return err
		}}
		if from != "" {
			ip := netip.MustParseAddr(from)
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
			if network[:3] == "udp" {
				d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
			}
		}
		c, err = d.Dial(network, to)
	})
	return c, err
}

// ask sends a word and reads it back: nil when the far end answered.
func ask(c net.Conn) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	b := make([]byte, 16)
	_, err := c.Read(b)
	return err
}

// try connects and asks once.
func (l *lab) try(ns netns.NsHandle, network, from, to string, control ...func(fd int) error) error {
	c, err := l.dial(ns, network, from, to, control...)
	if err != nil {
		return err
	}
	defer c.Close()
	return ask(c)
}

func withMark(n int) func(int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, n) }
}

func hostPort(addr string, port int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port)).String()
}

// capture records every IP packet that comes in on an interface.
type capture struct {
	mu      sync.Mutex
	packets []tuple
	changed chan struct{}
}

func (l *lab) capture(ns netns.NsHandle, name string) *capture {
	c := &capture{changed: make(chan struct{}, 1)}
	l.in(ns, func() {
		link, err := netlink.LinkByName(name)
		l.must(err)
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		l.must(err)
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
		l.must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index}))
		go func() {
			b := make([]byte, 2048)
			for {
				n, from, err := unix.Recvfrom(fd, b, 0)
				if err != nil {
					return
				}
				if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
					continue
				}
				if t, ok := parseHeader(b[:n]); ok && !discovery(b[:n], t) { // neighbour discovery
					c.mu.Lock()
					c.packets = append(c.packets, t)
					c.mu.Unlock()
					select {
					case c.changed <- struct{}{}:
					default:
					}
				}
			}
		}()
	})
	return c
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// to counts the packets to an address.
func (c *capture) to(addr string) int {
	dst := netip.MustParseAddr(addr)
	return c.count(func(p tuple) bool { return p.dst.Addr() == dst })
}

// carrying counts the packets of a protocol to an address and port. Unlike to, it does
// not see what is left of another flow to that address: a last ACK may come any time.
func (c *capture) carrying(proto policy.Proto, dst netip.AddrPort) int {
	return c.count(func(p tuple) bool { return p.proto == proto && p.dst == dst })
}

func (c *capture) count(match func(tuple) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, p := range c.packets {
		if match(p) {
			n++
		}
	}
	return n
}

func (c *capture) find(match func(tuple) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.packets, match)
}

// settle returns once everything that was sent before has arrived or never will: a
// packet that is permitted went the same way behind it.
func (l *lab) settle() {
	l.t.Helper()
	c, err := l.dial(l.agent, "udp", addrAgent, hostPort("198.51.100.2", portEcho))
	l.must(err)
	defer c.Close()
	l.must(ask(c))
	port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	deadline := time.After(patience)
	for !l.wire.find(func(t tuple) bool { return t.src.Port() == port }) {
		select {
		case <-l.wire.changed:
		case <-deadline:
			l.t.Fatal("the marker never arrived")
		}
	}
}

// labConfig and labTable permit 198.51.100.0/24 on every protocol and port, and
// hand 10.30.0.0/16 to the enforcer on 8443.
func labConfig() Config {
	return Config{
		Agents: prefixList([]string{"10.20.1.0/24"}), DNS: netip.MustParseAddrPort(addrGateway + ":53"),
		Upstreams: []netip.AddrPort{netip.MustParseAddrPort("8.8.8.8:53")},
	}
}

func labTable() *policy.KernelTable {
	all := rangeList([]string{"10.20.1.0/24"})
	permitted := rangeList([]string{"198.51.100.0/24"})
	return &policy.KernelTable{Classes: []policy.KernelClass{
		{Sources: all, Ports: []policy.PortRange{{Proto: policy.TCP, Lo: 8443, Hi: 8443}}, Enforce: rangeList([]string{"10.30.0.0/16"}), Forward: permitted},
		{Sources: all, Ports: []policy.PortRange{
			{Proto: policy.TCP, Lo: 1, Hi: 8442}, {Proto: policy.TCP, Lo: 8444, Hi: 65535},
			{Proto: policy.UDP, Lo: 1, Hi: 65535}, {Proto: policy.ICMP}, {Proto: policy.ProtoOther},
		}, Forward: permitted},
	}}
}

// open starts the gateway with the lab's table.
func (l *lab) open(cfg Config) *Table {
	l.t.Helper()
	table, err := Open(cfg)
	l.must(err)
	l.t.Cleanup(func() { table.Close() })
	l.must(table.Load(labTable()))
	l.must(table.Renew(time.Hour))
	return table
}

// enforcer is a transparent listener that answers with the address it was asked for.
func (l *lab) enforcer() net.Listener {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1) })
		return err
	}}
	ln, err := lc.Listen(l.t.Context(), "tcp4", "127.0.0.1:14433")
	l.must(err)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 64)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					fmt.Fprint(c, c.LocalAddr())
				}
			}()
		}
	}()
	return ln
}

// discovery reports whether a packet is ICMPv6 between neighbours.
func discovery(b []byte, t tuple) bool {
	return t.proto == 58 && (len(b) < 41 || b[40] >= 128)
}
