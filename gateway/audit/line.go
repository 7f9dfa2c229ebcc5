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
	Time     int64 `json:"time"`
	Unmapped struct {
		Checkpoint *Statement `json:"checkpoint"`
		Hash       string     `json:"hash"`
		PrevHash   string     `json:"prev_hash"`
		Seq        uint64     `json:"seq"`
		Stage      string     `json:"stage"`
	} `json:"unmapped"`

	intact bool // the hash is that of the content
}

func (l *line) link() link { return link{seq: l.Unmapped.Seq, hash: l.Unmapped.Hash} }

// parseLine reads one event. The hash is taken over the canonical form, so that a
// line which some other program wrote anew with other spacing is still the same event.
func parseLine(raw []byte) (*line, error) {
	canonical, err := jcs.Transform(raw)
	if err != nil {
		return nil, errors.New("not one JSON object")
	}
	var l line
	if err := json.Unmarshal(canonical, &l); err != nil {
		return nil, errors.New("not an event: a member has the wrong type")
	}
	if len(l.Unmapped.Hash) != len(genesis) || len(l.Unmapped.PrevHash) != len(genesis) {
		return nil, errors.New("not an event: unmapped.hash and unmapped.prev_hash must be 64 hex digits")
	}
	sum, ok := hashOf(bytes.TrimSpace(canonical), l.Unmapped.PrevHash)
	l.intact = ok && sum == l.Unmapped.Hash
	return &l, nil
}
