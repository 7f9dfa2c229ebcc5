package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// clock is a time that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// disk is a file that fails when told to.
type disk struct {
	file
	faults *faults
}

type faults struct {
	mu  sync.Mutex
	now fault
}

type fault struct {
	write    error
	short    int // bytes that a failing write leaves behind
	truncate error
	sync     error
	hold     chan struct{} // writes wait until it is closed
}

func (f *faults) set(change func(*fault)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.now)
}

func (f *faults) get() fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (d *disk) Write(b []byte) (int, error) {
	now := d.faults.get()
	if now.hold != nil {
		<-now.hold
	}
	if now.write != nil {
		n, _ := d.file.Write(b[:min(now.short, len(b))])
		return n, now.write
	}
	return d.file.Write(b)
}

func (d *disk) Truncate(n int64) error {
	if err := d.faults.get().truncate; err != nil {
		return err
	}
	return d.file.Truncate(n)
}

func (d *disk) Sync() error {
	if err := d.faults.get().sync; err != nil {
		return err
	}
	return d.file.Sync()
}

// testLog is a log whose clock, disk and housekeeping the test drives.
type testLog struct {
	*Log
	t      *testing.T
	opts   Options
	path   string
	clock  *clock
	faults *faults
}

func newTestLog(t *testing.T, change func(*Options)) *testLog {
	t.Helper()
	dir := t.TempDir()
	c, f := &clock{now: testTime}, &faults{}
	opts := Options{
		File: filepath.Join(dir, "log", "audit.jsonl"), State: filepath.Join(dir, "state"), Version: "1.2.3",
		Now: c.Now, manual: true,
		open: func(path string) (file, error) {
			real, err := openFile(path)
			return &disk{real, f}, err
		},
	}
	if change != nil {
		change(&opts)
	}
	l := &testLog{t: t, opts: opts, path: opts.File, clock: c, faults: f}
	l.reopen()
	t.Cleanup(func() { l.Close() })
	return l
}

func (l *testLog) reopen() {
	l.t.Helper()
	log, err := New(l.opts)
	if err != nil {
		l.t.Fatal(err)
	}
	l.Log = log
}

// crash ends the log as a kill would: nothing more is written.
func (l *testLog) crash() {
	close(l.stop)
	<-l.gone
	l.writer.f.Close()
	l.lock.Close()
	l.once.Do(func() {})
}

func (l *testLog) record(recs ...Record) {
	l.t.Helper()
	for _, rec := range recs {
		if err := l.Record(rec); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *testLog) close() {
	l.t.Helper()
	if err := l.Close(); err != nil {
		l.t.Fatal(err)
	}
}

func (l *testLog) events() []Event {
	l.t.Helper()
	return readEvents(l.t, l.path)
}

func readEvents(t *testing.T, path string) []Event {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []Event
	for s := bufio.NewScanner(f); s.Scan(); {
		var e Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// decisions leaves out what the log says about itself.
func decisions(all []Event) []Event {
	var out []Event
	for _, e := range all {
		if e.Unmapped.Stage != StageCheckpoint && e.Unmapped.Stage != StageLog {
			out = append(out, e)
		}
	}
	return out
}

func notices(all []Event) (kinds []NoticeKind) {
	for _, e := range all {
		if e.Unmapped.Notice != "" {
			kinds = append(kinds, e.Unmapped.Notice)
		}
	}
	return kinds
}

func mustVerify(t *testing.T, files ...string) Report {
	t.Helper()
	r, err := Verify(files...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Broken {
		t.Fatalf("broken: %v", r.Breaks)
	}
	return r
}

func permit(port uint16) Record {
	return Record{
		Class: NetworkActivity, Activity: Open, Proto: policy.TCP, Host: "api.github.com",
		Src: netip.AddrPortFrom(netip.MustParseAddr("10.20.1.4"), port), Dst: netip.MustParseAddrPort("140.82.121.6:443"),
		Decision: policy.Decision{Verdict: policy.Permit, Rule: "allow", Mode: policy.ModeEnforce, Stage: policy.StageName, Reason: policy.ReasonRule, Log: true},
	}
}

func deny(src string, port uint16) Record {
	return Record{
		Class: NetworkActivity, Activity: Refuse, Proto: policy.TCP,
		Src: netip.AddrPortFrom(netip.MustParseAddr(src), 40000), Dst: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), port),
		Decision: policy.Decision{Verdict: policy.Deny, Rule: "default", Mode: policy.ModeEnforce, Stage: policy.StagePacket, Reason: policy.ReasonDefault, Log: true},
	}
}

func TestLogWholeFromFirstToLast(t *testing.T) {
	l := newTestLog(t, nil)
	for i := range 10 {
		l.record(permit(uint16(i + 1)))
	}
	if err := l.Healthy(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, l.path) // while it is being written
	l.close()
	r := mustVerify(t, l.path)
	if r.Events != 12 || r.First != 1 || r.Last != 12 || r.Checkpoints != 2 || r.Unsigned != 0 || len(r.Warnings) != 0 {
		t.Errorf("report: %+v", r)
	}
	if _, err := VerifyTrusting(l.Fingerprint(), l.path); err != nil {
		t.Error(err)
	}
	if r, _ := VerifyTrusting("SHA256:somebody-else", l.path); !r.Broken {
		t.Error("a log signed with another key passes for the trusted one's")
	}
	if err := l.Record(permit(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Record after Close: %v", err)
	}
	info, err := os.Stat(filepath.Join(l.opts.State, keyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", info.Mode(), err)
	}
}

func TestConcurrentRecordsAreAllWritten(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.MaxBytes = 64 << 10; o.manual = false })
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				if err := l.Record(permit(uint16(g*1000 + i + 1))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l.close()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(l.path), "*.jsonl"))
	if err != nil || len(files) < 3 {
		t.Fatalf("rotation left %v, %v", files, err)
	}
	r := mustVerify(t, files...)
	seen := map[uint16]bool{}
	for _, f := range r.Files {
		all := readEvents(t, f)
		if all[0].Unmapped.Checkpoint == nil || all[0].Unmapped.Checkpoint.Kind != Opening {
			t.Errorf("%s does not begin with a checkpoint", f)
		}
		for _, e := range decisions(all) {
			seen[e.SrcEndpoint.Port] = true
		}
	}
	if len(seen) != 1600 {
		t.Errorf("%d of 1600 events are in the files", len(seen))
	}
	if _, err := os.Stat(l.path); err != nil {
		t.Error(err)
	}
}

func TestRestart(t *testing.T) {
	l := newTestLog(t, nil)
	l.record(permit(1))
	l.close()
	l.reopen()
	l.record(permit(2))
	l.crash()
	l.reopen()
	l.record(permit(3))
	l.close()
	r := mustVerify(t, l.path)
	if r.Events != 8 || len(r.Keys) != 1 {
		t.Errorf("report: %+v", r)
	}
}

func TestSecondWriterIsRefused(t *testing.T) {
	l := newTestLog(t, nil)
	if _, err := New(l.opts); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second writer: %v", err)
	}
}

func TestTornTailIsMovedAside(t *testing.T) {
	l := newTestLog(t, nil)
	l.record(permit(1), permit(2))
	l.crash()
	appendTo(t, l.path, `{"action_id":1,"activ`)
	if r := mustVerify(t, l.path); len(r.Warnings) != 1 {
		t.Errorf("a torn end: %+v", r)
	}
	l.reopen()
	l.record(permit(3))
	l.close()
	mustVerify(t, l.path)
	if got := notices(l.events()); len(got) != 1 || got[0] != TornTail {
		t.Errorf("notices: %v", got)
	}
	if data, _ := os.ReadFile(l.path + ".torn"); string(data) != `{"action_id":1,"activ`+"\n" {
		t.Errorf("moved aside: %q", data)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// TestLossAtRestStaysVisible: what is done to the files while the gateway is down is
// seen by Verify before and after the next start, and said in the log.
func TestLossAtRestStaysVisible(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, path string)
		before bool // whether the files alone show it, before the restart
		notice NoticeKind
	}{
		{"end cut", func(t *testing.T, path string) { rewrite(t, path, func(l []string) []string { return l[:3] }) }, true, CutTail},
		{"file emptied", func(t *testing.T, path string) { rewrite(t, path, func([]string) []string { return nil }) }, true, CutTail},
		{"file deleted", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, false, CutTail},
		{"last line is garbage", func(t *testing.T, path string) { appendTo(t, path, "garbage\n") }, true, DamagedTail},
		{"head file forged", func(t *testing.T, path string) {
			data, _ := os.ReadFile(path + ".head")
			data = []byte(strings.Replace(string(data), `"seq_at":6`, `"seq_at":3`, 1))
			if err := os.WriteFile(path+".head", data, 0o600); err != nil {
				t.Fatal(err)
			}
		}, true, BadHead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newTestLog(t, nil)
			l.record(permit(1), permit(2), permit(3), permit(4))
			l.close()
			tt.damage(t, l.path)
			if tt.before {
				if r, err := Verify(l.path); err != nil || !r.Broken {
					t.Errorf("before the restart: %+v, %v", r, err)
				}
			}
			l.reopen()
			l.record(permit(5))
			l.close()
			if got := notices(l.events2()); len(got) == 0 || got[0] != tt.notice {
				t.Errorf("notices: %v", got)
			}
			r, err := Verify(l.path)
			if err != nil {
				t.Fatal(err)
			}
			switch tt.notice {
			case BadHead: // nothing is missing from the log itself
			default:
				if !r.Broken && len(r.Warnings) == 0 {
					t.Errorf("after the restart nothing shows: %+v", r)
				}
			}
		})
	}
}

// events2 reads what can be read of a damaged log.
func (l *testLog) events2() (all []Event) {
	data, err := os.ReadFile(l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var e Event
		if json.Unmarshal([]byte(line), &e) == nil {
			all = append(all, e)
		}
	}
	return all
}

func rewrite(t *testing.T, path string, change func(lines []string) []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	if err := os.WriteFile(path, []byte(strings.Join(change(lines), "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDiskFull(t *testing.T) {
	for _, truncate := range []error{nil, syscall.EIO} {
		t.Run(fmt.Sprint("truncate ", truncate), func(t *testing.T) {
			l := newTestLog(t, nil)
			l.record(permit(1))
			l.faults.set(func(f *fault) { f.write, f.short, f.truncate = syscall.ENOSPC, 100, truncate })
			if err := l.Record(permit(2)); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("Record on a full disk: %v", err)
			}
			if err := l.Healthy(); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("Healthy on a full disk: %v", err)
			}
			// A denial is refused as well, and is not lost.
			if err := l.Record(deny("10.20.1.4", 22)); err == nil {
				t.Fatal("a denial on a full disk is acknowledged")
			}
			l.faults.set(func(f *fault) { f.write, f.truncate = nil, nil })
			if err := l.Record(permit(2)); !errors.Is(err, ErrFull) {
				t.Fatalf("Record before the reserve is there again: %v", err)
			}
			l.flush()
			l.record(permit(3))
			if err := l.Healthy(); err != nil {
				t.Fatal(err)
			}
			l.close()
			mustVerify(t, l.path)
			got := decisions(l.events())
			if len(got) != 3 || got[1].SrcEndpoint.Port != 3 || got[2].Count != 1 || got[2].DstEndpoint.Port != 22 {
				t.Errorf("events: %+v", got)
			}
		})
	}
}

func TestStalledDisk(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.Patience = time.Millisecond })
	hold := make(chan struct{})
	l.faults.set(func(f *fault) { f.hold = hold })
	for range 3 {
		if err := l.Record(permit(2)); !errors.Is(err, ErrStalled) {
			t.Fatalf("Record on a stalled disk: %v", err)
		}
	}
	if err := l.Healthy(); !errors.Is(err, ErrStalled) {
		t.Fatalf("Healthy on a stalled disk: %v", err)
	}
	l.faults.set(func(f *fault) { f.hold = nil })
	close(hold)
	l.crash() // waits until the writer has taken what there was
	mustVerify(t, l.path)
	// What the writer had not begun to write when its caller gave up is not written.
	if got := decisions(l.events()); len(got) > 1 {
		t.Errorf("%d events of refused callers", len(got))
	}
}

func TestDiskThatDoesNotKeep(t *testing.T) {
	l := newTestLog(t, nil)
	l.record(permit(1))
	l.faults.set(func(f *fault) { f.sync = syscall.EIO })
	if err := l.sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if err := l.Record(permit(2)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("an event that the disk does not keep is acknowledged: %v", err)
	}
	l.faults.set(func(f *fault) { f.sync = nil })
	l.record(permit(3))
	if err := l.Healthy(); err != nil {
		t.Fatal(err)
	}
	l.close()
	mustVerify(t, l.path)
	if got := notices(l.events()); len(got) != 1 || got[0] != SyncFailed {
		t.Errorf("notices: %v", got)
	}
}

func TestRotationThatFailsGoesOnInTheOldFile(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.MaxBytes = 1 })
	open := l.Log.opts.open
	l.Log.opts.open = func(string) (file, error) { return nil, syscall.ENOSPC }
	if err := l.Record(permit(1)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	l.Log.opts.open = open
	l.record(permit(2))
	l.close()
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(l.path), "*.jsonl"))
	if len(files) != 2 {
		t.Errorf("files: %v", files)
	}
	mustVerify(t, files...)
}

func TestHourlyCheckpoint(t *testing.T) {
	l := newTestLog(t, nil)
	l.flush()
	l.clock.advance(time.Hour)
	l.flush()
	l.flush()
	l.crash()
	if r := mustVerify(t, l.path); r.Checkpoints != 2 {
		t.Errorf("%d checkpoints after an hour", r.Checkpoints)
	}
}
