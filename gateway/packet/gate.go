package packet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
type gateWriter struct {
	socket *elementSocket
	last   map[pin.GateKey]time.Duration
	all    [2][]gateElement // by source, shared
	open   [2][]gateElement
}

func (w *gateWriter) close() {
	if w.socket != nil {
		w.socket.close()
		w.socket = nil
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

func (w *gateWriter) write(batch []gateRequest) (err error) {
	if w.socket == nil {
		if w.socket, err = openElements(); err != nil {
			return err
		}
	}
	if w.last == nil || len(w.last) > maxKeys { // clearing a map takes as long as it ever was large
		w.last = map[pin.GateKey]time.Duration{}
	}
	clear(w.last)
	for _, r := range batch {
		for _, k := range r.keys {
			w.last[k] = r.ttl
		}
	}
	for i := range w.all {
		w.all[i], w.open[i] = w.all[i][:0], w.open[i][:0]
	}
	for k, ttl := range w.last {
		i, key := 0, gateKey(k)
		if !k.Src.IsValid() {
			i = 1
		}
		w.all[i] = append(w.all[i], gateElement{key: key})
		if ttl > 0 {
			w.open[i] = append(w.open[i], gateElement{key: key, timeout: ttl})
		}
	}
	s := w.socket
	s.begin()
	for i, name := range []string{setGate, setGateShared} {
		s.add(name, w.all[i])
		s.remove(name, w.all[i])
		s.add(name, w.open[i])
	}
	return s.commit()
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
