package inspect

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// pieces is a client that sends its bytes in pieces of the given sizes, and takes any.
type pieces struct {
	net.Conn
	data  []byte
	sizes []byte // repeated; zero stands for as many as fit
	n     int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	if len(p.sizes) > 0 {
		if size := int(p.sizes[p.n%len(p.sizes)]); size > 0 {
			b = b[:min(len(b), size)]
		}
		p.n++
	}
	n := copy(b, p.data)
	p.data = p.data[n:]
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error) { return len(b), nil }

// guarded is a frameGuard over a client whose preface is behind it, with a clock that stands.
func guarded(client net.Conn) (*frameGuard, *fakeGate) {
	gate := &fakeGate{}
	g := newFrameGuard(client, &flow{gate: gate, authority: &authority{name: site}})
	g.preface = 0
	at := time.Now()
	g.now = func() time.Time { return at }
	g.since = at
	return g, gate
}

// written returns the bytes of frames.
func written(write func(*http2.Framer)) []byte {
	var b bytes.Buffer
	write(http2.NewFramer(&b, nil))
	return b.Bytes()
}

// TestFrameCredit holds what clients of good will send apart from what they do not.
func TestFrameCredit(t *testing.T) {
	const many = 50_000
	ping := written(func(f *http2.Framer) { _ = f.WritePing(false, [8]byte{}) })
	window := written(func(f *http2.Framer) { _ = f.WriteWindowUpdate(0, 39); _ = f.WriteWindowUpdate(1, 39) })
	small := written(func(f *http2.Framer) { _ = f.WriteData(1, false, []byte("x")) })
	empty := written(func(f *http2.Framer) { _ = f.WriteData(1, false, nil) })
	head := written(func(f *http2.Framer) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 8), EndHeaders: true, EndStream: true})
	})
	reset := written(func(f *http2.Framer) { _ = f.WriteRSTStream(1, http2.ErrCodeCancel) })
	message := written(func(f *http2.Framer) { _ = f.WriteData(1, false, make([]byte, 30)) })
	answer := written(func(f *http2.Framer) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 24), EndHeaders: true})
		_ = f.WriteData(1, true, make([]byte, 12))
	})
	pong := written(func(f *http2.Framer) { _ = f.WritePing(true, [8]byte{}) })

	for _, tc := range []struct {
		name         string
		sent, answer []byte // per turn
		wait         time.Duration
		cut          bool
	}{
		{"one PING after the other", ping, pong, 0, true},
		{"PING thirty times a second", ping, pong, time.Second / 30, false},
		{"empty DATA", empty, nil, 0, true},
		{"single bytes of DATA", small, nil, 0, false},
		{"requests that nobody answers", head, nil, 0, true},
		{"small requests and answers", head, answer, 0, false},
		{"requests that are reset at once", slices.Concat(head, reset), nil, 0, true},
		{"two window updates an event of a stream", window, message, 0, false},
		{"windows alone", window, nil, 0, true},
		{"a PING a round trip of a stream of small messages", slices.Concat(ping, window), slices.Concat(message, message, pong), 0, false},
	} {
		g, gate := guarded(&pieces{data: bytes.Repeat(tc.sent, many)})
		at := g.since
		g.now = func() time.Time { return at }
		var got int
		buf := make([]byte, len(tc.sent))
		for range many {
			n, err := io.ReadFull(g, buf)
			if got += n; err != nil {
				break
			}
			if _, err := g.Write(tc.answer); err != nil {
				t.Fatal(err)
			}
			at = at.Add(tc.wait)
		}
		rest, _ := io.ReadAll(g)
		got += len(rest)
		if cut := got != many*len(tc.sent); cut != tc.cut {
			t.Errorf("%s: cut off: %v, want %v", tc.name, cut, tc.cut)
		}
		if said := slices.ContainsFunc(gate.events, func(e event) bool { return e.reason == policy.ReasonOverload }); said != tc.cut {
			t.Errorf("%s: events %+v", tc.name, gate.events)
		}
	}
}

// TestServerRefusals holds that what the server refuses by itself is written down: no handler sees it.
func TestServerRefusals(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fields []string
		want   policy.Reason // empty: the request is good
	}{
		{"good", getFields, ""},
		{"upper case", append(getFields[:8:8], "X-A", "y"), policy.ReasonBadRequest},
		{"two paths", append(getFields[:8:8], ":path", "/other"), policy.ReasonBadRequest},
		{"NUL in a value", append(getFields[:8:8], "x", "a\x00"), policy.ReasonBadRequest},
	} {
		r := newRig(t)
		r.serve(t, r.back.leaf(t, site), true, nil, echo)
		f := newFrames(t, r)
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(tc.fields...), EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
		f.outcome(1)
		var got policy.Reason
		for _, e := range r.gate.log() {
			if e.what == "refuse" && e.name == site {
				got = e.reason
			}
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// FuzzFrameGuard holds that bytes pass as they are up to where a client is cut off, which does
// not depend on the pieces that they come in, and that what follows is one malformed frame.
func FuzzFrameGuard(f *testing.F) {
	f.Add(written(func(f *http2.Framer) { _ = f.WriteSettings(); _ = f.WriteData(1, true, []byte("hello")) }), []byte{1}, uint16(7))
	f.Add(bytes.Repeat(written(func(f *http2.Framer) { _ = f.WriteSettings() }), 2*frameCredit), []byte{3, 0, 200}, uint16(600))
	f.Add([]byte{0, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 'x'}, []byte{0}, uint16(9))
	f.Fuzz(func(t *testing.T, data, sizes []byte, room uint16) {
		read := func(sizes []byte, room int) []byte {
			g, gate := guarded(&pieces{data: data, sizes: sizes})
			var out bytes.Buffer
			if _, err := io.CopyBuffer(struct{ io.Writer }{&out}, struct{ io.Reader }{g}, make([]byte, room)); err != nil {
				t.Fatal(err)
			}
			if g.over != (len(gate.events) == 1) || g.over != bytes.HasSuffix(out.Bytes(), malformed) && g.over {
				t.Fatalf("over: %v, %d events", g.over, len(gate.events))
			}
			if g.over {
				return out.Bytes()
			}
			return append(out.Bytes(), g.from.head[:g.from.have]...)
		}
		whole, pieced := read(nil, 64<<10), read(sizes, int(room)+1)
		if !bytes.Equal(whole, pieced) {
			t.Fatal("the pieces matter")
		}
		if passed := bytes.TrimSuffix(whole, malformed); !bytes.HasPrefix(data, passed) || !bytes.Equal(whole, data) && !bytes.HasSuffix(whole, malformed) {
			t.Fatal("other bytes than were sent")
		}
		if _, err := newWrites(data, sizes); err != nil {
			t.Fatal(err)
		}
	})
}

// newWrites sends data the other way, in pieces.
func newWrites(data, sizes []byte) (int, error) {
	g, _ := guarded(&pieces{})
	sent := 0
	for p := (&pieces{data: data, sizes: sizes}); len(p.data) > 0; {
		buf := make([]byte, 256)
		n, _ := p.Read(buf)
		m, err := g.Write(buf[:n])
		if sent += m; err != nil {
			return sent, err
		}
	}
	return sent, nil
}
