package policy

import (
	"net/netip"
	"slices"
)

// notInternet are the IPv4 blocks that IANA's special-purpose address registry
// does not call globally reachable, and multicast.
//
// Source: https://www.iana.org/assignments/iana-ipv4-special-registry
// (192.88.99.0/24, the withdrawn 6to4 anycast, has no reachability there and is
// counted as not reachable.)
var notInternet = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
	"172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
	"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/4", "240.0.0.0/4",
)

// internetWithin are the globally reachable exceptions inside notInternet: the
// Port Control Protocol and TURN anycast addresses (RFC 7723, RFC 8155).
var internetWithin = prefixes("192.0.0.9/32", "192.0.0.10/32")

// IsInternet reports whether an IPv4 address is globally reachable, which is what
// the built-in group `internet` means.
func IsInternet(a netip.Addr) bool {
	a = a.Unmap()
	if !a.Is4() {
		return false
	}
	return !within(notInternet, a) || within(internetWithin, a)
}

// unroutable are destinations that no rule can permit: this host and network,
// loopback, link-local (which holds Azure's metadata service at 169.254.169.254),
// Azure's wire server, multicast, reserved and broadcast addresses.
var unroutable = prefixes(
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32",
	"224.0.0.0/4", "240.0.0.0/4",
)

// Unroutable lists those destinations, for a kernel that has to refuse them whatever it was told.
func Unroutable() []AddrRange { return ranges(unroutable) }

// The ports that carry DNS and DNS over TLS or QUIC.
const (
	portDNS = 53
	portDoT = 853
	portTLS = 443
)

// invariant returns why no rule may permit a packet, or "" if rules decide.
func (r *Ruleset) invariant(f *Flow) Reason {
	switch {
	case !f.Dst.Is4(), within(unroutable, f.Dst), slices.Contains(r.env.Gateway, f.Dst), !r.governs(f.Src):
		return ReasonInvariant
	case f.Proto == UDP && f.Port == portTLS:
		return ReasonQUIC
	case refusedPort(f.Proto, f.Port):
		return ReasonInvariant
	}
	return ""
}

// refusedPort reports whether no rule may permit the port: DNS around our resolver,
// and QUIC.
func refusedPort(proto Proto, port uint16) bool {
	switch proto {
	case TCP:
		return port == portDNS || port == portDoT
	case UDP:
		return port == portDNS || port == portDoT || port == portTLS
	}
	return false
}

// governs reports whether packets from the address are subject to the ruleset at
// all; from others nothing is permitted.
func (r *Ruleset) governs(src netip.Addr) bool {
	return src.Is4() && (len(r.env.Agents) == 0 || within(r.env.Agents, src))
}

func within(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func prefixes(ss ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(ss))
	for i, s := range ss {
		ps[i] = netip.MustParsePrefix(s)
	}
	return ps
}

// last is the highest address of an IPv4 prefix.
func last(p netip.Prefix) netip.Addr {
	return fromUint(toUint(p.Masked().Addr()) | uint32(uint64(1)<<(32-p.Bits())-1))
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func fromUint(u uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)})
}

// ranges merges prefixes into disjoint, sorted ranges.
func ranges(ps []netip.Prefix) []AddrRange {
	out := make([]AddrRange, 0, len(ps))
	for _, p := range ps {
		if p.Addr().Is4() {
			out = append(out, AddrRange{p.Masked().Addr(), last(p)})
		}
	}
	return mergeRanges(out)
}

// covered reports whether every address of inner is in outer; both are disjoint
// and sorted.
func covered(inner, outer []AddrRange) bool {
	i := 0
	for _, x := range inner {
		for i < len(outer) && outer[i].To.Less(x.From) {
			i++
		}
		if i == len(outer) || x.From.Less(outer[i].From) || outer[i].To.Less(x.To) {
			return false
		}
	}
	return true
}

// internetRanges is the built-in group `internet` as ranges.
var internetRanges = func() []AddrRange {
	var out []AddrRange
	from := uint32(0)
	holes := ranges(notInternet)
	for _, h := range holes {
		if start := toUint(h.From); start > from {
			out = append(out, AddrRange{fromUint(from), fromUint(start - 1)})
		}
		for _, p := range internetWithin {
			if !p.Addr().Less(h.From) && !h.To.Less(p.Addr()) {
				out = append(out, AddrRange{p.Addr(), p.Addr()})
			}
		}
		from = toUint(h.To) + 1
	}
	return out
}()
