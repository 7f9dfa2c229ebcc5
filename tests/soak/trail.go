package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// trace is what an event and what an agent did have in common.
type trace struct {
	class    audit.Class
	proto    policy.Proto
	src, dst netip.AddrPort
	name     string
}

func (t trace) String() string {
	return fmt.Sprintf("class %d %s %s to %s %s", t.class, t.proto, t.src, t.dst, t.name)
}

// traceOf is the beginning of a flow that an agent has open.
func traceOf(conn net.Conn) trace {
	t := trace{class: audit.NetworkActivity, proto: policy.TCP}
	switch conn.(type) {
	case *net.UDPConn:
		t.proto = policy.UDP
	}
	t.src, t.dst = netip.MustParseAddrPort(conn.LocalAddr().String()), netip.MustParseAddrPort(conn.RemoteAddr().String())
	return t
}

// trail compares the audit with what agents did. Ports are used again, so it counts.
type trail struct {
	glob string

	mu       sync.Mutex
	offsets  map[uint64]int64 // what was read of each file, by inode: files are renamed
	wanted   map[trace]int    // calls that succeeded and have no event yet
	opened   map[trace]int    // events that no call is known for yet
	refused  map[trace]int    // refusals, without the source's port
	asked    map[trace]bool   // questions that have had an event
	expected int              // calls that succeeded
	forgiven int              // repeated questions whose count was lost, as it may be
	events   int
}

func newTrail(live string) *trail {
	return &trail{glob: filepath.Join(filepath.Dir(live), "audit*.jsonl"), offsets: map[uint64]int64{},
		wanted: map[trace]int{}, opened: map[trace]int{}, refused: map[trace]int{}, asked: map[trace]bool{}}
}

// expect says that something was permitted and happened.
func (t *trail) expect(want trace) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expected++
	meet(t.opened, t.wanted, want)
}

// meet takes k from one side if it is there, else adds it to the other.
func meet(from, to map[trace]int, k trace) {
	switch from[k] {
	case 0:
		to[k]++
	case 1:
		delete(from, k)
	default:
		from[k]--
	}
}

// killed forgives the questions that the gateway had only counted: the audit promises the
// first of those that are alike, and that a crash costs the counts of one window at most.
func (t *trail) killed() error {
	if err := t.read(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, n := range t.wanted {
		if t.asked[k] {
			t.forgiven += n
			delete(t.wanted, k)
		}
	}
	return nil
}

// missing lists what has no event: few, and how many.
func (t *trail) missing() (some []trace, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, count := range t.wanted {
		n += count
		if len(some) < 5 {
			some = append(some, k)
		}
	}
	return some, n
}

func (t *trail) files() ([]string, error) {
	files, err := filepath.Glob(t.glob)
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no file %s", t.glob)
	}
	return files, err
}

// read reads the events that are new. A line that is being written is left for later.
func (t *trail) read() error {
	files, err := t.files()
	if err != nil {
		return err
	}
	for _, path := range files {
		if err := t.readFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func (t *trail) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	inode := info.Sys().(*syscall.Stat_t).Ino
	if _, err := f.Seek(t.offsets[inode], io.SeekStart); err != nil {
		return err
	}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var e audit.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("at byte %d: %w", t.offsets[inode], err)
		}
		t.offsets[inode] += int64(len(line))
		t.noteLocked(&e)
	}
}

func (t *trail) noteLocked(e *audit.Event) {
	t.events++
	const allowed, denied = 1, 2
	k := trace{class: e.ClassUID, src: endpoint(e.SrcEndpoint)}
	if e.Query != nil {
		k.src, k.name = netip.AddrPortFrom(k.src.Addr(), 0), e.Query.Hostname
	} else if e.ConnectionInfo != nil {
		k.dst, k.proto = endpoint(e.DstEndpoint), policy.Proto(e.ConnectionInfo.ProtocolNum)
	}
	switch {
	case e.ActionID == allowed && e.ActivityID == int(audit.Open) || e.ActionID == allowed && e.ClassUID != audit.NetworkActivity && e.HTTPResponse == nil:
		if e.Query != nil {
			t.asked[k] = true
		}
		for range max(e.Count, 1) {
			meet(t.wanted, t.opened, k)
		}
	case e.ActionID == denied:
		k.class, k.src = 0, netip.AddrPortFrom(k.src.Addr(), 0)
		t.refused[k] += max(e.Count, 1)
	}
}

func endpoint(e *audit.Endpoint) netip.AddrPort {
	if e == nil {
		return netip.AddrPort{}
	}
	a, _ := netip.ParseAddr(e.IP) // a question has no destination
	return netip.AddrPortFrom(a, e.Port)
}

// verify holds the whole log to what calls have seen.
func (s *soak) verify() {
	if some, n := s.trail.missing(); n > 0 {
		s.violation("%d of %d permitted calls have no event, such as %v", n, s.trail.expected, some)
	}
	for _, c := range s.calls {
		for _, h := range s.agents {
			k := c.refusal
			k.src = netip.AddrPortFrom(h.Addr, 0)
			if c.forbidden && s.trail.refused[k] == 0 {
				s.violation("no refusal of %s for %s is in the audit", c.name, h.Name)
			}
		}
	}
	files, err := s.trail.files()
	if err != nil {
		s.violation("the audit: %v", err)
		return
	}
	report, err := audit.Verify(files...)
	if err != nil || report.Broken {
		s.violation("the audit does not verify: %v %v", err, report.Breaks)
	}
}
