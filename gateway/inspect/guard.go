package inspect

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
)

const (
	// maxHead bounds a request line with its header, maxLine a chunk's size line.
	maxHead = 64 << 10
	maxLine = 64
	// maxTrailer bounds the trailer section of a chunked body.
	maxTrailer = 16 << 10
)

// errHead says why a request is refused before it is parsed.
type errHead string

func (e errHead) Error() string { return string(e) }

// head is what the raw bytes of a request said that the server's parser hides.
type head struct {
	err     error
	method  string
	target  string // as in the request line
	host    string // value of the one Host field
	upgrade bool
	chunked bool
	length  int64
}

// guard is a client's connection of which only well-formed requests can be read. It
// follows the framing of every request, so that it knows where the next begins.
//
// A malformed request is replaced by a stand-in, whose head carries the error: the
// server then answers in turn, after the requests before it.
type guard struct {
	net.Conn

	in    []byte // read, not yet looked at
	out   []byte // looked at and good, to be delivered first
	state func(*guard) error
	seen  int   // bytes of a head that were looked at
	left  int64 // of a body or chunk
	eof   error // of the connection, or of our patience with it
	owed  owed

	mu    sync.Mutex
	heads []head // of requests that were delivered, for the handler to take
}

func newGuard(c net.Conn) *guard {
	return &guard{Conn: c, state: (*guard).readHead, owed: newOwed()}
}

// standIn is delivered in place of a malformed request.
const standIn = "GET / HTTP/1.1\r\nHost: invalid\r\nConnection: close\r\n\r\n"

// errMore asks for more bytes.
var errMore = errors.New("more bytes needed")

// Read delivers bytes of well-formed requests.
func (g *guard) Read(b []byte) (int, error) {
	for len(g.out) == 0 {
		if g.eof != nil {
			if errors.Is(g.eof, io.EOF) {
				return 0, g.owed.end()
			}
			return 0, g.eof
		}
		err := errMore
		if len(g.in) > 0 {
			err = g.state(g)
		}
		switch {
		case err == nil:
		case errors.Is(err, errMore):
			n, rerr := g.more(b)
			if n == 0 && rerr != nil {
				if isTimeout(rerr) {
					return 0, rerr // a deadline may be moved, and reading go on
				}
				g.eof = rerr
			}
		default:
			g.refuse(err)
		}
	}
	n := copy(b, g.out)
	g.out = g.out[n:]
	if len(g.out) == 0 {
		g.out = nil
	}
	return n, nil
}

// readBuffers serve reads for which the server brings too little room.
var readBuffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// more reads what comes next.
func (g *guard) more(b []byte) (int, error) {
	if len(b) < 512 { // the server's background read asks for one byte
		pooled := readBuffers.Get().(*[4 << 10]byte)
		defer readBuffers.Put(pooled)
		b = pooled[:]
	}
	n, err := g.Conn.Read(b)
	g.in = append(g.in, b[:n]...)
	return n, err
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// refuse ends the connection's input. A malformed head becomes the stand-in; within a
// body the request has begun already and simply breaks off.
func (g *guard) refuse(err error) {
	g.eof = io.EOF
	var bad errHead
	if errors.As(err, &bad) {
		g.push(head{err: err})
		g.out = []byte(standIn)
		return
	}
	g.eof = err
}

func (g *guard) push(h head) {
	g.mu.Lock()
	g.heads = append(g.heads, h)
	g.mu.Unlock()
}

// next takes the head of the request that the handler is called for.
func (g *guard) next() (head, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.heads) == 0 {
		return head{}, false
	}
	h := g.heads[0]
	g.heads = g.heads[1:]
	return h, true
}

// CloseWrite lets the server end an answer and still read, so that no reset
// overtakes it.
func (g *guard) CloseWrite() error {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// deliver moves n bytes from in to out.
func (g *guard) deliver(n int) {
	g.out = append(g.out, g.in[:n]...)
	g.in = g.in[n:]
	if len(g.in) == 0 {
		g.in = nil
	}
}

func (g *guard) readHead() error {
	from := max(g.seen-len("\r\n\r"), 0)
	end := bytes.Index(g.in[from:], []byte("\r\n\r\n"))
	if end < 0 {
		if len(g.in) > maxHead {
			return errHead("the request's header is longer than 64 KiB")
		}
		// What cannot become well-formed any more is refused at once and not
		// waited for: a bare line feed, say, after which the client waits too. Only a
		// new line can tell, and there may be no more than maxFields of them.
		i := bytes.LastIndexByte(g.in[g.seen:], '\n')
		line := g.in[:g.seen+i+1]
		g.seen = len(g.in)
		if i >= 0 {
			if _, err := parseHead(append(bytes.Clone(line), "\r\n"...), true); err != nil {
				return err
			}
		}
		return errMore
	}
	end += from
	g.seen = 0
	end += len("\r\n\r\n")
	if end > maxHead {
		return errHead("the request's header is longer than 64 KiB")
	}
	h, err := parseHead(g.in[:end], false)
	if err != nil {
		return err
	}
	g.push(h)
	g.deliver(end)
	switch {
	case h.upgrade:
		g.state = (*guard).readAny // the handler closes unless it comes to an upgrade
	case h.chunked:
		g.state = (*guard).readChunkSize
	case h.length > 0:
		g.left, g.state = h.length, (*guard).readBody
	default:
		g.owed.add(1)
	}
	return nil
}

// whole ends a request; another may follow.
func (g *guard) whole() {
	g.owed.add(1)
	g.state = (*guard).readHead
}

func (g *guard) readAny() error {
	g.deliver(len(g.in))
	return nil
}

func (g *guard) readBody() error {
	g.take()
	if g.left == 0 {
		g.whole()
	}
	return nil
}

func (g *guard) take() {
	n := min(int64(len(g.in)), g.left)
	g.deliver(int(n))
	g.left -= n
}

// errFraming ends a body that breaks its own framing. The server has the request
// already; it sees the body end early and closes.
var errFraming = errors.New("malformed chunked body")

// line returns the length of the next line with its CRLF.
func (g *guard) line(limit int) (int, error) {
	i := bytes.IndexByte(g.in, '\n')
	switch {
	case i < 0 && len(g.in) > limit, i > limit, i == 0, i > 0 && g.in[i-1] != '\r':
		return 0, errFraming
	case i < 0:
		return 0, errMore
	}
	return i + 1, nil
}

// readChunkSize reads a chunk's size, without extensions: nobody uses them but those
// who want two parsers to disagree.
func (g *guard) readChunkSize() error {
	n, err := g.line(maxLine)
	if err != nil {
		return err
	}
	digits := string(g.in[:n-2])
	size, err := strconv.ParseUint(digits, 16, 62)
	if err != nil || len(digits) > 15 || !isHex(digits) {
		return errFraming
	}
	g.deliver(n)
	if size == 0 {
		g.left, g.state = maxTrailer, (*guard).readTrailer
	} else {
		g.left, g.state = int64(size), (*guard).readChunk
	}
	return nil
}

func isHex(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) > 0
}

func (g *guard) readChunk() error {
	if g.left > 0 {
		g.take()
		return nil
	}
	if len(g.in) < 2 {
		return errMore
	}
	if g.in[0] != '\r' || g.in[1] != '\n' {
		return errFraming
	}
	g.deliver(2)
	g.state = (*guard).readChunkSize
	return nil
}

func (g *guard) readTrailer() error {
	n, err := g.line(maxHead)
	if err != nil {
		return err
	}
	if g.left -= int64(n); g.left < 0 {
		return errFraming
	}
	if n > 2 {
		if _, _, err := parseField(g.in[:n-2]); err != nil {
			return errFraming
		}
	} else {
		g.whole()
	}
	g.deliver(n)
	return nil
}
