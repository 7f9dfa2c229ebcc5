package audit

import (
	"fmt"
	"slices"
)

// event checks one event that could be read: its hash, its link, its signature.
func (v *verifier) event(at Place, l *line) {
	at.Seq = l.Seq
	wrong := func(format string, args ...any) {
		at.What = fmt.Sprintf(format, args...)
		v.broken(at)
	}
	if !l.intact {
		wrong("altered: its hash is not that of its content")
	}
	switch {
	case v.resync:
	case v.report.Events == 0:
		v.first(at, l)
	case at.Seq == v.last.seq+1 && l.PrevHash == v.last.hash:
	case at.Seq == v.last.seq+1:
		wrong("it does not follow the event before it, whose hash is another")
	case at.Seq == v.last.seq+2:
		wrong("event %d is missing before it", v.last.seq+1)
	case at.Seq > v.last.seq:
		wrong("events %d to %d are missing before it", v.last.seq+1, at.Seq-1)
	default:
		wrong("it stands after event %d: out of order, or inserted", v.last.seq)
	}
	v.report.Events++
	v.report.Unsigned++
	if l.Stage == StageCheckpoint {
		v.checkpoint(at, l)
	}
	if h := v.heads[at.Seq]; h != nil {
		if h.Hash != l.Hash {
			wrong("it is not the event that the head file signed")
		}
		delete(v.heads, at.Seq)
	}
	v.last, v.resync = l.link(), false
	v.report.Last, v.report.Hash = at.Seq, l.Hash
}

// first checks the first event of all. A log begins with number 1 and 64 zeros; where
// earlier files are archived elsewhere, the first file given begins with the
// checkpoint that rotation writes.
func (v *verifier) first(at Place, l *line) {
	v.report.First = at.Seq
	s := l.Checkpoint
	switch {
	case l.PrevHash == genesis && at.Seq <= 1:
	case l.PrevHash == genesis:
		at.What = fmt.Sprintf("it claims to be the first event of the log, but its number is %d", at.Seq)
		v.broken(at)
	case at.Line == 1 && l.Stage == StageCheckpoint && s != nil && s.Kind == Opening:
		at.What = fmt.Sprintf("the log goes on from event %d, whose file was not given", at.Seq-1)
		v.warn(at)
	default:
		at.What = "the events before it are missing: neither a log nor a rotated file begins like this"
		v.broken(at)
	}
}

func (v *verifier) checkpoint(at Place, l *line) {
	wrong := func(what string) {
		at.What = what
		v.broken(at)
	}
	s := l.Checkpoint
	if s == nil {
		wrong("a checkpoint without a statement")
		return
	}
	if err := s.verify(); err != nil {
		wrong("a checkpoint whose statement is not authentic: " + err.Error())
		return
	}
	if s.Seq+1 != l.Seq || s.Hash != l.PrevHash {
		wrong("a checkpoint that was signed for another place in the chain")
		return
	}
	if v.trusted != "" && s.Fingerprint != v.trusted {
		wrong("a checkpoint signed with " + s.Fingerprint + ", not with the trusted key")
		return
	}
	v.report.Checkpoints++
	v.report.Unsigned = 0
	if slices.Contains(v.report.Keys, s.Fingerprint) || len(v.report.Keys) == maxPlaces {
		return
	}
	if len(v.report.Keys) > 0 {
		at.What = "signed with another key than the checkpoints before it: " + s.Fingerprint
		v.warn(at)
	}
	v.report.Keys = append(v.report.Keys, s.Fingerprint)
}

// finish checks what only the end shows.
func (v *verifier) finish() {
	for _, h := range v.heads {
		if h.Seq > v.report.Last {
			v.broken(Place{File: h.file, Seq: v.report.Last, What: fmt.Sprintf(
				"the log is cut: its head file signs event %d", h.Seq)})
		}
	}
	switch {
	case v.report.Events == 0:
		v.warn(Place{File: v.report.Files[len(v.report.Files)-1], What: "no events"})
	case v.trusted != "" && v.report.Checkpoints == 0:
		v.broken(Place{File: v.report.Files[0], What: "no checkpoint is signed with the trusted key"})
	}
}
