package relay

import "golang.org/x/sys/unix"

const (
	// pipeSize is what an unprivileged process may ask for (pipe(7),
	// /proc/sys/fs/pipe-max-size), leastPipe what makes a pipe worth its calls: past the
	// user's share of pages (pipe-user-pages-soft) the kernel gives out pipes
	// of one or two.
	pipeSize  = 1 << 20
	leastPipe = 64 << 10
	// maxPipes bounds the pipes of one loop, and so the descriptors and the memory that
	// slow readers can bind in them: 64 MiB. sparePipes are kept for the next borrower.
	maxPipes   = 64
	sparePipes = 16
)

type pipe struct{ r, w int }

// pipes are a loop's. Those that are spare are empty.
type pipes struct {
	spare []*pipe
	lent  int
}

// borrow gives d a pipe and reports whether it has one.
func (p *Pair) borrow(d *direction) bool {
	if d.pipe == nil && !d.plain {
		d.pipe = p.loop.pipes.take()
	}
	return d.pipe != nil
}

// giveBack returns d's pipe. One with bytes in it is closed.
func (p *Pair) giveBack(d *direction) {
	if d.pipe != nil {
		p.loop.pipes.put(d.pipe, d.held == 0)
		d.pipe, d.held = nil, 0
	}
}

// take returns a pipe, or nil if there is none to be had.
func (ps *pipes) take() *pipe {
	if ps.lent == maxPipes {
		return nil
	}
	if n := len(ps.spare); n > 0 {
		p := ps.spare[n-1]
		ps.spare = ps.spare[:n-1]
		ps.lent++
		return p
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil
	}
	p := &pipe{r: fds[0], w: fds[1]}
	_, _ = unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize) // or as large as it is
	if size, err := unix.FcntlInt(uintptr(p.w), unix.F_GETPIPE_SZ, 0); err != nil || size < leastPipe {
		p.close()
		return nil
	}
	ps.lent++
	return p
}

func (ps *pipes) put(p *pipe, empty bool) {
	ps.lent--
	if empty && len(ps.spare) < sparePipes {
		ps.spare = append(ps.spare, p)
		return
	}
	p.close()
}

func (ps *pipes) close() {
	for _, p := range ps.spare {
		p.close()
	}
	ps.spare = nil
}

func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}
