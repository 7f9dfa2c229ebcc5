package packet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/nftables"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
)

// maxKeys bounds what one call may bring, and with that one transaction's size.
const maxKeys = 4096

// errClosed is what Admit and Revoke say after Close.
var errClosed = errors.New("the packet table is closed")

// gate writes the gate's elements. Callers that come while a transaction runs share
// the next one, so a flood of answers costs few commits.
type gate struct {
	requests chan gateRequest
	quit     chan struct{}
	done     chan struct{}
	stopOnce sync.Once
}

type gateRequest struct {
	keys   []pin.GateKey
	ttl    time.Duration // 0: revoke
	result chan error
}

func (g *gate) start() {
	g.requests = make(chan gateRequest)
	g.quit, g.done = make(chan struct{}), make(chan struct{})
	go g.run()
}

func (g *gate) stop() {
	g.stopOnce.Do(func() { close(g.quit) })
	<-g.done
}

func (g *gate) run() {
	defer close(g.done)
	var w gateWriter
	defer w.close()
	for {
		select {
		case <-g.quit:
			return
		case r := <-g.requests:
			batch := g.gather(r)
			err := w.commit(batch)
			if err != nil && len(batch) > 1 {
				// One bad request must not fail the others.
				for _, r := range batch {
					r.result <- w.commit([]gateRequest{r})
				}
				continue
			}
			for _, r := range batch {
				r.result <- err
			}
		}
	}
}

// gather takes what waits, up to one transaction's worth.
func (g *gate) gather(first gateRequest) []gateRequest {
	batch, n := []gateRequest{first}, len(first.keys)
	for n < maxKeys {
		select {
		case r := <-g.requests:
			batch, n = append(batch, r), n+len(r.keys)
		default:
			return batch
		}
	}
	return batch
}

func (g *gate) do(ctx context.Context, r gateRequest) error {
	if len(r.keys) == 0 {
		return nil
	}
	if len(r.keys) > maxKeys {
		return fmt.Errorf("gate: %d keys at once, at most %d", len(r.keys), maxKeys)
	}
	for _, k := range r.keys {
		if !k.Dst.Is4() || k.Src.IsValid() && !k.Src.Is4() {
			return fmt.Errorf("gate: %v is not IPv4", k)
		}
	}
	r.result = make(chan error, 1)
	select {
	case g.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.quit:
		return errClosed
	}
	select {
	case err := <-r.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Admit opens the gate for the keys, and for those that are open already counts
// their time from now. It returns after the kernel committed all of them or none.
func (t *Table) Admit(ctx context.Context, keys []pin.GateKey, ttl time.Duration) error {
	if ttl < time.Millisecond {
		return fmt.Errorf("gate: cannot admit for %v", ttl)
	}
	return t.gate.do(ctx, gateRequest{keys: keys, ttl: ttl})
}

// Revoke closes the gate for the keys. Connections that passed it go on.
func (t *Table) Revoke(ctx context.Context, keys []pin.GateKey) error {
	return t.gate.do(ctx, gateRequest{keys: keys})
}

// gateWriter keeps one connection to the kernel: closing one waits until the kernel has freed
// what the last transaction deleted, some 15 ms.
type gateWriter struct{ conn *nftables.Conn }

func (w *gateWriter) close() {
	if w.conn != nil {
		w.conn.CloseLasting()
		w.conn = nil
	}
}

// commit applies requests, in order, in one transaction. An element's time cannot be
// changed in place by kernels before 6.12, and deleting one that is not there fails; so
// each is added, deleted and added: the packets see nothing in between.
func (w *gateWriter) commit(batch []gateRequest) error {
	err := w.write(batch)
	if err != nil {
		w.close() // acknowledgements of what failed may still wait in it
		return fmt.Errorf("gate: %w", explain(err))
	}
	return nil
}

func (w *gateWriter) write(batch []gateRequest) error {
	last := map[pin.GateKey]time.Duration{}
	for _, r := range batch {
		for _, k := range r.keys {
			last[k] = r.ttl
		}
	}
	var all, open [2][]nftables.SetElement // by source, shared
	for k, ttl := range last {
		i, key := 0, gateKey(k)
		if !k.Src.IsValid() {
			i = 1
		}
		all[i] = append(all[i], nftables.SetElement{Key: key})
		if ttl > 0 {
			open[i] = append(open[i], nftables.SetElement{Key: key, Timeout: ttl})
		}
	}
	if w.conn == nil {
		c, err := dial(nftables.AsLasting())
		if err != nil {
			return err
		}
		w.conn = c
	}
	c := w.conn
	for i, name := range []string{setGate, setGateShared} {
		s := &nftables.Set{Table: kernelTable(), Name: name, HasTimeout: true}
		for _, step := range []struct {
			do       func(*nftables.Set, []nftables.SetElement) error
			elements []nftables.SetElement
		}{{c.SetAddElements, all[i]}, {c.SetDeleteElements, all[i]}, {c.SetAddElements, open[i]}} {
			if err := inParts(s, step.elements, step.do); err != nil {
				return err
			}
		}
	}
	return c.Flush()
}

func inParts(s *nftables.Set, elements []nftables.SetElement, do func(*nftables.Set, []nftables.SetElement) error) error {
	for len(elements) > 0 {
		n := min(len(elements), elementsPerMessage)
		if err := do(s, elements[:n]); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return nil
}

// gateKey is [source .] destination . protocol . port as the sets hold it.
func gateKey(k pin.GateKey) []byte {
	key := serviceKey(k.Dst, k.Proto, k.Port)
	if k.Src.IsValid() {
		src := k.Src.As4()
		key = append(src[:], key...)
	}
	return key
}
