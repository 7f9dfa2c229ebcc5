package relay

import (
	"net"

	"golang.org/x/sys/unix"
)

// Pair is two connections that are relayed.
type Pair struct {
	loop *loop
	done func(Totals)
	slot int32
	gen  int32
	// attempt is set while the server's side is still being connected.
	attempt *attempt

	// What follows is the loop's.
	ends   [2]end       // client, server
	ways   [2]direction // away from ends[i]
	queued bool
	over   bool
}

// end is one of the two sockets and what is known of it. Events are edges, so a socket
// stays readable or writable until an attempt shows that it is not.
type end struct {
	fd       int
	readable bool
	writable bool
	awaited  bool // EPOLLOUT is asked for
	finished bool // the peer's FIN is in the socket, behind the data
	urgent   bool // the peer has sent urgent data
	failed   bool // by a RST or a timeout
}

// direction is the bytes from one end to the other.
type direction struct {
	moved int64
	first []byte // was read before the pair was made, and goes before all else
	pipe  *pipe  // borrowed while bytes flow
	held  int    // bytes in the pipe
	plain bool   // splice is of no use here
	ended bool   // the FIN was passed on
	meter *Meter // nil: unbounded
}

// Reset ends both connections with a RST, soon. Any goroutine may call it, also
// after the pair has ended.
func (p *Pair) Reset() { p.loop.reset(p) }

// watch tells epoll what to report of an end.
func (p *Pair) watch(op, side int, events uint32) error {
	return unix.EpollCtl(p.loop.epollFD, op, p.ends[side].fd,
		&unix.EpollEvent{Events: events, Fd: p.slot<<1 | int32(side), Pad: p.gen})
}

// note takes in an event. An error makes a socket readable and writable in that neither
// call would wait.
func (p *Pair) note(side int, events uint32) {
	e := &p.ends[side]
	if events&unix.EPOLLPRI != 0 {
		e.urgent = true
	}
	if events&(unix.EPOLLIN|unix.EPOLLPRI|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.readable = true
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.writable = true
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		e.finished = true
	}
	if events&unix.EPOLLERR != 0 {
		e.failed = true
	}
}

// turn moves what can be moved, within the budget of one turn.
func (p *Pair) turn() {
	if p.over || p.attempt != nil && !p.answered() {
		return
	}
	budget := turnBytes
	for side := range p.ways {
		if err := p.pump(side, &budget); err != nil {
			p.end(true)
			return
		}
	}
	switch {
	case p.ways[0].ended && p.ways[1].ended:
		p.end(false)
	case budget <= 0:
		p.loop.queue(p)
	case p.ends[0].failed || p.ends[1].failed:
		// What had come before the RST was passed on as far as it went.
		p.end(true)
	}
}

// end closes both sockets, for good or with a RST.
func (p *Pair) end(reset bool) {
	switch {
	case p.over:
		return
	case p.attempt != nil:
		p.abandon(net.ErrClosed)
		return
	}
	p.over = true
	p.loop.remove(p)
	for side := range p.ends {
		p.giveBack(&p.ways[side])
		switch fd := p.ends[side].fd; {
		case fd < 0: // it never came
		case reset:
			abort(fd)
		default:
			_ = unix.Close(fd)
		}
	}
	if p.done == nil {
		return
	}
	p.done(Totals{Out: p.ways[0].moved, In: p.ways[1].moved})
}
