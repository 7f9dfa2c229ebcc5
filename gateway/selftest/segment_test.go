package selftest

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// TestPackets checks made packets with another parser, and by the rule that a correct
// checksum makes the sum over everything zero (RFC 1071).
func TestPackets(t *testing.T) {
	src, dst := netip.MustParseAddr("10.20.1.3"), netip.MustParseAddrPort("169.254.169.254:80")
	for name, p := range map[string][]byte{
		"tcp":     segment(src, dst, 40001, 1000, 0, flagSYN),
		"udp":     datagram(src, dst, 40001, []byte("even")),
		"udp odd": datagram(src, dst, 40001, []byte("odd")),
	} {
		h, err := ipv4.ParseHeader(p)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if h.TotalLen != len(p) || h.Src.String() != "10.20.1.3" || h.Dst.String() != "169.254.169.254" {
			t.Errorf("%s: %v", name, h)
		}
		proto, body := payload(p)
		if int(proto) != h.Protocol || !bytes.Equal(body, p[20:]) {
			t.Errorf("%s: payload %d %x", name, proto, body)
		}
		if checksum(p[:20], 0) != 0 || checksum(body, pseudo(src, dst.Addr(), proto, len(body))) != 0 {
			t.Errorf("%s: a checksum is wrong", name)
		}
	}
	if proto, _ := payload(segment(src, dst, 1, 1, 1, flagACK)); proto != unix.IPPROTO_TCP {
		t.Errorf("protocol %d", proto)
	}
}

func TestSource(t *testing.T) {
	got, err := Source([]netip.Prefix{netip.MustParsePrefix("10.20.1.7/32"), netip.MustParsePrefix("10.20.2.0/27")})
	if err != nil || got.String() != "10.20.2.3" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Source([]netip.Prefix{netip.MustParsePrefix("10.20.1.7/32")}); err == nil {
		t.Error("took an address that may be an agent's")
	}
}

func FuzzPayload(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20})
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, body := payload(p); len(body) > len(p) {
			t.Error("made up bytes")
		}
	})
}
