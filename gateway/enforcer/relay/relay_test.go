package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lab is an engine and the totals of the pairs that have ended.
type lab struct {
	*Engine
	ln    *net.TCPListener
	ended chan Totals
}

func newLab(t testing.TB) *lab {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{Engine: New(), ln: ln, ended: make(chan Totals, 1<<16)}
	t.Cleanup(func() { l.Close(); ln.Close() })
	return l
}

// connect returns the two ends of a connection.
func (l *lab) connect(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, l.ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.ln.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); b.Close() })
	for _, end := range []*net.TCPConn{c, b} {
		_ = end.SetDeadline(time.Now().Add(30 * time.Second))
	}
	return c, b
}

// join returns a client and a server with a relay between them.
func (l *lab) join(t testing.TB) (client, server *net.TCPConn, p *Pair) {
	t.Helper()
	client, in := l.connect(t)
	out, server := l.connect(t)
	p, err := l.Join(in, out, nil, func(n Totals) { l.ended <- n })
	if err != nil {
		t.Fatal(err)
	}
	return client, server, p
}

func (l *lab) wait(t testing.TB) Totals {
	t.Helper()
	select {
	case n := <-l.ended:
		return n
	case <-time.After(30 * time.Second):
		t.Fatal("a pair did not end")
		return Totals{}
	}
}

func random(size int, seed byte) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// exchange sends data both ways at once, each side ending with a FIN, and checks what
// arrived.
func exchange(t *testing.T, client, server *net.TCPConn, out, in []byte) {
	t.Helper()
	var wg sync.WaitGroup
	send := func(c *net.TCPConn, b []byte) {
		if _, err := c.Write(b); err != nil {
			t.Error(err)
		}
		_ = c.CloseWrite()
	}
	receive := func(c *net.TCPConn, want []byte) {
		h := sha256.New()
		if n, err := io.Copy(h, c); err != nil || n != int64(len(want)) {
			t.Errorf("%d bytes arrived, %v; want %d", n, err, len(want))
			return
		}
		if sum := sha256.Sum256(want); !bytes.Equal(h.Sum(nil), sum[:]) {
			t.Error("bytes arrived changed")
		}
	}
	wg.Go(func() { send(client, out) })
	wg.Go(func() { send(server, in) })
	wg.Go(func() { receive(client, in) })
	wg.Go(func() { receive(server, out) })
	wg.Wait()
}

func TestSizes(t *testing.T) {
	l := newLab(t)
	sizes := []int{0, 1, chunk - 1, chunk, chunk + 1, copyBytes - 1, copyBytes, copyBytes + 1, turnBytes + 1, 20 << 20}
	for _, size := range sizes {
		client, server, _ := l.join(t)
		out, in := random(size, 1), random(size/2, 2)
		exchange(t, client, server, out, in)
		if n := l.wait(t); n != (Totals{int64(size), int64(size / 2)}) {
			t.Errorf("counted %+v for %d", n, size)
		}
	}
}

// Many bytes, one by one, each in its own segment.
func TestSingleBytes(t *testing.T) {
	l := newLab(t)
	client, server, _ := l.join(t)
	const n = 5000
	go func() {
		for i := range n {
			if _, err := client.Write([]byte{byte(i)}); err != nil {
				t.Error(err)
			}
		}
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(server)
	if err != nil || len(got) != n {
		t.Fatal(len(got), err)
	}
	for i, b := range got {
		if b != byte(i) {
			t.Fatalf("byte %d changed", i)
		}
	}
}

// Each side goes on sending after the other has ended.
func TestHalfClose(t *testing.T) {
	l := newLab(t)
	for _, swap := range []bool{false, true} {
		for _, size := range []int{1, 4 << 20} {
			first, second, _ := l.join(t)
			if swap {
				first, second = second, first
			}
			_ = first.CloseWrite()
			if b, err := io.ReadAll(second); err != nil || len(b) != 0 {
				t.Fatal(len(b), err)
			}
			data := random(size, 3)
			go func() {
				_, _ = second.Write(data)
				_ = second.CloseWrite()
			}()
			if b, err := io.ReadAll(first); err != nil || !bytes.Equal(b, data) {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			want := Totals{In: int64(size)}
			if swap {
				want = Totals{Out: int64(size)}
			}
			if n := l.wait(t); n != want {
				t.Errorf("counted %+v, want %+v", n, want)
			}
		}
	}
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

func wantReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestResetIsPassedOn(t *testing.T) {
	l := newLab(t)
	for _, swap := range []bool{false, true} {
		for name, before := range map[string]func(second *net.TCPConn){
			"idle":       func(*net.TCPConn) {},
			"half-close": func(second *net.TCPConn) { _ = second.CloseWrite() },
		} {
			t.Run(name, func(t *testing.T) {
				first, second, _ := l.join(t)
				if swap {
					first, second = second, first
				}
				before(second)
				reset(first)
				wantReset(t, second)
				l.wait(t)
			})
		}
		t.Run("bulk", func(t *testing.T) {
			first, second, _ := l.join(t)
			if swap {
				first, second = second, first
			}
			wrote := make(chan error, 1)
			go func() {
				_, err := second.Write(make([]byte, 64<<20))
				wrote <- err
			}()
			_, _ = io.ReadFull(first, make([]byte, 1<<20))
			reset(first)
			if err := <-wrote; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want a reset", err)
			}
			l.wait(t)
		})
	}
}

// A reader that has stopped is not waited for when the sender is gone.
func TestResetBehindAStoppedReader(t *testing.T) {
	l := newLab(t)
	client, server, _ := l.join(t)
	stuff(t, server)
	reset(server)
	l.wait(t)
	wantReset(t, client)
}

// stuff writes until the other side takes no more.
func stuff(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	block := make([]byte, 1<<20)
	for {
		_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		m, err := c.Write(block)
		n += m
		if errors.Is(err, os.ErrDeadlineExceeded) {
			_ = c.SetWriteDeadline(time.Time{})
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A reader that stops and goes on gets everything, and nothing spins meanwhile.
func TestBackPressure(t *testing.T) {
	l := newLab(t)
	client, server, _ := l.join(t)
	sent := stuff(t, server)
	before := processorTime(t)
	const quiet = 300 * time.Millisecond // a busy loop would burn all of it
	<-time.After(quiet)
	if used := processorTime(t) - before; used > quiet/2 {
		t.Errorf("%v of processor time while nothing could move", used)
	}
	_ = server.CloseWrite()
	if n, err := io.Copy(io.Discard, client); err != nil || n != int64(sent) {
		t.Errorf("%d bytes, %v; want %d", n, err, sent)
	}
}

func TestPairReset(t *testing.T) {
	l := newLab(t)
	client, server, p := l.join(t)
	_, _ = client.Write([]byte("x"))
	_, _ = io.ReadFull(server, make([]byte, 1))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(p.Reset)
	}
	wg.Wait()
	wantReset(t, client)
	wantReset(t, server)
	if n := l.wait(t); n != (Totals{Out: 1}) {
		t.Errorf("counted %+v", n)
	}
	p.Reset()
	select {
	case <-l.ended:
		t.Error("done was called twice")
	default:
	}
}

// TestMeterEnds: what was granted until a time is not used after it; more is asked for, with what was left.
func TestMeterEnds(t *testing.T) {
	l := newLab(t)
	client, in := l.connect(t)
	out, server := l.connect(t)
	asked := make(chan int64, 1)
	meter := &Meter{Left: 1 << 20, Until: time.Now().Add(-time.Second), More: func(left int64) (int64, time.Time) {
		asked <- left
		return 0, time.Time{}
	}}
	if _, err := l.Join(in, out, meter, func(n Totals) { l.ended <- n }); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	if n := l.wait(t); n.Out != 0 {
		t.Errorf("%d bytes went out on a grant that was over", n.Out)
	}
	if left := <-asked; left != 1<<20 {
		t.Errorf("asked with %d left", left)
	}
	wantReset(t, server)
}

func TestClose(t *testing.T) {
	l := newLab(t)
	client, server, p := l.join(t)
	l.Close()
	wantReset(t, client)
	wantReset(t, server)
	l.wait(t)
	p.Reset()
	a, in := l.connect(t)
	out, b := l.connect(t)
	if _, err := l.Join(in, out, nil, nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	wantReset(t, a)
	wantReset(t, b)
}

// A connection that is closed already cannot be joined, and the other is reset.
func TestJoinOfAClosedConnection(t *testing.T) {
	l := newLab(t)
	a, in := l.connect(t)
	out, b := l.connect(t)
	out.Close()
	if _, err := l.Join(in, out, nil, nil); err == nil {
		t.Error("joined")
	}
	wantReset(t, a)
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("open")
	}
}

func descriptors(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Without pipes, directions are copied to the end.
func TestWithoutPipes(t *testing.T) {
	l := newLab(t)
	l.join(t)
	for _, lp := range l.loops {
		lp.pipes.lent = maxPipes // no pair moves yet, so the loop does not look
	}
	client, server, _ := l.join(t)
	exchange(t, client, server, random(5<<20, 4), random(5<<20, 5))
	for _, lp := range l.loops {
		if lp.pipes.spare != nil {
			t.Error("a pipe was made")
		}
	}
}

// Whatever clients and servers do, nothing is left behind, and each pair ends once.
func TestStorm(t *testing.T) {
	l := newLab(t)
	l.join(t) // starts the loops
	before := descriptors(t)
	const pairs = 2000
	gate := make(chan struct{}, 32)
	var wg sync.WaitGroup
	for i := range pairs {
		gate <- struct{}{}
		client, in := l.connect(t)
		out, server := l.connect(t)
		p, err := l.Join(in, out, nil, func(n Totals) { l.ended <- n })
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer func() { <-gate }()
			r := rand.New(rand.NewPCG(uint64(i), 1))
			var ends sync.WaitGroup
			for _, c := range []*net.TCPConn{client, server} {
				size, how := r.IntN(1<<uint(r.IntN(20))), r.IntN(6)
				ends.Go(func() {
					defer c.Close()
					_, _ = c.Write(make([]byte, size))
					switch how {
					case 0:
						reset(c)
						return
					case 1:
						return
					case 2:
						p.Reset()
					}
					_ = c.CloseWrite()
					_, _ = io.Copy(io.Discard, c)
				})
			}
			ends.Wait()
		})
	}
	wg.Wait()
	for range pairs {
		l.wait(t)
	}
	spare := 2 * sparePipes * len(l.loops)
	if after := descriptors(t); after > before+spare {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	select {
	case <-l.ended:
		t.Error("a pair ended twice")
	default:
	}
	for _, lp := range l.loops {
		lp.mu.Lock()
		if n := len(lp.slots) - len(lp.free); n > 1 {
			t.Errorf("%d slots in use", n)
		}
		lp.mu.Unlock()
	}
}

// Idle pairs hold two descriptors, also after they have moved much.
func TestIdlePairsHoldNoPipes(t *testing.T) {
	l := newLab(t)
	l.join(t)
	before := descriptors(t)
	const pairs = 40
	for range pairs {
		client, server, _ := l.join(t)
		const size = 1 << 20
		go func() { _, _ = server.Write(make([]byte, size)) }()
		if _, err := io.ReadFull(client, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	// The test's own two ends are in this process, too.
	if n := descriptors(t) - before - 4*pairs; n > 2*sparePipes*len(l.loops) {
		t.Errorf("%d descriptors more than the connections'", n)
	}
}

// Directions are copied where the process has no descriptors left for a pipe.
func TestWithoutDescriptors(t *testing.T) {
	l := newLab(t)
	client, server, _ := l.join(t)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 3 // what is open stays open
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}()
	exchange(t, client, server, random(5<<20, 6), random(5<<20, 7))
	l.wait(t)
	for _, lp := range l.loops {
		if lp.pipes.spare != nil {
			t.Error("a pipe was made")
		}
	}
}

// Pairs get their turns beside others that never run dry.
func TestFairness(t *testing.T) {
	l := newLab(t)
	l.join(t) // starts the loops
	var wg sync.WaitGroup
	var bulk []*Pair
	for range 2 * len(l.loops) {
		client, server, p := l.join(t)
		wg.Go(func() {
			block := make([]byte, 1<<20)
			for {
				if _, err := server.Write(block); err != nil {
					return
				}
			}
		})
		wg.Go(func() { _, _ = io.Copy(io.Discard, client) })
		bulk = append(bulk, p)
	}
	client, server, _ := l.join(t)
	b := make([]byte, 1)
	for range 100 {
		for _, way := range [][2]*net.TCPConn{{client, server}, {server, client}} {
			if _, err := way[0].Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way[1], b); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, p := range bulk {
		p.Reset()
	}
	wg.Wait()
}

// BenchmarkBulk compares the relay with a copy by goroutines that splice, io.Copy's way,
// in one run.
func BenchmarkBulk(b *testing.B) {
	l := newLab(b)
	joins := map[string]func(client, server *net.TCPConn){
		"relay": func(client, server *net.TCPConn) {
			if _, err := l.Join(client, server, nil, func(Totals) {}); err != nil {
				b.Fatal(err)
			}
		},
		"io.Copy": func(client, server *net.TCPConn) {
			pass := func(dst, src *net.TCPConn) { _, _ = io.Copy(dst, src); _ = dst.CloseWrite() }
			go pass(client, server)
			go pass(server, client)
		},
	}
	for _, name := range []string{"relay", "io.Copy"} {
		for _, conns := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/conns=%d", name, conns), func(b *testing.B) {
				const size = 1 << 30
				b.SetBytes(size)
				for b.Loop() {
					var wg sync.WaitGroup
					for range conns {
						client, in := l.connect(b)
						out, server := l.connect(b)
						joins[name](in, out)
						wg.Go(func() {
							block := make([]byte, 256<<10)
							for range size / conns / len(block) {
								_, _ = server.Write(block)
							}
							_ = server.CloseWrite()
						})
						wg.Go(func() {
							n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{client}, make([]byte, 256<<10))
							if n != size/int64(conns) || err != nil {
								b.Error(n, err)
							}
							_ = client.CloseWrite()
						})
					}
					wg.Wait()
				}
			})
		}
	}
}
