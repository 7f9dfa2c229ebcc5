package audit

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Options says where a log is and how much it may hold. Zero values mean what the
// comments say.
type Options struct {
	File     string                  // the live file; required
	State    string                  // directory of the signing key; required
	Version  string                  // of the product, in each event
	Workload func(netip.Addr) string // name of a source; empty or nil: its address
	MaxBytes int64                   // size at which the file is rotated: 256 MiB
	Window   time.Duration           // how long repeats are counted before they are an event: 60 s
	Keys     int                     // denials counted at once: 10,000, of which one source may hold an eighth; and twice as many permitted questions
	Patience time.Duration           // longest that Record waits for the disk: 5 s
	Reserve  int64                   // bytes set aside beside the log for when the disk is full: 32 MiB
	Now      func() time.Time        // time.Now

	open   func(path string) (file, error) // the disk
	uid    func() string
	manual bool // no goroutine but the writer; a test calls sync and flush
}

// Errors that Record returns, beside those of the disk.
var (
	ErrStalled = errors.New("audit: the disk did not take the event in time")
	errHanging = fmt.Errorf("%w, and may still take it", ErrStalled)
	ErrClosed  = errors.New("audit: the log is closed")
)

const (
	syncEvery     = 200 * time.Millisecond
	flushEvery    = time.Second
	checkpointGap = time.Hour
)

// Log is the audit log: a [Recorder] that any number of goroutines may use.
type Log struct {
	opts   Options
	render renderer
	signer *signer
	lock   *os.File
	counts *counter // of denials, and of what rules with `log: false` decide
	// asked counts permitted questions. It is a table of its own, so that those do
	// not push out denials.
	asked  *counter
	quotas *quotas
	late   late
	// reserve is space for what cannot be refused when the disk is full.
	reserve reserve
	intake  intake
	stop    chan struct{} // closed by Close
	gone    chan struct{} // closed when the writer has ended
	loops   sync.WaitGroup
	once    sync.Once
	shut    error // what Close found

	writer writer
	health health
	// dropped counts records that could neither be written nor counted, because
	// the table was full too. How many is an event once the disk is back.
	dropped atomic.Int64
}

var _ Recorder = (*Log)(nil)

// New opens or continues the log. The chain goes on after the last whole line; a line that
// a crash tore is moved to the file `….torn`. Whatever the log finds wrong with itself it
// writes into itself. It fails if the first event cannot be written, if the reserve
// cannot be had, or if another process has the log open.
func New(opts Options) (*Log, error) {
	if opts.File == "" || opts.State == "" {
		return nil, errors.New("audit: name the log file (audit.file) and the state directory (state.dir)")
	}
	opts.setDefaults()
	if err := os.MkdirAll(filepath.Dir(opts.File), 0o750); err != nil {
		return nil, fmt.Errorf("audit: make the log's directory: %w", err)
	}
	signer, err := loadSigner(opts.State)
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(opts.File + ".lock")
	if err != nil {
		return nil, err
	}
	l := &Log{
		opts: opts, signer: signer, lock: lock,
		render: renderer{version: bounded(opts.Version, maxLabel), workload: opts.Workload, uid: opts.uid, now: opts.Now},
		counts: newCounter(opts.Keys, opts.Window), asked: newCounter(2*opts.Keys, opts.Window), quotas: newQuotas(opts.Now()),
		reserve: reserve{path: opts.File + ".reserve", size: opts.Reserve},
		stop:    make(chan struct{}), gone: make(chan struct{}),
	}
	l.intake = newIntake(opts.Patience, l.stop)
	if err := l.begin(); err != nil {
		lock.Close()
		return nil, err
	}
	go l.write()
	if !opts.manual {
		l.loops.Add(2)
		go l.every(syncEvery, func() { l.sync() })
		go l.every(flushEvery, l.flush)
	}
	return l, nil
}

func (o *Options) setDefaults() {
	if o.MaxBytes == 0 {
		o.MaxBytes = 256 << 20
	}
	if o.Window == 0 {
		o.Window = time.Minute
	}
	if o.Keys == 0 {
		o.Keys = 10_000
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.Reserve == 0 {
		o.Reserve = 32 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.open == nil {
		o.open = openFile
	}
	if o.uid == nil {
		o.uid = new(uids).next
	}
}

// uids draws 128 random bits for each event, for many events at once.
type uids struct {
	mu   sync.Mutex
	buf  [1024]byte
	left int
}

func (u *uids) next() string {
	u.mu.Lock()
	if u.left == 0 {
		rand.Read(u.buf[:]) // never fails
		u.left = len(u.buf)
	}
	var text [32]byte
	hex.Encode(text[:], u.buf[u.left-16:u.left])
	u.left -= 16
	u.mu.Unlock()
	return string(text[:])
}

// Record writes the record as an event, or counts it where it repeats another.
// It is safe for concurrent use; records that arrive together are written together.
func (l *Log) Record(rec Record) error {
	w := waiters.Get().(*waiter)
	l.Submit(rec, w.done)
	err := <-w.answer
	waiters.Put(w)
	return err
}

// Submit is Record for a caller that does not wait. What one goroutine submits is in the log in
// that order. The log goes on only when done returns, so done must not wait for another record;
// it may submit one. A panic in it is not caught: it ends the gateway, which lets nothing through then.
func (l *Log) Submit(rec Record, done func(error)) {
	u := l.quotas.of(rec.Src.Addr())
	crowded := false
	if l.quotas.over(u) {
		if rec.Decision.Permitted() && !past(&rec) {
			done(ErrQuota)
			return
		}
		crowded = crowd(&rec)
	}
	switch {
	case crowded || counted(&rec):
		l.count(l.counts, keyOf(&rec), u, &rec, crowded, done)
	// A log in trouble permits only what it has on the disk.
	case repeated(&rec) && l.health.get() == nil && !l.writer.full.Load():
		key := keyOf(&rec)
		key.evidence = evidence(&rec)
		l.count(l.asked, key, u, &rec, false, done)
	default:
		l.single(u, &rec, done)
	}
}

// count counts a record. The first of its kind is an event at once, unless only is set.
func (l *Log) count(counts *counter, key key, u *usage, rec *Record, only bool, done func(error)) {
	now := l.opts.Now()
	if counts.repeat(key, rec, now) {
		done(nil)
		return
	}
	l.countFirst(counts, key, u, *rec, now, only, done)
}

func (l *Log) countFirst(counts *counter, key key, u *usage, rec Record, now time.Time, only bool, done func(error)) {
	e := l.render.event(&rec)
	full := l.writer.full.Load() // what is left then belongs to the ends of flows
	single, evicted := counts.add(key, e, &rec, now, only || full)
	first := func() {
		switch {
		case full:
			done(l.health.fail(ErrFull)) // it is counted, but not yet safe from a crash
			return
		case !single:
			done(nil)
			return
		}
		l.submit(u, e, false, func(err error) {
			// It is counted, so that it becomes an event once the disk is back. The caller
			// hears of the error all the same.
			if err != nil && !counts.repeat(key, &rec, now) {
				l.dropped.Add(int64(max(rec.Count, 1)))
			}
			done(err)
		})
	}
	if evicted == nil {
		first()
		return
	}
	l.submit(u, evicted.event(l.opts.uid()), false, func(err error) {
		if err == nil {
			first()
			return
		}
		counts.restore(evicted)
		lost := counts.remove(key)
		if single { // then the record itself is not among them
			lost += max(rec.Count, 1)
		}
		l.dropped.Add(int64(lost))
		done(err)
	})
}

// single writes a record that is an event of its own.
func (l *Log) single(u *usage, rec *Record, done func(error)) {
	ended := past(rec)
	if !ended && l.writer.full.Load() {
		done(l.health.fail(ErrFull))
		return
	}
	e := l.render.event(rec)
	if ended {
		l.submitPast(e, done)
		return
	}
	l.submit(u, e, false, done)
}

// flush writes the repeats whose window is over, what had to wait for the disk, and the
// hourly checkpoint.
func (l *Log) flush() {
	now := l.opts.Now()
	if free, err := l.reserve.free(); err == nil {
		l.quotas.measure(free, now)
	}
	if l.writer.full.Load() {
		l.recover()
	}
	if l.writer.full.Load() {
		l.writeLate() // the reserve has room for it
	} else if l.flushUntil(now, false) == nil {
		l.writeLate()
	}
	if l.writer.toSay() || l.writer.checkpointDue(now) {
		// An error is in health already.
		_ = wait(func(done func(error)) { l.enqueue(entries.Get().(*entry), nil, false, false, done) })
	}
}

// flushUntil writes the tallies whose window is over at now. The last ones before the
// log closes may use the reserve.
func (l *Log) flushUntil(now time.Time, last bool) error {
	return errors.Join(l.flushCounts(l.counts, now, last), l.flushCounts(l.asked, now, last))
}

func (l *Log) flushCounts(counts *counter, now time.Time, last bool) error {
	due := counts.due(now)
	for i, t := range due {
		err := wait(func(done func(error)) { l.submit(l.quotas.of(t.key.src), t.event(l.opts.uid()), last, done) })
		if err != nil {
			for _, t := range due[i:] {
				counts.restore(t)
			}
			return err
		}
	}
	return nil
}

func (l *Log) every(d time.Duration, do func()) {
	defer l.loops.Done()
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			do()
		case <-l.stop:
			return
		}
	}
}

// Close writes what has been counted and a last checkpoint, and tells the disk to
// keep them. Records that come later are refused.
func (l *Log) Close() error {
	l.once.Do(func() {
		if l.writer.full.Load() {
			l.recover()
		}
		err := errors.Join(l.flushUntil(l.opts.Now().Add(l.opts.Window), true), l.writeLate())
		close(l.stop)
		<-l.gone
		l.loops.Wait()
		l.shut = errors.Join(err, l.end(), l.lock.Close())
	})
	return l.shut
}

// Healthy returns nil while events can be written and kept, and otherwise why not.
func (l *Log) Healthy() error { return l.health.get() }

// Fingerprint names the key that signs checkpoints, in the form of the function
// of the same name. Keep it elsewhere, for [VerifyTrusting].
func (l *Log) Fingerprint() string { return l.signer.fingerprint }

// health is the last error, until a write or sync succeeds; nil when all is well.
type health struct{ err atomic.Pointer[error] }

func (h *health) fail(err error) error {
	h.err.Store(&err)
	return err
}

func (h *health) ok() { h.err.Store(nil) }

func (h *health) get() error {
	if err := h.err.Load(); err != nil {
		return *err
	}
	return nil
}
