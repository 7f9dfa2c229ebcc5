package relay

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// ErrSilent says that a destination has not answered in the time that it was given.
var ErrSilent = errors.New("no answer")

// Dial makes a pair of which there is only the server's side, a socket that is still to
// be connected. The loop calls connected once: without an error, and then it must call
// [Pair.Join] or [Pair.Drop] before it returns; or with one, ErrSilent after patience, and then the
// socket is closed. It must not block. The socket is the engine's from now on; where Dial fails
// it is reset, and connected is not called.
func (e *Engine) Dial(fd int, patience time.Duration, connected func(*Pair, error)) (*Pair, error) {
	l, err := e.pick()
	if err != nil {
		abort(fd)
		return nil, err
	}
	p := &Pair{loop: l, connected: connected}
	p.ends[0].fd, p.ends[1].fd = -1, fd
	p.patience = time.AfterFunc(patience, func() { l.expire(p) })
	if err := l.add(p); err != nil {
		p.patience.Stop()
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
	connected := p.connected
	p.connected, p.patience = nil, stopped(p.patience)
	connected(p, nil)
	return !p.over
}

// stopped ends a timer, and with it what it holds.
func stopped(t *time.Timer) *time.Timer {
	t.Stop()
	return nil
}

// abandon gives an attempt to connect up.
func (p *Pair) abandon(err error) {
	p.over = true
	p.loop.remove(p)
	abort(p.ends[1].fd)
	connected := p.connected
	p.connected, p.patience = nil, stopped(p.patience)
	connected(p, err)
}

// Join completes a dialled pair: the client, and the bytes that were read from it already,
// which are copied where they do not go out at once. From then on it is as if [Engine.Join] had
// made the pair. Only connected may call it.
func (p *Pair) Join(client *net.TCPConn, first []byte, done func(Totals)) error {
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
	n := 0
	if len(first) > 0 {
		n, err = unix.Write(p.ends[1].fd, first)
		if n, err = p.given(1, n, err); err != nil {
			p.ends[1].failed = true // the turn ends it
		}
	}
	p.ways[0].moved = int64(n)
	if n < len(first) {
		p.ways[0].first = append([]byte(nil), first[n:]...)
	}
	return nil
}

// Drop ends a dialled pair that gets no client. Only connected may call it.
func (p *Pair) Drop() { p.end(true) }

// push writes what is left of the first bytes.
func (p *Pair) push(to int, d *direction) (int, error) {
	n, err := unix.Write(p.ends[to].fd, d.first)
	n, err = p.given(to, n, err)
	if d.first = d.first[n:]; len(d.first) == 0 {
		d.first = nil
	}
	d.moved += int64(n)
	return n, err
}
