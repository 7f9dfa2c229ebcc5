package inspect

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/sys/unix"
)

const (
	// continueTimeout is how long a body waits for the 100 that its client asked for.
	continueTimeout = time.Second
	// sentTimeout is how long the end of a request may come after its answer's: what the origin has read
	// already, our own goroutine may not have heard of.
	sentTimeout = 50 * time.Millisecond
)

// line is the way of an HTTP/1 flow's requests to the outside: one connection at a time, to the
// flow's destination whatever a URL says, and one request at a time on it, as the client sends them.
//
// It stands where [http.Transport] would, which is made for many of both: a line has no goroutine
// to hand requests to, and between them it holds nothing but the connection. Both write and read with the same
// functions of net/http.
type line struct {
	dial func(context.Context) (net.Conn, error)

	mu     sync.Mutex
	idle   net.Conn // between two requests
	closed bool
}

var (
	errUnwanted   = errors.New("the destination answered without waiting for the body")
	errLongHeader = fmt.Errorf("the destination's header is longer than %d bytes", maxResponseHeader)
	errField      = errors.New("a header field that cannot be sent")
)

// RoundTrip is of http.RoundTripper.
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	if !sendable(r.Header) || !sendable(r.Trailer) {
		r.Body.Close()
		return nil, errField
	}
	for {
		conn, used, err := l.take(r.Context())
		if err != nil {
			r.Body.Close()
			return nil, err
		}
		c := &call{line: l, conn: conn, left: maxResponseHeader}
		resp, heard, err := c.do(r)
		if err == nil || heard || !used || !replayable(r) || r.Context().Err() != nil {
			return resp, err
		}
		// The destination hung up just when the request came; it is the next connection's, which is new.
	}
}

// sendable reports whether fields can be written without becoming others: values may come from secrets.
func sendable(h http.Header) bool {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	return true
}

// replayable reports whether a request does no harm if its first copy was read after all
// (RFC 9110, section 9.2.2), and is still whole.
func replayable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return r.Body == http.NoBody
	}
	return false
}

// take returns the connection of the last request, if it is fit for another, else a new one.
func (l *line) take(ctx context.Context) (conn net.Conn, used bool, err error) {
	l.mu.Lock()
	conn = l.idle
	l.idle = nil
	l.mu.Unlock()
	if conn != nil {
		if quiet(conn) {
			return conn, true, nil
		}
		conn.Close()
	}
	conn, err = l.dial(ctx)
	return conn, false, err
}

func (l *line) give(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		conn.Close()
		return
	}
	l.idle = conn
}

// CloseIdleConnections closes the line. A request that is under way ends with its context.
func (l *line) CloseIdleConnections() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.idle != nil {
		l.idle.Close()
		l.idle = nil
	}
}

// quiet reports whether the far side has said nothing since its last answer. What it says unasked, its end
// included, must not be taken for the answer to the next request.
func quiet(conn net.Conn) bool {
	if tc, ok := conn.(*tls.Conn); ok {
		// The past lets only what came with the last answer be read, and nothing be waited for.
		if tc.SetReadDeadline(time.Unix(1, 0)) != nil {
			return false
		}
		if n, err := tc.Read(make([]byte, 1)); n > 0 || !isTimeout(err) || tc.SetReadDeadline(time.Time{}) != nil {
			return false
		}
		conn = tc.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		silent = n == 0 && err == nil
	})
	return silent && err == nil
}

// call is one request and its answer.
type call struct {
	line *line
	conn net.Conn
	in   *bufio.Reader
	left int64 // of what an answer's header may be long

	stop   func() bool
	sent   chan error // of a body's goroutine; nil: the request had none and is out
	wanted chan bool  // the body is, for which its client wants to be asked
	keep   bool       // the connection, after the answer
	over   sync.Once
}

var (
	lineReaders = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
	lineWriters = sync.Pool{New: func() any { return bufio.NewWriter(nil) }}
)

// Read reads from the connection, and bounds an answer's header, all that come before it included.
func (c *call) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errLongHeader
	}
	n, err := c.conn.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

// do sends the request and reads the header of its answer, at the same time where the request has a
// body. heard is false where not a byte came back.
func (c *call) do(r *http.Request) (resp *http.Response, heard bool, err error) {
	c.in = lineReaders.Get().(*bufio.Reader)
	c.in.Reset(c)
	c.stop = context.AfterFunc(r.Context(), func() { c.conn.Close() })
	if r.Body == http.NoBody {
		err = c.send(r)
	} else {
		c.sent = make(chan error, 1)
		if r.Header.Get("Expect") != "" {
			c.wanted = make(chan bool, 1)
		}
		go func() {
			err := c.send(r)
			c.sent <- err
			if err != nil && !errors.Is(err, errUnwanted) {
				c.conn.Close() // else the origin would wait for the rest, and its answer be waited for
			}
		}()
	}
	if err == nil {
		if _, err = c.in.Peek(1); err == nil {
			heard = true
			resp, err = c.answer(r)
		}
	}
	if err != nil {
		c.drop()
		return nil, heard, c.cause(r, err)
	}
	return resp, true, nil
}

// cause is what made reading an answer fail.
func (c *call) cause(r *http.Request, err error) error {
	if r.Context().Err() != nil {
		return context.Cause(r.Context())
	}
	select {
	case sent := <-c.sent:
		if sent != nil {
			return sent
		}
	default:
	}
	return err
}

// send writes the request.
func (c *call) send(r *http.Request) error {
	w := lineWriters.Get().(*bufio.Writer)
	w.Reset(outgoing{c.conn})
	defer func() {
		w.Reset(nil)
		lineWriters.Put(w)
	}()
	var err error
	if c.wanted == nil {
		err = r.Write(w)
	} else {
		out := *r
		out.Body = &awaited{ReadCloser: r.Body, header: w, wanted: c.wanted}
		err = out.Write(plainWriter{w})
	}
	if err != nil {
		return err
	}
	return w.Flush()
}

// outgoing lets a long body pass in pieces as large as the records of TLS, not as the buffer of its header.
type outgoing struct{ io.Writer }

func (o outgoing) ReadFrom(r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{o.Writer}, r, buf[:])
}

// awaited is a body that waits for 100 (Continue), for a while, after the header has been sent.
type awaited struct {
	io.ReadCloser
	header *bufio.Writer
	wanted chan bool // nil: no more
}

func (a *awaited) Read(b []byte) (int, error) {
	if a.wanted != nil {
		if err := a.header.Flush(); err != nil {
			return 0, err
		}
		select {
		case wanted := <-a.wanted:
			if !wanted {
				return 0, errUnwanted
			}
		case <-time.After(continueTimeout):
		}
		a.wanted = nil
	}
	return a.ReadCloser.Read(b)
}

// plainWriter hides from net/http that it could read a body right into the buffer, which awaited flushes.
type plainWriter struct{ w *bufio.Writer }

func (p plainWriter) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p plainWriter) WriteByte(b byte) error      { return p.w.WriteByte(b) }

// answer reads the header of the final answer. Informational ones end here, as the gateway
// gives its client a 100 of its own.
func (c *call) answer(r *http.Request) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(c.in, r)
		if err != nil {
			return nil, err
		}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			c.left = math.MaxInt64
			resp.Body = switched{c}
			return resp, nil
		case resp.StatusCode < 200:
			if resp.StatusCode == http.StatusContinue {
				c.want(true)
			}
			continue
		}
		c.want(false)
		c.left = math.MaxInt64
		c.keep = !resp.Close && !r.Close
		if resp.Body == http.NoBody {
			c.finish()
		} else {
			resp.Body = &answerBody{c: c, body: resp.Body}
		}
		return resp, nil
	}
}

// want tells a body that waits, once, whether to come.
func (c *call) want(body bool) {
	if c.wanted == nil {
		return
	}
	select {
	case c.wanted <- body:
	default:
	}
}

// finish ends a call whose answer has been read.
func (c *call) finish() {
	c.over.Do(func() {
		stopped := c.stop()
		fit := c.keep && stopped && c.in.Buffered() == 0 && c.wrote()
		c.in.Reset(nil)
		lineReaders.Put(c.in)
		if fit {
			c.line.give(c.conn)
		} else {
			c.conn.Close()
		}
	})
}

// drop ends a call before its time. Its reader may be in use.
func (c *call) drop() {
	c.over.Do(func() {
		c.stop()
		c.conn.Close()
	})
}

// wrote reports whether the whole request has been sent.
func (c *call) wrote() bool {
	if c.sent == nil {
		return true
	}
	select {
	case err := <-c.sent:
		return err == nil
	case <-time.After(sentTimeout):
		return false
	}
}

// answerBody gives its connection back with its last byte.
type answerBody struct {
	c    *call
	body io.Reader
	mu   sync.Mutex // of one Read at a time
	err  error      // what ended it
}

func (b *answerBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.body.Read(p)
	if b.err = err; errors.Is(err, io.EOF) {
		b.c.finish()
	} else if err != nil {
		b.c.drop()
	}
	return n, err
}

// Close may be called while Read waits, and ends it.
func (b *answerBody) Close() error {
	b.c.drop()
	return nil
}

// switched is the connection after 101 (Switching Protocols).
type switched struct{ c *call }

func (s switched) Read(b []byte) (int, error)  { return s.c.in.Read(b) }
func (s switched) Write(b []byte) (int, error) { return s.c.conn.Write(b) }

func (s switched) Close() error {
	s.c.drop()
	return nil
}
