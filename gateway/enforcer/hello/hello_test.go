package hello

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// memConn is a connection whose peer has sent in and then hung up; what is written to
// it collects in out.
type memConn struct {
	in  io.Reader
	out bytes.Buffer
}

func (c *memConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *memConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *memConn) Close() error                     { return nil }
func (c *memConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// goHello is the first flight that crypto/tls sends under cfg.
func goHello(cfg *tls.Config) []byte {
	conn := &memConn{in: strings.NewReader("")}
	_ = tls.Client(conn, cfg).Handshake() // fails for want of an answer
	return conn.out.Bytes()
}

// ext is one extension in wire form.
func ext(typ uint16, data ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// sni is a server_name extension with the given entries, all of one type.
func sni(typ byte, names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, typ)
		list = binary.BigEndian.AppendUint16(list, uint16(len(n)))
		list = append(list, n...)
	}
	return ext(extServerName, append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)...)
}

// message is a ClientHello handshake message with these extensions.
func message(exts ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0)          // session id
	body = append(body, 0, 2, 0, 1) // one cipher suite
	body = append(body, 1, 0)       // null compression
	all := bytes.Join(exts, nil)
	body = binary.BigEndian.AppendUint16(body, uint16(len(all)))
	body = append(body, all...)
	return append([]byte{handshakeClientHello, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// records cuts a message into TLS records of at most size bytes.
func records(msg []byte, size int) (out []byte) {
	for len(msg) > 0 {
		n := min(size, len(msg))
		out = append(out, recordHandshake, 3, 1, byte(n>>8), byte(n))
		out = append(out, msg[:n]...)
		msg = msg[n:]
	}
	return out
}

// scan feeds the stream in pieces of at most step bytes.
func scan(stream []byte, step int) (Info, bool, error) {
	var s Scanner
	for n := 0; n < len(stream); {
		n = min(n+step, len(stream))
		piece := bytes.Clone(stream[:n])
		info, done, err := s.Scan(piece)
		clear(piece) // callers reuse their buffers
		if done || err != nil {
			return info, done, err
		}
	}
	return Info{}, false, nil
}

// seeds are first flights of real clients, by file name; see TestCapture.
func seeds(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatal("no seeds in testdata", err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".hex")] = b
	}
	return out
}

func TestRealClients(t *testing.T) {
	for name, raw := range seeds(t) {
		for _, step := range []int{1, 3, 1460, len(raw)} {
			info, done, err := scan(raw, step)
			if err != nil || !done || info.Name != "api.github.com" {
				t.Errorf("%s in pieces of %d: %+v done=%v err=%v", name, step, info, done, err)
			}
		}
	}
}

func TestGoDefaultNeedsTwoSegments(t *testing.T) {
	raw := goHello(&tls.Config{ServerName: "api.github.com"})
	if len(raw) <= 1460 {
		t.Fatalf("the post-quantum hello is %d bytes: this test no longer tests what it says", len(raw))
	}
	if _, done, err := scan(raw[:1460], 1460); done || err != nil {
		t.Fatalf("first segment alone: done=%v err=%v", done, err)
	}
	if info, done, err := scan(raw, 1460); !done || err != nil || info.Name != "api.github.com" {
		t.Fatalf("both segments: %+v done=%v err=%v", info, done, err)
	}
}

// Every way to cut a hello in two segments, over records of every small size.
func TestFragmentation(t *testing.T) {
	msg := message(sni(0, "api.github.com"), ext(0x0a0a), ext(43, 2, 3, 4))
	behind := []byte{20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 2, 9, 9} // CCS and early data
	for size := 1; size <= len(msg); size++ {
		stream := append(records(msg, size), behind...)
		for cut := 1; cut < len(stream); cut++ {
			var s Scanner
			info, done, err := s.Scan(stream[:cut])
			if err == nil && !done {
				info, done, err = s.Scan(stream)
			}
			if err != nil || !done || info.Name != "api.github.com" {
				t.Fatalf("records of %d, cut at %d: %+v done=%v err=%v", size, cut, info, done, err)
			}
		}
	}
}

func TestHello(t *testing.T) {
	big := func(n int) []byte { return ext(21, make([]byte, n)...) } // padding
	many := make([][]byte, 0, 2000)
	for i := range 2000 {
		many = append(many, ext(uint16(0x2000+i)))
	}
	tests := []struct {
		name string
		raw  []byte
		want Info
		err  error
	}{
		{"plain", records(message(sni(0, "a.example")), maxRecord), Info{Name: "a.example", Version: tls12}, nil},
		{"no SNI", records(message(ext(43, 2, 3, 4)), maxRecord), Info{Version: 0x0304}, nil},
		{"greased versions", records(message(ext(43, 6, 0xfa, 0xfa, 3, 4, 3, 3)), maxRecord), Info{Version: 0x0304}, nil},
		{"half a version", records(message(ext(43, 3, 3, 4, 3)), maxRecord), Info{}, ErrLength},
		{"no versions", records(message(ext(43, 0)), maxRecord), Info{}, ErrLength},
		{"behind the versions", records(message(ext(43, 2, 3, 4, 0)), maxRecord), Info{}, ErrLength},
		{"as sent", records(message(sni(0, "A.Example.")), maxRecord), Info{Name: "A.Example.", Version: tls12}, nil},
		{"address", records(message(sni(0, "192.0.2.1")), maxRecord), Info{Name: "192.0.2.1", Version: tls12}, nil},
		{"above 16 KiB", records(message(big(20000), sni(0, "a.example")), maxRecord), Info{Name: "a.example", Version: tls12}, nil},
		{"above 64 KiB", records(message(big(65000), sni(0, "a.example"), ext(1, make([]byte, 500)...)), maxRecord), Info{}, ErrTooLong},
		{"64 KiB of headers", records(message(big(20000), sni(0, "a.example")), 1), Info{}, ErrTooLong},
		{"claims 16 MiB", []byte{22, 3, 1, 0, 4, 1, 255, 255, 255}, Info{}, ErrTooLong},
		{"outer ECH", records(message(sni(0, "public.example"), ext(extECH, 0, 0, 1)), maxRecord), Info{Name: "public.example", ECH: true, Version: tls12}, nil},
		{"inner ECH", records(message(sni(0, "a.example"), ext(extECH, echInner)), maxRecord), Info{}, ErrInnerHello},
		{"two entries", records(message(sni(0, "a.example", "b.example")), maxRecord), Info{}, ErrTwoNames},
		{"same entry twice", records(message(sni(0, "a.example", "a.example")), maxRecord), Info{}, ErrTwoNames},
		{"two extensions", records(message(sni(0, "a.example"), sni(0, "b.example")), maxRecord), Info{}, ErrDuplicate},
		{"duplicate GREASE", records(message(ext(0x0a0a), ext(0x0a0a)), maxRecord), Info{}, ErrDuplicate},
		{"many extensions", records(message(append(many, sni(0, "a.example"))...), maxRecord), Info{Name: "a.example", Version: tls12}, nil},
		{"duplicate among many", records(message(append(many, ext(0x2001))...), maxRecord), Info{}, ErrDuplicate},
		{"empty name", records(message(sni(0, "")), maxRecord), Info{}, ErrEmptyName},
		{"empty list", records(message(sni(0)), maxRecord), Info{}, ErrEmptyName},
		{"empty extension", records(message(ext(extServerName)), maxRecord), Info{}, ErrLength},
		{"NUL", records(message(sni(0, "a.example\x00.evil.example")), maxRecord), Info{}, ErrNameNUL},
		{"other type", records(message(sni(1, "a.example")), maxRecord), Info{}, ErrNameType},
		{"list length", records(message(ext(extServerName, 0, 9, 0, 0, 1, 'a')), maxRecord), Info{}, ErrLength},
		{"list too short", records(message(ext(extServerName, 0, 3, 0, 0, 1, 'a')), maxRecord), Info{}, ErrLength},
		{"name length", records(message(ext(extServerName, 0, 4, 0, 0, 9, 'a')), maxRecord), Info{}, ErrLength},
		{"behind the list", records(message(ext(extServerName, 0, 4, 0, 0, 1, 'a', 0)), maxRecord), Info{}, ErrLength},
		{"behind the extensions", records(append([]byte{1, 0, 0, 45}, append(message()[4:], 0, 0)...), maxRecord), Info{}, ErrLength},
		{"behind the message", records(append(message(sni(0, "a.example")), 1), maxRecord), Info{}, ErrTrailing},
		{"empty record", append([]byte{22, 3, 1, 0, 0}, records(message(), maxRecord)...), Info{}, ErrRecord},
		{"long record", []byte{22, 3, 1, 0x40, 1}, Info{}, ErrRecord},
		{"another message", records([]byte{2, 0, 0, 0}, maxRecord), Info{}, ErrMessage},
		{"alert between", append(records(message(sni(0, "a.example")), 10)[:15], 21, 3, 3, 0, 2, 1, 0), Info{}, ErrRecordType},
		{"no version", []byte{22, 9}, Info{}, ErrRecordVersion},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{1, 7, len(tt.raw)} {
				info, done, err := scan(tt.raw, step)
				if !errors.Is(err, tt.err) || info != tt.want || done != (tt.err == nil) {
					t.Errorf("step %d: got %+v, %v, %v; want %+v, %v", step, info, done, err, tt.want, tt.err)
				}
			}
		})
	}
}

// A hello that never ends asks for more until the limit and then fails.
func TestEndlessHello(t *testing.T) {
	raw := records(append([]byte{1, 0, 0xf0, 0}, make([]byte, 0xf000)...), 4)
	if _, done, err := scan(raw, 1000); done || !errors.Is(err, ErrTooLong) {
		t.Fatalf("done=%v err=%v", done, err)
	}
}

func BenchmarkScan(b *testing.B) {
	for name, raw := range seeds(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var s Scanner
				if _, done, err := s.Scan(raw); !done || err != nil {
					b.Fatal(done, err)
				}
			}
		})
	}
}
