package relay

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many events one wait returns.
	batch = 128
	// wakeSlot marks the event of a loop's own wake-up call.
	wakeSlot = -1
	// interest is what each socket is watched for. Room to write is added to it by the
	// first write that finds none: most sockets never fill.
	interest = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET
)

// loop is one epoll and the pairs that it drives.
type loop struct {
	epollFD int
	epoll   *os.File // in Go's own poller, so that a loop without events has no thread
	waiting syscall.RawConn
	wake    int

	mu      sync.Mutex
	slots   []slot
	free    []int32  // slots without a pair
	resets  []*Pair  // asked for by other goroutines
	calls   []func() // to be made by the loop
	expired []*Pair  // whose destination was silent for too long, unless it has answered now
	closing bool

	// What follows is the loop's own goroutine's.
	events [batch]unix.EpollEvent
	ready  []*Pair // to take a turn
	buf    []byte
	pipes  pipes
}

// slot ties an epoll event to a pair. The generation tells a late event of the slot's
// former pair from one of the present.
type slot struct {
	pair *Pair
	gen  int32
}

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		_ = unix.SetNonblock(ep, true)
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeSlot})
		if err != nil {
			_ = unix.Close(wake)
		}
	}
	if err != nil {
		_ = unix.Close(ep)
		return nil, err
	}
	l := &loop{epollFD: ep, epoll: os.NewFile(uintptr(ep), "epoll"), wake: wake, buf: make([]byte, chunk)}
	if l.waiting, err = l.epoll.SyscallConn(); err == nil {
		err = l.epoll.SetReadDeadline(time.Time{}) // fails if Go's poller did not take it
	}
	if err != nil {
		l.closeFDs()
		return nil, err
	}
	return l, nil
}

// add makes p the loop's. The lock keeps the loop from p until both ends are watched.
func (l *loop) add(p *Pair) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return ErrClosed
	}
	if n := len(l.free); n > 0 {
		p.slot, l.free = l.free[n-1], l.free[:n-1]
	} else {
		p.slot = int32(len(l.slots))
		l.slots = append(l.slots, slot{})
	}
	s := &l.slots[p.slot]
	p.gen = s.gen
	for side, end := range p.ends {
		if end.fd < 0 {
			continue
		}
		events := uint32(interest)
		if p.attempt != nil { // room to write says that it is connected
			events |= unix.EPOLLOUT
			p.ends[side].awaited = true
		}
		if err := p.watch(unix.EPOLL_CTL_ADD, side, events); err != nil {
			s.gen++ // the first end may have had an event
			l.free = append(l.free, p.slot)
			return err
		}
	}
	s.pair = p
	return nil
}

func (l *loop) remove(p *Pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slots[p.slot].pair = nil
	l.slots[p.slot].gen++
	l.free = append(l.free, p.slot)
}

// reset asks for the end of p.
func (l *loop) reset(p *Pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return // all are reset
	}
	l.resets = append(l.resets, p)
	if len(l.resets) == 1 {
		l.wakeLocked()
	}
}

// expire asks for the end of p if it is not connected by then.
func (l *loop) expire(p *Pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return
	}
	l.expired = append(l.expired, p)
	l.wakeLocked()
}

// call has the loop make a call, unless it is closing.
func (l *loop) call(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return
	}
	l.calls = append(l.calls, f)
	l.wakeLocked()
}

func (l *loop) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closing {
		l.closing = true
		l.wakeLocked()
	}
}

// wakeLocked is called under the lock, for after it the loop may close the descriptor.
func (l *loop) wakeLocked() {
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only if a call is pending
}

func (l *loop) run() {
	for {
		n, err := l.wait(len(l.ready) == 0)
		if err != nil {
			// Cannot be, short of a foreign close of our descriptor: nothing
			// that this loop holds can go on.
			l.stop()
		}
		resets, expired, calls, closing := l.collect(max(n, 0))
		for _, f := range calls {
			f()
		}
		for _, p := range resets {
			p.end(true)
		}
		for _, p := range expired {
			p.silent()
		}
		if closing {
			l.shut()
			return
		}
		turns := l.ready
		l.ready = nil
		for _, p := range turns {
			p.queued = false
			p.turn()
		}
		clear(turns) // pairs that have ended are not held
		if l.ready == nil {
			l.ready = turns[:0]
		}
	}
}

// wait returns the number of events. It parks the goroutine while there are none.
func (l *loop) wait(park bool) (n int, err error) {
	waitErr := l.waiting.Read(func(uintptr) bool {
		n, err = unix.EpollWait(l.epollFD, l.events[:], 0)
		if err == unix.EINTR {
			n, err = 0, nil
		}
		return n != 0 || err != nil || !park
	})
	if waitErr != nil {
		return 0, waitErr
	}
	return n, err
}

// collect notes what the first n events say and lists the pairs that they concern.
func (l *loop) collect(n int) (resets, expired []*Pair, calls []func(), closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.events[:n] {
		ev := &l.events[i]
		if ev.Fd == wakeSlot {
			var b [8]byte
			_, _ = unix.Read(l.wake, b[:])
			continue
		}
		if s := &l.slots[ev.Fd>>1]; s.pair != nil && s.gen == ev.Pad {
			s.pair.note(int(ev.Fd&1), ev.Events)
			l.queue(s.pair)
		}
	}
	resets, l.resets = l.resets, nil
	expired, l.expired = l.expired, nil
	calls, l.calls = l.calls, nil
	return resets, expired, calls, l.closing
}

// queue gives p a turn.
func (l *loop) queue(p *Pair) {
	if !p.queued {
		p.queued = true
		l.ready = append(l.ready, p)
	}
}

// shut ends everything that the loop holds.
func (l *loop) shut() {
	l.mu.Lock()
	slots := l.slots
	l.mu.Unlock()
	for _, s := range slots {
		if s.pair != nil {
			s.pair.end(true)
		}
	}
	l.pipes.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeFDs()
}

func (l *loop) closeFDs() {
	_ = unix.Close(l.wake)
	l.epoll.Close()
}
