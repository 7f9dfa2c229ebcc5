package pin

import (
	"iter"
	"net/netip"
	"slices"
	"time"
	"unique"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Lookup relates a destination to the name that a flow of src claims. PinOther and
// PinNone tell whether the address is pinned to any name at all.
func (s *Store) Lookup(src, addr netip.Addr, name string) Match {
	owner, now := s.Owner(src), s.opt.Now().UnixNano()
	sh := s.shard(owner)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	so := sh.sources[owner]
	if so == nil {
		return Match{}
	}
	so.active.Store(now)
	m := Match{}
	for r := so.byAddr[addr.Unmap()]; r != nil; r = r.sameAddr {
		if s.gone(r) <= now {
			continue
		}
		if r.name.Value() == name {
			return Match{State: policy.PinMatch, Stale: s.until(r) <= now, Entry: s.entry(owner, r)}
		}
		m.State = policy.PinOther
	}
	return m
}

// Names returns all names that addr is pinned to for src, stale ones included, in
// no order. It stands in for the name of a TLS flow that claims none; ask Lookup
// whether each is stale.
func (s *Store) Names(src, addr netip.Addr) []string {
	owner, now := s.Owner(src), s.opt.Now().UnixNano()
	sh := s.shard(owner)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	var names []string
	if so := sh.sources[owner]; so != nil {
		for r := so.byAddr[addr.Unmap()]; r != nil; r = r.sameAddr {
			if s.gone(r) > now {
				names = append(names, r.name.Value())
			}
		}
	}
	return names
}

// Addrs returns the addresses that are freshly pinned to name for src, the latest
// answer first, at most 16. The enforcer dials the others where one does not
// answer.
func (s *Store) Addrs(src netip.Addr, name string) []netip.Addr {
	owner, now := s.Owner(src), s.opt.Now().UnixNano()
	sh := s.shard(owner)
	sh.mu.RLock()
	var fresh []Entry
	if so := sh.sources[owner]; so != nil {
		for r := so.byName[unique.Make(name)]; r != nil; r = r.sameName {
			if s.until(r) > now {
				fresh = append(fresh, s.entry(owner, r))
			}
		}
	}
	sh.mu.RUnlock()
	slices.SortStableFunc(fresh, func(a, b Entry) int { return b.Asked.Compare(a.Asked) })
	fresh = fresh[:min(len(fresh), maxOthers)]
	addrs := make([]netip.Addr, len(fresh))
	for i, e := range fresh {
		addrs[i] = e.Addr
	}
	return addrs
}

// Touch is a sign of life of src, such as a flow that it has open: its pins are not
// forgotten for idleness. It renews none of them.
func (s *Store) Touch(src netip.Addr) {
	owner := s.Owner(src)
	sh := s.shard(owner)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if so := sh.sources[owner]; so != nil {
		so.active.Store(s.opt.Now().UnixNano())
	}
}

func (s *Store) entry(owner netip.Addr, r *record) Entry {
	return Entry{
		Source: owner, Name: r.name.Value(), Addr: r.addr,
		Asked: time.Unix(0, r.asked), TTL: r.ttl, Bound: r.bound.Value(),
		Until: time.Unix(0, s.until(r)), Gone: time.Unix(0, s.gone(r)),
	}
}

// Entries iterates over all pins that are not gone. It copies one shard at a time,
// so the caller may use the Store meanwhile.
func (s *Store) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for i := range s.shards {
			for _, e := range s.copyShard(&s.shards[i]) {
				if !yield(e) {
					return
				}
			}
		}
	}
}

func (s *Store) copyShard(sh *shard) []Entry {
	now := s.opt.Now().UnixNano()
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	var all []Entry
	for owner, so := range sh.sources {
		all = s.appendLocked(all, owner, so, now)
	}
	return all
}

func (s *Store) appendLocked(to []Entry, owner netip.Addr, so *source, now int64) []Entry {
	for _, head := range so.byAddr {
		for r := head; r != nil; r = r.sameAddr {
			if s.gone(r) > now {
				to = append(to, s.entry(owner, r))
			}
		}
	}
	return to
}
