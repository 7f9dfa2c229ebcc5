package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Denial is a refused packet, or a number of like ones.
type Denial struct {
	// Src has no port where Count tells of repeats, which may come from any. It is
	// the zero AddrPort where the kernel counted packets that it could not tell apart.
	Src netip.AddrPort
	// Dst is the zero AddrPort where one source was refused too much to remember.
	Dst   netip.AddrPort
	Proto policy.Proto
	Cause Cause
	Count int
	// Repeat says that the kernel only counted: these are not the first of their kind.
	Repeat bool
}

// countEvery is how often the kernel's counts are read; well below deniedFor, after
// which they are gone.
const countEvery = 5 * time.Second

// Denials calls f for every first refused packet at once, and for counted ones
// every few seconds, until ctx ends. Messages that got lost on the way reappear in
// the counts. f is never called twice at a time; while it runs, messages wait in a
// bounded buffer in the kernel.
func (t *Table) Denials(ctx context.Context, f func(Denial)) error {
	c, early, err := openLog()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()

	r := &denialReader{f: f, seen: map[deniedKey]int{}}
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	counted := make(chan struct{})
	counting, stopCounting := context.WithCancel(ctx)
	go func() {
		defer close(counted)
		for {
			select {
			case <-ticker.C:
				_ = r.count() // the next round reads the same counters
			case <-counting.Done():
				return
			}
		}
	}()
	defer func() { stopCounting(); <-counted }()

	for msgs := early; ; {
		for _, m := range msgs {
			if m.Header.Type == netlink.HeaderType(unix.NFNL_SUBSYS_ULOG<<8|nfulMsgPacket) {
				if d, ok := parseLog(m.Data); ok {
					r.logged(d)
				}
			}
		}
		msgs, err = c.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			return fmt.Errorf("reading nflog: %w", err)
		}
	}
}

// deniedKey is a denial as the kernel counts it; fields that a set does not have
// are zero.
type deniedKey struct {
	src, dst netip.Addr
	proto    policy.Proto
	port     uint16
	cause    Cause
}

// denialReader joins the two ways in which the kernel tells of a refusal.
type denialReader struct {
	mu sync.Mutex
	f  func(Denial)
	// seen is how many packets of a key were passed on. Entries go when the kernel's
	// do, so the kernel's sets bound it.
	seen map[deniedKey]int
}

func (r *denialReader) logged(d Denial) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := deniedKey{d.Src.Addr(), d.Dst.Addr(), d.Proto, d.Dst.Port(), d.Cause}
	if d.Cause == CauseFragment {
		k.port = 0 // counted without, since all but the first have none
	}
	if remembered(d) {
		r.seen[k] = 1
	}
	r.f(d)
}

// remembered reports whether the kernel has a counter for the tuple; of others than
// agents it has none.
func remembered(d Denial) bool {
	return d.Src.Addr().Is4() && d.Cause != CauseSpoof && d.Cause != CauseIPv6
}

// count passes on what the kernel counted beyond what was passed on before.
func (r *denialReader) count() error {
	c, err := dial()
	if err != nil {
		return err
	}
	now := map[deniedKey]int{}
	for _, name := range []string{setDenied, setDeniedNoPorts, setUnlogged, setUnloggedOther} {
		elements, err := c.GetSetElements(&nftables.Set{Table: kernelTable(), Name: name})
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		for _, e := range elements {
			if k, ok := parseDenied(name, e.Key); ok && e.Counter != nil {
				now[k] = int(e.Counter.Packets)
			}
		}
	}
	r.counted(now)
	return nil
}

// counted compares what the kernel has counted with what was passed on.
func (r *denialReader) counted(now map[deniedKey]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, n := range now {
		before := r.seen[k]
		if n < before {
			before = 0 // the element lapsed and came anew
		}
		if n > before {
			r.f(Denial{
				Src: addrPort(k.src, 0), Dst: addrPort(k.dst, k.port), Proto: k.proto, Cause: k.cause,
				Count: n - before, Repeat: before > 0,
			})
		}
	}
	r.seen = now
}

func addrPort(a netip.Addr, port uint16) netip.AddrPort {
	if !a.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, port)
}

// parseDenied reads a key of one of the counting sets.
func parseDenied(set string, b []byte) (k deniedKey, ok bool) {
	want := map[string]int{setDenied: 20, setDeniedNoPorts: 16, setUnlogged: 8, setUnloggedOther: 4}[set]
	if len(b) != want {
		return k, false
	}
	addr := func() netip.Addr {
		a := netip.AddrFrom4([4]byte(b[:4]))
		b = b[4:]
		return a
	}
	if set != setUnloggedOther {
		k.src = addr()
	}
	if set == setDenied || set == setDeniedNoPorts {
		k.dst = addr()
		k.proto, b = policy.Proto(b[0]), b[4:]
	}
	if set == setDenied {
		k.port, b = binary.BigEndian.Uint16(b), b[4:]
	}
	k.cause, ok = causeOf(binary.NativeEndian.Uint32(b))
	return k, ok
}
