package chaos

import (
	"errors"
	"net/http"
	"os"
	"strings"
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
	noticed := s.unready()
	s.fails("a tool call without the route to the enforcer", func() error {
		// The self-test may come at any moment and put the route back before the call: then it is
		// taken away again.
		s.must(machine.Do(unroute))
		return s.tool()
	})
	// It is back as soon as it was missed, so this is looked up where it stays.
	s.eventually("the self-test notices", func() bool { return s.unready() > noticed })
	s.works("a tool call", s.tool)
	s.eventually("ready", func() bool { return s.ready() == http.StatusOK })
	s.close()
}

// unroute takes away the routing rule that leads intercepted packets to the enforcer.
func unroute() error {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Mark, rule.Table = unix.AF_INET, 4248, 0x42482, 4248
	if err := netlink.RuleDel(rule); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// unready counts how often the gateway has said that it is not ready.
func (s *stage) unready() int {
	log, err := os.ReadFile(s.Paths.Log)
	s.must(err)
	return strings.Count(string(log), ": not ready:")
}
