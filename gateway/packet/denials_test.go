package packet

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestDenials: each cause is told at once, with its tuple; repeats as a count.
func TestDenials(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 2)
	cfg := labConfig()
	cfg.FlowsPerSource = 2
	table := l.open(cfg)
	got := make(chan Denial, 1024)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- table.Denials(ctx, func(d Denial) {
			select {
			case got <- d:
			case <-ctx.Done():
			}
		})
	}()
	// Wait for the reader: packets refused before it came are only counted.
	for port, heard := uint16(20000), false; !heard; port++ {
		l.inject(l.agent, ipv4(addrAgent, addrRefuse, 17, 0, udp(4000, port, nil)))
		select {
		case <-got:
			heard = true
		case err := <-done:
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	expect := func(want Denial) Denial {
		t.Helper()
		for deadline := time.After(patience); ; {
			select {
			case d := <-got:
				if d.Cause == want.Cause && d.Dst == want.Dst && d.Src.Addr() == want.Src.Addr() && d.Proto == want.Proto && d.Repeat == want.Repeat {
					return d
				}
			case <-deadline:
				t.Errorf("never told: %+v", want)
				return Denial{}
			}
		}
	}
	tell := func(src, dst string, port uint16, proto policy.Proto, cause Cause) Denial {
		t.Helper()
		return expect(Denial{
			Src: netip.AddrPortFrom(netip.MustParseAddr(src), 0), Dst: netip.AddrPortFrom(netip.MustParseAddr(dst), port),
			Proto: proto, Cause: cause,
		})
	}
	admit(t, table, pin.GateKey{Src: netip.MustParseAddr(addrAgent), Dst: netip.MustParseAddr(addrPinned), Proto: policy.TCP, Port: 443})

	l.try(l.agent, "tcp", addrAgent, hostPort(addrRefuse, portEcho))
	if d := tell(addrAgent, addrRefuse, portEcho, policy.TCP, CauseDefault); d.Src.Port() == 0 || d.Count != 1 {
		t.Errorf("%+v", d)
	}
	l.try(l.agent, "udp", addrAgent, hostPort(addrPermit, 443))
	tell(addrAgent, addrPermit, 443, policy.UDP, CauseQUIC)
	l.try(l.agent, "tcp", addrAgent, "169.254.169.254:80")
	tell(addrAgent, "169.254.169.254", 80, policy.TCP, CauseInvariant)
	l.inject(l.agent, ipv4(addrAgent, addrPermit, 17, 0x2000, udp(1, 2, make([]byte, 16))))
	tell(addrAgent, addrPermit, 2, policy.UDP, CauseFragment)
	l.inject(l.agent, ipv4(addrAgent, addrRefuse, 47, 0, []byte{0, 0, 8, 0}))
	tell(addrAgent, addrRefuse, 0, policy.GRE, CauseDefault)
	l.try(l.agent, "tcp", addrStranger, hostPort(addrPermit, portEcho))
	tell(addrStranger, addrPermit, portEcho, policy.TCP, CauseSpoof)
	l.inject(l.internet, ipv4(addrAgent, addrBehind, 17, 0, udp(9, 9, nil)))
	tell(addrAgent, addrBehind, 9, policy.UDP, CauseSpoof)
	l.try(l.agent, "tcp", v6Agent, "["+v6Internet+"]:443")
	tell(v6Agent, v6Internet, 443, policy.TCP, CauseIPv6)
	l.try(l.agent, "tcp", addrAgent, hostPort(addrPinned, 443))
	tell(addrAgent, addrPinned, 443, policy.TCP, CauseNotReady)
	l.try(l.gateway, "tcp", "", hostPort(addrRefuse, portEcho))
	tell(addrGateway, addrRefuse, portEcho, policy.TCP, CauseEgress)
	for range 3 {
		c, err := l.dial(l.agent, "tcp", addrAgent2, hostPort(addrPermit, portEcho))
		if err == nil {
			defer c.Close()
		}
	}
	tell(addrAgent2, addrPermit, portEcho, policy.TCP, CauseOverload)

	// Repeats: one message, then exact counts.
	const n = 500
	for range n {
		l.inject(l.agent, ipv4(addrAgent, addrRefuse, 17, 0, udp(4000, 99, nil)))
	}
	tell(addrAgent, addrRefuse, 99, policy.UDP, CauseDefault)
	total := 1
	for total < n {
		total += expect(Denial{
			Src: netip.MustParseAddrPort(addrAgent + ":0"), Dst: netip.MustParseAddrPort(addrRefuse + ":99"),
			Proto: policy.UDP, Cause: CauseDefault, Repeat: true,
		}).Count
	}
	if total != n {
		t.Errorf("%d told of %d", total, n)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestSweepingSource: a source that tries many destinations is held to a rate, and what
// is not told one by one is counted.
func TestSweepingSource(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	table := l.open(labConfig())
	const n = 4000
	for port := range n {
		l.inject(l.agent, ipv4(addrAgent, addrRefuse, 17, 0, udp(4000, uint16(port+10000), nil)))
	}
	l.settle()
	told, unlogged := 0, 0
	r := &denialReader{seen: map[deniedKey]int{}, f: func(d Denial) {
		if told += d.Count; !d.Dst.IsValid() {
			unlogged += d.Count
		}
	}}
	_ = table
	if err := r.count(); err != nil {
		t.Fatal(err)
	}
	if told != n || unlogged == 0 {
		t.Errorf("told of %d of %d, of these %d without their destination", told, n, unlogged)
	}
}

// TestProbe names what is missing, and leaves nothing behind.
func TestProbe(t *testing.T) {
	if !namespaced(t) {
		return
	}
	if err := Probe(); err != nil {
		t.Fatal(err)
	}
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	if tables, err := c.ListTables(); err != nil || len(tables) > 0 {
		t.Errorf("left behind: %v, %v", tables, err)
	}
	// A user namespace of its own has every capability, and none over this network.
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestPowerless$", "-test.v")
	cmd.Env = append(os.Environ(), powerless+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CAP_NET_ADMIN is missing") {
		t.Errorf("without capabilities: %v\n%s", err, out)
	}
}

const powerless = "BULKHEAD_PACKET_POWERLESS"

// TestPowerless is the other half of TestProbe.
func TestPowerless(t *testing.T) {
	if os.Getenv(powerless) == "" {
		return
	}
	if _, err := Open(labConfig()); err != nil {
		t.Log(err)
	}
}

// TestCounted: only what came since is passed on; a counter that is lower than before began anew.
func TestCounted(t *testing.T) {
	var got []int
	r := &denialReader{seen: map[deniedKey]int{}, f: func(d Denial) { got = append(got, d.Count) }}
	key := deniedKey{src: netip.MustParseAddr(addrAgent), cause: CauseDefault}
	for _, n := range []int{3, 3, 8, 2} {
		r.counted(map[deniedKey]int{key: n})
	}
	r.counted(nil)
	r.counted(map[deniedKey]int{key: 1})
	if !slices.Equal(got, []int{3, 5, 2, 1}) {
		t.Errorf("passed on %v", got)
	}
}
