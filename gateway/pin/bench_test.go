package pin

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// BenchmarkMillion reports the memory of a million pins: 50 agents with 20,000
// each, four addresses to a name.
func BenchmarkMillion(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := New(Options{})
		for src := range 50 {
			for n := range 5000 {
				name := fmt.Sprintf("host-%d.some-zone.example.com", n)
				var all []Answer
				for a := range 4 {
					all = append(all, Answer{Addr: addr(n*4 + a), TTL: time.Minute, Bound: name})
				}
				if err := s.Add(netip.AddrFrom4([4]byte{10, 20, 1, byte(src)}), name, all); err != nil {
					b.Fatal(err)
				}
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if _, pins := s.Len(); pins != 1_000_000 {
			b.Fatalf("%d pins", pins)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		runtime.KeepAlive(s)
	}
}

func BenchmarkHeld(b *testing.B) {
	s := New(Options{})
	answers := one(github, time.Hour)
	if err := s.Add(agent, "api.github.com", answers); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if held, err := s.Held(agent, "api.github.com", answers); !held || err != nil {
			b.Fatal(held, err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	s := New(Options{})
	for i := range 20_000 {
		if err := s.Add(agent, fmt.Sprintf("n%d.example", i), one(addr(i), time.Hour)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Lookup(agent, addr(777), "n777.example")
	}
}
