package packet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestReloadUnderTraffic swaps programs while refused packets flood in: none may
// leak, and what both programs permit must never be refused.
func TestReloadUnderTraffic(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	table := l.open(labConfig())
	live, err := l.dial(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	flood, err := l.dial(l.agent, "udp", addrAgent, hostPort(addrRefuse, portEcho))
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for ctx.Err() == nil {
			flood.Write([]byte("leak"))
			sent.Add(1)
		}
	}()
	a, b := labTable(), labTable()
	b.Classes = b.Classes[1:]
	for i := range 20 {
		if err := table.Load([]*policy.KernelTable{a, b}[i%2]); err != nil {
			t.Fatal(err)
		}
		if err := l.try(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho)); err != nil {
			t.Errorf("reload %d: a permitted flow: %v", i, err)
		}
		if err := ask(live); err != nil {
			t.Fatalf("reload %d: the live flow: %v", i, err)
		}
	}
	stop()
	<-flooded
	l.settle()
	if n := l.wire.to(addrRefuse); n != 0 {
		t.Errorf("%d of %d packets leaked", n, sent.Load())
	}
	t.Logf("20 reloads, %d refused packets, none leaked", sent.Load())
}

// TestKilled starts a gateway in a process of its own, kills it while it reloads, and
// sees what is left in the kernel.
func TestKilled(t *testing.T) {
	const env = "BULKHEAD_PACKET_VICTIM"
	if os.Getenv(env) != "" {
		victim(t)
		return
	}
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), env+"=1")
	ready, err := cmd.StdoutPipe()
	l.must(err)
	l.must(cmd.Start())
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the victim never came up: %v", err)
	}
	to := hostPort(addrPinned, 443)
	enforced, err := l.dial(l.agent, "tcp", addrAgent, to)
	l.must(err)
	l.must(ask(enforced))
	forwarded, err := l.dial(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho))
	l.must(err)
	l.must(cmd.Process.Kill())
	cmd.Wait()

	for i := range 2 { // and what the next process does about it changes nothing of this
		if err := ask(forwarded); err != nil {
			t.Errorf("a forwarded flow ended: %v", err)
		}
		if err := l.try(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho)); err != nil {
			t.Errorf("a new forwarded flow: %v", err)
		}
		if err := ask(enforced); err == nil {
			t.Error("the enforced flow lives without the enforcer")
		}
		if err := l.try(l.agent, "tcp", addrAgent, to); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a new enforced flow: %v", err)
		}
		if err := l.try(l.agent, "udp", addrAgent, "8.8.8.8:53"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("DNS: %v", err)
		}
		if err := l.try(l.agent, "tcp", addrAgent, hostPort(addrRefuse, portEcho)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a refused flow: %v", err)
		}
		if i == 0 {
			table, err := Open(labConfig())
			l.must(err)
			defer table.Close()
		}
	}
	l.enforcer()
	if err := l.try(l.agent, "tcp", addrAgent, to); err != nil {
		t.Errorf("the gate did not survive: %v", err)
	}
	l.settle()
	if l.wire.to(addrPinned)+l.wire.to(addrRefuse)+l.wire.to("8.8.8.8") > 0 {
		t.Error("packets leaked")
	}

	if err := Lockdown(labConfig()); err != nil {
		t.Fatal(err)
	}
	if err := ask(forwarded); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("locked down: a forwarded flow: %v", err)
	}
	for _, to := range []string{to, hostPort(addrPermit, portEcho)} {
		if err := l.try(l.agent, "tcp", addrAgent, to); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("locked down: %s: %v", to, err)
		}
	}
}

// victim is a gateway that reloads until it is killed.
func victim(t *testing.T) {
	table, err := Open(labConfig())
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t}
	l.enforcer()
	resolver(l)
	if err := table.Load(labTable()); err != nil {
		t.Fatal(err)
	}
	if err := table.Renew(time.Hour); err != nil {
		t.Fatal(err)
	}
	admit(t, table, pin.GateKey{Src: netip.MustParseAddr(addrAgent), Dst: netip.MustParseAddr(addrPinned), Proto: policy.TCP, Port: 443})
	os.Stdout.Write([]byte("!"))
	for {
		if err := table.Load(labTable()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSweep ends what a new table no longer permits, and only that.
func TestSweep(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	table := l.open(labConfig())
	flows := make(chan Flow, 64)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- table.Flows(ctx, func(f Flow) { flows <- f }) }()
	// The listener is there once an event arrives.
	for opened := false; !opened; {
		if err := l.try(l.agent, "udp", addrAgent, hostPort("198.51.100.2", portEcho)); err != nil {
			t.Fatal(err)
		}
		select {
		case f := <-flows:
			opened = f.Event == FlowOpened
		default:
		}
	}
	keep, err := l.dial(l.agent, "tcp", addrAgent, hostPort("198.51.100.2", portEcho))
	l.must(err)
	end, err := l.dial(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho))
	l.must(err)
	for _, c := range []net.Conn{keep, end} {
		l.must(ask(c))
	}

	next := labTable()
	for i := range next.Classes {
		next.Classes[i].Forward = rangeList([]string{"198.51.100.2/32"})
	}
	l.must(table.Load(next))
	if err := ask(end); err != nil {
		t.Errorf("the reload itself ended a flow: %v", err)
	}
	n, err := table.Sweep(t.Context(), func(c Conn) bool { return c.Dst.Addr().String() != addrPermit })
	if err != nil || n != 1 {
		t.Fatalf("swept %d, %v; want 1", n, err)
	}
	if err := ask(keep); err != nil {
		t.Errorf("a kept flow: %v", err)
	}
	if err := ask(end); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a withdrawn flow: %v", err)
	}
	local := end.LocalAddr().(*net.TCPAddr).AddrPort()
	for deadline := time.After(patience); ; {
		select {
		case f := <-flows:
			if f.Event != FlowClosed || f.Src != local {
				continue
			}
			// Three segments of opening, two questions and answers: no less than
			// headers and words.
			if f.Dst.String() != hostPort(addrPermit, portEcho) || f.Proto != policy.TCP || f.BytesOut < 200 || f.BytesIn < 150 || f.Duration <= 0 {
				t.Errorf("the end: %+v", f)
			}
		case <-deadline:
			t.Fatal("the end of the flow was not told")
		}
		break
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
