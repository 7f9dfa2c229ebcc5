package audit

import (
	"bytes"
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
	waiting []draft
	dropped int
}

func (l *late) add(d draft) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= maxLate {
		l.dropped++
		return
	}
	l.waiting = append(l.waiting, draft{bytes.Clone(d.line), d.cut})
}

func (l *late) take() (all []draft, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, dropped = l.waiting, l.dropped
	l.waiting, l.dropped = nil, 0
	return all, dropped
}

func (l *late) back(all []draft) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(all, l.waiting...)
}

// submitPast writes an event that is past, or keeps it for later.
func (l *Log) submitPast(e *Event, done func(error)) { l.enqueue(newEntry(e), nil, true, true, done) }

// writeLate writes the events that had to wait, oldest first.
func (l *Log) writeLate() error {
	all, dropped := l.late.take()
	if dropped > 0 {
		l.note(notice{DroppedEnds, fmt.Sprintf("%d ends of permitted flows could not be kept while the disk took no events", dropped)})
	}
	for i, d := range all {
		err := wait(func(done func(error)) {
			again := entries.Get().(*entry)
			again.draft.line, again.draft.cut = append(again.draft.line[:0], d.line...), d.cut
			l.enqueue(again, nil, true, true, done) // waits once more if that fails
		})
		if err != nil {
			l.late.back(all[i+1:])
			return err
		}
	}
	return nil
}
