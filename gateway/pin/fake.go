package pin

import (
	"context"
	"sync"
	"time"
)

// FakeGate is a Gate in memory, for tests: it keeps the keys, and fails with Err if
// that is set. It checks no lifetime by itself.
type FakeGate struct {
	mu   sync.Mutex
	err  error
	keys map[GateKey]time.Duration
	n    int
}

// Fail makes every further call return err; nil lets them succeed again.
func (g *FakeGate) Fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
}

// Admit implements Gate.
func (g *FakeGate) Admit(_ context.Context, keys []GateKey, ttl time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	if g.err != nil {
		return g.err
	}
	if g.keys == nil {
		g.keys = map[GateKey]time.Duration{}
	}
	for _, k := range keys {
		g.keys[k] = ttl
	}
	return nil
}

// Revoke implements Gate.
func (g *FakeGate) Revoke(_ context.Context, keys []GateKey) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return g.err
	}
	for _, k := range keys {
		delete(g.keys, k)
	}
	return nil
}

// Life returns how long a key was admitted for, zero for a key that is not in the
// gate.
func (g *FakeGate) Life(k GateKey) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keys[k]
}

// Len returns the number of keys.
func (g *FakeGate) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.keys)
}

// Admissions returns how often Admit was called.
func (g *FakeGate) Admissions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

var _ Gate = (*FakeGate)(nil)
