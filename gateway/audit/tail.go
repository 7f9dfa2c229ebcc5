package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// NoticeKind is what the log found out about itself.
type NoticeKind string

const (
	TornTail       NoticeKind = "torn-tail"       // a crash left half a line, which was moved aside
	CutTail        NoticeKind = "cut-tail"        // events that the disk had taken are gone
	DamagedTail    NoticeKind = "damaged-tail"    // the last line is not what was written
	BadHead        NoticeKind = "bad-head"        // the head file cannot be believed
	DroppedDenials NoticeKind = "dropped-denials" // denials and repeats that were neither written nor counted
	DroppedEnds    NoticeKind = "dropped-ends"    // ends of permitted flows that were not written
	DiskFull       NoticeKind = "disk-full"       // what is permitted stops
	SpaceReturned  NoticeKind = "space-returned"  // the disk has room again
	SyncFailed     NoticeKind = "sync-failed"     // the disk refused to keep events; a loss of power may have cost some
)

// notice is a finding of the log about itself.
type notice struct {
	kind NoticeKind
	text string
}

// tail is where a log stopped.
type tail struct {
	at      link
	size    int64 // of the live file, up to the end of the last line
	notices []notice
}

func (t *tail) note(kind NoticeKind, format string, args ...any) {
	t.notices = append(t.notices, notice{kind, fmt.Sprintf(format, args...)})
}

// findTail finds where the log stopped, and mends a torn end. The chain is
// continued from whichever is later, the last line or the signed head; so where lines are
// gone the gap stays in the chain for everybody to see.
func findTail(live string, signer *signer) (tail, error) {
	t := tail{at: link{hash: genesis}}
	size, err := mend(live, &t)
	if err != nil {
		return t, err
	}
	t.size = size
	last := live
	if size == 0 {
		if last, err = newestRotated(live); err != nil {
			return t, err
		}
	}
	if last != "" {
		at, err := lastLink(last)
		switch {
		case err == nil:
			t.at = at
		case errors.Is(err, errNotLinked):
			t.note(DamagedTail, "the last line of %s is not an event as it was written", last)
		default:
			return t, err
		}
	}
	head, err := readHead(headName(live))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t, nil
	case err != nil:
		t.note(BadHead, "the head file: %v", err)
	case head.Fingerprint != signer.fingerprint:
		t.note(BadHead, "the head file is signed by %s, not by this gateway's key", head.Fingerprint)
	case head.Seq > t.at.seq:
		t.note(CutTail, "the log ends with event %d, but event %d had been kept", t.at.seq, head.Seq)
		t.at = link{seq: head.Seq, hash: head.Hash}
	case head.Seq == t.at.seq && head.Hash != t.at.hash:
		t.note(DamagedTail, "event %d is not the one that had been kept", head.Seq)
		t.at = link{seq: head.Seq, hash: head.Hash}
	}
	return t, nil
}

// mend moves what follows the last newline to the file `….torn` and returns the
// length of what is left.
func mend(live string, t *tail) (int64, error) {
	f, err := os.OpenFile(live, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	keep, err := lineStart(f, size)
	if err != nil || keep == size {
		return size, err
	}
	torn, err := os.OpenFile(live+".torn", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(torn, io.NewSectionReader(f, keep, size-keep))
	if err == nil {
		_, err = torn.WriteString("\n")
	}
	if err = errors.Join(err, torn.Sync(), torn.Close()); err != nil {
		return 0, fmt.Errorf("move the torn end of the log aside: %w", err)
	}
	t.note(TornTail, "%d bytes after the last whole line were moved to %s.torn", size-keep, live)
	return keep, f.Truncate(keep)
}

// lineStart returns the offset behind the last newline before end.
func lineStart(f io.ReaderAt, end int64) (int64, error) {
	buf := make([]byte, maxLine)
	for end > 0 {
		from := max(end-int64(len(buf)), 0)
		chunk := buf[:end-from]
		if _, err := f.ReadAt(chunk, from); err != nil && err != io.EOF {
			return 0, err
		}
		if i := bytes.LastIndexByte(chunk, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

var errNotLinked = errors.New("not an event as it was written")

// lastLink reads the link of a file's last line; the file ends with a newline.
func lastLink(path string) (link, error) {
	f, err := os.Open(path)
	if err != nil {
		return link{}, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return link{}, err
	}
	if size == 0 {
		return link{}, errNotLinked
	}
	start, err := lineStart(f, size-1)
	if err != nil {
		return link{}, err
	}
	if size-start > maxLine {
		return link{}, errNotLinked
	}
	line := make([]byte, size-1-start)
	if _, err := f.ReadAt(line, start); err != nil && err != io.EOF {
		return link{}, err
	}
	parsed, err := parseLine(line)
	if err != nil || !parsed.intact {
		return link{}, errNotLinked
	}
	return parsed.link(), nil
}

// headName is the file with the signed statement of the last event that was kept.
func headName(live string) string { return live + ".head" }

func readHead(path string) (*Statement, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLine))
	if err != nil {
		return nil, err
	}
	var s Statement
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%s is not a statement: %w", path, err)
	}
	if s.Kind != Head {
		return nil, fmt.Errorf("%s is not a statement of the head", path)
	}
	if err := s.verify(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &s, nil
}
