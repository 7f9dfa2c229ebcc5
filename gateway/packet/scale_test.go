package packet

import (
	"net/netip"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// manyRanges are n ranges that do not touch, outside what the lab uses.
func manyRanges(n int) []policy.AddrRange {
	out := make([]policy.AddrRange, n)
	for i := range out {
		from := uint32(20)<<24 + uint32(i)*4
		out[i] = policy.AddrRange{From: fromUint(from), To: fromUint(from + 1)}
	}
	return out
}

// TestManyPrefixes loads as many prefixes as all of Azure's service tags hold, twice
// over, and uses the last of them.
func TestManyPrefixes(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	table := l.open(labConfig())
	kernel := labTable()
	for i := range kernel.Classes {
		kernel.Classes[i].Forward = append(manyRanges(100_000), kernel.Classes[i].Forward...)
	}
	for range 2 {
		start := time.Now()
		if err := table.Load(kernel); err != nil {
			t.Fatal(err)
		}
		t.Logf("100,000 ranges in %v", time.Since(start).Round(time.Millisecond))
	}
	if err := l.try(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho)); err != nil {
		t.Error(err)
	}
	keys := make([]pin.GateKey, maxKeys)
	for i := range keys {
		keys[i] = pin.GateKey{Src: netip.MustParseAddr(addrAgent), Dst: fromUint(uint32(i) + 1<<24), Proto: policy.TCP, Port: 443}
	}
	start := time.Now()
	admit(t, table, keys...)
	t.Logf("%d keys in one call in %v", len(keys), time.Since(start).Round(time.Microsecond))
	start = time.Now()
	for i := range 100 {
		admit(t, table, keys[i])
	}
	t.Logf("one key at a time: %v", (time.Since(start) / 100).Round(time.Microsecond))
	start = time.Now()
	done := make(chan error, 1000)
	for i := range cap(done) {
		go func() { done <- table.Admit(t.Context(), keys[i:i+1], time.Minute) }()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("1,000 callers at once: %v each", (time.Since(start) / 1000).Round(time.Microsecond))
}
