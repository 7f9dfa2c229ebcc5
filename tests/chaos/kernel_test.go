package chaos

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// TestProgramFlushed: somebody flushes nftables under the gateway's feet, and later its
// routing rules. Nothing leaks, it is noticed, put back and written down.
func TestProgramFlushed(t *testing.T) {
	s := open(t, lab.Options{})
	machine := s.Host(lab.Gateway)
	s.must(s.tool())
	s.must(s.infra())
	for range 5 {
		s.must(machine.Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			c.FlushRuleset()
			return c.Flush()
		}))
	}
	_, err := s.WaitEvent(s.ctx, func(e *audit.Event) bool {
		return e.ClassUID == audit.DetectionFinding && e.Message != "" && e.FirewallRule != nil
	})
	s.must(err)
	s.works("a tool call", s.tool)
	s.works("a forwarded flow", s.infra)
	c, err := s.pinned(s.invoice, lab.GitHub)
	s.must(err) // the pins are in the gate again
	c.Close()

	faults(1)
	s.must(machine.Do(func() error {
		rule := netlink.NewRule()
		rule.Family, rule.Priority, rule.Mark, rule.Table = unix.AF_INET, 4248, 0x42482, 4248
		return netlink.RuleDel(rule)
	}))
	s.fails("a tool call without the route to the enforcer", s.tool)
	s.eventually("the self-test notices", func() bool { return s.ready() == http.StatusServiceUnavailable })
	s.works("a tool call", s.tool)
	s.eventually("ready", func() bool { return s.ready() == http.StatusOK })
	s.close()
}

// TestConntrackFull: the kernel has no room for more connections.
func TestConntrackFull(t *testing.T) {
	s := open(t, lab.Options{})
	machine := s.Host(lab.Gateway)
	s.must(s.tool())
	const most = "net/netfilter/nf_conntrack_max"
	if err := machine.Sysctl(most, "40"); err != nil {
		faults(-1)
		t.Skipf("this kernel keeps the size of the table for the machine as a whole: %v", err)
	}
	failed := 0
	for range 60 {
		conn, err := s.infraConn()
		if err != nil {
			if failed++; failed > 2 {
				break
			}
			continue
		}
		defer conn.Close()
	}
	if failed == 0 {
		t.Error("the table is never full")
	}
	if s.Process.PID() == 0 {
		t.Error("the gateway ended")
	}
	s.must(machine.Sysctl(most, fmt.Sprint(1<<16)))
	s.works("a tool call", s.tool)
	s.works("a forwarded flow", s.infra)
	s.eventually("ready", func() bool { return s.ready() == http.StatusOK })
	s.close()
}
