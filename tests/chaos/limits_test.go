package chaos

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// dialMany opens connections of a host to a pinned address that say nothing, until one
// fails or n are open.
func (s *stage) dialMany(h *lab.Host, n int) (conns []net.Conn) {
	for range n {
		ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
		conn, err := h.Dial(ctx, "tcp", netip.AddrPortFrom(lab.GitHub, 443).String())
		cancel()
		if err != nil {
			break
		}
		conns = append(conns, conn)
	}
	return conns
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// used is what the gateway's process holds: descriptors, and KiB of memory.
func (s *stage) used() (fds, rss int) {
	s.t.Helper()
	dir := fmt.Sprintf("/proc/%d", s.Process.PID())
	list, err := os.ReadDir(dir + "/fd")
	s.must(err)
	f, err := os.Open(dir + "/status")
	s.must(err)
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), "VmRSS:"); ok {
			rss, _ = strconv.Atoi(strings.Fields(v)[0])
		}
	}
	return len(list), rss
}

// TestOutOfDescriptors takes the descriptors away while agents connect.
func TestOutOfDescriptors(t *testing.T) {
	s := open(t, lab.Options{})
	s.must(s.tool())
	s.must(s.get(s.research, "https://"+lab.ToolName+"/"))
	pid := s.Process.PID()
	fds, _ := s.used()
	var old unix.Rlimit
	s.must(unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old))
	s.must(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(fds + 16), Max: old.Max}, nil))
	conns := s.dialMany(s.research, 200)
	s.fails("a tool call without descriptors", s.tool)
	s.must(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil))
	closeAll(conns)
	s.works("a tool call", s.tool)
	s.works("a forwarded flow", s.infra)
	s.eventually("ready", func() bool { return s.ready() == http.StatusOK })
	if s.Process.PID() != pid {
		t.Error("it is another process")
	}
	s.close()
}

// TestOutOfMemory takes the address space away: the process ends, which closes
// everything, and another takes over.
func TestOutOfMemory(t *testing.T) {
	s := open(t, lab.Options{})
	s.must(s.tool())
	s.must(s.get(s.research, "https://"+lab.ToolName+"/"))
	s.savedPins()
	pid := s.Process.PID()
	s.must(unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: 1 << 20, Max: unix.RLIM_INFINITY}, nil))
	var held []net.Conn
	for range 20 { // each round costs the gateway memory, until there is none
		if s.Process.PID() == 0 {
			break
		}
		held = append(held, s.dialMany(s.research, 100)...)
		s.tool()
	}
	closeAll(held)
	outcome := "it got by with what it had"
	if s.Process.PID() == 0 {
		outcome = "it ended"
		if err := s.tool(); err == nil {
			t.Error("a tool call without a gateway")
		}
	} else {
		s.Process.Kill()
	}
	figure(t, "out of memory: %s", outcome)
	s.must(s.Process.Start(s.ctx))
	c, err := s.pinned(s.invoice, lab.GitHub)
	s.must(err)
	c.Close()
	s.works("a forwarded flow", s.infra)
	s.close()
}

// TestOneSource: one agent takes all that it may have, in several ways. Another works
// throughout, and what the first took comes back.
func TestOneSource(t *testing.T) {
	const most = 60
	s := open(t, lab.Options{Configure: func(c map[string]any) { c["limits"] = map[string]any{"flowsPerSource": most, "helloTimeout": "2s"} }})
	s.must(s.get(s.research, "https://"+lab.ToolName+"/"))
	s.works("a tool call", s.tool)
	before, _ := s.used()
	faults(4) // five below
	other := func(t *testing.T) {
		t.Helper()
		if err := s.tool(); err != nil {
			t.Errorf("another agent: %v", err)
		}
		if status := s.ready(); status != http.StatusOK {
			t.Errorf("/readyz: %d", status)
		}
	}
	back := func() {
		s.eventually("descriptors are back", func() bool { fds, _ := s.used(); return fds <= before+8 })
	}
	t.Run("at its flow limit", func(t *testing.T) {
		var held []net.Conn
		defer func() { closeAll(held) }()
		for range 2 * most {
			c, err := s.pinned(s.research, lab.GitHub)
			if err != nil {
				break
			}
			held = append(held, c)
		}
		if len(held) == 0 || len(held) > most {
			t.Errorf("%d flows of one source, of %d", len(held), most)
		}
		other(t)
	})
	back()
	t.Run("opens and abandons", func(t *testing.T) {
		n := 0
		for range 40 {
			conns := s.dialMany(s.research, 50)
			n += len(conns)
			closeAll(conns)
		}
		figure(t, "%d connections opened and abandoned", n)
		other(t)
	})
	back()
	t.Run("silent", func(t *testing.T) {
		conns := s.dialMany(s.research, most)
		defer closeAll(conns)
		other(t)
	})
	back()
	t.Run("slow readers", func(t *testing.T) {
		_, rss := s.used()
		var held []net.Conn
		defer func() { closeAll(held) }()
		for range 30 {
			c, err := s.pinned(s.research, lab.GitHub)
			if err != nil {
				break
			}
			held = append(held, c)
			io.WriteString(c, "GET /bytes?n=100000000 HTTP/1.1\r\nHost: "+lab.ToolName+"\r\n\r\n")
		}
		other(t)
		_, now := s.used()
		figure(t, "%d readers that do not read cost the process %d KiB", len(held), now-rss)
	})
	back()
	t.Run("half-open", func(t *testing.T) {
		n, err := s.synFlood(s.research, lab.GitHub, 5000)
		if err != nil {
			t.Fatal(err)
		}
		figure(t, "%d half-open connections", n)
		other(t)
	})
	s.close()
}

// TestReload measures the longest stall of a new connection while the ruleset changes
// and many flows are live. BULKHEAD_CHAOS_FLOWS says how many.
func TestReload(t *testing.T) {
	want := 1000
	if v, err := strconv.Atoi(os.Getenv("BULKHEAD_CHAOS_FLOWS")); err == nil {
		want = v
	}
	s := open(t, lab.Options{Configure: func(c map[string]any) {
		c["limits"] = map[string]any{"flowsPerSource": want + 100, "flows": 2*want + 200}
	}})
	s.must(s.tool())
	s.must(s.get(s.research, "https://"+lab.ToolName+"/"))
	var live []*tls.Conn
	for len(live) < want {
		h := s.invoice
		if len(live)%2 == 1 {
			h = s.research
		}
		c, err := s.pinned(h, lab.GitHub)
		if err != nil {
			t.Fatalf("flow %d: %v", len(live), err)
		}
		s.must(exchange(c)) // the origin gives a connection that has asked for nothing 10 s
		c.SetDeadline(time.Time{})
		live = append(live, c)
	}
	stall := func(during func()) (longest time.Duration, n int) {
		done := make(chan struct{})
		go func() { during(); close(done) }()
		for {
			begin := time.Now()
			c, err := s.pinned(s.invoice, lab.GitHub2)
			if err != nil {
				t.Errorf("a new connection: %v", err)
				return longest, n
			}
			c.Close()
			n++
			longest = max(longest, time.Since(begin))
			select {
			case <-done:
				return longest, n
			default:
			}
		}
	}
	digest := func() string {
		resp, err := s.Process.Admin(s.ctx, "/readyz")
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		_, after, _ := strings.Cut(string(body), `"digest":"`)
		return after[:min(len(after), 20)]
	}
	reload := func(i int) {
		before := digest()
		s.must(s.WriteRuleset(strings.Replace(lab.Ruleset, "name: deny-east-west, ", fmt.Sprintf("name: deny-east-west-%d, ", i), 1)))
		for digest() == before && s.ctx.Err() == nil {
		}
	}
	quiet, _ := stall(func() {
		for range 20 {
			digest()
		}
	})
	longest, n := stall(func() {
		for i := range 5 {
			reload(i)
		}
	})
	lived := 0
	for _, c := range live {
		if exchange(c) == nil {
			lived++
		}
		c.Close()
	}
	figure(t, "%d live flows, 5 reloads: longest stall of %d new connections %v (without reloads %v), flows that lived on %d",
		len(live), n, longest.Round(time.Millisecond), quiet.Round(time.Millisecond), lived)
	if lived != len(live) {
		t.Errorf("%d of %d permitted flows lived on", lived, len(live))
	}
	s.close()
}
