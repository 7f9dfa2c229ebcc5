package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// Report is what Verify found.
type Report struct {
	Files       []string `json:"files"` // in the order of the chain
	Events      int64    `json:"events"`
	First       uint64   `json:"first"` // numbers of the first and last event
	Last        uint64   `json:"last"`
	Hash        string   `json:"hash"` // of the last event
	Checkpoints int      `json:"checkpoints"`
	Unsigned    int64    `json:"unsigned"` // events after the last checkpoint
	Keys        []string `json:"keys"`     // fingerprints of the keys that signed
	Warnings    []Place  `json:"warnings,omitempty"`
	Breaks      []Place  `json:"breaks,omitempty"` // the first hundred
	Broken      bool     `json:"broken"`
}

// Place is one thing that is wrong with a log, and where.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"`          // from 1; 0 for the file as a whole
	Seq  uint64 `json:"seq,omitempty"` // as far as it is known
	What string `json:"what"`
}

// String is the place as file:line and the sentence.
func (p Place) String() string {
	where := p.File
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	if p.Seq > 0 {
		where = fmt.Sprintf("%s: event %d", where, p.Seq)
	}
	return where + ": " + p.What
}

const maxPlaces = 100

// Verify reads the files of one log, in any order, and checks every hash, every link and
// every signature. A file that cannot be read is an error; whatever is wrong with its
// content is in the report. A line torn at the end of the last file is a warning,
// and so are earlier files that were not given. Where a head file lies beside a
// log file, the chain must reach what it says.
func Verify(files ...string) (Report, error) { return VerifyTrusting("", files...) }

// VerifyTrusting is Verify for somebody who knows the gateway's fingerprint (see
// [Log.Fingerprint]): every checkpoint must be signed with that key, and there must be one.
func VerifyTrusting(fingerprint string, files ...string) (Report, error) {
	v := verifier{trusted: fingerprint, heads: map[uint64]*headAt{}}
	if len(files) == 0 {
		return v.report, errors.New("audit: name at least one log file")
	}
	ordered, err := inOrder(files)
	if err != nil {
		return v.report, fmt.Errorf("audit: %w", err)
	}
	for _, path := range ordered {
		v.loadHead(path)
	}
	for i, path := range ordered {
		f, err := os.Open(path)
		if err != nil {
			return v.report, fmt.Errorf("audit: %w", err)
		}
		err = v.scan(path, f, i == len(ordered)-1)
		f.Close()
		if err != nil {
			return v.report, fmt.Errorf("audit: read %s: %w", path, err)
		}
	}
	v.finish()
	return v.report, nil
}

// inOrder sorts files by the number of their first event. What has none keeps its
// place at the end.
func inOrder(files []string) ([]string, error) {
	type numbered struct {
		path  string
		first uint64
	}
	var all []numbered
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		raw, _, err := readLine(bufio.NewReaderSize(f, maxLine))
		f.Close()
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		n := numbered{path, ^uint64(0)}
		if l, err := parseLine(raw); err == nil {
			n.first = l.Seq
		}
		all = append(all, n)
	}
	slices.SortStableFunc(all, func(a, b numbered) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	out := make([]string, len(all))
	for i, n := range all {
		out[i] = n.path
	}
	return out, nil
}

// readLine returns the next line without its newline; whole is false where the
// file ended first. bufio.ErrBufferFull says that the line was too long and has been passed over.
func readLine(r *bufio.Reader) (raw []byte, whole bool, err error) {
	raw, err = r.ReadSlice('\n')
	if err == nil {
		return raw[:len(raw)-1], true, nil
	}
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return nil, false, err
		}
		return nil, err == nil, bufio.ErrBufferFull
	}
	return raw, false, err
}

// headAt is a signed statement of the head, to be met on the way.
type headAt struct {
	file string
	*Statement
}

type verifier struct {
	report  Report
	trusted string
	heads   map[uint64]*headAt
	last    link
	resync  bool // the line before was no event
}

func (v *verifier) broken(p Place) {
	v.report.Broken = true
	if len(v.report.Breaks) < maxPlaces {
		v.report.Breaks = append(v.report.Breaks, p)
	}
}

func (v *verifier) warn(p Place) {
	if len(v.report.Warnings) < maxPlaces {
		v.report.Warnings = append(v.report.Warnings, p)
	}
}

func (v *verifier) loadHead(path string) {
	name := headName(path)
	s, err := readHead(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.As(err, new(*fs.PathError)):
		v.warn(Place{File: name, What: "a cut end of the log would not be seen: " + err.Error()})
	case err != nil:
		v.broken(Place{File: name, What: err.Error()})
	case v.trusted != "" && s.Fingerprint != v.trusted:
		v.broken(Place{File: name, What: "signed with " + s.Fingerprint + ", not with the trusted key"})
	default:
		v.heads[s.Seq] = &headAt{path, s}
	}
}

// scan reads one file. The line that a crash tore can only be at the end of the
// last file.
func (v *verifier) scan(path string, in io.Reader, isLast bool) error {
	v.report.Files = append(v.report.Files, path)
	r := bufio.NewReaderSize(in, maxLine)
	for at := (Place{File: path, Line: 1}); ; at.Line++ {
		raw, whole, err := readLine(r)
		switch {
		case err == io.EOF && len(raw) == 0:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			v.lose(at, "longer than 64 KiB")
			continue
		case err != nil && err != io.EOF:
			return err
		}
		l, err := parseLine(raw)
		switch {
		case err != nil && !whole && isLast:
			v.warn(Place{File: path, Line: at.Line, What: "the last line is torn: a crash cut it, or it is being written"})
		case err != nil:
			v.lose(at, err.Error())
		default:
			v.event(at, l)
		}
		if !whole {
			return nil
		}
	}
}

// lose breaks the chain at a line that is no event. The next line begins anew, so
// that one break is not reported twice.
func (v *verifier) lose(at Place, what string) {
	at.What = what
	v.broken(at)
	v.resync = true
}
