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
	queueLength   = 1024
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
	queue   chan *entry
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
		queue:   make(chan *entry, queueLength),
		stop:    make(chan struct{}), gone: make(chan struct{}),
	}
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
		o.uid = randomUID
	}
}

func randomUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Record writes the record as an event, or counts it where it repeats another.
// It is safe for concurrent use; records that arrive together are written together.
func (l *Log) Record(rec Record) error {
	u := l.quotas.of(rec.Src.Addr())
	crowded := false
	if l.quotas.over(u) {
		if rec.Decision.Permitted() && !past(&rec) {
			return ErrQuota
		}
		crowded = crowd(&rec)
	}
	key, counts := keyOf(&rec), l.counts
	switch {
	case crowded || counted(&rec):
	// A log in trouble permits only what it has on the disk.
	case repeated(&rec) && l.health.get() == nil && !l.writer.full.Load():
		key.evidence, counts = evidence(&rec), l.asked
	default:
		return l.single(u, &rec)
	}
	now := l.opts.Now()
	if counts.repeat(key, &rec, now) {
		return nil
	}
	e := l.render.event(&rec)
	full := l.writer.full.Load() // what is left then belongs to the ends of flows
	single, evicted := counts.add(key, e, &rec, now, crowded || full)
	if evicted != nil {
		if err := l.submit(u, evicted.event(l.opts.uid()), false); err != nil {
			counts.restore(evicted)
			lost := counts.remove(key)
			if single { // then the record itself is not among them
				lost += max(rec.Count, 1)
			}
			l.dropped.Add(int64(lost))
			return err
		}
	}
	switch {
	case full:
		return l.health.fail(ErrFull) // it is counted, but not yet safe from a crash
	case !single:
		return nil
	}
	if err := l.submit(u, e, false); err != nil {
		// It is counted, so that it becomes an event once the disk is back. The caller
		// hears of the error all the same.
		if !counts.repeat(key, &rec, now) {
			l.dropped.Add(int64(max(rec.Count, 1)))
		}
		return err
	}
	return nil
}

// Submit is Record for a caller that does not wait.
func (l *Log) Submit(rec Record, done func(error)) { go func() { done(l.Record(rec)) }() }

// single writes a record that is an event of its own.
func (l *Log) single(u *usage, rec *Record) error {
	if past(rec) {
		return l.submitPast(l.render.event(rec))
	}
	if l.writer.full.Load() {
		return l.health.fail(ErrFull)
	}
	return l.submit(u, l.render.event(rec), false)
}

// submit hands an event to the writer and waits until it is in the file. One that is
// past may use the reserve.
func (l *Log) submit(u *usage, e *Event, past bool) error {
	d, err := newDraft(e)
	if err != nil {
		return err
	}
	patience := time.NewTimer(l.opts.Patience)
	defer patience.Stop()
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	case <-patience.C:
		return l.health.fail(ErrStalled)
	case <-l.stop:
		return ErrClosed
	}
	if err := l.enqueue(&entry{draft: d, past: past, done: make(chan error, 1)}); err != nil {
		return err
	}
	u.wrote(d.size())
	return nil
}

func (l *Log) enqueue(e *entry) error {
	patience := time.NewTimer(l.opts.Patience)
	defer patience.Stop()
	select {
	case l.queue <- e:
	case <-patience.C:
		return l.health.fail(ErrStalled)
	case <-l.stop:
		return ErrClosed
	}
	select {
	case err := <-e.done:
		return err
	case <-patience.C:
		l.health.fail(ErrStalled)
		if e.claimed.CompareAndSwap(false, true) {
			return ErrStalled // the writer has not taken it, and never will
		}
		return errHanging
	case <-l.gone:
		select {
		case err := <-e.done:
			return err
		default:
			return ErrClosed
		}
	}
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
		l.enqueue(&entry{done: make(chan error, 1)}) // an error is in health already
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
		if err := l.submit(l.quotas.of(t.key.src), t.event(l.opts.uid()), last); err != nil {
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

// health is the last error, until a write or sync succeeds.
type health struct {
	mu  sync.Mutex
	err error
}

func (h *health) fail(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	return err
}

func (h *health) ok() { h.fail(nil) }

func (h *health) get() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
