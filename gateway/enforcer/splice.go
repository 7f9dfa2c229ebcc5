package enforcer

import (
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// lazyBytes is how much of each direction goes through buffers before the kernel
// splices. A spliced direction holds a pipe, so two descriptors; most flows are
// shorter than this and never need one.
const lazyBytes = 128 << 10

const chunk = 32 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// relay joins two connections until both directions have ended, and returns the
// bytes from the client (out) and to it (in). A FIN is passed on as a
// FIN, so that half-closed connections work; anything else that ends one direction
// resets both, as it would have without us in between.
func relay(client, server *net.TCPConn) (out, in int64) {
	var wg sync.WaitGroup
	wg.Go(func() { in = pass(client, server) })
	out = pass(server, client)
	wg.Wait()
	client.Close()
	server.Close()
	return out, in
}

// pass copies from src to dst until src ends.
func pass(dst, src *net.TCPConn) int64 {
	n, ended, err := passLazily(dst, src)
	if err == nil && !ended {
		var m int64
		m, err = dst.ReadFrom(src) // splice(2), see net.TCPConn.ReadFrom
		n += m
	}
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		reset(src)
		reset(dst)
	}
	return n
}

// passLazily copies up to lazyBytes. A buffer is held only while there is something in it,
// so that idle connections cost none.
func passLazily(dst, src *net.TCPConn) (n int64, ended bool, err error) {
	raw, err := src.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	for n < lazyBytes {
		buf, got, err := readReady(raw)
		if got > 0 {
			var m int
			m, err = dst.Write(buf[:got])
			n += int64(m)
		}
		if buf != nil {
			chunks.Put(buf)
		}
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

// readReady waits for data and only then takes a buffer for it, which the caller
// puts back.
func readReady(raw syscall.RawConn) (buf *[chunk]byte, n int, err error) {
	waitErr := raw.Read(func(fd uintptr) bool {
		buf = chunks.Get().(*[chunk]byte)
		for {
			n, err = unix.Read(int(fd), buf[:])
			if err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN {
			chunks.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	switch {
	case waitErr != nil:
		return nil, 0, waitErr
	case err != nil:
		return buf, 0, err
	case n == 0:
		return buf, 0, io.EOF
	}
	return buf, n, nil
}

// reset ends a connection with a RST: the peer must see a failure, not an end.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}
