package feeds

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// addrRange is an inclusive range of IPv4 addresses as numbers, so that it can be
// merged and split.
type addrRange struct{ from, to uint32 }

// kept are the addresses that no feed may cut: private networks, carrier-grade NAT (where
// the platform's own infrastructure answers), loopback, link-local and its metadata service,
// documentation and test networks, multicast, reserved, and Azure's wire server.
// It is wider than the opposite of the group `internet`, never narrower.
//
// Source: https://www.iana.org/assignments/iana-ipv4-special-registry
var kept = func() (out []addrRange) {
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
		"172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
		"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	} {
		out = append(out, prefixRange(netip.MustParsePrefix(s)))
	}
	return out
}()

// Public reports whether an address is one on the Internet that a feed may be fetched from: none of the
// gateway's own network, of its machine, or of the platform that it runs on.
func Public(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	n := number(a)
	return !slices.ContainsFunc(kept, func(k addrRange) bool { return k.from <= n && n <= k.to })
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func prefixRange(p netip.Prefix) addrRange {
	from := number(p.Masked().Addr())
	return addrRange{from, from | uint32(1<<(32-p.Bits())-1)}
}

// parseRange reads an address, a prefix or a range `a-b`, and judges it.
func parseRange(s string) (addrRange, verdict) {
	lo, hi, isRange := strings.Cut(s, "-")
	var r addrRange
	switch {
	case isRange:
		from, err1 := netip.ParseAddr(strings.TrimSpace(lo))
		to, err2 := netip.ParseAddr(strings.TrimSpace(hi))
		if err1 != nil || err2 != nil || from.Is4() != to.Is4() || to.Less(from) {
			return r, bad
		}
		if !from.Is4() {
			return r, ipv6
		}
		r = addrRange{number(from), number(to)}
	case strings.Contains(s, "/"):
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return r, bad
		}
		if !p.Addr().Is4() {
			return r, ipv6
		}
		r = prefixRange(p)
	default:
		a, err := netip.ParseAddr(s)
		if err != nil {
			return r, bad
		}
		if !a.Is4() {
			return r, ipv6
		}
		r = addrRange{number(a), number(a)}
	}
	return r, r.judge()
}

// judge says whether a feed may cut the range.
func (r addrRange) judge() verdict {
	if uint64(r.to)-uint64(r.from) >= 1<<(32-minBits) {
		return wide
	}
	for _, k := range kept {
		if r.from <= k.to && k.from <= r.to {
			return special
		}
	}
	return taken
}

// merge joins overlapping and adjacent ranges and writes them as the fewest
// prefixes, in order.
func merge(ranges []addrRange) []netip.Prefix {
	slices.SortFunc(ranges, func(a, b addrRange) int { return cmp.Compare(a.from, b.from) })
	var joined []addrRange
	for _, r := range ranges {
		if n := len(joined); n > 0 && uint64(r.from) <= uint64(joined[n-1].to)+1 {
			joined[n-1].to = max(joined[n-1].to, r.to)
			continue
		}
		joined = append(joined, r)
	}
	var out []netip.Prefix
	for _, r := range joined {
		for from := uint64(r.from); from <= uint64(r.to); {
			// The largest block that begins here and does not pass the end.
			size := min(bits.TrailingZeros32(uint32(from)), bits.Len64(uint64(r.to)-from+1)-1)
			out = append(out, netip.PrefixFrom(address(uint32(from)), 32-size))
			from += 1 << size
		}
	}
	return out
}
