package chaos

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// smallDisk is a gateway whose audit is on a file system of a few MiB, in its own mount
// namespace: a script that mounts it before it becomes the gateway.
func smallDisk(t *testing.T) (opt lab.Options, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "audit")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "bulkhead")
	text := fmt.Sprintf("#!/bin/sh\nset -e\ngrep -q ' %[1]s ' /proc/mounts || mount -t tmpfs -o size=40m none %[1]s\nexec %[2]s \"$@\"\n", dir, gateway)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return lab.Options{Gateway: script, Configure: func(c map[string]any) {
		c["audit"] = map[string]any{"file": filepath.Join(dir, "audit.jsonl")}
	}}, dir
}

// TestAuditFull fills the audit's disk. What is permitted stops before an event is lost, the
// ends of what was permitted are still written, and all goes on when there is
// room. Meanwhile /readyz says why not; systemd's watchdog is fed, because a restart makes no room.
func TestAuditFull(t *testing.T) {
	manager := newManager(t)
	opt, dir := smallDisk(t)
	s := open(t, opt)
	inside := fmt.Sprintf("/proc/%d/root%s", s.Process.PID(), dir)
	s.Paths.Audit = filepath.Join(inside, "audit.jsonl")
	manager.wait(s, "READY=1")
	manager.wait(s, "WATCHDOG=1")
	s.must(s.tool())
	s.must(s.infra())
	live, err := s.infraConn()
	s.must(err)
	s.must(exchange(live))
	download, err := s.invoice.HTTPClient(s.Lab).Get("https://" + lab.ToolName + "/bytes?n=4000000")
	s.must(err)

	filler, err := os.Create(filepath.Join(inside, "filler"))
	s.must(err)
	if _, err := io.Copy(filler, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	filler.Close()
	s.fails("a tool call on a full disk", s.tool)
	s.fails("a forwarded flow on a full disk", s.infra)
	if status := s.ready(); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d on a full disk", status)
	}
	manager.wait(s, "STATUS=not ready: audit: ")
	if n, err := io.Copy(io.Discard, download.Body); err != nil || n != 4000000 {
		t.Errorf("a download that was permitted before ended after %d bytes: %v", n, err)
	}
	download.Body.Close()
	s.must(exchange(live))
	live.Close()
	_, err = s.WaitEvent(s.ctx, func(e *audit.Event) bool {
		return e.ActivityID == int(audit.Close) && e.Traffic != nil && e.Traffic.BytesIn >= 4000000
	})
	s.must(err)
	manager.wait(s, "WATCHDOG=1")

	s.must(os.Remove(filepath.Join(inside, "filler")))
	s.works("a tool call", s.tool)
	s.works("a forwarded flow", s.infra)
	s.eventually("ready again", func() bool { return s.ready() == http.StatusOK })
	manager.wait(s, "WATCHDOG=1")

	s.stopAgent()
	events, err := s.Events()
	s.must(err)
	var notices []audit.NoticeKind
	for _, e := range events {
		if e.Unmapped.Notice != "" {
			notices = append(notices, e.Unmapped.Notice)
		}
	}
	if !slices.Equal(notices, []audit.NoticeKind{audit.DiskFull, audit.SpaceReturned}) {
		t.Errorf("the log says of itself %v", notices)
	}
	s.must(s.copyAudit(inside))
	s.close()
}

// copyAudit takes the log out of the gateway's file system before the process, through
// which it is seen, ends.
func (s *stage) copyAudit(inside string) error {
	// The last events come at the stop; a second gateway process shows them.
	if err := s.Process.Stop(s.ctx); err != nil {
		return err
	}
	if err := s.Process.Start(s.ctx); err != nil {
		return err
	}
	pid := fmt.Sprintf("/proc/%d/root", s.Process.PID())
	_, rest, _ := strings.Cut(inside, "/root")
	data, err := os.ReadFile(filepath.Join(pid+rest, "audit.jsonl"))
	if err != nil {
		return err
	}
	s.Paths.Audit = filepath.Join(s.t.TempDir(), "audit.jsonl")
	return os.WriteFile(s.Paths.Audit, data, 0o644)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// manager is systemd's end of sd_notify.
type manager struct {
	conn *net.UnixConn
	mu   sync.Mutex
	got  []string
	news chan struct{}
}

// newManager listens, and has the gateways that are started from now on tell it.
func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "400000")
	m := &manager{conn: conn, news: make(chan struct{}, 1)}
	go m.run()
	return m
}

func (m *manager) run() {
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.got = append(m.got, strings.Split(strings.TrimSpace(string(buf[:n])), "\n")...)
		m.mu.Unlock()
		select {
		case m.news <- struct{}{}:
		default:
		}
	}
}

// wait waits for a line that begins so, and forgets what came up to it.
func (m *manager) wait(s *stage, line string) {
	s.t.Helper()
	for {
		m.mu.Lock()
		i := slices.IndexFunc(m.got, func(g string) bool { return strings.HasPrefix(g, line) })
		if i >= 0 {
			m.got = m.got[i+1:]
		}
		m.mu.Unlock()
		if i >= 0 {
			return
		}
		select {
		case <-m.news:
		case <-time.After(patience):
			s.t.Fatalf("systemd never heard %s", line)
		}
	}
}
