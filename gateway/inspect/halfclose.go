package inspect

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// halfOpen is how long a client that has ended its own side is answered without a byte. One that
// is gone altogether looks the same until something is sent to it, which it then resets; so
// silence alone has to have an end.
const halfOpen = 2 * time.Minute

// owed is what a client of HTTP/1 has coming. One that has no more to ask may end its side of
// the connection and wait for the answers: half of TCP stays open (RFC 9293, section 3.6), and so
// does half of TLS (RFC 8446, section 6.1). The standard library's server takes the end of
// what it reads for the end of the client, and cancels the request that it is answering. So the
// end is not shown to it while an answer is due.
type owed struct {
	sent atomic.Int64 // bytes that went to the client

	mu       sync.Mutex
	balance  int // requests that came in whole, less those that were answered
	closed   bool
	deadline time.Time     // for reads
	wake     chan struct{} // something changed
}

func newOwed() owed { return owed{wake: make(chan struct{}, 1)} }

// add changes the balance.
func (o *owed) add(n int) {
	o.change(func() { o.balance += n })
}

func (o *owed) change(f func()) {
	o.mu.Lock()
	f()
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// end waits until the client may be taken to have ended, and returns io.EOF; or an error
// of the reads' deadline, by which the server takes its own read back.
func (o *owed) end() error {
	silence := time.NewTimer(halfOpen)
	defer silence.Stop()
	sent := o.sent.Load()
	for {
		o.mu.Lock()
		over, late := o.closed || o.balance <= 0, !o.deadline.IsZero() && !time.Now().Before(o.deadline)
		o.mu.Unlock()
		switch {
		case over:
			return io.EOF
		case late:
			return os.ErrDeadlineExceeded
		}
		select {
		case <-o.wake:
		case <-silence.C:
			now := o.sent.Load()
			if now == sent {
				return io.EOF
			}
			sent = now
			silence.Reset(halfOpen)
		}
	}
}

// Write passes what the client is answered.
func (g *guard) Write(b []byte) (int, error) {
	n, err := g.Conn.Write(b)
	g.owed.sent.Add(int64(n))
	return n, err
}

// SetReadDeadline reaches reads that wait for an answer, too: the server ends those by a
// deadline that has passed, and sets no other while an answer is due.
func (g *guard) SetReadDeadline(t time.Time) error {
	g.owed.change(func() { g.owed.deadline = t })
	return g.Conn.SetReadDeadline(t)
}

// SetDeadline is for those who take the connection over.
func (g *guard) SetDeadline(t time.Time) error {
	g.owed.change(func() { g.owed.deadline = t })
	return g.Conn.SetDeadline(t)
}

// Close ends the connection and whatever is read from it.
func (g *guard) Close() error {
	g.owed.change(func() { g.owed.closed = true })
	return g.Conn.Close()
}
