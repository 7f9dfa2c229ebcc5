package relay

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// ErrSilent says that a destination has not answered in the time that it was given.
var ErrSilent = errors.New("no answer")

// Attempt says how long to wait for a destination, and what then.
type Attempt struct {
	Patience time.Duration // until GiveUp is asked
	GiveUp   func() bool   // whether to wait no longer; it must not block
	Longest  time.Duration // until the attempt is given up whatever it says
	// Connected is called once: without an error, and then it must call [Pair.Join] or [Pair.Drop]
	// before it returns; or with one, [ErrSilent] where nobody answered, and then the socket is
	// closed. It must not block.
	Connected func(*Pair, error)
}

// attempt is one that is under way.
type attempt struct {
	Attempt
	timer *time.Timer
	last  bool // the timer runs to the longest
}

// Dial makes a pair of which there is only the server's side, a socket that is still to
// be connected. The loop makes the calls of the attempt. The socket is the engine's from now on; where
// Dial fails it is reset, and nothing is called.
func (e *Engine) Dial(fd int, a Attempt) (*Pair, error) {
	l, err := e.pick()
	if err != nil {
		abort(fd)
		return nil, err
	}
	p := &Pair{loop: l, attempt: &attempt{Attempt: a}}
	p.ends[0].fd, p.ends[1].fd = -1, fd
	p.attempt.timer = time.AfterFunc(a.Patience, func() { l.expire(p) })
	if err := l.add(p); err != nil {
		p.attempt.timer.Stop()
		abort(fd)
		return nil, err
	}
	return p, nil
}

// answered finds out what became of the attempt to connect, and reports whether there is
// a pair now.
func (p *Pair) answered() bool {
	server := &p.ends[1]
	switch {
	case server.failed:
		code, err := unix.GetsockoptInt(server.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err == nil {
			err = net.ErrClosed
		}
		p.abandon(err)
		return false
	case !server.writable:
		return false // woken for nothing
	}
	p.ended().Connected(p, nil)
	return !p.over
}

// silent is called when the patience with an attempt is over.
func (p *Pair) silent() {
	a := p.attempt
	switch {
	case a == nil || p.ends[1].writable || p.ends[1].failed: // it has an answer
	case !a.last && !a.GiveUp():
		a.last = true
		a.timer.Reset(a.Longest - a.Patience)
	default:
		p.abandon(ErrSilent)
	}
}

// abandon gives an attempt to connect up.
func (p *Pair) abandon(err error) {
	p.over = true
	p.loop.remove(p)
	abort(p.ends[1].fd)
	p.ended().Connected(p, err)
}

// ended takes the attempt away from the pair.
func (p *Pair) ended() *attempt {
	a := p.attempt
	p.attempt = nil
	a.timer.Stop()
	return a
}

// Join completes a dialled pair: the client, and the bytes that were read from it already,
// which are copied where they do not go out at once. From then on it is as if [Engine.Join] had
// made the pair. Only Connected may call it. A meter of nil bounds nothing.
func (p *Pair) Join(client *net.TCPConn, first []byte, meter *Meter, done func(Totals)) error {
	fd, err := detach(client)
	if err != nil {
		drop(client)
		p.end(true)
		return err
	}
	p.ends[0].fd, p.ends[0].writable = fd, true
	if err := p.watch(unix.EPOLL_CTL_ADD, 0, interest); err != nil {
		p.end(true)
		return err
	}
	p.done = done
	out := &p.ways[0]
	out.meter = meter
	if len(first) == 0 {
		return nil
	}
	n := min(len(first), p.room(out))
	if n > 0 {
		n, err = unix.Write(p.ends[1].fd, first[:n])
		if n, err = p.given(1, n, err); err != nil {
			p.ends[1].failed = true // the turn ends it
		}
	}
	out.moved = int64(n)
	out.used(n)
	if n < len(first) {
		out.first = append([]byte(nil), first[n:]...)
	}
	return nil
}

// Drop ends a dialled pair that gets no client. Only Connected may call it.
func (p *Pair) Drop() { p.end(true) }

// push writes what is left of the first bytes.
func (p *Pair) push(to int, d *direction) (int, error) {
	n, err := unix.Write(p.ends[to].fd, d.first[:min(len(d.first), p.room(d))])
	n, err = p.given(to, n, err)
	if d.first = d.first[n:]; len(d.first) == 0 {
		d.first = nil
	}
	d.moved += int64(n)
	d.used(n)
	return n, err
}
