package enforcer

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/enforcer/hello"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// stream is a connection that has sent some bytes and then ended.
type stream struct{ io.Reader }

func (stream) SetReadDeadline(time.Time) error { return nil }

func TestWire(t *testing.T) {
	tests := map[string]policy.Wire{
		"GET / HTTP/1.1\r\n":             policy.WireHTTP,
		"get / HTTP/1.1\r\n":             policy.WireHTTP,
		"VERSION-CONTROL / HTTP/1.1\r\n": policy.WireHTTP,
		"PRI * HTTP/2.0\r\n\r\n":         policy.WireHTTP,
		"\r\nGET / HTTP/1.1\r\n":         policy.WireHTTP,
		"SSH-2.0-OpenSSH_9.2 Debian\r\n": policy.WireOther,
		" GET / HTTP/1.1":                policy.WireOther,
		"GET\t/ HTTP/1.1":                policy.WireOther,
		"GET":                            policy.WireOther,
		"\x80\x2e\x01\x03\x01":           policy.WireOther, // an SSL 2 hello
		"\x15\x03\x01\x00\x02":           policy.WireOther,
		strings.Repeat("A", 100) + " /":  policy.WireOther,
		"":                               policy.WireOther,
	}
	for raw, want := range tests {
		var total atomic.Int64
		p, err := peek(stream{strings.NewReader(raw)}, time.Time{}, &total)
		if err != nil || p.wire != want || string(p.data) != raw {
			t.Errorf("%q: wire %d with %q, %v; want %d", raw, p.wire, p.data, err, want)
		}
		p.release()
	}
}

// All the memory of large hellos is given back, and running out of it refuses the next.
func TestPeekBudget(t *testing.T) {
	big := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x40, 0x10}, make([]byte, 16380)...)
	var total atomic.Int64
	p, err := peek(stream{bytes.NewReader(big)}, time.Time{}, &total)
	var bad hello.Error
	if !errors.As(err, &bad) || total.Load() != 32<<10 {
		t.Fatal(err, total.Load())
	}
	p.release()
	if total.Load() != 0 {
		t.Fatalf("%d bytes stay bound", total.Load())
	}
	total.Store(largePeeks - 1)
	p, err = peek(stream{bytes.NewReader(big)}, time.Time{}, &total)
	if !errors.Is(err, errBudget) {
		t.Fatal(err)
	}
	p.release()
	if total.Load() != largePeeks-1 {
		t.Fatalf("%d", total.Load())
	}
	// An ordinary hello does not need any of it.
	p, err = peek(stream{bytes.NewReader(firstFlight("api.github.com"))}, time.Time{}, &total)
	if err != nil || p.hello.Name != "api.github.com" {
		t.Fatal(err)
	}
	p.release()
}

func BenchmarkPeek(b *testing.B) {
	raw := firstFlight("api.github.com")
	var total atomic.Int64
	r := bytes.NewReader(nil)
	s := stream{r}
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(raw)
		p, err := peek(s, time.Time{}, &total)
		if err != nil {
			b.Fatal(err)
		}
		p.release()
	}
}
