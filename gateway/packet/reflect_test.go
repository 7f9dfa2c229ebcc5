package packet

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReflection: an agent that forges its source would have whatever answers it send
// the packet, or a part of it, to whom it likes. So nothing answers.
func TestReflection(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	l.open(labConfig())
	admin(l)
	secret := []byte("a secret to carry out...")
	short := ipv4(addrRefuse, addrPermit, 17, 0, udp(7, portEcho, secret))
	short[8] = 2 // the fabric takes one
	binary.BigEndian.PutUint16(short[10:], 0)
	binary.BigEndian.PutUint16(short[10:], checksum(short[:20]))
	for _, c := range []struct {
		name   string
		packet []byte
	}{
		{"refused datagram", ipv4(addrRefuse, addrPermit, 17, 0, udp(7, portEcho, secret))},
		{"refused segment", ipv4(addrRefuse, addrPermit, 6, 0, tcp(7, portEcho, 2))},
		{"no time to live", short},
		{"ping of the gateway", ipv4(addrRefuse, addrGateway, 1, 0, echoRequest())},
		{"a closed port of the gateway", ipv4(addrRefuse, addrGateway, 17, 0, udp(7, 7, secret))},
		{"the resolver", ipv4(addrRefuse, addrGateway, 17, 0, udp(7, 53, secret))},
		{"a protocol that nobody speaks", ipv4(addrRefuse, addrGateway, 253, 0, secret)},
		{"an agent's neighbour", ipv4(addrRefuse, addrAgent2, 17, 0, udp(7, 7, secret))},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := l.wire.to(addrRefuse)
			l.inject(l.agent, c.packet)
			l.settle()
			if l.wire.to(addrRefuse) > before {
				t.Error("answered to the forged source")
			}
		})
	}
	t.Run("IPv6", func(t *testing.T) {
		src, dst := netip.MustParseAddr(v6Internet).As16(), netip.MustParseAddr("2001:db8:2::2").As16()
		p := append([]byte{0x60, 0, 0, 0, 0, byte(8 + len(secret)), 253, 64}, src[:]...)
		p = append(append(p, dst[:]...), udp(7, 7, secret)...)
		l.in(l.agent, func() {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			l.must(err)
			defer unix.Close(fd)
			l.must(unix.Sendto(fd, p, 0, &unix.SockaddrInet6{Addr: dst}))
		})
		l.settle()
		if l.wire.to(v6Internet) > 0 {
			t.Error("answered to the forged source")
		}
	})
}
