package audit

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/gowebpki/jcs"
)

// maxLine bounds a line that is read or written, in bytes.
const maxLine = 64 << 10

// line is what the chain needs of an event that was read back.
type line struct {
	position
	intact bool // the hash is that of the content
}

type position struct {
	Checkpoint *Statement `json:"checkpoint"`
	Hash       string     `json:"hash"`
	PrevHash   string     `json:"prev_hash"`
	Seq        uint64     `json:"seq"`
	Stage      string     `json:"stage"`
}

func (l *line) link() link { return link{seq: l.Seq, hash: l.Hash} }

// parseLine reads one event. The hash is taken over the canonical form, so that a
// line which some other program wrote anew with other spacing is still the same event.
func parseLine(raw []byte) (*line, error) {
	canonical := raw
	l, ours := parseOurs(raw)
	if !ours {
		var err error
		if canonical, err = jcs.Transform(raw); err != nil {
			return nil, errors.New("not one JSON object")
		}
		var e struct {
			Unmapped position `json:"unmapped"`
		}
		if err := json.Unmarshal(canonical, &e); err != nil {
			return nil, errors.New("not an event: a member of unmapped has the wrong type")
		}
		l.position = e.Unmapped
	}
	if len(l.Hash) != len(genesis) || len(l.PrevHash) != len(genesis) {
		return nil, errors.New("not an event: unmapped.hash and unmapped.prev_hash must be 64 hex digits")
	}
	sum, ok := hashOf(canonical, l.PrevHash)
	l.intact = ok && sum == l.Hash
	return &l, nil
}

// parseOurs reads a line that is as this log writes it, which it then is byte for byte
// when it is encoded again, and so canonical. That is four times as fast as to make any
// JSON canonical.
func parseOurs(raw []byte) (line, bool) {
	var e Event
	if json.Unmarshal(raw, &e) != nil {
		return line{}, false
	}
	if !bytes.Equal(raw, e.appendTo(make([]byte, 0, len(raw)+1), nil)) {
		return line{}, false
	}
	u := &e.Unmapped
	return line{position: position{u.Checkpoint, u.Hash, u.PrevHash, u.Seq, u.Stage}}, true
}
