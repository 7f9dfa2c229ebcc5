package relay

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Engine relays pairs of connections. Its loops start with the first of them.
type Engine struct {
	next atomic.Uint32

	mu     sync.Mutex
	closed bool
	loops  []*loop
	wg     sync.WaitGroup // of loops
}

// ErrClosed is what Join returns after Close.
var ErrClosed = errors.New("relay: engine closed")

// New returns an Engine that holds nothing yet.
func New() *Engine { return &Engine{} }

// Totals are the bytes that a pair has passed on, by direction.
type Totals struct {
	Out int64 // from the client to the server
	In  int64 // from the server to the client
}

// Join relays between client and server until both directions have ended or one has
// failed, closes both and then calls done, which must not block: it is in the way of the
// other pairs. The connections are the engine's from now on; where Join fails they are
// reset, and done is not called. A meter of nil bounds nothing.
func (e *Engine) Join(client, server *net.TCPConn, meter *Meter, done func(Totals)) (*Pair, error) {
	l, err := e.pick()
	if err != nil {
		drop(client)
		drop(server)
		return nil, err
	}
	p := &Pair{loop: l, done: done}
	p.ways[0].meter = meter
	for i, c := range []*net.TCPConn{client, server} {
		p.ends[i].writable = true // as fresh connections are; else a write tells
		if p.ends[i].fd, err = detach(c); err != nil {
			drop(client)
			drop(server)
			if i == 1 {
				abort(p.ends[0].fd)
			}
			return nil, err
		}
	}
	if err := l.add(p); err != nil {
		abort(p.ends[0].fd)
		abort(p.ends[1].fd)
		return nil, err
	}
	return p, nil
}

// pick returns a loop, in turn.
func (e *Engine) pick() (*loop, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	for len(e.loops) < runtime.GOMAXPROCS(0) {
		l, err := newLoop()
		if err != nil {
			if len(e.loops) > 0 { // fewer will do
				break
			}
			return nil, err
		}
		e.loops = append(e.loops, l)
		e.wg.Go(l.run)
	}
	return e.loops[int(e.next.Add(1))%len(e.loops)], nil
}

// Close resets what is still relayed and ends the loops.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	loops := e.loops
	e.mu.Unlock()
	for _, l := range loops {
		l.stop()
	}
	e.wg.Wait()
}

// detach takes the socket out of a connection and leaves that closed.
func detach(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	err = raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, dupErr); err != nil {
		return -1, err
	}
	c.Close()
	return fd, nil
}

// drop resets a connection that was not detached.
func drop(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// abort closes a socket with a RST.
func abort(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}
