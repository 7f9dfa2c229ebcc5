package audit

import (
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"
)

// submissions counts what each of many done functions is told.
type submissions struct {
	t    *testing.T
	wg   sync.WaitGroup
	mu   sync.Mutex
	told map[int][]error
}

func (s *submissions) submit(l *testLog, n int, rec Record) {
	s.wg.Add(1)
	l.Submit(rec, func(err error) {
		s.mu.Lock()
		if s.told == nil {
			s.told = map[int][]error{}
		}
		s.told[n] = append(s.told[n], err)
		first := len(s.told[n]) == 1
		s.mu.Unlock()
		if first {
			s.wg.Done()
		} else {
			s.t.Errorf("record %d: done was called again, with %v", n, err)
		}
	})
}

// TestSubmitKeepsOrder: more records than a source's share of the queue are in the log in the
// order in which they were submitted, each answered once.
func TestSubmitKeepsOrder(t *testing.T) {
	l := newTestLog(t, nil)
	s := submissions{t: t}
	const n = 20 * inFlight
	for i := range n {
		s.submit(l, i, permit(uint16(i+1)))
	}
	s.wg.Wait()
	l.close()
	mustVerify(t, l.path)
	all := decisions(l.events())
	if len(all) != n {
		t.Fatalf("%d of %d events", len(all), n)
	}
	for i, e := range all {
		if s.told[i][0] != nil || int(e.SrcEndpoint.Port) != i+1 {
			t.Fatalf("event %d is of record %d (%v)", i, e.SrcEndpoint.Port-1, s.told[i])
		}
	}
}

// TestSubmitBeforeClose: whoever submits while the log closes is answered once, and an
// acknowledged event is in the log.
func TestSubmitBeforeClose(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.manual = false })
	s := submissions{t: t}
	var senders sync.WaitGroup
	for g := range 8 {
		senders.Go(func() {
			for i := range 500 {
				s.submit(l, g*500+i, permit(uint16(g*500+i+1)))
			}
		})
	}
	l.close()
	senders.Wait()
	s.wg.Wait()
	mustVerify(t, l.path)
	seen := map[int]bool{}
	for _, e := range decisions(l.events()) {
		seen[int(e.SrcEndpoint.Port)-1] = true
	}
	for i := range 4000 {
		switch err := s.told[i][0]; {
		case err == nil && !seen[i]:
			t.Errorf("record %d was acknowledged and is not in the log", i)
		case err != nil && !errors.Is(err, ErrClosed):
			t.Errorf("record %d: %v", i, err)
		}
	}
}

// TestSubmitToAStalledDisk: Submit never blocks; all are answered when patience is over, and
// once only although the disk answers later.
func TestSubmitToAStalledDisk(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.Patience = time.Millisecond })
	hold := make(chan struct{})
	l.faults.set(func(f *fault) { f.hold = hold })
	s := submissions{t: t}
	const n = 3 * inFlight
	for i := range n {
		s.submit(l, i, permit(uint16(i+1)))
	}
	s.wg.Wait()
	for i := range n {
		if err := s.told[i][0]; !errors.Is(err, ErrStalled) {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	in := &l.intake
	in.mu.Lock()
	if u := l.quotas.of(permit(1).Src.Addr()); len(in.queue) != 0 || len(u.waiting) != 0 {
		t.Errorf("%d queued and %d behind are kept for nobody", len(in.queue), len(u.waiting))
	}
	in.mu.Unlock()
	l.faults.set(func(f *fault) { f.hold = nil })
	close(hold)
	for l.Record(permit(9999)) != nil { // until the writer is through with what it had
	}
	l.close()
	mustVerify(t, l.path)
	if in.pending != 0 || in.oldest != nil || in.newest != nil || len(in.queue) != 0 {
		t.Errorf("left in the intake: %d pending, %d queued", in.pending, len(in.queue))
	}
	if u := l.quotas.of(permit(1).Src.Addr()); u.flying != 0 || len(u.waiting) != 0 {
		t.Errorf("the source still has %d in the queue and %d behind", u.flying, len(u.waiting))
	}
}

// TestSubmitToAFullDisk: permits are refused once each; the ends of flows are written.
func TestSubmitToAFullDisk(t *testing.T) {
	l := newTestLog(t, nil)
	l.faults.set(func(f *fault) { f.write = syscall.ENOSPC })
	s := submissions{t: t}
	for i := range 50 {
		s.submit(l, i, permit(uint16(i+1)))
		s.submit(l, 100+i, end(uint16(i+1)))
		s.submit(l, 200+i, deny("10.20.1.5", uint16(i+1)))
	}
	s.wg.Wait()
	for i, told := range s.told {
		if err := told[0]; !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("record %d: %v", i, err)
		}
	}
	l.faults.set(func(f *fault) { f.write = nil })
	l.flush()
	l.close()
	mustVerify(t, l.path)
	ends, denials := 0, 0
	for _, e := range decisions(l.events()) {
		switch {
		case e.ActivityID == int(Close):
			ends++
		case e.ActionID == actionDenied:
			denials++
		default:
			t.Errorf("a refused permit is in the log: %+v", e)
		}
	}
	if ends != 50 || denials != 50 {
		t.Errorf("%d ends and %d denials of 50 each", ends, denials)
	}
}

// TestSubmitFromDone: a done function may submit the next record.
func TestSubmitFromDone(t *testing.T) {
	l := newTestLog(t, nil)
	last := make(chan error)
	var next func(port uint16)
	next = func(port uint16) {
		l.Submit(permit(port), func(err error) {
			if err != nil || port == 1000 {
				go func() { last <- err }()
				return
			}
			next(port + 1)
		})
	}
	next(1)
	if err := <-last; err != nil {
		t.Fatal(err)
	}
	l.close()
	if n := len(decisions(l.events())); n != 1000 {
		t.Errorf("%d events", n)
	}
}

// TestSubmitShare: behind a stalled disk one source is refused beyond its share, and another is not.
func TestSubmitShare(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.Patience = time.Minute })
	hold := make(chan struct{})
	l.faults.set(func(f *fault) { f.hold = hold })
	s := submissions{t: t}
	const n = inFlight + maxBehind
	for i := range n {
		s.submit(l, i, permit(uint16(i+1)))
	}
	var refused error
	l.Submit(permit(1), func(err error) { refused = err }) // at once, or the race detector tells
	if !errors.Is(refused, ErrQuota) {
		t.Errorf("beyond the share: %v", refused)
	}
	s.submit(l, n, deny("10.20.1.5", 22))
	if err := l.Healthy(); err != nil {
		t.Error(err)
	}
	l.faults.set(func(f *fault) { f.hold = nil })
	close(hold)
	s.wg.Wait()
	for i := range n + 1 {
		if err := s.told[i][0]; err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}
