package relay

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// chunk is the size of a loop's buffer: more than most records and responses.
	chunk = 64 << 10
	// copyBytes is how much of a direction is copied before it is worth a pipe.
	copyBytes = 128 << 10
	// turnBytes bounds a pair's turn: some milliseconds in which the loop's other pairs
	// wait. With less, a turn ends before the source is empty, and bulk costs more.
	turnBytes = 16 << 20
)

// pump moves bytes away from an end until the source is empty, the destination full or
// the budget spent. An error means that the direction cannot go on.
func (p *Pair) pump(side int, budget *int) error {
	src, dst, d := &p.ends[side], &p.ends[1-side], &p.ways[side]
	for !d.ended && dst.writable && (src.readable || d.held > 0 || d.first != nil) {
		if *budget <= 0 {
			return nil
		}
		var n int
		var err error
		switch {
		case d.held > 0:
			n, err = p.drain(1-side, d)
		case p.room(d) == 0:
			return nil
		case d.first != nil:
			n, err = p.push(1-side, d)
		case d.moved >= copyBytes && !src.urgent && p.borrow(d):
			n, err = p.fill(side, d)
		default:
			n, err = p.copy(side, d)
		}
		if err != nil {
			return err
		}
		*budget -= n
	}
	if d.held == 0 {
		p.giveBack(d)
	}
	return nil
}

// copy passes one buffer on. It takes from the source only what the destination has
// accepted.
func (p *Pair) copy(side int, d *direction) (int, error) {
	src := &p.ends[side]
	buf := p.loop.buf[:min(chunk, p.room(d))]
	n, err := receive(src.fd, buf, unix.MSG_PEEK)
	if n, err = p.taken(side, d, n, err); n <= 0 {
		return 0, err
	}
	m, err := unix.Write(p.ends[1-side].fd, buf[:n])
	if m, err = p.given(1-side, m, err); m <= 0 {
		return 0, err
	}
	if _, err := receive(src.fd, buf[:m], unix.MSG_TRUNC); err != nil {
		return 0, err
	}
	d.moved += int64(m)
	d.used(m)
	if m == n && n < len(buf) && !src.finished && !src.urgent {
		src.readable = false // a short read emptied it; what comes later is a new edge
	}
	return m, nil
}

// fill moves bytes from the source into the empty pipe.
func (p *Pair) fill(side int, d *direction) (int, error) {
	n, err := unix.Splice(p.ends[side].fd, nil, d.pipe.w, nil, min(pipeSize, p.room(d)), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	if err == unix.EINVAL || err == unix.ENOSYS || err == unix.ENOBUFS || err == unix.ENOMEM {
		d.plain = true
		p.giveBack(d)
		return 0, nil
	}
	d.held, err = p.taken(side, d, int(n), err)
	d.used(d.held)
	return 0, err
}

// drain moves bytes from the pipe to the destination.
func (p *Pair) drain(to int, d *direction) (int, error) {
	n, err := unix.Splice(d.pipe.r, nil, p.ends[to].fd, nil, d.held, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	m, err := p.given(to, int(n), err)
	d.held -= m
	d.moved += int64(m)
	return m, err
}

// taken interprets the outcome of a read: n bytes, none for now, the end, or an error.
func (p *Pair) taken(side int, d *direction, n int, err error) (int, error) {
	switch {
	case err == unix.EINTR:
		return 0, nil
	case err == unix.EAGAIN:
		p.ends[side].readable = false
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		d.ended = true
		if p.ways[1-side].ended {
			return 0, nil // closing both says the same
		}
		return 0, unix.Shutdown(p.ends[1-side].fd, unix.SHUT_WR)
	}
	return n, nil
}

// given interprets the outcome of a write: n bytes, no room for now, or an error.
func (p *Pair) given(to, n int, err error) (int, error) {
	dst := &p.ends[to]
	switch {
	case err == unix.EINTR:
		return 0, nil
	case err == unix.EAGAIN:
		dst.writable = false
		if !dst.awaited {
			dst.awaited = true
			// Room that came up meanwhile is reported as well.
			return 0, p.watch(unix.EPOLL_CTL_MOD, to, interest|unix.EPOLLOUT)
		}
		return 0, nil
	case err != nil:
		return 0, err
	}
	return n, nil
}

// receive is recv(2). With MSG_TRUNC, TCP discards instead of copying into b.
func receive(fd int, b []byte, flags int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
