package pin

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Ports says what the gate must admit once dst is pinned to name for src, or for
// all agents where src is the zero Addr ([policy.Ruleset.Gate]).
type Ports func(src, dst netip.Addr, name string) []policy.ProtoPort

// Keys appends the gate keys of one pin. Owner is as [Store.Owner] gives it.
func Keys(keys []GateKey, owner netip.Addr, name string, addr netip.Addr, ports Ports) []GateKey {
	for _, p := range ports(owner, addr, name) {
		keys = append(keys, GateKey{Src: owner, Dst: addr, Proto: p.Proto, Port: p.Port})
	}
	return keys
}

// Sweep drops what is gone and forgets sources that were idle. It returns the pins of the
// latter, and those that made room for others, whose gate keys somebody must revoke: the next
// machine with that address shall not inherit them, and a source that asks for ever new names
// shall not fill the gate with the keys of old ones.
func (s *Store) Sweep() []Entry {
	now := s.opt.Now().UnixNano()
	var forgotten []Entry
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		forgotten, sh.dropped = append(forgotten, sh.dropped...), nil
		for owner, so := range sh.sources {
			idle := now-so.active.Load() >= int64(s.opt.Idle)
			if idle {
				forgotten = s.appendLocked(forgotten, owner, so, now)
				s.total.Add(-int64(so.count))
				so.count = 0
			} else {
				s.dropLocked(so, func(r *record) bool { return s.gone(r) <= now })
			}
			if so.count == 0 {
				delete(sh.sources, owner)
				s.sources.Add(-1)
			}
		}
		sh.mu.Unlock()
	}
	return forgotten
}

// dropStaleLocked makes room: a fresh answer is worth more than a late one.
func (s *Store) dropStaleLocked(sh *shard, owner netip.Addr, so *source, now int64) {
	for _, e := range s.appendLocked(nil, owner, so, now) {
		// Beyond the bound, which only a store that nobody sweeps meets, keys lapse by themselves.
		if e.Until.UnixNano() <= now && len(sh.dropped) < s.opt.Total/shardCount {
			sh.dropped = append(sh.dropped, e)
		}
	}
	next := now + int64(s.opt.Floor)
	s.dropLocked(so, func(r *record) bool {
		until := s.until(r)
		if until > now {
			next = min(next, until)
		}
		return until <= now
	})
	so.crowded = next
}

// dropLocked removes the records that drop names, in one pass over both indexes.
func (s *Store) dropLocked(so *source, drop func(*record) bool) {
	before := so.count
	for addr, head := range so.byAddr {
		p := &head
		for *p != nil {
			if drop(*p) {
				*p = (*p).sameAddr
				so.count--
			} else {
				p = &(*p).sameAddr
			}
		}
		if head == nil {
			delete(so.byAddr, addr)
		} else {
			so.byAddr[addr] = head
		}
	}
	if so.count == before {
		return
	}
	s.total.Add(int64(so.count - before))
	for name, head := range so.byName {
		p := &head
		for *p != nil {
			if drop(*p) {
				*p = (*p).sameName
			} else {
				p = &(*p).sameName
			}
		}
		if head == nil {
			delete(so.byName, name)
		} else {
			so.byName[name] = head
		}
	}
}

// maxBatch bounds the keys of one call of the gate, so that one netlink message
// batch stays small.
const maxBatch = 512

// Expire sweeps, and revokes the gate keys of what Sweep returned, but for those that other
// pins need. Keys of single pins that are gone lapse in the kernel by themselves.
func (s *Store) Expire(ctx context.Context, gate Gate, ports Ports) error {
	keys := map[GateKey]bool{}
	swept := map[netip.Addr]bool{}
	var one []GateKey
	for _, e := range s.Sweep() {
		swept[e.Source] = true
		one = Keys(one[:0], e.Source, e.Name, e.Addr, ports)
		for _, k := range one {
			keys[k] = true
		}
	}
	if len(swept) == 0 {
		return nil
	}
	for e := range s.Entries() {
		if swept[e.Source] {
			one = Keys(one[:0], e.Source, e.Name, e.Addr, ports)
			for _, k := range one {
				delete(keys, k)
			}
		}
	}
	for batch := range slices.Chunk(slices.Collect(maps.Keys(keys)), maxBatch) {
		if err := gate.Revoke(ctx, batch); err != nil {
			return err
		}
	}
	// A source may have asked for a name meanwhile, and may have lost new keys.
	return s.readmit(ctx, gate, ports, func(e Entry) bool { return swept[e.Source] })
}

// Readmit puts the keys of every pin into the gate, for the time that is left: after
// a restart, and after a reload has changed what names may do.
func (s *Store) Readmit(ctx context.Context, gate Gate, ports Ports) error {
	return s.readmit(ctx, gate, ports, func(Entry) bool { return true })
}

// Retire revokes the keys of pins that a new ruleset no longer asks for, so that the kernel
// refuses what nothing could permit at its first packet. Call it before Readmit, which puts
// back what a question meanwhile has asked for. The pins stay: a later ruleset may permit their
// names again.
func (s *Store) Retire(ctx context.Context, gate Gate, before, after Ports) error {
	stale, wanted := map[GateKey]bool{}, map[GateKey]bool{}
	var old, kept []GateKey
	for e := range s.Entries() {
		old = Keys(old[:0], e.Source, e.Name, e.Addr, before)
		kept = Keys(kept[:0], e.Source, e.Name, e.Addr, after)
		for _, k := range kept { // another name of the address may need it
			wanted[k] = true
			delete(stale, k)
		}
		for _, k := range old {
			if !wanted[k] {
				stale[k] = true
			}
		}
	}
	for batch := range slices.Chunk(slices.Collect(maps.Keys(stale)), maxBatch) {
		if err := gate.Revoke(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// readmit gathers keys by the hour in which their pins go, because one call of the
// gate has one lifetime. Rounding up is harmless: the enforcer judges the pin, not
// the key.
func (s *Store) readmit(ctx context.Context, gate Gate, ports Ports, want func(Entry) bool) error {
	byHour := map[time.Duration][]GateKey{}
	now := s.opt.Now()
	for e := range s.Entries() {
		if !want(e) {
			continue
		}
		life := (e.Gone.Sub(now) + time.Hour).Truncate(time.Hour)
		byHour[life] = Keys(byHour[life], e.Source, e.Name, e.Addr, ports)
		if len(byHour[life]) >= maxBatch {
			if err := gate.Admit(ctx, byHour[life], life); err != nil {
				return err
			}
			byHour[life] = nil
		}
	}
	for life, keys := range byHour {
		if len(keys) == 0 {
			continue
		}
		if err := gate.Admit(ctx, keys, life); err != nil {
			return err
		}
	}
	return nil
}
