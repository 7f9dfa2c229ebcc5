package budget

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	journalName   = "budget.journal"
	damagedSuffix = ".damaged"
	header        = "bulkhead-budget 1\n"
	// damagedKey is the account that says when the journal was found damaged; no rule
	// has an empty name.
	damagedKey = ""
	// maxLine is above what a key of maxKey bytes can be written as.
	maxLine = 4096
	// slack is how much the journal may grow before it is rewritten.
	slack = 4 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one line: the account's bucket that ends at end is charged bytes. The
// last line about a bucket counts.
type record struct {
	at, end, window, bytes int64
	key                    string
}

// append writes the record as a line with its checksum before it.
func (r *record) append(to []byte) []byte {
	start := len(to)
	to = append(to, "00000000 "...)
	for _, v := range [...]int64{r.at, r.end, r.window, r.bytes} {
		to = append(strconv.AppendInt(to, v, 10), ' ')
	}
	to = strconv.AppendQuote(to, r.key)
	sum := crc32.Checksum(to[start+9:], castagnoli)
	const digits = "0123456789abcdef"
	for i := range 8 {
		to[start+i] = digits[sum>>(28-4*i)&15]
	}
	return append(to, '\n')
}

// parse reads a line, and only one that append could have written.
func parse(line []byte) (r record, ok bool) {
	fields := bytes.SplitN(bytes.TrimSuffix(line, []byte{'\n'}), []byte{' '}, 6)
	if len(fields) != 6 {
		return r, false
	}
	for i, v := range [...]*int64{&r.at, &r.end, &r.window, &r.bytes} {
		n, err := strconv.ParseInt(string(fields[i+1]), 10, 64)
		if err != nil || n < 0 || n > maxBytes {
			return r, false
		}
		*v = n
	}
	key, err := strconv.Unquote(string(fields[5]))
	if err != nil || len(key) > maxKey || r.window > maxWindow.Milliseconds() || r.end > r.at+r.window+maxWindow.Milliseconds() {
		return r, false
	}
	r.key = key
	return r, bytes.Equal(r.append(nil), line)
}

var errCorrupt = errors.New("damaged")

// read replays a journal. What is broken at its end, and only there, is a write that a
// crash cut short: nothing was granted for it. It returns the latest time.
func read(from io.Reader, each func(record) bool) (latest int64, err error) {
	in := bufio.NewReaderSize(from, maxLine)
	first, err := in.ReadSlice('\n')
	if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
		return 0, err
	}
	if string(first) != header {
		return 0, fmt.Errorf("%w: line 1 is not the header", errCorrupt)
	}
	broken := 0
	for line := 2; ; line++ {
		text, err := in.ReadSlice('\n')
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return latest, err // the disk's fault: the caller must not go on with a part
		}
		if len(text) == 0 {
			return latest, nil
		}
		r, ok := parse(text)
		switch {
		case !ok && broken == 0:
			broken = line
		case ok && broken != 0:
			return latest, fmt.Errorf("%w: line %d", errCorrupt, broken)
		case ok:
			latest = max(latest, r.at)
			if !each(r) {
				return latest, fmt.Errorf("%w: more than %d accounts", errCorrupt, maxAccounts)
			}
		}
	}
}

// Open reads the ledger in a directory, or begins one. The journal is rewritten at
// once, which also shows whether it can be. The clock is time.Now but in tests.
func Open(dir string, now func() time.Time) (*Ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		return nil, fmt.Errorf("budget: %s is in use: %w", dir, err)
	}
	l := &Ledger{path: filepath.Join(dir, journalName), dir: d, clock: now, accounts: map[string]*account{}, next: 1}
	l.wrote = sync.NewCond(&l.mu)
	if err = l.load(); err == nil {
		err = l.rewrite(l.snapshot(l.now()))
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("budget: %w", err)
	}
	return l, nil
}

func (l *Ledger) load() error {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	l.floor, err = read(f, l.replay)
	now := l.now()
	if errors.Is(err, errCorrupt) {
		l.damaged = now
		err = os.Link(l.path, l.path+damagedSuffix)
		if errors.Is(err, fs.ErrExist) { // the first one is kept
			err = nil
		}
	}
	l.sweep(now)
	return err
}

func (l *Ledger) replay(r record) bool {
	if r.key == damagedKey {
		l.damaged = max(l.damaged, r.end)
		return true
	}
	a := l.accounts[r.key]
	if a == nil {
		if len(l.accounts) >= 2*maxAccounts { // those that ended since are still in it
			return false
		}
		a = &account{}
		l.accounts[r.key] = a
	}
	a.window = r.window
	i := len(a.buckets)
	for i > 0 && a.buckets[i-1].end >= r.end {
		i--
	}
	if i < len(a.buckets) && a.buckets[i].end == r.end {
		a.buckets[i].used, a.buckets[i].charged = r.bytes, r.bytes
		return true
	}
	a.buckets = append(a.buckets, bucket{})
	copy(a.buckets[i+1:], a.buckets[i:])
	a.buckets[i] = bucket{end: r.end, used: r.bytes, charged: r.bytes}
	a.prune(r.at)
	a.bound()
	return true
}

// charge puts a bucket's bytes into the next write.
func (l *Ledger) charge(key string, window, now int64, b *bucket, n int64) {
	b.charged, b.seq = n, l.next
	l.pending = (&record{at: now, end: b.end, window: window, bytes: n, key: key}).append(l.pending)
}

// commit waits until a write is on disk. Who finds nobody writing writes for all that
// have come by then.
func (l *Ledger) commit(seq uint64, now int64) error {
	for l.done < seq && l.err == nil {
		if l.writing {
			l.wrote.Wait()
			continue
		}
		l.flush(now, l.size > 2*l.base+slack)
	}
	return l.err
}

// flush writes what is pending, or the whole journal anew. The lock is held, but not
// while the disk works.
func (l *Ledger) flush(now int64, anew bool) {
	batch, upto := l.pending, l.next
	if anew {
		batch = l.snapshot(now)
	}
	l.pending, l.next, l.writing = nil, l.next+1, true
	l.mu.Unlock()
	var err error
	if anew {
		err = l.rewrite(batch)
	} else {
		err = l.write(batch)
	}
	l.mu.Lock()
	l.writing, l.done, l.err = false, upto, nil
	if err != nil {
		l.err, l.failed = fmt.Errorf("%w: %w", ErrDisk, err), now
	}
	l.wrote.Broadcast()
}

// writable reports whether charges can be written. After a failure nobody knows what the
// journal ends with, so it is rewritten, from time to time, until that succeeds.
func (l *Ledger) writable(now int64) bool {
	if l.closed {
		return false
	}
	if l.err != nil && !l.writing && now >= l.failed+retry.Milliseconds() {
		l.flush(now, true)
	}
	return l.err == nil && !l.closed
}

func (l *Ledger) write(batch []byte) error {
	if _, err := l.file.Write(batch); err != nil {
		return err
	}
	l.size += int64(len(batch))
	return unix.Fdatasync(int(l.file.Fd()))
}

// snapshot is a journal of what is in its window. What was charged ahead stays charged:
// grants may come out of it while this is written.
func (l *Ledger) snapshot(now int64) []byte {
	l.sweep(now)
	out := []byte(header)
	// It also keeps the time, without which a clock set back would end no window early.
	out = (&record{at: now, end: l.damaged, key: damagedKey}).append(out)
	for key, a := range l.accounts {
		for _, b := range a.buckets {
			out = (&record{at: now, end: b.end, window: a.window, bytes: b.charged, key: key}).append(out)
		}
	}
	return out
}

// rewrite puts a whole journal in the place of the old one.
func (l *Ledger) rewrite(all []byte) error {
	f, err := os.OpenFile(l.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(all)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), l.path)
	}
	if err == nil {
		err = l.dir.Sync()
	}
	if err != nil {
		f.Close()
		return err
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.size, l.base = f, int64(len(all)), int64(len(all))
	return nil
}

// Close writes what was really granted, without what was charged ahead. Flows that
// still hold grants have used them.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.writing {
		l.wrote.Wait()
	}
	if l.closed {
		return nil
	}
	l.closed = true
	for _, a := range l.accounts {
		for i := range a.buckets {
			a.buckets[i].charged = a.buckets[i].used
		}
	}
	l.flush(l.now(), true)
	return errors.Join(l.err, l.file.Close(), l.dir.Close())
}
