package packet

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// merge sorts ranges and joins those that touch or overlap. The kernel's interval
// sets refuse overlaps.
func merge(in []policy.AddrRange) []policy.AddrRange {
	sorted := slices.SortedFunc(slices.Values(in), func(a, b policy.AddrRange) int {
		return cmp.Compare(toUint(a.From), toUint(b.From))
	})
	var out []policy.AddrRange
	for _, r := range sorted {
		if n := len(out); n > 0 {
			last := toUint(out[n-1].To)
			if last == ^uint32(0) || toUint(r.From) <= last+1 {
				out[n-1].To = fromUint(max(last, toUint(r.To)))
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// rangeText is a range as nft writes it: a prefix where it is one.
func rangeText(r policy.AddrRange) string {
	from, to := toUint(r.From), toUint(r.To)
	if from == to {
		return r.From.String()
	}
	size := to - from + 1 // 0 for everything
	if size&(size-1) == 0 && from&(size-1) == 0 {
		bits := 32
		for s := uint64(to) - uint64(from) + 1; s > 1; s >>= 1 {
			bits--
		}
		return netip.PrefixFrom(r.From, bits).String()
	}
	return r.From.String() + "-" + r.To.String()
}
