package inspect

import (
	"bytes"
	"crypto/tls"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"net/http"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is a client that writes HTTP/2 frames of its own.
type frames struct {
	*http2.Framer
	conn *tls.Conn
	enc  *hpack.Encoder
	buf  bytes.Buffer
}

func newFrames(t *testing.T, r *rig) *frames {
	f := &frames{conn: r.dial(t, protoH2)}
	if _, err := io.WriteString(f.conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f.Framer = http2.NewFramer(f.conn, f.conn)
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.buf)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// block encodes fields, which alternate between names and values.
func (f *frames) block(fields ...string) []byte {
	f.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(f.buf.Bytes())
}

var getFields = []string{":method", "GET", ":scheme", "https", ":authority", site, ":path", "/"}

// outcome reads until the stream or connection is over: a status, or "reset".
func (f *frames) outcome(stream uint32) string {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return "reset"
		}
		switch fr := fr.(type) {
		case *http2.MetaHeadersFrame:
			if fr.StreamID == stream {
				return fr.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if fr.StreamID == stream {
				return "reset"
			}
		case *http2.GoAwayFrame:
			if fr.ErrCode != http2.ErrCodeNo {
				return "reset"
			}
		}
	}
}

// TestHTTP2Requests sends what no client of good will sends. The origin must see none of it.
func TestHTTP2Requests(t *testing.T) {
	for _, tc := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"good", getFields, "200"},
		{"no authority but Host", []string{":method", "GET", ":scheme", "https", ":path", "/", "host", site}, "200"},
		{"Host beside authority", append(getFields[:8:8], "host", site), "200"},
		{"another Host beside authority", append(getFields[:8:8], "host", "other.example"), "400"},
		{"two Hosts", append(getFields[:8:8], "host", site, "host", site), "400"},
		{"another Host alone", []string{":method", "GET", ":scheme", "https", ":path", "/", "host", "other.example"}, "421"},
		{"another authority", []string{":method", "GET", ":scheme", "https", ":authority", "other.example", ":path", "/"}, "421"},
		{"another port", []string{":method", "GET", ":scheme", "https", ":authority", site + ":8443", ":path", "/"}, "421"},
		{"user in authority", []string{":method", "GET", ":scheme", "https", ":authority", "u@" + site, ":path", "/"}, "reset"},
		{"no authority at all", []string{":method", "GET", ":scheme", "https", ":path", "/"}, "400"},
		{"absolute path", []string{":method", "GET", ":scheme", "https", ":authority", site, ":path", "https://other.example/"}, "400"},
		{"relative path", []string{":method", "GET", ":scheme", "https", ":authority", site, ":path", "x"}, "reset 400"},
		{"space in path", []string{":method", "GET", ":scheme", "https", ":authority", site, ":path", "/ HTTP/1.1"}, "400"},
		{"line end in path", []string{":method", "GET", ":scheme", "https", ":authority", site, ":path", "/\r\nX: y"}, "reset 400"},
		{"fragment", []string{":method", "GET", ":scheme", "https", ":authority", site, ":path", "/a#b"}, "400"},
		{"two paths", append(getFields[:8:8], ":path", "/other"), "reset"},
		{"late pseudo-header", append([]string{"x", "y"}, getFields...), "reset"},
		{"unknown pseudo-header", append([]string{":x", "y"}, getFields...), "reset"},
		{"CONNECT", []string{":method", "CONNECT", ":authority", "other.example:443"}, "400"},
		{"extended CONNECT", append([]string{":protocol", "websocket", ":method", "CONNECT"}, getFields[2:]...), "reset 400"},
		{"spaced method", []string{":method", "GET /x", ":scheme", "https", ":authority", site, ":path", "/"}, "reset 400"},
		{"Connection", append(getFields[:8:8], "connection", "close"), "400"},
		{"Transfer-Encoding", append(getFields[:8:8], "transfer-encoding", "chunked"), "400"},
		{"Upgrade", append(getFields[:8:8], "upgrade", "h2c"), "400"},
		{"upper case", append(getFields[:8:8], "X-A", "y"), "reset"},
		{"line end in a value", append(getFields[:8:8], "x", "a\r\nhost: other.example"), "reset"},
		{"NUL in a value", append(getFields[:8:8], "x", "a\x00"), "reset"},
		{"space in a name", append(getFields[:8:8], "x y", "a"), "reset"},
		{"length without body", append(getFields[:8:8], "content-length", "5"), "reset 400"},
	} {
		r := newRig(t)
		var asked atomic.Int64
		r.serve(t, r.back.leaf(t, site), true, nil, func(_ http.ResponseWriter, req *http.Request) { asked.Add(1) })
		f := newFrames(t, r)
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(tc.fields...), EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
		got := f.outcome(1)
		if !strings.Contains(tc.want, got) {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if (asked.Load() != 0) != (tc.want == "200") {
			t.Errorf("%s: the origin saw %d requests", tc.name, asked.Load())
		}
	}
}

// heap is what lives after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestHTTP2Floods holds that floods are cut off, or borne in little memory: frames that cost the client
// as much as us need no more. A client that is cut off gets an error from writing.
func TestHTTP2Floods(t *testing.T) {
	const frameCount = 200_000
	for _, tc := range []struct {
		name string
		cut  bool
		send func(*frames) error
	}{
		{"CONTINUATION", true, func(f *frames) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(getFields...)}); err != nil {
				return err
			}
			more := f.block("x-more", strings.Repeat("a", 8000))
			for range frameCount {
				if err := f.WriteContinuation(1, false, more); err != nil {
					return err
				}
			}
			return nil
		}},
		{"empty CONTINUATION", true, func(f *frames) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(getFields...)}); err != nil {
				return err
			}
			for range frameCount {
				if err := f.WriteContinuation(1, false, nil); err != nil {
					return err
				}
			}
			return nil
		}},
		{"SETTINGS", true, func(f *frames) error {
			for range frameCount {
				if err := f.WriteSettings(); err != nil {
					return err
				}
			}
			return nil
		}},
		{"PING", true, func(f *frames) error {
			for range frameCount {
				if err := f.WritePing(false, [8]byte{}); err != nil {
					return err
				}
			}
			return nil
		}},
		{"rapid reset", true, func(f *frames) error {
			for i := range uint32(frameCount) {
				if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: f.block(getFields...), EndHeaders: true, EndStream: true}); err != nil {
					return err
				}
				if err := f.WriteRSTStream(2*i+1, http2.ErrCodeCancel); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			release := make(chan struct{})
			r.serve(t, r.back.leaf(t, site), true, nil, func(_ http.ResponseWriter, req *http.Request) {
				select { // an origin that takes its time
				case <-release:
				case <-req.Context().Done():
				}
			})
			before := heap()
			f := newFrames(t, r)
			err := tc.send(f)
			if tc.cut && err == nil && f.outcome(0) != "reset" {
				t.Error("borne")
			}
			if grown := int64(heap()) - int64(before); grown > 64<<20 {
				t.Errorf("%d MiB more", grown>>20)
			}
			close(release)
		})
	}
}

// TestHugeHeader sends a field of 128 MiB.
func TestHugeHeader(t *testing.T) {
	r := newRig(t)
	r.serve(t, r.back.leaf(t, site), false, nil, echo)
	before := heap()
	c := r.dial(t, protoHTTP1)
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: good.example\r\nX: ")
	chunk := strings.Repeat("a", 64<<10)
	for n := 0; n < 2048 && err == nil; n++ {
		_, err = io.WriteString(c, chunk)
	}
	if err == nil {
		t.Error("128 MiB were taken")
	}
	if grown := int64(heap()) - int64(before); grown > 16<<20 {
		t.Errorf("%d MiB more", grown>>20)
	}
}
