package inspect

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	prefaceLen     = len(http2.ClientPreface)
	frameHeaderLen = 9 // RFC 9113, section 4.1

	// A client may send this many frames more than it has earned, and earns one for each
	// framesPerSecond'th of a second and for each bytesPerFrame of content that passes in
	// either direction. What a library sends to keep a stream going (acknowledgements, windows, one
	// PING per round trip to measure it) stays far below.
	frameCredit     = 1000
	framesPerSecond = 33
	bytesPerFrame   = 32
	// Windows are updated per DATA frame received, by some clients for stream and connection each;
	// streams of small events live by them.
	windowsPerFrame = 16

	// unit is a frame's worth of credit, so that both fractions are whole.
	unit = windowsPerFrame * bytesPerFrame
)

// frameGuard is the server's side of an HTTP/2 connection. The server bounds the memory that
// frames take; the guard bounds the frames that do nothing, which cost it work without end: PING, SETTINGS,
// empty DATA and CONTINUATION, requests that are reset at once. It also writes down the requests that the
// server refuses by itself, which reach no handler.
//
// It reads frame headers only, in both directions, and changes nothing, but that after the last frame that
// a client had a right to it puts a malformed one, upon which the server ends the connection
// with a GOAWAY between two frames of its own.
type frameGuard struct {
	net.Conn
	flow *flow
	now  func() time.Time

	// Of the reading side, which one goroutine uses.
	from    frameWalk
	preface int    // bytes of it that are to come
	scratch []byte // for reads for which the server brings too little room
	out     []byte // looked at, to be delivered before anything is read
	over    bool   // the client was cut off, nothing more is read

	to  frameWalk   // of the writing side, which one goroutine uses
	cut atomic.Bool // over, for the writing side

	mu     sync.Mutex
	credit int // in frames times unit
	since  time.Time
}

func newFrameGuard(c net.Conn, f *flow) *frameGuard {
	return &frameGuard{
		Conn: c, flow: f, now: time.Now, since: time.Now(),
		preface: prefaceLen, to: frameWalk{codes: true}, credit: frameCredit * unit,
	}
}

// frame is the head of one, and of some the code that their payload ends a stream or connection with.
type frame struct {
	length int
	kind   http2.FrameType
	code   http2.ErrCode
}

// frameWalk finds the heads of frames in bytes that come in any pieces.
type frameWalk struct {
	codes bool // RST_STREAM and GOAWAY are read up to their code
	head  [frameHeaderLen + 8]byte
	have  int // of head
	left  int // of the payload
}

// next takes bytes up to the end of the next head, whose frame it returns, or all of them.
func (w *frameWalk) next(b []byte) (taken int, f frame, ok bool) {
	taken = min(w.left, len(b))
	w.left -= taken
	for need := frameHeaderLen; ; {
		n := copy(w.head[w.have:need], b[taken:])
		taken += n
		if w.have += n; w.have < need {
			return taken, frame{}, false
		}
		h := w.head
		f = frame{length: int(h[0])<<16 | int(h[1])<<8 | int(h[2]), kind: http2.FrameType(h[3])}
		whole := frameHeaderLen
		switch {
		case !w.codes:
		case f.kind == http2.FrameRSTStream && f.length >= 4: // RFC 9113, section 6.4
			whole += 4
		case f.kind == http2.FrameGoAway && f.length >= 8: // section 6.8
			whole += 8
		}
		if need = whole; w.have < need {
			continue
		}
		if need > frameHeaderLen {
			f.code = http2.ErrCode(binary.BigEndian.Uint32(h[need-4:]))
		}
		w.left, w.have = f.length-(need-frameHeaderLen), 0
		return taken, f, true
	}
}

// malformed is a PING that is a byte short. The server answers it with GOAWAY and
// FRAME_SIZE_ERROR (RFC 9113, section 6.7).
var malformed = []byte{0, 0, 7, byte(http2.FramePing), 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7}

// Read delivers what a client sent, while its frames have an end.
func (g *frameGuard) Read(b []byte) (int, error) {
	for len(g.out) == 0 {
		if g.over {
			return 0, io.EOF
		}
		in := b
		if len(b) < 512 {
			if g.scratch == nil {
				g.scratch = make([]byte, 512)
			}
			in = g.scratch
		}
		if g.preface > 0 { // the server takes it by itself, and no byte more
			in = in[:min(len(in), g.preface)]
		}
		held := copy(in, g.from.head[:g.from.have])
		n, err := g.Conn.Read(in[held:])
		if n == 0 {
			return 0, err
		}
		g.look(in[:held+n], held)
	}
	n := copy(b, g.out) // onto itself, mostly
	g.out = g.out[n:]
	return n, nil
}

// look walks over what came in, of which held bytes were walked over before, and sets out to
// what may be delivered: whole heads of frames, and what there is of their payloads.
func (g *frameGuard) look(in []byte, held int) {
	if g.preface > 0 {
		g.preface -= len(in)
		g.out = in
		return
	}
	for at := held; at < len(in); {
		taken, f, ok := g.from.next(in[at:])
		at += taken
		if ok && !g.affords(f) {
			g.over = true
			g.cut.Store(true)
			g.out = append(in[:at-frameHeaderLen:at-frameHeaderLen], malformed...)
			g.note(policy.ReasonOverload, "HTTP/2 frames without content beyond what any client needs, the last one "+f.kind.String())
			return
		}
	}
	g.out = in[:len(in)-g.from.have]
}

// affords takes a frame off the client's credit.
func (g *frameGuard) affords(f frame) bool {
	cost, earned := unit, 0
	switch {
	case f.kind == http2.FrameData && f.length > 0:
		cost, earned = 0, f.length*windowsPerFrame
	case f.kind == http2.FrameWindowUpdate:
		cost = unit / windowsPerFrame
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if waited := int(now.Sub(g.since).Seconds() * framesPerSecond * unit); waited > 0 {
		g.since = now
		earned += waited
	}
	g.earnLocked(earned)
	if g.credit < cost {
		return false
	}
	g.credit -= cost
	return true
}

func (g *frameGuard) earnLocked(units int) {
	g.credit = min(g.credit+units, frameCredit*unit)
}

// Write passes what the server answers, and notes what it refused by itself.
func (g *frameGuard) Write(b []byte) (int, error) {
	content := 0
	for at := 0; at < len(b); {
		taken, f, ok := g.to.next(b[at:])
		at += taken
		if !ok {
			continue
		}
		switch f.kind {
		case http2.FrameData, http2.FrameHeaders:
			content += f.length
		case http2.FrameRSTStream, http2.FrameGoAway:
			g.refused(f)
		}
	}
	g.mu.Lock()
	g.earnLocked(content * windowsPerFrame)
	g.mu.Unlock()
	return g.Conn.Write(b)
}

// refused notes a stream or connection that the server ended for what the client sent.
func (g *frameGuard) refused(f frame) {
	what := "a request"
	if f.kind == http2.FrameGoAway {
		what = "the connection"
	}
	switch f.code {
	case http2.ErrCodeProtocol, http2.ErrCodeFlowControl, http2.ErrCodeCompression, http2.ErrCodeFrameSize:
		if !g.cut.Load() {
			g.note(policy.ReasonBadRequest, what+" against the rules of HTTP/2 ("+f.code.String()+")")
		}
	case http2.ErrCodeRefusedStream, http2.ErrCodeEnhanceYourCalm:
		g.note(policy.ReasonOverload, what+" beyond the limits of HTTP/2 ("+f.code.String()+")")
	}
}

// note writes down what reaches no handler, and has no more of a head than its name.
func (g *frameGuard) note(reason policy.Reason, message string) {
	g.flow.gate.Refuse(denial(reason), g.flow.authority.name, "", "", 0, message)
}
