package enforcer

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/enforcer/hello"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	// firstPeek holds every hello that clients really send.
	firstPeek = 4 << 10
	// largePeeks bounds the memory of all peeks that have outgrown firstPeek, so that
	// flows with 64 KiB hellos cannot add up to gigabytes. Running out
	// of it refuses only such flows.
	largePeeks = 64 << 20
	// maxMethod is longer than any registered HTTP method (IANA: UPDATEREDIRECTREF).
	maxMethod = 24
)

var peekBuffers = sync.Pool{New: func() any { return new([firstPeek]byte) }}

// errBudget says that too much memory is bound in large hellos.
var errBudget = errors.New("too many large client hellos at once")

// peeked is the beginning of a connection. The bytes are the caller's until
// release.
type peeked struct {
	data  []byte
	wire  policy.Wire
	hello hello.Info

	small *[firstPeek]byte
	large int64
	total *atomic.Int64
}

// bytes are what was peeked; nil is nothing.
func (p *peeked) bytes() []byte {
	if p == nil {
		return nil
	}
	return p.data
}

// offer is the hello, nil where the flow began otherwise.
func (p *peeked) offer() *hello.Info {
	if p == nil || p.wire != policy.WireTLS {
		return nil
	}
	return &p.hello
}

// take moves the bytes to somebody who keeps them for longer.
func (p *peeked) take() *peeked {
	if p == nil {
		return nil
	}
	held := *p
	*p = peeked{total: p.total}
	return &held
}

// release gives the bytes back.
func (p *peeked) release() {
	if p == nil {
		return
	}
	if p.small != nil {
		peekBuffers.Put(p.small)
	}
	p.total.Add(-p.large)
	*p = peeked{total: p.total}
}

// grow makes room for more bytes, up to the size that a hello may have.
func (p *peeked) grow() error {
	size := min(2*cap(p.data), hello.MaxSize)
	if size == cap(p.data) {
		return hello.ErrTooLong
	}
	more := int64(size) - p.large
	if p.total.Add(more) > largePeeks {
		p.total.Add(-more)
		return errBudget
	}
	p.large += more
	data := make([]byte, len(p.data), size)
	copy(data, p.data)
	p.data = data
	if p.small != nil {
		peekBuffers.Put(p.small)
		p.small = nil
	}
	return nil
}

// deadlineReader is what a peek reads from: a connection.
type deadlineReader interface {
	io.Reader
	SetReadDeadline(time.Time) error
}

// peek reads until the bytes say what the flow is, at the latest until the
// deadline, which no trickle extends. A flow that says nothing (its server speaks
// first, or it has hung up) is of WireOther. The error is a hello.Error, errBudget,
// or that of a broken connection.
func peek(c deadlineReader, deadline time.Time, total *atomic.Int64) (*peeked, error) {
	p := &peeked{total: total, small: peekBuffers.Get().(*[firstPeek]byte)}
	p.data = p.small[:0]
	err := p.read(c, deadline)
	if resetErr := c.SetReadDeadline(time.Time{}); err == nil {
		err = resetErr
	}
	return p, err
}

func (p *peeked) read(c deadlineReader, deadline time.Time) error {
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	var scan hello.Scanner
	for {
		if len(p.data) == cap(p.data) {
			if err := p.grow(); err != nil {
				return err
			}
		}
		n, err := c.Read(p.data[len(p.data):cap(p.data)])
		p.data = p.data[:len(p.data)+n]
		if n > 0 {
			done, scanErr := p.look(&scan)
			if done || scanErr != nil {
				return scanErr
			}
		}
		switch {
		case err == nil:
		case !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case p.wire == policy.WireTLS:
			return errUnfinished
		default:
			p.wire = policy.WireOther
			return nil
		}
	}
}

// errUnfinished is the fate of a hello that stops or trickles.
const errUnfinished hello.Error = "not finished in time"

// look decides what the bytes so far are. It reports whether that is all there is to
// know.
func (p *peeked) look(scan *hello.Scanner) (done bool, err error) {
	if p.data[0] == 0x16 { // a handshake record
		p.wire = policy.WireTLS
		p.hello, done, err = scan.Scan(p.data)
		return done, err
	}
	p.wire = sniff(p.data)
	return p.wire != policy.WireUnknown, nil
}

// sniff tells HTTP/1 from other protocols by the method and the space behind it.
// The "PRI" of an HTTP/2 preface and a leading empty line count as HTTP
// too: the HTTP chain refuses both with a word.
func sniff(b []byte) policy.Wire {
	if b[0] == '\r' || b[0] == '\n' {
		return policy.WireHTTP
	}
	for i, c := range b {
		switch {
		case c == ' ' && i > 0:
			return policy.WireHTTP
		case i >= maxMethod:
			return policy.WireOther
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', c == '-', c == '_':
		default:
			return policy.WireOther
		}
	}
	return policy.WireUnknown
}
