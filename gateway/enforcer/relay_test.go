package enforcer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
)

// Sizes around the border between buffers and splice, both ways at once, with a half-close
// at the end of one.
func TestRelay(t *testing.T) {
	for _, size := range []int{0, 1, 128<<10 - 1, 128 << 10, 128<<10 + 1, 5 << 20} {
		l := newLab(t, nil)
		data := make([]byte, size)
		r := rand.NewChaCha8([32]byte{1})
		_, _ = r.Read(data)
		sum := make(chan [32]byte, 1)
		l.host(t, ledger, 5432, func(c *net.TCPConn) {
			defer c.Close()
			var wrote sync.WaitGroup
			wrote.Go(func() { _, _ = c.Write(data) })
			got, _ := io.ReadAll(c)
			wrote.Wait()
			sum <- sha256.Sum256(got)
			_, _ = io.WriteString(c, "done") // after the client's FIN
		})
		c := l.dial(t, agent, ledger, 5432)
		go func() {
			_, _ = c.Write(data)
			_ = c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(size, err)
		}
		if want := append(bytes.Clone(data), "done"...); len(got) != len(want) {
			t.Fatalf("%d bytes back, want %d", len(got), len(want))
		}
		if <-sum != sha256.Sum256(data) {
			t.Fatalf("%d bytes arrived changed", size)
		}
		if r := l.log.wait(t, audit.Close); r.BytesOut != int64(size) || r.BytesIn != int64(size)+4 {
			t.Errorf("counted %d out and %d in, want %d and %d", r.BytesOut, r.BytesIn, size, size+4)
		}
	}
}

func TestResetIsPassedOn(t *testing.T) {
	t.Run("from the server", func(t *testing.T) {
		l := newLab(t, nil)
		l.host(t, ledger, 5432, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			reset(c)
		})
		c := l.dial(t, agent, ledger, 5432)
		_, _ = io.WriteString(c, "x")
		wantReset(t, c)
	})
	t.Run("from the client", func(t *testing.T) {
		l := newLab(t, nil)
		seen := make(chan error, 1)
		l.host(t, ledger, 5432, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "x")
			_, err := c.Read(make([]byte, 1))
			seen <- err
			c.Close()
		})
		c := l.dial(t, agent, ledger, 5432)
		_, _ = io.ReadFull(c, make([]byte, 1))
		reset(c)
		if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the server saw %v, want a reset", err)
		}
	})
}

// Idle flows hold two descriptors each, until they have moved enough to be spliced.
func TestIdleFlowsHoldNoPipes(t *testing.T) {
	l := newLab(t, nil)
	l.host(t, ledger, 5432, func(c *net.TCPConn) { // echo, without a pipe of its own
		defer c.Close()
		_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	})
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	ping(t, l.dial(t, agent, ledger, 5432))
	before := open()
	const flows = 50
	for range flows {
		ping(t, l.dial(t, agent, ledger, 5432))
	}
	// The test's own two ends are in this process, too.
	if got := open() - before; got > 4*flows {
		t.Errorf("%d descriptors for %d flows", got, flows)
	}
}

// A relayed flow has no goroutine: all that opened it have ended.
func TestRelayedFlowsHaveNoGoroutine(t *testing.T) {
	l := newLab(t, nil)
	var peers []*net.TCPConn // held open without a goroutine of the test's
	l.host(t, ledger, 5432, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_, _ = c.Write([]byte("x"))
	})
	first := l.dial(t, agent, ledger, 5432)
	ping(t, first)
	before := runtime.NumGoroutine()
	const flows = 50
	for range flows {
		c := l.dial(t, agent, ledger, 5432)
		ping(t, c)
		peers = append(peers, c)
	}
	// A flow's goroutine ends on its own time after the bytes have passed.
	for deadline := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before+flows/10; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines for %d flows", runtime.NumGoroutine()-before, flows)
		}
	}
	runtime.KeepAlive(peers)
}
