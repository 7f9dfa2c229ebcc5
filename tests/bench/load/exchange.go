package load

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tlsExchange shakes hands and reads the answer.
func tlsExchange(name string) func(*net.TCPConn) error {
	config := clientConfig(name)
	return func(conn *net.TCPConn) error {
		var buf [answerSize]byte
		_, err := io.ReadFull(tls.Client(conn, config), buf[:]) // shakes hands first
		return err
	}
}

// rawExchange sends a prepared hello and reads the answer.
func rawExchange(name string) (func(*net.TCPConn) error, error) {
	hello, err := Hello(name)
	if err != nil {
		return nil, err
	}
	return func(conn *net.TCPConn) error {
		if _, err := conn.Write(hello); err != nil {
			return err
		}
		var buf [answerSize]byte
		_, err := io.ReadFull(conn, buf[:])
		return err
	}, nil
}

func raw(job *Job) (Result, error) {
	exchange, err := rawExchange(job.Name)
	if err != nil {
		return Result{}, err
	}
	return connections(job, job.one(exchange))
}

// bulk reads on Workers connections until the time is up.
func bulk(job *Job) (Result, error) {
	hello, err := Hello(job.Name)
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	end := start.Add(job.Duration)
	tallies := make([]tally, job.Workers)
	var total atomic.Int64
	var wg sync.WaitGroup
	for i := range tallies {
		wg.Go(func() {
			conn, err := job.dial(i)
			if err != nil {
				tallies[i].fail(err)
				return
			}
			defer conn.Close()
			if _, err = conn.Write(hello); err == nil {
				var n int64
				n, err = discard(conn, end)
				total.Add(n)
			}
			if err != nil {
				tallies[i].fail(err)
			}
		})
	}
	wg.Wait()
	r := summarize(tallies, time.Since(start))
	r.Count, r.Bytes = job.Workers-r.Errors, total.Load()
	return r, nil
}

// discard throws away what arrives, in the kernel: MSG_TRUNC on a TCP socket drops the
// bytes without a copy, see tcp(7).
func discard(conn *net.TCPConn, end time.Time) (total int64, err error) {
	if err := conn.SetDeadline(end); err != nil {
		return 0, err
	}
	sys, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 4<<20)
	waitErr := sys.Read(func(fd uintptr) bool {
		for time.Now().Before(end) {
			n, _, rerr := unix.Recvfrom(int(fd), buf, unix.MSG_TRUNC)
			switch {
			case rerr == unix.EAGAIN:
				return false
			case rerr == unix.EINTR:
			case rerr != nil:
				err = rerr
				return true
			case n == 0:
				err = errors.New("the origin closed first")
				return true
			default:
				total += int64(n)
			}
		}
		return true
	})
	if waitErr != nil && !isTimeout(waitErr) {
		err = waitErr
	}
	return total, err
}
