package chaos

import (
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// TestKilled ends the process at once, and by a fatal signal as a fault of its own code
// would, and starts it again. Agents that do not resolve again go on.
func TestKilled(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGABRT} {
		t.Run(sig.String(), func(t *testing.T) {
			s := open(t, lab.Options{})
			s.must(s.tool())
			s.must(s.infra())
			spliced, err := s.pinned(s.invoice, lab.GitHub)
			s.must(err)
			forwarded, err := s.infraConn()
			s.must(err)
			s.must(exchange(forwarded))
			s.savedPins()

			s.must(s.Process.Signal(sig))
			s.eventually("the process ends", func() bool { return s.Process.PID() == 0 })
			if err := exchange(spliced); err == nil {
				t.Error("a spliced flow lives without the gateway")
			}
			s.must(exchange(forwarded)) // what the kernel forwards goes on
			if err := s.tool(); err == nil {
				t.Error("names resolve without a resolver")
			}
			if _, err := s.pinned(s.invoice, lab.GitHub); err == nil {
				t.Error("a pinned address is reached without the gateway")
			}
			s.fails("a new forwarded flow, which nobody would write down,", s.infra)

			began := time.Now()
			s.must(s.Process.Start(s.ctx))
			up := time.Since(began)
			c, err := s.pinned(s.invoice, lab.GitHub)
			s.must(err)
			figure(t, "ready again after %v, first permitted flow of an agent that did not resolve again after %v",
				up.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
			s.must(exchange(c))
			s.must(exchange(forwarded))
			s.works("a new forwarded flow", s.infra)
			s.must(s.tool())
			c.Close()
			forwarded.Close()
			s.close()
		})
	}
}

// savedPins waits until the pins are on disk, as a crash needs them.
func (s *stage) savedPins() {
	s.t.Helper()
	s.eventually("pins on disk", func() bool {
		data, _ := os.ReadFile(s.Paths.Dir + "/state/pins")
		return strings.Contains(string(data), lab.ToolName)
	})
}

// TestDrain: SIGTERM lets a long download finish, refuses what is new, and ends well.
func TestDrain(t *testing.T) {
	s := open(t, lab.Options{})
	s.must(s.tool())
	client := s.invoice.HTTPClient(s.Lab)
	client.Timeout = time.Minute
	const size = 32 << 20
	resp, err := client.Get("https://" + lab.ToolName + "/bytes?n=33554432")
	s.must(err)
	defer resp.Body.Close()
	s.must(s.Process.Signal(syscall.SIGTERM))
	s.eventually("not ready while draining", func() bool { return s.ready() != http.StatusOK })
	s.fails("a new flow while draining", func() error {
		c, err := s.pinned(s.invoice, lab.GitHub)
		if err == nil {
			c.Close()
		}
		return err
	})
	s.fails("a new forwarded flow while draining", s.infra)
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
		t.Fatalf("the download ended after %d bytes: %v", n, err)
	}
	s.must(s.Process.Stop(s.ctx)) // 0, or an error
	s.must(s.Process.Start(s.ctx))
	c, err := s.pinned(s.invoice, lab.GitHub)
	if err != nil {
		t.Fatalf("the pin did not outlive the restart: %v", err)
	}
	c.Close()
	s.close()
}
