package audit

import (
	"errors"
	"fmt"
	"sync"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// maxLate bounds the events that wait in memory for the disk: more than the flows that
// can be open, at about 2 KB each.
const maxLate = 1 << 15

// past reports whether the record tells of what has happened already, so that an error
// could stop nothing: the end of a flow, a flow that the kernel forwarded by itself, a
// finding.
func past(rec *Record) bool {
	d := &rec.Decision
	return rec.Activity == Close || rec.Class == DetectionFinding ||
		rec.Class == NetworkActivity && d.Permitted() && d.Stage == policy.StagePacket && d.Tier == policy.TierKernel
}

// late holds events that are past and that the disk has not taken. They are written
// when it does.
type late struct {
	mu      sync.Mutex
	waiting []waiting
	dropped int
}

// waiting is one such event. The attempt that timed out may still succeed, and then
// the event must not be written again.
type waiting struct {
	event   *Event
	attempt *entry // nil: failed for certain
}

func (l *late) add(w waiting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= maxLate {
		l.dropped++
		return
	}
	l.waiting = append(l.waiting, w)
}

func (l *late) take() (all []waiting, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, dropped = l.waiting, l.dropped
	l.waiting, l.dropped = nil, 0
	return all, dropped
}

func (l *late) back(all []waiting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(all, l.waiting...)
}

// submitPast writes an event that is past, or keeps it for later.
func (l *Log) submitPast(e *Event) error {
	d, err := newDraft(e)
	if err != nil {
		return err
	}
	attempt := &entry{draft: d, past: true, done: make(chan error, 1)}
	if err = l.enqueue(attempt); err != nil {
		w := waiting{event: e}
		if errors.Is(err, errHanging) {
			w.attempt = attempt // answered once the disk answers
		}
		l.late.add(w)
	}
	return err
}

// writeLate writes the events that had to wait, oldest first.
func (l *Log) writeLate() error {
	all, dropped := l.late.take()
	if dropped > 0 {
		l.note(notice{DroppedEnds, fmt.Sprintf("%d ends of permitted flows could not be kept while the disk took no events", dropped)})
	}
	for i, w := range all {
		if w.attempt != nil {
			select {
			case err := <-w.attempt.done:
				if err == nil {
					continue
				}
			default: // still in the hanging write
				l.late.add(w)
				continue
			}
		}
		d, err := newDraft(w.event)
		if err != nil {
			return err
		}
		again := &entry{draft: d, past: true, done: make(chan error, 1)}
		if err := l.enqueue(again); err != nil {
			if all[i].attempt = nil; errors.Is(err, errHanging) {
				all[i].attempt = again
			}
			l.late.back(all[i:])
			return err
		}
	}
	return nil
}
