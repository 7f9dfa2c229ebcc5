package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// genesis is the hash before the first event, and the placeholder for a hash that
// is not known yet.
var genesis = strings.Repeat("0", 2*sha256.Size)

// link is a place in the chain: the number and the hash of the last event.
type link struct {
	seq  uint64
	hash string
}

// draft is an encoded event without its place in the chain. Events are encoded by
// whoever records them and linked by the one writer, which then only copies and hashes.
type draft struct {
	head []byte // up to the member `hash`
	mid  []byte // after it, up to the value of `prev_hash`
	tail []byte // after the value of `seq`
}

var (
	hashKey = []byte(`"hash":"`)
	prevKey = []byte(`"prev_hash":"`)
	seqKey  = []byte(`","seq":`)
)

var errDraft = errors.New("audit: an event was not encoded as the chain needs it")

// newDraft cuts an encoded event at its link members. The keys are looked for from the end,
// where `unmapped` stands, and cannot be found in a text, where quotes are escaped.
func newDraft(e *Event) (draft, error) {
	line, err := e.encode()
	if err != nil {
		return draft{}, err
	}
	if len(line) > maxLine-1024 { // room for the link
		return draft{}, errors.New("audit: an event is longer than a line may be")
	}
	h := bytes.LastIndex(line, hashKey)
	p := bytes.LastIndex(line, prevKey)
	s := bytes.LastIndex(line, seqKey)
	if h < 0 || p < h || s != p+len(prevKey)+len(genesis) {
		return draft{}, errDraft
	}
	afterHash := h + len(hashKey) + len(genesis) + len(`",`)
	afterSeq := s + len(seqKey) + len("0")
	return draft{head: line[:h], mid: line[afterHash : p+len(prevKey)], tail: line[afterSeq:]}, nil
}

// size is about how long the line will be, in bytes.
func (d *draft) size() int {
	return len(d.head) + len(d.mid) + len(d.tail) + 2*len(genesis) + len(hashKey) + len(seqKey) + 16
}

// appendLinked appends the event as a line after last and returns its own place.
func (d *draft) appendLinked(buf []byte, last link) ([]byte, link) {
	seq := strconv.AppendUint(nil, last.seq+1, 10)
	sum := sha256.New()
	for _, part := range [][]byte{[]byte(last.hash), d.head, d.mid, []byte(last.hash), seqKey, seq, d.tail} {
		sum.Write(part)
	}
	next := link{seq: last.seq + 1, hash: hex.EncodeToString(sum.Sum(nil))}

	buf = append(buf, d.head...)
	buf = append(buf, hashKey...)
	buf = append(buf, next.hash...)
	buf = append(buf, '"', ',')
	buf = append(buf, d.mid...)
	buf = append(buf, last.hash...)
	buf = append(buf, seqKey...)
	buf = append(buf, seq...)
	buf = append(buf, d.tail...)
	return append(buf, '\n'), next
}

// hashOf is the hash that a canonical line should carry: over prevHash and the line
// without its member `hash`. It reports false where that member is not found once.
func hashOf(line []byte, prevHash string) (string, bool) {
	at := bytes.Index(line, hashKey)
	if at < 0 || at != bytes.LastIndex(line, hashKey) {
		return "", false
	}
	value := line[at+len(hashKey):]
	if len(value) < len(genesis)+2 || !bytes.HasPrefix(value[len(genesis):], []byte(`",`)) {
		return "", false
	}
	sum := sha256.New()
	sum.Write([]byte(prevHash))
	sum.Write(line[:at])
	sum.Write(value[len(genesis)+2:])
	return hex.EncodeToString(sum.Sum(nil)), true
}
