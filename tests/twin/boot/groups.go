package boot

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// The platform's own addresses. A security group's ordinary rules do not hold for them, only
// rules that name their tags (learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
var (
	host     = netip.PrefixFrom(lab.WireServer, 32)
	metadata = netip.PrefixFrom(lab.Metadata, 32)
)

// Tags of the platform's addresses: destinations, with the ports that they stand for.
var platformTags = map[string]lab.Filter{
	"AzurePlatformDNS":  {Dst: []netip.Prefix{host}, Ports: []policy.PortRange{{Lo: 53, Hi: 53}}},
	"AzurePlatformIMDS": {Dst: []netip.Prefix{metadata}},
}

// tags are what service tags mean around one subnet.
type tags struct {
	network []netip.Prefix // VirtualNetwork
	outside []netip.Prefix // Internet
	world   map[string][]netip.Prefix
}

// newTags: VirtualNetwork is the network's space, its peers', the host's address and the prefixes of
// user-defined routes, with a default route all there is
// (learn.microsoft.com/azure/virtual-network/service-tags-overview). Internet is what is outside
// the space of networks.
func newTags(space, routes []netip.Prefix, world map[string][]netip.Prefix) tags {
	return tags{network: slices.Concat(space, []netip.Prefix{host}, routes), outside: without(space), world: world}
}

// without is everything but some prefixes.
func without(space []netip.Prefix) []netip.Prefix {
	out := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	for _, p := range space {
		var next []netip.Prefix
		for _, q := range out {
			next = append(next, subtract(q, p.Masked())...)
		}
		out = next
	}
	return out
}

func subtract(q, p netip.Prefix) []netip.Prefix {
	switch {
	case !q.Overlaps(p):
		return []netip.Prefix{q}
	case p.Bits() <= q.Bits():
		return nil
	}
	a := q.Addr().As4()
	low := netip.PrefixFrom(q.Addr(), q.Bits()+1)
	a[q.Bits()/8] |= 0x80 >> (q.Bits() % 8)
	high := netip.PrefixFrom(netip.AddrFrom4(a), q.Bits()+1)
	return append(subtract(low, p), subtract(high, p)...)
}

// addresses are those of a rule's source or destination; none is any.
func (t tags) addresses(texts []string) (out []netip.Prefix, err error) {
	for _, text := range texts {
		switch text {
		case "*", "0.0.0.0/0", "Any":
			return nil, nil
		case "VirtualNetwork":
			out = append(out, t.network...)
			continue
		case "Internet":
			out = append(out, t.outside...)
			continue
		case "AzureLoadBalancer":
			out = append(out, host)
			continue
		}
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p)
		} else if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		} else if known, ok := t.world[text]; ok {
			out = append(out, known...)
		} else {
			return nil, fmt.Errorf("the lab has no service tag %q", text)
		}
	}
	return out, nil
}

// defaults are the rules behind all others
// (learn.microsoft.com/azure/virtual-network/network-security-groups-overview#default-security-rules).
func (t tags) defaults(direction armnetwork.SecurityRuleDirection) []lab.Filter {
	within := lab.Filter{Src: t.network, Dst: t.network, Allow: true}
	if direction == armnetwork.SecurityRuleDirectionOutbound {
		return []lab.Filter{within, {Dst: t.outside, Allow: true}, {}}
	}
	return []lab.Filter{within, {Src: []netip.Prefix{host}, Allow: true}, {}}
}

// filters are a group's rules in one direction, in order.
func (t tags) filters(g *armnetwork.SecurityGroup, direction armnetwork.SecurityRuleDirection) ([]lab.Filter, error) {
	var rules []*armnetwork.SecurityRule
	if g.Properties != nil {
		rules = slices.Clone(g.Properties.SecurityRules)
	}
	slices.SortFunc(rules, func(a, b *armnetwork.SecurityRule) int {
		return cmp.Compare(deref(a.Properties.Priority), deref(b.Properties.Priority))
	})
	var platform, ordinary []lab.Filter
	for _, r := range rules {
		if deref(r.Properties.Direction) != direction {
			continue
		}
		for _, to := range texts(r.Properties.DestinationAddressPrefix, r.Properties.DestinationAddressPrefixes) {
			f, err := t.filter(r.Properties)
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", deref(r.Name), err)
			}
			if tag, ok := platformTags[to]; ok {
				if f.Dst = tag.Dst; len(f.Ports) == 0 {
					f.Ports = tag.Ports
				}
				platform = append(platform, perProtocol(f)...)
				continue
			}
			if f.Dst, err = t.addresses([]string{to}); err != nil {
				return nil, fmt.Errorf("rule %s: %w", deref(r.Name), err)
			}
			ordinary = append(ordinary, perProtocol(f)...)
		}
	}
	if direction == armnetwork.SecurityRuleDirectionOutbound {
		platform = append(platform, lab.Filter{Dst: []netip.Prefix{host, metadata}, Allow: true})
	}
	return slices.Concat(platform, ordinary, t.defaults(direction)), nil
}

// perProtocol makes a rule about ports two, because a port means nothing without a protocol.
func perProtocol(f lab.Filter) []lab.Filter {
	if f.Proto != 0 || len(f.Ports) == 0 {
		return []lab.Filter{f}
	}
	tcp, udp := f, f
	tcp.Proto, udp.Proto = policy.TCP, policy.UDP
	return []lab.Filter{tcp, udp}
}

// filter is a rule without its destination.
func (t tags) filter(p *armnetwork.SecurityRulePropertiesFormat) (f lab.Filter, err error) {
	f.Allow = deref(p.Access) == armnetwork.SecurityRuleAccessAllow
	if len(p.SourceApplicationSecurityGroups)+len(p.DestinationApplicationSecurityGroups) > 0 {
		return f, fmt.Errorf("the lab has no application security groups")
	}
	if f.Src, err = t.addresses(texts(p.SourceAddressPrefix, p.SourceAddressPrefixes)); err != nil {
		return f, err
	}
	switch proto := deref(p.Protocol); proto {
	case armnetwork.SecurityRuleProtocolAsterisk:
	case armnetwork.SecurityRuleProtocolTCP:
		f.Proto = policy.TCP
	case armnetwork.SecurityRuleProtocolUDP:
		f.Proto = policy.UDP
	case armnetwork.SecurityRuleProtocolIcmp:
		f.Proto = policy.ICMP
	default:
		return f, fmt.Errorf("the lab has no protocol %s", proto)
	}
	for _, text := range texts(p.SourcePortRange, p.SourcePortRanges) {
		if text != "*" {
			return f, fmt.Errorf("the lab has no source ports (%s)", text)
		}
	}
	for _, text := range texts(p.DestinationPortRange, p.DestinationPortRanges) {
		if text == "*" {
			return f, nil
		}
		lo, hi, span := strings.Cut(text, "-")
		if !span {
			hi = lo
		}
		from, err := strconv.ParseUint(lo, 10, 16)
		if err != nil {
			return f, err
		}
		to, err := strconv.ParseUint(hi, 10, 16)
		if err != nil {
			return f, err
		}
		f.Ports = append(f.Ports, policy.PortRange{Lo: uint16(from), Hi: uint16(to)})
	}
	return f, nil
}

// texts are what Azure has as one string or as a list of them.
func texts(one *string, many []*string) (out []string) {
	for _, text := range append([]*string{one}, many...) {
		if deref(text) != "" {
			out = append(out, *text)
		}
	}
	return out
}
