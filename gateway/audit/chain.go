package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
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
	line []byte
	cut  cut
}

// cut says where in a draft the link belongs: the member `hash`, and the value of
// `prev_hash` with the member `seq`.
type cut struct{ hash, prev int }

const (
	hashKey = `"hash":"`
	seqKey  = `","seq":`
)

// write makes d the draft of e.
func (d *draft) write(e *Event) { d.line = e.appendTo(d.line[:0], &d.cut) }

// size is about how long the line will be, in bytes.
func (d *draft) size() int { return len(d.line) + 2*len(genesis) + len(hashKey) + len(seqKey) + 16 }

// appendLinked appends the event as a line after last and returns its own place.
func (d *draft) appendLinked(buf []byte, last link, sum hash.Hash) ([]byte, link) {
	head, mid, tail := d.line[:d.cut.hash], d.line[d.cut.hash:d.cut.prev], d.line[d.cut.prev:]
	buf = append(buf, head...)
	buf = append(buf, hashKey...)
	at := len(buf)
	buf = append(buf, genesis...)
	buf = append(buf, '"', ',')
	rest := len(buf)
	buf = append(buf, mid...)
	prev := len(buf)
	buf = append(buf, last.hash...)
	buf = append(buf, seqKey...)
	buf = strconv.AppendUint(buf, last.seq+1, 10)
	buf = append(buf, tail...)

	sum.Reset()
	sum.Write(buf[prev : prev+len(last.hash)])
	sum.Write(head)
	sum.Write(buf[rest:])
	var space [sha256.Size]byte
	hex.Encode(buf[at:], sum.Sum(space[:0]))
	next := link{seq: last.seq + 1, hash: string(buf[at : at+len(genesis)])}
	return append(buf, '\n'), next
}

// hashOf is the hash that a canonical line should carry: over prevHash and the line
// without its member `hash`. It reports false where that member is not found once.
func hashOf(line []byte, prevHash string) (string, bool) {
	at := bytes.Index(line, []byte(hashKey))
	if at < 0 || at != bytes.LastIndex(line, []byte(hashKey)) {
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
