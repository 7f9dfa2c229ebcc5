package audit

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// small is a disk of so many bytes, whose room the reserve's file takes up as well.
type small struct {
	file
	log  *testLog
	room *int64
	used *int64
}

func (s *small) Write(b []byte) (int, error) {
	left := *s.room - *s.used
	if info, err := os.Stat(s.log.path + ".reserve"); err == nil {
		left -= info.Size()
	}
	if int64(len(b)) > left {
		return 0, syscall.ENOSPC
	}
	n, err := s.file.Write(b)
	*s.used += int64(n)
	return n, err
}

// smallLog is a log on a disk of so many bytes, of which 64 KiB are the reserve.
func smallLog(t *testing.T, bytes int64) (l *testLog, room *int64) {
	room, used := &bytes, new(int64)
	var target testLog
	l = newTestLog(t, func(o *Options) {
		o.Reserve = 64 << 10
		target.path = o.File
		open := o.open
		o.open = func(path string) (file, error) {
			f, err := open(path)
			return &small{f, &target, room, used}, err
		}
	})
	return l, room
}

func end(port uint16) Record {
	rec := permit(port)
	rec.Activity, rec.BytesIn = Close, 5
	return rec
}

// TestReserve fills a disk: permits stop, the ends of what was permitted and the
// stop itself are written all the same, and all goes on when there is room.
func TestReserve(t *testing.T) {
	l, room := smallLog(t, 96<<10)
	open := []uint16{}
	var err error
	for port := uint16(1); err == nil; port++ {
		if err = l.Record(permit(port)); err == nil {
			open = append(open, port)
		}
	}
	if !errors.Is(err, ErrFull) || len(open) < 10 {
		t.Fatalf("after %d events: %v", len(open), err)
	}
	if _, err := os.Stat(l.path + ".reserve"); err == nil {
		t.Error("the reserve is still held")
	}
	for _, port := range open {
		if err := l.Record(end(port)); err != nil {
			t.Fatalf("the end of flow %d: %v", port, err)
		}
	}
	if err := l.Healthy(); !errors.Is(err, ErrFull) {
		t.Errorf("healthy: %v", err)
	}
	if err := l.Record(permit(9999)); !errors.Is(err, ErrFull) {
		t.Errorf("a permit on a full disk: %v", err)
	}
	*room += 1 << 20
	l.flush()
	l.record(permit(10000))
	if err := l.Healthy(); err != nil {
		t.Error(err)
	}
	l.close()
	mustVerify(t, l.path)
	if got := notices(l.events()); !slices.Equal(got, []NoticeKind{DiskFull, SpaceReturned}) {
		t.Errorf("notices: %v", got)
	}
	if got := decisions(l.events()); len(got) != 2*len(open)+1 {
		t.Errorf("%d events of %d flows", len(got), len(open))
	}
}

// TestEndsWait: the reserve is used up, too, and the ends of flows wait in memory.
func TestEndsWait(t *testing.T) {
	l, room := smallLog(t, 96<<10)
	for port := uint16(1); l.Record(permit(port)) == nil; port++ {
	}
	failed := 0
	for port := range uint16(200) {
		if l.Record(end(port+1)) != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Fatal("the reserve has no end")
	}
	*room += 1 << 20
	l.flush()
	l.close()
	mustVerify(t, l.path)
	ends := 0
	for _, e := range decisions(l.events()) {
		if e.ActivityID == int(Close) {
			ends++
		}
	}
	if ends != 200 {
		t.Errorf("%d of 200 ends are in the log", ends)
	}
}

// TestEndsWaitForAStalledDisk: an end that timed out is written once, whether the
// writer had begun with it or not.
func TestEndsWaitForAStalledDisk(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.Patience = time.Millisecond })
	hold := make(chan struct{})
	l.faults.set(func(f *fault) { f.hold = hold })
	for port := range uint16(5) {
		if err := l.Record(end(port + 1)); !errors.Is(err, ErrStalled) {
			t.Fatal(err)
		}
	}
	l.faults.set(func(f *fault) { f.hold = nil })
	close(hold)
	for l.Record(permit(99)) != nil { // until the writer is through with what it had
	}
	for l.flush(); len(l.late.waiting) > 0; l.flush() {
	}
	l.close()
	mustVerify(t, l.path)
	seen := map[uint16]int{}
	for _, e := range decisions(l.events()) {
		seen[e.SrcEndpoint.Port]++
	}
	for port := range uint16(5) {
		if seen[port+1] != 1 {
			t.Errorf("the end of flow %d is %d times in the log", port+1, seen[port+1])
		}
	}
}

func TestNoRoomForTheReserve(t *testing.T) {
	dir := t.TempDir()
	_, err := New(Options{File: dir + "/audit.jsonl", State: dir, Reserve: 1 << 60})
	if err == nil {
		t.Fatal("a log without its reserve")
	}
	if _, err := os.Stat(dir + "/audit.jsonl.reserve"); err == nil {
		t.Error("half a reserve was left")
	}
}

// TestQuota: a source that floods is refused and counted; another is not touched.
func TestQuota(t *testing.T) {
	l := newTestLog(t, nil)
	l.quotas.measure(64<<10, l.clock.Now()) // so a share is 16 KiB
	n := 0
	for ; ; n++ {
		if err := l.Record(permit(uint16(n + 1))); errors.Is(err, ErrQuota) {
			break
		} else if err != nil || n > 1000 {
			t.Fatalf("after %d events: %v", n, err)
		}
	}
	before := len(l.events())
	for i := range 100 { // each another destination, so each would be an event
		l.record(deny("10.20.1.4", uint16(i+1)))
		kernel := permit(uint16(i + 1))
		kernel.Decision.Tier, kernel.Decision.Stage = policy.TierKernel, policy.StagePacket
		l.record(kernel)
	}
	if got := len(l.events()) - before; got != 0 {
		t.Errorf("the flood is %d more events at once", got)
	}
	withdrawn := end(2) // a denial by its verdict, and the end of what was permitted all the same
	withdrawn.Decision.Verdict = policy.Deny
	l.record(end(1), withdrawn)
	other := permit(1)
	other.Src = netip.AddrPortFrom(netip.MustParseAddr("10.20.1.5"), 1)
	l.record(other, deny("10.20.1.5", 22))
	if err := l.Healthy(); err != nil {
		t.Error(err)
	}
	l.clock.advance(quotaWindow)
	l.flush()
	l.record(permit(1))
	l.close()
	mustVerify(t, l.path)
	counts := ""
	for _, e := range decisions(l.events())[n:] {
		counts += fmt.Sprint(max(e.Count, 1), " ")
	}
	if counts != "1 1 1 1 100 100 1 " && counts != "1 1 1 1 1 100 100 " {
		t.Errorf("events after the flood: %s", counts)
	}
}

// hooked is a disk that calls back before its next write.
type hooked struct {
	file
	hook *func()
}

func (h *hooked) Write(b []byte) (int, error) {
	if f := *h.hook; f != nil {
		*h.hook = nil
		f()
	}
	return h.file.Write(b)
}

// TestFullMeanwhile: what is being written when a sync finds the disk full is written once.
func TestFullMeanwhile(t *testing.T) {
	var hook func()
	l := newTestLog(t, func(o *Options) {
		open := o.open
		o.open = func(path string) (file, error) {
			f, err := open(path)
			return &hooked{f, &hook}, err
		}
	})
	l.record(permit(1))
	hook = func() {
		l.faults.set(func(f *fault) { f.sync = syscall.ENOSPC })
		if err := l.sync(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("sync: %v", err)
		}
		l.faults.set(func(f *fault) { f.sync = nil })
	}
	if err := l.Record(end(1)); err != nil {
		t.Error(err)
	}
	l.close()
	mustVerify(t, l.path)
	if n := len(decisions(l.events())); n != 2 {
		t.Errorf("%d events of a flow that began and ended", n)
	}
}
