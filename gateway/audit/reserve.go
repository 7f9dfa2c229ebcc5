package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrFull says that the log's disk is full. Decisions that permit are refused; the
// ends of flows, and the log's own word about it, go into the space that was reserved.
var ErrFull = fmt.Errorf("audit: the log's disk is full; free space on it: %w", unix.ENOSPC)

// headroom is what must be free beside the reserve before a log that was full takes
// events again, so that it does not change its mind with every event.
const headroom = 1 << 20

// noSpace reports whether the disk refused for want of room.
func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// reserve is a file of allocated and unused space beside the log. When the disk is full
// it is given up, and what it held takes the events that cannot be refused: the ends of
// flows that were permitted before, and the notice that the log is full.
type reserve struct {
	path string
	size int64
}

// take allocates the space, or fails without having used any. What an earlier run has
// left is taken over.
func (r *reserve) take() error {
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("audit: reserve %d MiB beside the log: %w", r.size>>20, err)
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, r.size)
	if errors.Is(err, unix.EOPNOTSUPP) { // a file system that cannot promise: use the space
		err = fillUp(f, r.size)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		r.give()
		return fmt.Errorf("audit: reserve %d MiB beside the log, for the ends of flows should the disk fill up: %w", r.size>>20, err)
	}
	return nil
}

func fillUp(f *os.File, size int64) error {
	block := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(block)) {
		if _, err := f.WriteAt(block[:min(int64(len(block)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// give hands the space back to the disk.
func (r *reserve) give() { os.Remove(r.path) }

// free is how much the disk of the log still has, in bytes.
func (r *reserve) free() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(r.path), &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// fill gives the reserve up when the disk is full for the first time.
func (l *Log) fill() {
	w := &l.writer
	if w.full.CompareAndSwap(false, true) {
		l.reserve.give()
		w.mu.Lock()
		w.filled = true
		w.mu.Unlock()
	}
}

// recover ends the state of being full once the reserve and some more is to be had.
func (l *Log) recover() {
	if l.reserve.take() != nil {
		return
	}
	if free, err := l.reserve.free(); err != nil || free < headroom {
		l.reserve.give()
		return
	}
	w := &l.writer
	w.mu.Lock()
	w.emptied = true
	w.mu.Unlock()
	w.full.Store(false)
}
