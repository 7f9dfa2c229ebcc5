package audit

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// maxBatch is how many events are written with one write.
const maxBatch = 256

// writer is the state of the file. Only the writing goroutine changes it (Open and
// Close while that does not run); mu guards what the sync reads.
type writer struct {
	mu      sync.Mutex
	f       file
	at      link
	dirty   bool      // written since the last sync
	lost    bool      // the last sync failed
	failed  bool      // one did, and the log does not say so yet
	since   time.Time // when the running sync began
	syncing sync.Mutex
	full    atomic.Bool // the disk has no room but the reserve
	filled  bool        // it became so, and the log does not say so yet
	emptied bool        // it no longer is, and the log does not say so yet
	notes   []notice

	size    int64
	torn    bool // a failed write left bytes behind size
	buf     []byte
	batch   []*entry
	sum     hash.Hash
	pending []notice
	next    atomic.Int64 // when a checkpoint is due, ms since 1970
}

func (w *writer) checkpointDue(now time.Time) bool { return now.UnixMilli() >= w.next.Load() }

// begin finds the end of the chain, opens the file and writes the first checkpoint.
func (l *Log) begin() error {
	t, err := findTail(l.opts.File, l.signer)
	if err != nil {
		return fmt.Errorf("audit: continue the log: %w", err)
	}
	w := &l.writer
	w.sum = sha256.New()
	if w.f, err = l.opts.open(l.opts.File); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	w.at, w.size, w.pending = t.at, t.size, t.notices
	if err = l.reserve.take(); err != nil {
		w.f.Close()
		return err
	}
	err = l.commit(Restart, nil)
	if err == nil {
		err = l.sync()
	}
	if err == nil {
		err = syncDir(filepath.Dir(l.opts.File))
	}
	if err != nil {
		w.f.Close()
		return fmt.Errorf("audit: write the first event: %w", err)
	}
	return nil
}

// write is the writing goroutine: it takes what has come together, writes it with
// one call and answers everybody.
func (l *Log) write() {
	defer close(l.gone)
	w, in := &l.writer, &l.intake
	for {
		w.batch = in.take(w.batch[:0])
		switch {
		case len(w.batch) > 0:
			l.writeBatch(w.batch)
			clear(w.batch)
		case in.ended:
			return
		default:
			select {
			case <-in.wake:
			case <-l.stop:
			}
		}
	}
}

func (l *Log) writeBatch(batch []*entry) {
	if !l.writer.full.Load() {
		err := l.rotate()
		if err == nil {
			err = l.commit(l.kindDue(), batch)
		}
		if err == nil || !l.writer.full.Load() { // it was not this that filled the disk up
			l.answer(batch, err)
			return
		}
	}
	// Only what has happened already, and the log's word about itself.
	var ends, others []*entry
	for _, e := range batch {
		if e.past {
			ends = append(ends, e)
		} else {
			others = append(others, e)
		}
	}
	l.answer(ends, l.commit(l.kindDue(), ends))
	if len(others) > 0 {
		l.answer(others, l.health.fail(ErrFull))
	}
}

func (l *Log) kindDue() StatementKind {
	if l.writer.checkpointDue(l.opts.Now()) {
		return Hourly
	}
	return ""
}

// commit writes a checkpoint if kind names one (always at the head of a file), what
// the log has to say about itself, and the entries. Either all of it is in the file and the
// chain has moved on, or nothing is and the chain has not.
func (l *Log) commit(kind StatementKind, entries []*entry) error {
	w := &l.writer
	now := l.opts.Now()
	if w.size == 0 {
		kind = Opening
	}
	lost, err := w.kept(now, l.opts.Patience)
	if err != nil {
		return l.health.fail(err)
	}
	if n := l.dropped.Swap(0); n > 0 {
		w.pending = append(w.pending, notice{DroppedDenials,
			fmt.Sprintf("%d denials and repeats could not be written or counted while the disk refused events", n)})
	}
	buf, at := w.buf[:0], w.at
	link := func(e *Event) {
		var d draft
		d.write(e)
		buf, at = d.appendLinked(buf, at, w.sum)
	}
	if kind != "" {
		link(l.render.checkpoint(l.signer.state(kind, at, now), now))
	}
	for _, n := range w.pending {
		link(l.render.notice(n, now))
	}
	for _, e := range entries {
		if len(e.draft.line) > 0 {
			buf, at = e.draft.appendLinked(buf, at, w.sum)
		}
	}
	w.buf = buf
	if len(buf) == 0 {
		return nil
	}
	if err := w.append(buf, at); err != nil {
		if noSpace(err) {
			l.fill()
		}
		return l.health.fail(fmt.Errorf("audit: %w", err))
	}
	w.pending = nil
	if kind != "" {
		w.next.Store(now.Add(checkpointGap).UnixMilli())
	}
	if lost { // until a sync succeeds again, no event is acknowledged without one
		if err := l.sync(); err != nil {
			return err
		}
	}
	if l.writer.full.Load() {
		l.health.fail(ErrFull)
	} else {
		l.health.ok()
	}
	return nil
}

// toSay reports whether the log has something to write about itself.
func (w *writer) toSay() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.filled || w.emptied || w.failed || len(w.notes) > 0
}

// note has the writer write a notice with the next events.
func (l *Log) note(n notice) {
	w := &l.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, n)
}

// kept reports whether the last sync failed, and an error if one has been hanging for
// longer than patience: then the disk keeps nothing, whatever it takes.
func (w *writer) kept(now time.Time, patience time.Duration) (lost bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() && now.Sub(w.since) > patience {
		return false, ErrStalled
	}
	if w.failed {
		w.failed = false
		w.pending = append(w.pending, notice{SyncFailed,
			fmt.Sprintf("the disk refused to keep events up to %d; a loss of power then would have cost the latest", w.at.seq)})
	}
	if w.filled {
		w.filled = false
		w.pending = append(w.pending, notice{DiskFull, fmt.Sprintf("the disk is full after event %d; what is permitted stops", w.at.seq)})
	}
	if w.emptied {
		w.emptied = false
		w.pending = append(w.pending, notice{SpaceReturned, "the disk has room again; what is permitted goes on"})
	}
	w.pending, w.notes = append(w.pending, w.notes...), nil
	return w.lost, nil
}

// append writes whole lines; at is the place of the last.
func (w *writer) append(lines []byte, at link) error {
	if w.torn {
		if err := w.f.Truncate(w.size); err != nil {
			return err
		}
		w.torn = false
	}
	if _, err := w.f.Write(lines); err != nil {
		// Part of it may be there. Nobody is told of it, so it must go.
		w.torn = w.f.Truncate(w.size) != nil
		return err
	}
	w.size += int64(len(lines))
	w.mu.Lock()
	w.at, w.dirty = at, true
	w.mu.Unlock()
	return nil
}

// sync has the disk keep what has been written, and then signs how far that is.
func (l *Log) sync() error {
	w := &l.writer
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	f, at, dirty := w.f, w.at, w.dirty || w.lost
	w.dirty = false
	if dirty {
		w.since = l.opts.Now()
	}
	w.mu.Unlock()
	if !dirty {
		return nil
	}
	err := f.Sync()
	kept := err == nil // else events may be gone; without a head only the proof is old
	if kept {
		err = l.writeHead(at)
	}
	w.mu.Lock()
	w.failed = w.failed || !kept && !w.lost
	w.lost, w.since = err != nil, time.Time{}
	w.mu.Unlock()
	if noSpace(err) {
		l.fill()
	}
	if err != nil {
		return l.health.fail(fmt.Errorf("audit: the disk does not keep events: %w", err))
	}
	return nil
}

func (l *Log) writeHead(at link) error {
	data, err := json.Marshal(l.signer.state(Head, at, l.opts.Now()))
	if err != nil {
		return err
	}
	return replaceFile(headName(l.opts.File), 0o640, append(data, '\n'))
}

// rotate moves a full file aside and begins the next.
func (l *Log) rotate() error {
	w := &l.writer
	if w.size < l.opts.MaxBytes || w.torn {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	name, err := rotatedName(l.opts.File, w.at.seq)
	if err == nil {
		err = os.Rename(l.opts.File, name)
	}
	if err != nil {
		return l.health.fail(fmt.Errorf("audit: rotate: %w", err))
	}
	next, err := l.opts.open(l.opts.File)
	if err != nil {
		back := os.Rename(name, l.opts.File) // go on in the old file, and try again next time
		return l.health.fail(fmt.Errorf("audit: rotate: %w", errors.Join(err, back)))
	}
	w.syncing.Lock()
	old := w.f
	w.mu.Lock()
	w.f = next
	w.mu.Unlock()
	w.syncing.Unlock()
	w.size, w.torn = 0, false
	old.Close() // synced above, and nothing was written since
	return syncDir(filepath.Dir(l.opts.File))
}

// end writes the last checkpoint and closes the file.
func (l *Log) end() error {
	err := l.commit(Closing, nil)
	if err == nil {
		err = l.sync()
	}
	if err2 := l.writer.f.Close(); err == nil {
		err = err2
	}
	return err
}

// checkpoint is the event that carries a statement.
func (r *renderer) checkpoint(s *Statement, now time.Time) *Event {
	e := r.own("checkpoint", "audit checkpoint: "+string(s.Kind), now)
	e.Unmapped.Checkpoint, e.Unmapped.Stage = s, StageCheckpoint
	return e
}

// notice is the event in which the log speaks about itself.
func (r *renderer) notice(n notice, now time.Time) *Event {
	e := r.own("audit-"+string(n.kind), bounded(n.text, maxMessage), now)
	e.Unmapped.Notice, e.Unmapped.Stage = n.kind, StageLog
	e.SeverityID, e.IsAlert = severityHigh, true
	return e
}

func (r *renderer) own(kind, text string, now time.Time) *Event {
	e := r.blank(DetectionFinding, now)
	e.ActionID, e.ActivityID, e.DispositionID = actionObserved, findingCreate, dispositionLogged
	e.TypeUID = int(e.ClassUID)*100 + e.ActivityID
	e.Message = text
	finding(e, kind)
	return e
}
