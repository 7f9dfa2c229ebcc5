package packet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestOneArm(t *testing.T)  { testTraffic(t, 1) }
func TestTwoArms(t *testing.T) { testTraffic(t, 2) }

// testTraffic sends what agents may and may not send. What is refused must be
// refused at once, with the right answer, and not reach the wire; beside it stands
// what differs in one thing and is permitted.
func testTraffic(t *testing.T, arms int) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, arms)
	l.enforcer()
	resolver(l)
	admin(l)
	table := l.open(labConfig())
	src := netip.MustParseAddr(addrAgent)
	admit(t, table, pin.GateKey{Src: src, Dst: netip.MustParseAddr(addrPinned), Proto: policy.TCP, Port: 443})

	refusedTCP, refusedUDP := error(unix.ECONNREFUSED), error(unix.EHOSTUNREACH)
	for _, c := range []struct {
		name, network, from, to string
		want                    error
	}{
		{"permitted TCP", "tcp", addrAgent, hostPort(addrPermit, portEcho), nil},
		{"other TCP", "tcp", addrAgent, hostPort(addrRefuse, portEcho), refusedTCP},
		{"permitted UDP", "udp", addrAgent, hostPort(addrPermit, portEcho), nil},
		{"other UDP", "udp", addrAgent, hostPort(addrRefuse, portEcho), refusedUDP},
		{"TCP 443", "tcp", addrAgent, hostPort(addrPermit, 443), nil},
		{"UDP 443", "udp", addrAgent, hostPort(addrPermit, 443), refusedUDP},
		{"TCP 853", "tcp", addrAgent, hostPort(addrPermit, 853), refusedTCP},
		{"UDP 853", "udp", addrAgent, hostPort(addrPermit, 853), refusedUDP},
		{"metadata", "tcp", addrAgent, "169.254.169.254:80", refusedTCP},
		{"wire server", "tcp", addrAgent, "168.63.129.16:80", refusedTCP},
		{"pinned", "tcp", addrAgent, hostPort(addrPinned, 443), nil},
		{"pinned, other port", "tcp", addrAgent, hostPort(addrPinned, 80), refusedTCP},
		{"pinned, UDP", "udp", addrAgent, hostPort(addrPinned, 443), refusedUDP},
		{"another agent's pin", "tcp", addrAgent2, hostPort(addrPinned, 443), refusedTCP},
		{"class for the enforcer", "tcp", addrAgent, hostPort(addrPrivate, 8443), nil},
		{"class for the enforcer, other port", "tcp", addrAgent, hostPort(addrPrivate, 443), refusedTCP},
		{"DNS to a resolver", "udp", addrAgent, "8.8.8.8:53", nil},
		{"DNS to a resolver over TCP", "tcp", addrAgent, "8.8.8.8:53", nil},
		{"DNS to the gateway", "udp", addrAgent, addrGateway + ":53", nil},
		{"DNS to the gateway over TCP", "tcp", addrAgent, addrGateway + ":53", nil},
		{"DNS to Azure", "udp", addrAgent, "168.63.129.16:53", nil},
		{"DNS to metadata", "udp", addrAgent, "169.254.169.254:53", nil},
		{"admin port", "tcp", addrAgent, addrGateway + ":9180", refusedTCP},
		{"enforcer's port", "tcp", addrAgent, addrGateway + ":14433", refusedTCP},
		{"IPv6", "tcp", v6Agent, net.JoinHostPort(v6Internet, "443"), refusedTCP},
		{"IPv6 UDP", "udp", v6Agent, net.JoinHostPort(v6Internet, "7000"), unix.EACCES},
	} {
		t.Run(c.name, func(t *testing.T) {
			proto, to := policy.TCP, netip.MustParseAddrPort(c.to)
			if c.network == "udp" {
				proto = policy.UDP
			}
			before := l.wire.carrying(proto, to)
			err := l.try(l.agent, c.network, c.from, c.to)
			if c.want == nil && err != nil || !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			l.settle()
			forwarded := c.want == nil && to.Addr().String() == addrPermit
			if n := l.wire.carrying(proto, to) - before; !forwarded && n != 0 {
				t.Errorf("%d packets to %s reached the wire", n, to)
			}
		})
	}

	t.Run("the admin port is open to others", func(t *testing.T) {
		if err := l.try(l.internet, "tcp", "", addrGateway+":9180"); err != nil {
			t.Error(err)
		}
	})
	t.Run("forwarded flows show the gateway", func(t *testing.T) {
		if l.wire.find(func(p tuple) bool { return p.src.Addr() == src }) {
			t.Error("an agent's address reached the internet")
		}
	})
	t.Run("nobody from outside reaches an agent", func(t *testing.T) {
		if arms == 1 {
			return // the fabric delivers to agents without us
		}
		if err := l.try(l.internet, "tcp", "192.168.9.2", hostPort(addrAgent, 4000)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a stranger gets no answer, which somebody else might be", func(t *testing.T) {
		back := l.capture(l.agent, "eth0")
		for _, to := range []string{hostPort(addrPermit, portEcho), addrGateway + ":53"} {
			c, err := l.dial(l.agent, "udp", addrStranger, to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte("carry this")); err != nil {
				t.Fatal(err)
			}
		}
		l.settle()
		if n := back.to(addrStranger); n > 0 {
			t.Errorf("%d answers", n)
		}
		if l.wire.find(func(p tuple) bool { return p.src.Addr() == netip.MustParseAddr(addrStranger) }) {
			t.Error("it came out")
		}
	})
}

func TestRawPackets(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 2)
	l.open(labConfig())
	payload := []byte("0123456789abcdef")
	for _, c := range []struct {
		name   string
		packet func(dst string) [][]byte
		leaks  string // where it may go
		never  string
	}{
		{"ICMP", func(dst string) [][]byte {
			return [][]byte{ipv4(addrAgent, dst, 1, 0, echoRequest())}
		}, addrPermit, addrRefuse},
		{"GRE", func(dst string) [][]byte {
			return [][]byte{ipv4(addrAgent, dst, 47, 0, append([]byte{0, 0, 8, 0}, payload...))}
		}, addrPermit, addrRefuse},
		{"UDP", func(dst string) [][]byte {
			return [][]byte{ipv4(addrAgent, dst, 17, 0, udp(4000, portEcho, payload))}
		}, addrPermit, addrRefuse},
		{"forged source", func(dst string) [][]byte {
			return [][]byte{ipv4("172.31.0.9", dst, 17, 0, udp(4000, portEcho, payload))}
		}, "", addrPermit},
		{"a source of the gateway's", func(dst string) [][]byte {
			return [][]byte{ipv4(addrGateway, dst, 17, 0, udp(4000, portEcho, payload))}
		}, "", addrPermit},
		{"fragments", func(dst string) [][]byte {
			whole := udp(4000, portEcho, make([]byte, 32))
			return [][]byte{ipv4(addrAgent, dst, 17, 0x2000, whole[:24]), ipv4(addrAgent, dst, 17, 3, whole[24:])}
		}, "", addrPermit},
		{"a last fragment alone", func(dst string) [][]byte {
			return [][]byte{ipv4(addrAgent, dst, 17, 3, payload)}
		}, "", addrPermit},
		{"a first segment without SYN", func(dst string) [][]byte {
			return [][]byte{ipv4(addrAgent, dst, 6, 0, tcp(4000, portEcho, 0x10))}
		}, "", addrRefuse},
		{"SYN and FIN", func(dst string) [][]byte {
			return [][]byte{ipv4(addrAgent, dst, 6, 0, tcp(4001, portEcho, 0x03))}
		}, "", addrRefuse},
	} {
		t.Run(c.name, func(t *testing.T) {
			for dst, want := range map[string]bool{c.leaks: true, c.never: false} {
				if dst == "" {
					continue
				}
				before := l.wire.to(dst)
				for _, p := range c.packet(dst) {
					l.inject(l.agent, p)
				}
				l.settle()
				if got := l.wire.to(dst) > before; got != want {
					t.Errorf("to %s: on the wire %v, want %v", dst, got, want)
				}
			}
		})
	}
	t.Run("an agent's address from the internet", func(t *testing.T) {
		at := l.capture(l.fabric, "gw")
		l.inject(l.internet, ipv4(addrAgent, addrBehind, 17, 0, udp(4000, portEcho, payload)))
		l.inject(l.agent, ipv4(addrAgent, addrBehind, 17, 0, udp(4001, portEcho, payload)))
		l.settle()
		forged, own := 0, 0
		for _, p := range at.packets {
			switch p.dst.Addr().String() + " " + p.src.Addr().String() {
			case addrBehind + " " + addrAgent:
				forged++
			case addrBehind + " " + addrGateway:
				own++
			}
		}
		if forged > 0 || own == 0 {
			t.Errorf("forwarded %d forged packets, and %d of the agent's own", forged, own)
		}
	})
}

// TestGate admits, revokes and lets lapse.
func TestGate(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	ln := l.enforcer()
	table := l.open(labConfig())
	key := pin.GateKey{Src: netip.MustParseAddr(addrAgent), Dst: netip.MustParseAddr(addrPinned), Proto: policy.TCP, Port: 443}
	to := hostPort(addrPinned, 443)
	open := func(from string) error { return l.try(l.agent, "tcp", from, to) }

	if err := open(addrAgent); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("before: %v", err)
	}
	admit(t, table, key, key) // twice in one call
	admit(t, table, key)      // and again
	live, err := l.dial(l.agent, "tcp", addrAgent, to)
	if err != nil || ask(live) != nil {
		t.Fatalf("admitted: %v", err)
	}
	if err := table.Load(&policy.KernelTable{}); err != nil {
		t.Fatal(err)
	}
	if err := open(addrAgent); err != nil {
		t.Fatalf("after a reload: %v", err)
	}
	if err := table.Load(labTable()); err != nil {
		t.Fatal(err)
	}
	if err := table.Revoke(t.Context(), []pin.GateKey{key}); err != nil {
		t.Fatal(err)
	}
	if err := table.Revoke(t.Context(), []pin.GateKey{key}); err != nil {
		t.Fatalf("revoked twice: %v", err)
	}
	if err := open(addrAgent); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("revoked: %v", err)
	}
	if err := ask(live); err != nil {
		t.Fatalf("a live flow keeps itself alive: %v", err)
	}

	shared := key
	shared.Src = netip.Addr{}
	admit(t, table, shared)
	for _, from := range []string{addrAgent, addrAgent2} {
		if err := open(from); err != nil {
			t.Fatalf("shared, from %s: %v", from, err)
		}
	}
	if err := table.Admit(t.Context(), []pin.GateKey{shared}, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); open(addrAgent) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("a key never lapses")
		}
	}

	admit(t, table, key)
	ln.Close()
	if err := open(addrAgent); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("without the enforcer: %v", err)
	}
	l.settle()
	if n := l.wire.to(addrPinned); n != 0 {
		t.Errorf("%d packets reached the wire", n)
	}
	if err := table.Admit(t.Context(), []pin.GateKey{{Dst: netip.MustParseAddr("2001:db8::1")}}, time.Minute); err == nil {
		t.Error("IPv6 was admitted")
	}
	table.Close()
	if err := table.Admit(t.Context(), []pin.GateKey{key}, time.Minute); !errors.Is(err, errClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestOwnEgress holds the gateway itself to its few destinations.
func TestOwnEgress(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	cfg := labConfig()
	cfg.Egress = prefixList([]string{"203.0.113.0/24"})
	table := l.open(cfg)
	mark := withMark(EnforcerMark)
	for _, c := range []struct {
		name, network, to string
		control           []func(int) error
		ok                bool
	}{
		{"unmarked", "tcp", hostPort(addrPermit, portEcho), nil, false},
		{"marked", "tcp", hostPort(addrPermit, portEcho), []func(int) error{mark}, true},
		{"marked UDP", "udp", hostPort(addrPermit, portEcho), []func(int) error{mark}, false},
		{"upstream", "udp", "8.8.8.8:53", nil, true},
		{"upstream TCP", "tcp", "8.8.8.8:53", nil, true},
		{"upstream, other port", "udp", hostPort("8.8.8.8", portEcho), nil, false},
		{"configured", "tcp", hostPort(addrRefuse, portEcho), nil, true},
		{"Azure's agent", "tcp", "168.63.129.16:80", nil, true},
		{"identity", "tcp", "169.254.169.254:80", nil, true},
		{"identity, for an agent", "tcp", "169.254.169.254:80", []func(int) error{mark}, false},
		{"ourselves, for an agent", "tcp", addrGateway + ":22", []func(int) error{mark}, false},
		{"IPv6", "tcp", net.JoinHostPort(v6Internet, "443"), nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := l.try(l.gateway, c.network, "", c.to, c.control...); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
	service := netip.MustParseAddrPort(hostPort(addrRefuse, portEcho))
	if err := table.SetEgress(prefixList([]string{"198.51.100.1/32"}), []netip.AddrPort{netip.AddrPortFrom(service.Addr(), 443)}); err != nil {
		t.Fatal(err)
	}
	if err := table.Load(labTable()); err != nil { // and it stays
		t.Fatal(err)
	}
	if err := l.try(l.gateway, "tcp", "", hostPort(addrPermit, portEcho)); err != nil {
		t.Errorf("new egress: %v", err)
	}
	if err := l.try(l.gateway, "tcp", "", hostPort(addrRefuse, portEcho)); err == nil {
		t.Error("old egress is still open, or a service opens other ports of its address")
	}
	if err := table.SetEgress(nil, []netip.AddrPort{service}); err != nil {
		t.Fatal(err)
	}
	if err := l.try(l.gateway, "tcp", "", service.String()); err != nil {
		t.Errorf("a service: %v", err)
	}
	if err := l.try(l.gateway, "udp", "", service.String()); err == nil {
		t.Error("a service opens UDP too")
	}
}

func TestSNATInternet(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 2)
	cfg := labConfig()
	cfg.SNAT = SNATInternet
	table := l.open(cfg)
	kernel := labTable()
	for i := range kernel.Classes {
		kernel.Classes[i].Forward = append(rangeList([]string{"10.30.0.0/16"}), kernel.Classes[i].Forward...)
	}
	if err := table.Load(kernel); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{addrPrivate: addrAgent, addrPermit: addrGateway} {
		if err := l.try(l.agent, "tcp", addrAgent, hostPort(to, portEcho)); err != nil {
			t.Errorf("%s: %v", to, err)
		}
		l.settle()
		if !l.wire.find(func(p tuple) bool { return p.dst.Addr().String() == to && p.src.Addr().String() == want }) {
			t.Errorf("%s did not see %s", to, want)
		}
	}
	// The enforcer dials with the agent's address, and gets the replies.
	transparent := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1) }
	err := l.try(l.gateway, "tcp", addrAgent, hostPort(addrPrivate, 80), transparent, withMark(EnforcerMark))
	if err != nil {
		t.Errorf("dialling as the agent: %v", err)
	}
}

func admit(t *testing.T, table *Table, keys ...pin.GateKey) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := table.Admit(ctx, keys, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// resolver answers on the gateway's port 53.
func resolver(l *lab) {
	ln, err := net.Listen("tcp", addrGateway+":53")
	l.must(err)
	pc, err := net.ListenPacket("udp", addrGateway+":53")
	l.must(err)
	go echoTCP(ln)
	go echoUDP(pc)
}

// admin listens where agents must not reach it.
func admin(l *lab) {
	ln, err := net.Listen("tcp", ":9180")
	l.must(err)
	go echoTCP(ln)
}
