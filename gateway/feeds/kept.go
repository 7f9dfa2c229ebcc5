package feeds

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	// fetchedExt ends the name of a file that was fetched. One file holds the feed and, in a comment before it, where
	// it is from, so that the two cannot come apart.
	fetchedExt = ".fetched"
	mark       = "# bulkhead "
	drafts     = ".draft-"
)

// What an operator would want to look at before it is believed: a feed that has lost more than half of what it held, or
// holds ten times as much. Lists of a few entries come and go, and may.
const (
	fewEntries   = 100
	fewAddresses = 1 << 16
	growth       = 10
	// patience is for how long odd data is refused, counted from when the data that is kept was last confirmed. A week is time to look;
	// after that the change is taken for what its publisher means.
	patience = 7 * 24 * time.Hour
)

// Kept says where the data of a feed is from.
type Kept struct {
	URL       string    `json:"url"` // its digest: the URL may hold a key
	ETag      string    `json:"etag,omitempty"`
	Modified  string    `json:"modified,omitempty"` // as the server wrote it
	SHA256    string    `json:"sha256"`
	Fetched   time.Time `json:"fetched"`
	Entries   int       `json:"entries"`
	Addresses uint64    `json:"addresses"`

	Current time.Time `json:"-"` // when its server last said that this is the feed; the file's time
	usable  bool
}

// Kept reads what is kept of a feed; zero where there is nothing.
func (f *Fetcher) Kept(feed policy.Feed) (Kept, error) {
	var k Kept
	file, err := openRegular(f.path(feed))
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	} else if err != nil {
		return k, fmt.Errorf("%s: %w", f.path(feed), err)
	}
	defer file.Close()
	line, err := bufio.NewReaderSize(file, maxLine).ReadSlice('\n')
	text, ok := bytes.CutPrefix(line, []byte(mark))
	if err != nil || !ok || json.Unmarshal(text, &k) != nil {
		return Kept{}, nil // not ours any more: it is fetched anew
	}
	sum := sha256.New()
	if _, err := file.Seek(int64(len(line)), io.SeekStart); err != nil {
		return Kept{}, err
	}
	if _, err := io.Copy(sum, file); err != nil {
		return Kept{}, err
	}
	info, err := file.Stat()
	if err != nil {
		return Kept{}, err
	}
	k.Current = info.ModTime()
	// A file that was damaged, or of another URL, is used for what it holds, and asked for whole.
	k.usable = k.URL == digest(feed.URL) && k.SHA256 == hex.EncodeToString(sum.Sum(nil))
	return k, nil
}

// Fetched reports whether a file of that name is one that a Fetcher keeps.
func Fetched(name string) bool { return filepath.Ext(name) == fetchedExt }

func (f *Fetcher) path(feed policy.Feed) string { return filepath.Join(f.dir, feed.Name+fetchedExt) }

// confirm notes that what is kept is still the feed.
func (f *Fetcher) confirm(feed policy.Feed) error {
	now := f.now()
	return os.Chtimes(f.path(feed), now, now)
}

// odd says why data may not follow what is kept, for a while.
func odd(last, now Kept) error {
	const until = "; if it stays so, it is taken once the data in force is a week old"
	switch {
	case last.Entries >= fewEntries && now.Entries < last.Entries/2:
		return fmt.Errorf("it shrank from %d entries to %d"+until, last.Entries, now.Entries)
	case now.Entries > growth*max(last.Entries, fewEntries):
		return fmt.Errorf("it grew from %d entries to %d"+until, last.Entries, now.Entries)
	case now.Addresses > growth*max(last.Addresses, fewAddresses):
		return fmt.Errorf("it grew from %d addresses to %d"+until, last.Addresses, now.Addresses)
	}
	return nil
}

func digest(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:])
}

// draft is a body on its way to be kept: on disk and not in memory, which it could fill.
type draft struct {
	file *os.File
	hash hash.Hash
	body io.Writer
}

func newDraft(dir string) (*draft, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, drafts+"*")
	if err != nil {
		return nil, err
	}
	d := &draft{file: file, hash: sha256.New()}
	d.body = io.MultiWriter(file, d.hash)
	return d, nil
}

func (d *draft) discard() {
	d.file.Close()
	os.Remove(d.file.Name())
}

func (d *draft) sum() string { return hex.EncodeToString(d.hash.Sum(nil)) }

func (d *draft) parse(format string) (policy.FeedData, Stats, error) {
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return policy.FeedData{}, Stats{}, err
	}
	return Parse(format, d.file)
}

// keep writes the file that is kept, in one step.
func (d *draft) keep(path string, k Kept) error {
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return replace(path, k.Fetched, io.MultiReader(strings.NewReader(mark), bytes.NewReader(text), strings.NewReader("\n"), d.file))
}

// replace writes a file in one step, with a time of its own.
func replace(path string, at time.Time, content io.Reader) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), drafts+"*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, content)
	if err = errors.Join(err, tmp.Chmod(0o640), tmp.Sync(), tmp.Close()); err == nil {
		err = os.Chtimes(tmp.Name(), at, at)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	return err
}

// sweepDrafts removes what a process that was killed left. What is young another may be writing.
func sweepDrafts(dir string, now time.Time) {
	left, _ := filepath.Glob(filepath.Join(dir, drafts+"*"))
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && now.Sub(info.ModTime()) > time.Hour {
			os.Remove(path)
		}
	}
}
