package audit

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestRepeatsAreCounted(t *testing.T) {
	l := newTestLog(t, nil)
	l.record(deny("10.20.1.4", 22))
	for range 41 {
		l.clock.advance(time.Second)
		l.record(deny("10.20.1.4", 22))
	}
	kernel := deny("10.20.1.4", 22)
	kernel.Count = 8
	l.record(kernel)
	other := deny("10.20.1.4", 22)
	other.Host = "evil.example"
	l.record(deny("10.20.1.4", 23), deny("10.20.1.5", 22), other)
	l.flush()
	if got := decisions(l.events()); len(got) != 4 {
		t.Fatalf("%d events before the window is over", len(got))
	}
	l.clock.advance(time.Minute)
	l.flush()
	got := decisions(l.events())
	if len(got) != 5 {
		t.Fatalf("%d events after it", len(got))
	}
	e := got[4]
	if e.Count != 49 || e.StartTime != millis(testTime)+1000 || e.EndTime != millis(testTime)+41_000 || e.DstEndpoint.Port != 22 {
		t.Errorf("repeats: %+v", e)
	}
	if e.Metadata.UID == got[0].Metadata.UID {
		t.Error("two events have one uid")
	}
	// After a window without a repeat, the next is an event at once.
	l.clock.advance(time.Minute)
	l.flush()
	l.record(deny("10.20.1.4", 22))
	if got := decisions(l.events()); len(got) != 6 {
		t.Errorf("%d events after a quiet window", len(got))
	}
	l.close()
	mustVerify(t, l.path)
}

// TestEachRequestIsAnEvent: what was asked for last is not hidden behind what was asked for first.
func TestEachRequestIsAnEvent(t *testing.T) {
	l := newTestLog(t, nil)
	for _, path := range []string{"/repos", "/exfil", "/repos"} {
		rec := deny("10.20.1.4", 443)
		rec.Class, rec.HTTP = HTTPActivity, &HTTP{Method: "GET", Path: path, Status: 403}
		l.record(rec)
	}
	l.flush()
	if got := decisions(l.events()); len(got) != 2 {
		t.Errorf("%d events of two paths", len(got))
	}
	l.close()
}

func TestCloseWritesCounts(t *testing.T) {
	l := newTestLog(t, nil)
	l.record(deny("10.20.1.4", 22), deny("10.20.1.4", 22), deny("10.20.1.4", 22))
	l.close()
	got := decisions(l.events())
	if len(got) != 2 || got[1].Count != 2 {
		t.Errorf("events: %+v", got)
	}
}

func TestWithdrawnFlowsAreNotCounted(t *testing.T) {
	l := newTestLog(t, nil)
	rec := deny("10.20.1.4", 443)
	rec.Activity, rec.BytesOut = Close, 5
	l.record(rec, rec)
	if got := decisions(l.events()); len(got) != 2 || got[0].ActivityID != 2 || got[0].ActionID != 2 {
		t.Errorf("events: %+v", got)
	}
}

func TestQuietRulesAreOnlyCounted(t *testing.T) {
	l := newTestLog(t, nil)
	rec := permit(1)
	rec.Decision.Log = false
	end := rec
	end.Activity, end.BytesIn, end.BytesOut = Close, 7, 5
	l.record(rec, rec, end, end, end)
	if got := decisions(l.events()); len(got) != 0 {
		t.Fatalf("events: %+v", got)
	}
	// Log is false by accident where no rule of the document decided.
	invariant := deny("10.20.1.4", 853)
	invariant.Decision.Rule, invariant.Decision.Log = policy.RuleInvariant, false
	l.record(invariant)
	l.close()
	got := decisions(l.events())
	if len(got) != 3 || got[1].Count != 2 || got[2].Count != 3 || got[2].Traffic.BytesIn != 21 || got[2].Traffic.BytesOut != 15 {
		t.Errorf("events: %+v", got)
	}
}

// TestFullTable: whatever is pushed out of the table is an event first, and a
// scanning source pushes out its own.
func TestFullTable(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.Keys = 32 }) // 4 of one source
	l.record(deny("10.20.1.9", 22), deny("10.20.1.9", 22))
	sent := 2
	for port := range uint16(100) {
		rec := deny("10.20.1.4", port+1)
		l.record(rec, rec, rec)
		sent += 3
	}
	if n := len(l.counts.table); n != 5 {
		t.Errorf("the table holds %d keys", n)
	}
	for host := range 60 {
		rec := deny(fmt.Sprintf("10.20.2.%d", host), 22)
		l.record(rec, rec)
		sent += 2
	}
	if n := len(l.counts.table); n != 32 {
		t.Errorf("the table holds %d keys", n)
	}
	l.close()
	if got := total(decisions(l.events())); got != sent {
		t.Errorf("%d of %d denials are in the log", got, sent)
	}
	l.counts.due(l.clock.Now().Add(time.Hour))
	if len(l.counts.table) != 0 || len(l.counts.source) != 0 || l.counts.all.Len() != 0 {
		t.Error("the table is not empty after a quiet window")
	}
}

func total(all []Event) (n int) {
	for _, e := range all {
		n += max(e.Count, 1)
	}
	return n
}

// TestFullTableOnFullDisk: what can neither be written nor counted is refused, and
// how much that was is said afterwards.
func TestFullTableOnFullDisk(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.Keys = 8 })
	l.record(deny("10.20.1.4", 1), deny("10.20.1.4", 1))
	l.faults.set(func(f *fault) { f.write = syscall.ENOSPC })
	for port := range uint16(20) {
		if err := l.Record(deny("10.20.1.4", port+2)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if n := len(l.counts.table); n > 8 {
		t.Errorf("the table holds %d keys", n)
	}
	l.clock.advance(time.Hour)
	l.flush() // fails, and gives back
	l.faults.set(func(f *fault) { f.write = nil })
	l.close()
	mustVerify(t, l.path)
	dropped := 0
	for _, e := range l.events() {
		if e.Unmapped.Notice == DroppedDenials {
			var n int
			fmt.Sscanf(e.Message, "%d", &n)
			dropped += n
		}
	}
	if got := total(decisions(l.events())); got+dropped != 22 || dropped == 0 {
		t.Errorf("%d denials in the log and %d said to be dropped, of 22", got, dropped)
	}
}
