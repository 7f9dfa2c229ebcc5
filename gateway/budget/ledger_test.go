package budget

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }
func at(ms int64) *clock                 { c := &clock{}; c.ms.Store(ms); return c }

const start = 1_800_000_000_000

func open(t testing.TB, dir string, c *clock) *Ledger {
	t.Helper()
	l, err := Open(dir, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// crash is what a kill at this moment leaves: a copy of the journal.
func crash(t testing.TB, dir string, tail ...byte) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := os.WriteFile(filepath.Join(to, journalName), append(data, tail...), 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestTakeReturnAndWindow(t *testing.T) {
	c := at(start)
	l := open(t, t.TempDir(), c)
	take := func(n, want int64) Grant {
		t.Helper()
		g := l.Take("r 10.0.0.1", 100, 24*time.Hour, n)
		if g.Bytes != want {
			t.Fatalf("granted %d, want %d", g.Bytes, want)
		}
		return g
	}
	g := take(60, 60)
	take(60, 40)
	take(1, 0)
	l.Return(g, 10)
	if left := l.Left("r 10.0.0.1", 100, 24*time.Hour); left != 10 {
		t.Fatalf("left %d", left)
	}
	l.Return(Grant{}, 10)
	take(11, 10)
	if got := l.Take("r 10.0.0.2", 100, 24*time.Hour, 100); got.Bytes != 100 {
		t.Fatal("another source must have its own account")
	}
	if got := l.Take("r 10.0.0.1", 50, 24*time.Hour, 1); got.Bytes != 0 {
		t.Fatal("a lowered limit must hold at once")
	}
	c.advance(25*time.Hour - time.Millisecond) // the slot is an hour
	take(1, 0)
	c.advance(time.Millisecond)
	take(101, 100)
	l.Return(g, 50) // its slot has left the window
	take(1, 0)
}

func TestClockSetBack(t *testing.T) {
	c := at(start)
	dir := t.TempDir()
	l := open(t, dir, c)
	l.Take("r", 100, time.Hour, 100)
	c.advance(-48 * time.Hour)
	if g := l.Take("r", 100, time.Hour, 1); g.Bytes != 0 || !errors.Is(l.Ready(), ErrClock) {
		t.Fatalf("granted %d, ready %v", g.Bytes, l.Ready())
	}
	l = open(t, crash(t, dir), c)
	if g := l.Take("r", 100, time.Hour, 1); g.Bytes != 0 || !errors.Is(l.Ready(), ErrClock) {
		t.Fatalf("after a restart: granted %d, ready %v", g.Bytes, l.Ready())
	}
}

func TestRestart(t *testing.T) {
	c := at(start)
	dir := t.TempDir()
	l := open(t, dir, c)
	l.Take("r", 6400, time.Hour, 10) // 100 are charged
	for tail, want := range map[string]int64{"": 6300, "1234": 6300, "00000000 1 1 1 1 \"x\"\n": 6300, "\x00\x00\x00": 6300} {
		again := open(t, crash(t, dir, []byte(tail)...), c)
		if left := again.Left("r", 6400, time.Hour); left != want || again.Ready() != nil {
			t.Errorf("after a crash with %q: %d left, ready %v", tail, left, again.Ready())
		}
	}
	if _, err := Open(dir, c.now); err == nil {
		t.Error("two ledgers in one directory")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if g := l.Take("r", 6400, time.Hour, 1); g.Bytes != 0 {
		t.Error("a closed ledger grants")
	}
	if left := open(t, dir, c).Left("r", 6400, time.Hour); left != 6390 {
		t.Errorf("after Close: %d left", left)
	}
}

func TestDamage(t *testing.T) {
	for name, harm := range map[string]func([]byte) []byte{
		"empty":  func([]byte) []byte { return nil },
		"header": func(b []byte) []byte { b[0] ^= 1; return b },
		"middle": func(b []byte) []byte { b[len(header)+20] ^= 1; return b },
		"long": func(b []byte) []byte {
			return append([]byte(header), append(make([]byte, 3*maxLine), b[len(header):]...)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := at(start)
			dir := t.TempDir()
			l := open(t, dir, c)
			l.Take("r", 100, time.Hour, 10)
			l.Close()
			path := filepath.Join(dir, journalName)
			data, _ := os.ReadFile(path)
			if err := os.WriteFile(path, harm(data), 0o600); err != nil {
				t.Fatal(err)
			}
			l = open(t, dir, c)
			for range 2 { // also after another restart
				for _, key := range []string{"r", "other"} {
					if g := l.Take(key, 100, time.Hour, 1); g.Bytes != 0 || l.Left(key, 100, time.Hour) != 0 || !errors.Is(l.Ready(), ErrDamaged) {
						t.Fatalf("%s: granted %d, ready %v", key, g.Bytes, l.Ready())
					}
				}
				l.Close()
				l = open(t, dir, c)
			}
			if _, err := os.Stat(path + damagedSuffix); err != nil {
				t.Error(err)
			}
			c.advance(time.Hour)
			if g := l.Take("other", 100, time.Hour, 100); g.Bytes != 100 {
				t.Errorf("its window has passed: granted %d", g.Bytes)
			}
		})
	}
}

func TestDiskFails(t *testing.T) {
	c := at(start)
	dir := t.TempDir()
	l := open(t, dir, c)
	l.Take("r", 6400, time.Hour, 10)
	l.file.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if g := l.Take("r", 6400, time.Hour, 200); g.Bytes != 0 || !errors.Is(l.Ready(), ErrDisk) {
			t.Fatalf("granted %d, ready %v", g.Bytes, l.Ready())
		}
		c.advance(retry)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if g := l.Take("r", 6400, time.Hour, 200); g.Bytes != 200 || l.Ready() != nil {
		t.Fatalf("the disk is back: granted %d, ready %v", g.Bytes, l.Ready())
	}
	if left := open(t, crash(t, dir), c).Left("r", 6400, time.Hour); left > 6400-210 {
		t.Fatalf("%d left", left)
	}
}

func TestBounds(t *testing.T) {
	c := at(start)
	l := open(t, t.TempDir(), c)
	for i := range maxAccounts {
		l.accounts[fmt.Sprint(i)] = &account{window: 3_600_000, buckets: []bucket{{end: start + 1000, used: 1, charged: 1}}}
	}
	if g := l.Take("new", 100, time.Hour, 1); g.Bytes != 0 || !errors.Is(l.Ready(), ErrFull) {
		t.Fatalf("granted %d, ready %v", g.Bytes, l.Ready())
	}
	if g := l.Take("1", 100, time.Hour, 1); g.Bytes != 1 {
		t.Fatal("an account that is there must go on")
	}
	c.advance(2 * time.Hour)
	if g := l.Take("new", 100, time.Hour, 1); g.Bytes != 1 || l.Ready() != nil || len(l.accounts) != 1 {
		t.Fatalf("granted %d, ready %v, %d accounts", g.Bytes, l.Ready(), len(l.accounts))
	}
	for range 10 * maxBuckets { // a window that shrinks leaves many buckets
		c.advance(time.Second)
		l.Take("new", 1<<40, 24*time.Second, 1)
		l.Take("new", 1<<40, 24*time.Hour, 1)
	}
	if n := len(l.accounts["new"].buckets); n > maxBuckets {
		t.Fatalf("%d buckets", n)
	}
}

// TestNeverMore charges, gives back, waits, sets the clock back and crashes at random. No window holds
// more than the limit of what was granted and not given back.
func TestNeverMore(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		c := at(start)
		dir := t.TempDir()
		l := open(t, dir, c)
		const limit, window = 10_000, 48 * time.Second
		type moved struct{ at, n int64 }
		var all []moved
		granted := int64(0)
		for range 400 {
			switch rnd.IntN(12) {
			case 0:
				dir = crash(t, dir, make([]byte, rnd.IntN(40))...)
				l.Close()
				l = open(t, dir, c)
			case 1:
				c.advance(-time.Duration(rnd.IntN(5000)) * time.Millisecond)
			case 2, 3, 4:
				c.advance(time.Duration(rnd.IntN(9000)) * time.Millisecond)
			default:
				g := l.Take("r", limit, window, rnd.Int64N(1500))
				used := g.Bytes
				if rnd.IntN(2) == 0 {
					used = rnd.Int64N(g.Bytes + 1)
				}
				if used > 0 { // the flow moves them as late as it may
					all = append(all, moved{g.Until.UnixMilli() - 1, used})
				}
				l.Return(g, g.Bytes-used)
				granted += used
			}
		}
		for i, m := range all {
			var sum int64
			for _, o := range all[i:] {
				if o.at >= m.at && o.at < m.at+window.Milliseconds() {
					sum += o.n
				}
			}
			if sum > limit {
				t.Fatalf("seed %d: %d bytes in a window", seed, sum)
			}
		}
		if granted <= limit {
			t.Errorf("seed %d: only %d bytes were ever granted", seed, granted)
		}
	}
}

func TestTogether(t *testing.T) {
	c := at(start)
	dir := t.TempDir()
	l := open(t, dir, c)
	var sum atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				g := l.Take("r", 10_000, time.Hour, 50)
				l.Return(g, g.Bytes/2)
				sum.Add(g.Bytes - g.Bytes/2)
			}
		})
	}
	wg.Wait()
	if left := l.Left("r", 10_000, time.Hour); sum.Load() > 10_000 || left != 10_000-sum.Load() {
		t.Fatalf("%d granted, %d left", sum.Load(), left)
	}
	if left := open(t, crash(t, dir), c).Left("r", 10_000, time.Hour); left > 10_000-sum.Load() {
		t.Fatalf("a crash gave back: %d left of %d granted", left, sum.Load())
	}
}

func FuzzRead(f *testing.F) {
	good := string((&record{at: start, end: start + 1000, window: 24_000, bytes: 7, key: "r 10.0.0.1"}).append([]byte(header)))
	for _, s := range []string{"", header, good, good + "x", good[:len(good)-1], header + "x\n" + good[len(header):]} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		replayed := func(data []byte) (*Ledger, error) {
			l := &Ledger{clock: at(start).now, accounts: map[string]*account{}}
			var err error
			l.floor, err = read(bytes.NewReader(data), l.replay)
			return l, err
		}
		l, err := replayed(data)
		if err != nil && !errors.Is(err, errCorrupt) {
			t.Fatal(err)
		}
		again, err := replayed(l.snapshot(l.now()))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		for key, a := range l.accounts {
			if len(a.buckets) > maxBuckets {
				t.Fatalf("%d buckets", len(a.buckets))
			}
			w := time.Duration(a.window) * time.Millisecond
			if one, two := l.Left(key, maxBytes, w), again.Left(key, maxBytes, w); one != two {
				t.Fatalf("%q: %d left, then %d", key, one, two)
			}
		}
	})
}

func BenchmarkTake(b *testing.B) {
	for name, n := range map[string]int64{"ahead": 4 << 10, "chunk": 1 << 20, "disk": 64 << 20} {
		b.Run(name, func(b *testing.B) {
			l := open(b, b.TempDir(), at(start))
			for b.Loop() {
				if l.Take("r", maxBytes, 24*time.Hour, n).Bytes == 0 {
					b.Fatal(l.Ready())
				}
			}
		})
	}
}

// TestRewrite: a journal that has grown is written anew, with the charge that it was written for.
func TestRewrite(t *testing.T) {
	c := at(start)
	dir := t.TempDir()
	l := open(t, dir, c)
	for range 100 {
		l.Take("r", 6400, time.Hour, 10)
	}
	l.Take("gone", 6400, time.Minute, 10)
	c.advance(30 * time.Minute)
	grown := l.size
	l.base = -slack
	if g := l.Take("r", 6400, time.Hour, 500); g.Bytes != 500 || l.size >= grown || l.base != l.size {
		t.Fatalf("granted %d, %d bytes of %d", g.Bytes, l.size, grown)
	}
	again := open(t, crash(t, dir), c)
	if left := again.Left("r", 6400, time.Hour); left > 6400-1500 || left < 6400-1600 || len(again.accounts) != 1 {
		t.Fatalf("%d left in %d accounts", left, len(again.accounts))
	}
}

// TestBound: where an account has too many buckets, the oldest are joined, and no byte is lost.
func TestBound(t *testing.T) {
	a := &account{window: 1}
	for i := range int64(maxBuckets + 3) {
		a.buckets = append(a.buckets, bucket{end: i, used: 1, charged: 2})
	}
	a.bound()
	var charged int64
	for _, b := range a.buckets {
		charged += b.charged
	}
	if len(a.buckets) != maxBuckets || a.buckets[0].end != 3 || a.used() != maxBuckets+3 || charged != 2*(maxBuckets+3) {
		t.Errorf("%d buckets from %d on, %d used, %d charged", len(a.buckets), a.buckets[0].end, a.used(), charged)
	}
}
