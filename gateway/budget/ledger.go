package budget

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	// maxAccounts bounds the accounts with something in their window, about 1 KB each.
	maxAccounts = 1 << 16
	// maxKey bounds an account's name, maxWindow and maxBytes its figures: all three
	// are above what a ruleset can say.
	maxKey    = 512
	maxWindow = 367 * 24 * time.Hour
	maxBytes  = 1 << 53
	// slots is what a window is cut into.
	slots = 24
	// maxBuckets bounds an account's buckets: a window's, and those of another window
	// that the rule had before.
	maxBuckets = 2 * slots
	// ahead is how far an account is charged ahead at most, aheadPart the part of its limit.
	ahead, aheadPart = 16 << 20, 64
	// retry is how long the ledger waits before it tries a failing disk again, or looks
	// again for accounts that ended.
	retry = time.Second
	// behind is how far the clock may be behind the journal before readiness says so.
	behind = time.Minute
)

var (
	// ErrDisk says that charges cannot be written, so that nothing is granted.
	ErrDisk = errors.New("budget: the journal cannot be written")
	// ErrDamaged says that the journal was found damaged: every account counts as
	// exhausted until its window has passed.
	ErrDamaged = errors.New("budget: the journal was damaged")
	// ErrFull says that there are too many accounts.
	ErrFull = errors.New("budget: too many accounts")
	// ErrClock says that the clock is behind the journal, so that no window moves.
	ErrClock = errors.New("budget: the clock was set back")
)

// Grant is a number of bytes that may leave before Until. The zero Grant is none.
type Grant struct {
	Bytes int64
	Until time.Time
	key   string
	end   int64
}

// bucket is what was granted in one slot. Times are Unix milliseconds.
type bucket struct {
	end     int64
	used    int64  // granted and not given back
	charged int64  // what the journal says, at least used
	seq     uint64 // the write that says so
}

// account is one key's buckets, oldest first.
type account struct {
	window  int64
	buckets []bucket
}

// prune forgets what has left the window.
func (a *account) prune(now int64) {
	i := 0
	for i < len(a.buckets) && a.buckets[i].end+a.window <= now {
		i++
	}
	a.buckets = a.buckets[i:]
}

// bound joins the oldest buckets where there are too many. The later end counts, so
// that bytes stay in the window for longer, never shorter.
func (a *account) bound() {
	for len(a.buckets) > maxBuckets {
		a.buckets[1].used = min(maxBytes, a.buckets[1].used+a.buckets[0].used)
		a.buckets[1].charged = min(maxBytes, a.buckets[1].charged+a.buckets[0].charged)
		a.buckets = a.buckets[1:]
	}
}

func (a *account) used() (n int64) {
	for i := range a.buckets {
		n += a.buckets[i].used
	}
	return n
}

// Ledger keeps the accounts. Its methods may be called concurrently.
type Ledger struct {
	path  string
	dir   *os.File // locked, against a second ledger
	clock func() time.Time

	mu       sync.Mutex
	accounts map[string]*account
	floor    int64 // the latest time that was seen
	lag      int64 // how far the clock is behind it
	damaged  int64 // when the journal was found damaged; 0: it was not
	full     int64 // when there last were too many accounts; 0: not since some ended

	file    *os.File
	size    int64 // of file
	base    int64 // its size when it was last rewritten
	pending []byte
	next    uint64 // the write that pending is for
	done    uint64 // the last one that is on disk
	writing bool
	wrote   *sync.Cond
	err     error
	failed  int64 // when err was last found
	closed  bool
}

// Take reserves up to n bytes of the account that key names (policy.Budget.Key), of
// which limit may leave within window, and waits until the charge is on disk.
func (l *Ledger) Take(key string, limit int64, window time.Duration, n int64) Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, w := l.now(), window.Milliseconds()
	if n <= 0 || limit > maxBytes || w < slots || window > maxWindow || len(key) > maxKey || key == "" {
		return Grant{}
	}
	if l.lost(now, w) || !l.writable(now) {
		return Grant{}
	}
	a := l.account(key, now)
	if a == nil {
		return Grant{}
	}
	a.window = w
	a.prune(now)
	left := limit - a.used()
	if n = min(n, left); n <= 0 {
		return Grant{}
	}

	width := w / slots
	end := (now/width + 1) * width
	b := a.last()
	// A bucket of a former, longer slot that ends later takes the bytes: later is stricter.
	if b == nil || b.end <= now {
		if b != nil && b.charged > b.used {
			l.charge(key, w, now, b, b.used) // what was charged ahead is not needed any more
		}
		a.buckets = append(a.buckets, bucket{end: end})
		a.bound()
		b = a.last()
	}
	if b.used+n > b.charged {
		l.charge(key, w, now, b, b.used+min(left, max(n, min(limit/aheadPart, ahead))))
	}
	b.used += n
	end = b.end
	if err := l.commit(b.seq, now); err != nil {
		l.giveBack(key, end, n)
		return Grant{}
	}
	return Grant{Bytes: n, Until: time.UnixMilli(end), key: key, end: end}
}

// Return gives back the unused bytes of a grant, once. They were charged to a slot and
// go back to it; if that has left the window they have come back already.
func (l *Ledger) Return(g Grant, unused int64) {
	if unused = min(unused, g.Bytes); unused <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveBack(g.key, g.end, unused)
}

func (l *Ledger) giveBack(key string, end, n int64) {
	a := l.accounts[key]
	if a == nil {
		return
	}
	for i := range a.buckets {
		if b := &a.buckets[i]; b.end == end {
			b.used = max(0, b.used-n)
			return
		}
	}
}

// Left says how much an account may still be granted, 0 where nothing is granted at all.
func (l *Ledger) Left(key string, limit int64, window time.Duration) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, w := l.now(), window.Milliseconds()
	if l.err != nil || l.lost(now, w) {
		return 0
	}
	var used int64
	if a := l.accounts[key]; a != nil {
		for i := range a.buckets {
			if a.buckets[i].end+w > now {
				used += a.buckets[i].used
			}
		}
	}
	return max(0, limit-used)
}

// Ready says what keeps the ledger from granting, beside budgets that are used up: an
// ErrDisk, ErrDamaged, ErrFull or ErrClock. The last two leave accounts that it has as they are.
func (l *Ledger) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	switch {
	case l.err != nil:
		return l.err
	case l.lost(now, maxWindow.Milliseconds()):
		return fmt.Errorf("%w: found at %s, kept as %s; each budget counts as exhausted until its window after that has passed",
			ErrDamaged, time.UnixMilli(l.damaged).UTC().Format(time.RFC3339), l.path+damagedSuffix)
	case l.full != 0 && now < l.full+retry.Milliseconds():
		return fmt.Errorf("%w: %d have something in their window", ErrFull, maxAccounts)
	case l.lag > behind.Milliseconds():
		return fmt.Errorf("%w: by %s; no budget comes back until it has caught up", ErrClock, time.Duration(l.lag)*time.Millisecond)
	}
	return nil
}

// now is the time, which never goes back.
func (l *Ledger) now() int64 {
	t := l.clock().UnixMilli()
	l.floor = max(l.floor, t)
	l.lag = l.floor - t
	return l.floor
}

// lost reports whether a window may hold charges that a damaged journal lost.
func (l *Ledger) lost(now, window int64) bool { return l.damaged != 0 && l.damaged+window > now }

// account returns the one with a key, a new one if need be, nil if there are too many.
func (l *Ledger) account(key string, now int64) *account {
	if a := l.accounts[key]; a != nil {
		return a
	}
	if len(l.accounts) >= maxAccounts {
		if l.full != 0 && now < l.full+retry.Milliseconds() {
			return nil
		}
		if l.sweep(now); len(l.accounts) >= maxAccounts {
			l.full = now
			return nil
		}
		l.full = 0
	}
	a := &account{}
	l.accounts[key] = a
	return a
}

// sweep forgets accounts with nothing in their window.
func (l *Ledger) sweep(now int64) {
	for key, a := range l.accounts {
		if a.prune(now); len(a.buckets) == 0 {
			delete(l.accounts, key)
		}
	}
}

func (a *account) last() *bucket {
	if len(a.buckets) == 0 {
		return nil
	}
	return &a.buckets[len(a.buckets)-1]
}
