package packet

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestParseHeader(t *testing.T) {
	ported := ipv4(addrAgent, addrRefuse, 17, 0, udp(4000, 53, nil))
	optioned := append([]byte{0x46}, ported[1:20]...)
	optioned = append(append(optioned, 1, 1, 1, 1), ported[20:]...)
	six := append([]byte{0x60, 0, 0, 0, 0, 8, 17, 64}, make([]byte, 32)...)
	six = append(six, 0x0f, 0xa0, 0, 53, 0, 8, 0, 0)
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"UDP", ported, "10.20.1.10:4000 203.0.113.1:53 udp"},
		{"options", optioned, "10.20.1.10:4000 203.0.113.1:53 udp"},
		{"cut before the ports", ported[:23], "10.20.1.10:0 203.0.113.1:0 udp"},
		{"cut in the header", ported[:19], ""},
		{"a header shorter than can be", append([]byte{0x44}, ported[1:]...), ""},
		{"a header longer than the packet", append([]byte{0x4f}, ported[1:]...), "10.20.1.10:0 203.0.113.1:0 udp"},
		{"a later fragment", ipv4(addrAgent, addrRefuse, 17, 1, udp(1, 2, nil)), "10.20.1.10:0 203.0.113.1:0 udp"},
		{"ICMP", ipv4(addrAgent, addrRefuse, 1, 0, echoRequest()), "10.20.1.10:0 203.0.113.1:0 icmp"},
		{"IPv6", six, "[::]:4000 [::]:53 udp"},
		{"IPv6, cut", six[:39], ""},
		{"neither", []byte{0x10}, ""},
		{"nothing", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if p, ok := parseHeader(c.in); ok {
				got = p.src.String() + " " + p.dst.String() + " " + p.proto.String()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(ipv4(addrAgent, addrRefuse, 17, 0, udp(4000, 53, nil)))
	f.Add(ipv4(addrAgent, addrRefuse, 6, 0x2000, tcp(1, 2, 2)))
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 8, 17, 64}, make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := parseHeader(b); ok && (!p.src.IsValid() || !p.dst.IsValid() || p.src.Addr().BitLen() != p.dst.Addr().BitLen()) {
			t.Errorf("%v", p)
		}
	})
}

// FuzzMessages gives the kernel's messages to both readers.
func FuzzMessages(f *testing.F) {
	log, _ := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: nfulaMark, Data: binary.BigEndian.AppendUint32(nil, CauseQUIC.mark())},
		{Type: nfulaPayload, Data: ipv4(addrAgent, addrRefuse, 17, 0, udp(4000, 443, nil))},
	})
	f.Add(append(nfgenmsg(2, logGroup), log...))
	f.Add(trackedMessage())
	f.Add(datagram(ctMsgNew, ctMsgDelete))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, ok := parseLog(b); ok && (d.Count != 1 || !d.Src.IsValid() || d.Cause == 0) {
			t.Errorf("%+v", d)
		}
		if e, ok := parseTracked(b); ok && (!e.conn.Src.Addr().Is4() || e.duration() < 0) {
			t.Errorf("%+v", e)
		}
		eachMessage(b, func(kind uint16, data []byte) {
			if flow, ok := parseFlow(kind, data); ok && (flow.Event == FlowsLost || !flow.Src.IsValid()) {
				t.Errorf("%+v", flow)
			}
		})
		for _, set := range []string{setDenied, setDeniedNoPorts, setUnlogged, setUnloggedOther} {
			parseDenied(set, b)
		}
	})
}

// trackedMessage is a DESTROY event of Linux 6.18, as it came.
func trackedMessage() []byte {
	b, _ := hex.DecodeString("02000000" +
		"34000180" + "14000180" + "080001000a14010a" + "08000200c6336401" +
		"1c000280" + "0500010006000000" + "060002009c400000" + "060003001b580000" +
		"0800080000042483" +
		"1c000980" + "0c00010000000000" + "00000007" + "0c00020000000000" + "00000180")
	return b
}

func TestParseTracked(t *testing.T) {
	e, ok := parseTracked(trackedMessage())
	want := Conn{netip.MustParseAddrPort("10.20.1.10:40000"), netip.MustParseAddrPort("198.51.100.1:7000"), policy.TCP}
	if !ok || e.conn != want || e.mark != 0x42483 || e.bytesOut != 384 {
		t.Errorf("%v %+v", ok, e)
	}
}

// datagram is a message of each kind about the same connection, as read from a socket.
func datagram(kinds ...uint16) []byte {
	var b []byte
	for _, kind := range kinds {
		data := trackedMessage()
		b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(data)))
		b = binary.NativeEndian.AppendUint16(b, unix.NFNL_SUBSYS_CTNETLINK<<8|kind)
		b = append(append(b, make([]byte, 10)...), data...)
	}
	return b
}

func TestEachMessage(t *testing.T) {
	two := datagram(ctMsgNew, ctMsgDelete)
	lying := slices.Clone(two)
	binary.NativeEndian.PutUint32(lying, uint32(len(lying)+1))
	short := slices.Clone(two)
	binary.NativeEndian.PutUint32(short, unix.NLMSG_HDRLEN-1)
	for _, c := range []struct {
		name string
		in   []byte
		want []FlowEvent
	}{
		{"two", two, []FlowEvent{FlowOpened, FlowClosed}},
		{"another kind", datagram(ctMsgGet), nil},
		{"the second is cut", two[:len(two)-1], []FlowEvent{FlowOpened}},
		{"longer than the datagram", lying, nil},
		{"shorter than a header", short, nil},
		{"nothing", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []FlowEvent
			eachMessage(c.in, func(kind uint16, data []byte) {
				if flow, ok := parseFlow(kind, data); ok {
					got = append(got, flow.Event)
				}
			})
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	read := func() { eachMessage(two, func(kind uint16, data []byte) { parseFlow(kind, data) }) }
	if n := testing.AllocsPerRun(100, read); n > 0 {
		t.Errorf("%v allocations for two events", n)
	}
}

func TestMerge(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.0/25 10.0.0.128/25":             "10.0.0.0/24",
		"10.0.0.9-10.0.0.20 10.0.0.1-10.0.0.10": "10.0.0.1-10.0.0.20",
		"255.255.255.255/32 128.0.0.0/1":        "128.0.0.0/1",
		"0.0.0.0/0 1.1.1.1/32":                  "0.0.0.0/0",
		"1.1.1.1/32 1.1.1.3/32":                 "1.1.1.1 1.1.1.3",
	} {
		got := ""
		for i, r := range merge(rangeList(strings.Fields(in))) {
			if i > 0 {
				got += " "
			}
			got += rangeText(r)
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

// TestPrivateIsNotInternet holds the list to the one definition of the internet.
func TestPrivateIsNotInternet(t *testing.T) {
	for _, r := range private {
		if policy.IsInternet(r.From) || policy.IsInternet(r.To) {
			t.Errorf("%v", r)
		}
	}
}
