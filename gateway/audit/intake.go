package audit

import (
	"errors"
	"sync"
	"time"
)

// entry is one event on its way to the file; without a draft it only asks for the
// checkpoint that is due. The intake's lock guards it until the writer has taken it.
type entry struct {
	draft draft
	done  func(error) // hears of the outcome, once
	from  *usage      // whose share of the queue it takes; nil: nobody's
	past  bool        // it cannot be refused, so the reserve is for it
	keep  bool        // and it waits in late if the disk does not take it

	stage      stage
	due        time.Duration // when patience ends, since the intake's start
	prev, next *entry        // neighbours in the order of due
}

// stage is how far an entry has come.
type stage uint8

const (
	behind  stage = iota // others of its source fill the source's share of the queue
	queued               // the writer takes it next
	taken                // the writer has it
	hanging              // the same, and its caller has been told that it took too long
	over                 // its caller has been told before the writer took it, which it never will
)

// maxPending bounds the events that wait for the writer, at about 1 KB each.
const maxPending = 1 << 16

// maxBehind bounds those of one source, so that it cannot have all of that.
const maxBehind = maxPending / 8

// intake is where events wait for the writing goroutine. Nobody blocks in it: it
// answers through the entry's done, from the writer or, when patience is over, from a timer.
type intake struct {
	patience time.Duration
	start    time.Time
	stop     <-chan struct{}
	wake     chan struct{} // holds one

	mu    sync.Mutex
	queue []*entry
	idle  bool // the writer waits for wake
	ended bool // the writer is gone
	// oldest and newest are the ends of the list of all entries that are not answered. One timer
	// looks after it: armed while it may be needed, and not touched per event.
	oldest, newest *entry
	pending        int
	timer          *time.Timer
	armed          bool
}

func newIntake(patience time.Duration, stop <-chan struct{}) intake {
	return intake{patience: patience, start: time.Now(), stop: stop, wake: make(chan struct{}, 1)}
}

// submit hands an event to the writer. One that is past may use the reserve.
func (l *Log) submit(u *usage, e *Event, past bool, done func(error)) {
	l.enqueue(newEntry(e), u, past, false, done)
}

var entries = sync.Pool{New: func() any { return new(entry) }}

func newEntry(e *Event) *entry {
	to := entries.Get().(*entry)
	to.draft.write(e)
	return to
}

// free gives an entry back that nobody refers to any more.
func (e *entry) free() {
	line := e.draft.line[:0]
	if cap(line) > 4<<10 { // one long event must not cost the memory of many
		line = nil
	}
	*e = entry{draft: draft{line: line}}
	entries.Put(e)
}

var errLong = errors.New("audit: an event is longer than a line may be")

func (l *Log) enqueue(e *entry, from *usage, past, keep bool, done func(error)) {
	e.from, e.past, e.keep, e.done = from, past, keep, done
	in := &l.intake
	in.mu.Lock()
	err := in.admitLocked(e, l.expire)
	wake := err == nil && in.idle
	if wake {
		in.idle = false
	}
	in.mu.Unlock()
	if wake {
		in.wake <- struct{}{} // it has room: idle was set
	}
	if err != nil {
		if errors.Is(err, ErrStalled) {
			l.health.fail(err)
		}
		if e.keep && err != errLong {
			l.late.add(e.draft)
		}
		e.free()
		done(err)
	}
}

func (in *intake) admitLocked(e *entry, expire func()) error {
	if len(e.draft.line) > maxLine-1024 { // room for the link
		return errLong
	}
	select {
	case <-in.stop:
		return ErrClosed
	default:
	}
	switch {
	case in.ended:
		return ErrClosed
	case in.pending >= maxPending:
		return ErrStalled
	case e.from != nil && len(e.from.waiting) >= maxBehind:
		return ErrQuota
	case e.from != nil && e.from.flying >= inFlight:
		e.stage = behind
		e.from.waiting = append(e.from.waiting, e)
	default:
		in.queueLocked(e)
	}
	in.pending++
	e.due = time.Since(in.start) + in.patience
	if e.prev = in.newest; e.prev != nil {
		e.prev.next = e
	} else {
		in.oldest = e
	}
	in.newest = e
	if !in.armed {
		in.armed = true
		if in.timer == nil {
			in.timer = time.AfterFunc(in.patience, expire)
		} else {
			in.timer.Reset(in.patience)
		}
	}
	return nil
}

func (in *intake) queueLocked(e *entry) {
	e.stage = queued
	in.queue = append(in.queue, e)
	if e.from != nil {
		e.from.flying++
	}
}

// dropLocked takes an entry off the list of those that are not answered.
func (in *intake) dropLocked(e *entry) {
	in.pending--
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		in.oldest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		in.newest = e.prev
	}
	e.prev, e.next = nil, nil
}

// leaveLocked frees an entry's place in its source's share, for one that waits behind.
func (in *intake) leaveLocked(e *entry) {
	u := e.from
	if u == nil {
		return
	}
	u.flying--
	for u.flying < inFlight && len(u.waiting) > 0 {
		in.queueLocked(u.popLocked())
	}
}

// popLocked takes the first of those that wait behind.
func (u *usage) popLocked() *entry {
	e := u.waiting[0]
	u.waiting[0] = nil
	if u.waiting = u.waiting[1:]; len(u.waiting) == 0 {
		u.waiting = nil
	}
	return e
}

// take appends what the writer is to write next to batch. If there is nothing, the
// writer is idle from now on, or, after the stop, at its end.
func (in *intake) take(batch []*entry) []*entry {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := min(len(in.queue), maxBatch)
	for _, e := range in.queue[:n] {
		e.stage = taken
		batch = append(batch, e)
	}
	left := copy(in.queue, in.queue[n:])
	clear(in.queue[left:])
	in.queue = in.queue[:left]
	if len(batch) == 0 {
		select {
		case <-in.stop:
			in.ended = true
		default:
			in.idle = true
		}
	}
	return batch
}

// answer tells the callers of a batch what became of it.
func (l *Log) answer(batch []*entry, err error) {
	in := &l.intake
	in.mu.Lock()
	for _, e := range batch {
		in.leaveLocked(e)
		if e.stage == taken {
			in.dropLocked(e)
			continue
		}
		// It took too long: its caller has had an error.
		if e.keep && err != nil {
			l.late.add(e.draft)
		}
		e.done = nil
	}
	in.mu.Unlock()
	for _, e := range batch {
		done := e.done
		if done != nil {
			switch {
			case err == nil && e.from != nil:
				e.from.wrote(e.draft.size())
			case err != nil && e.keep:
				l.late.add(e.draft)
			}
		}
		e.free()
		if done != nil {
			done(err)
		}
	}
}

// expire answers those for whom the disk took too long. It looks at most a hundred times in
// the time of patience, so that a long queue behind a stalled disk costs little.
func (l *Log) expire() {
	in := &l.intake
	type told struct {
		done func(error)
		err  error
	}
	var all []told
	dead := false
	in.mu.Lock()
	now := time.Since(in.start)
	for e := in.oldest; e != nil && e.due <= now; e = in.oldest {
		in.dropLocked(e)
		if e.stage == taken {
			e.stage = hanging
			all = append(all, told{e.done, errHanging})
			continue
		}
		all = append(all, told{e.done, ErrStalled})
		if e.keep {
			l.late.add(e.draft)
		}
		if e.stage == behind { // the oldest of its source's, so the first of them
			e.from.popLocked().free()
			continue
		}
		e.stage = over
		dead = true
	}
	if dead {
		in.sweepLocked()
	}
	if in.armed = in.oldest != nil; in.armed {
		in.timer.Reset(max(in.oldest.due-now, in.patience/100))
	}
	in.mu.Unlock()
	if len(all) > 0 {
		l.health.fail(ErrStalled)
	}
	for _, t := range all {
		t.done(t.err)
	}
}

// sweepLocked removes from the queue what is over, so that a stalled disk does not fill the memory.
func (in *intake) sweepLocked() {
	all := in.queue
	in.queue = make([]*entry, 0, len(all))
	for _, e := range all {
		if e.stage != over {
			in.queue = append(in.queue, e)
		}
	}
	for _, e := range all {
		if e.stage == over {
			in.leaveLocked(e)
			e.free()
		}
	}
}

// waiter is a caller that waits for its answer.
type waiter struct {
	answer chan error
	done   func(error)
}

var waiters = sync.Pool{New: func() any {
	answer := make(chan error, 1)
	return &waiter{answer, func(err error) { answer <- err }}
}}

// wait calls submit with a done, and returns what that is told.
func wait(submit func(done func(error))) error {
	w := waiters.Get().(*waiter)
	submit(w.done)
	err := <-w.answer
	waiters.Put(w)
	return err
}
