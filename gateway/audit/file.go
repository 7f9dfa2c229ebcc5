package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// file is what the log needs of the disk. Writes go to the end.
type file interface {
	io.Writer
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// logFile is a file whose Sync keeps data and length, and leaves times alone.
type logFile struct{ *os.File }

func (f logFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return err
		}
	}
}

func openFile(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	return logFile{f}, nil
}

// lockFile takes the lock that keeps a second gateway from writing the same chain.
// The kernel drops it with the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("audit: another process writes this log (it holds %s): stop it, or name another audit.file", path)
		}
		return nil, fmt.Errorf("audit: lock %s: %w", path, err)
	}
	return f, nil
}

// syncDir makes renames in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// rotatedName is where the live file goes: audit.jsonl, whose last event has number
// 1234, becomes audit-000000001234.jsonl. A name that is taken is never overwritten.
func rotatedName(live string, last uint64) (string, error) {
	ext := filepath.Ext(live)
	stem := strings.TrimSuffix(live, ext)
	for i := 1; i < 1000; i++ {
		name := fmt.Sprintf("%s-%012d%s", stem, last, ext)
		if i > 1 {
			name = fmt.Sprintf("%s-%012d.%d%s", stem, last, i, ext)
		}
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
	}
	return "", fmt.Errorf("audit: too many rotated files end with event %d: move some away", last)
}

// newestRotated finds the rotated file of live with the highest number, or "".
func newestRotated(live string) (string, error) {
	ext := filepath.Ext(live)
	prefix := strings.TrimSuffix(filepath.Base(live), ext) + "-"
	entries, err := os.ReadDir(filepath.Dir(live))
	if err != nil {
		return "", err
	}
	newest, highest := "", uint64(0)
	for _, entry := range entries {
		name := entry.Name()
		number, ok := strings.CutPrefix(strings.TrimSuffix(name, ext), prefix)
		if !ok || !strings.HasSuffix(name, ext) {
			continue
		}
		number, _, _ = strings.Cut(number, ".")
		last, err := strconv.ParseUint(number, 10, 64)
		if err == nil && len(number) >= 12 && last >= highest {
			newest, highest = filepath.Join(filepath.Dir(live), name), last
		}
	}
	return newest, nil
}
