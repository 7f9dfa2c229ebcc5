package policy

import (
	"fmt"
	"maps"
	"slices"
)

// stretches cuts each protocol's ports where any rule begins or ends.
func (p *prober) stretches() []PortRange {
	cuts := map[Proto][]int{TCP: {1, 80, 81, 443, 444}, UDP: {1}, ICMP: nil}
	for _, r := range p.both {
		for _, rule := range r.doc.Rules {
			for _, x := range rule.Ports {
				cuts[x.Proto] = append(cuts[x.Proto], max(int(x.Lo), 1), int(x.Hi)+1)
			}
		}
	}
	for _, proto := range []Proto{TCP, UDP} { // stretches that no rule can permit
		cuts[proto] = append(cuts[proto], portDNS, portDNS+1, portDoT, portDoT+1, portTLS, portTLS+1)
	}
	var out []PortRange
	for _, proto := range slices.Sorted(maps.Keys(cuts)) {
		if !proto.HasPorts() {
			out = append(out, PortRange{Proto: proto})
			continue
		}
		at := append(cuts[proto], 1, 65536)
		slices.Sort(at)
		at = slices.Compact(at)
		for i := 0; i+1 < len(at); i++ {
			out = append(out, PortRange{proto, uint16(at[i]), uint16(at[i+1] - 1)})
		}
	}
	return out
}

// joinPorts joins neighbouring stretches, also over those that no rule can permit.
func joinPorts(have, all []PortRange) []PortRange {
	var out []PortRange
	for _, x := range all {
		if !slices.Contains(have, x) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].Proto == x.Proto && x.Proto.HasPorts() && gapIsRefused(out[n-1], x) {
			out[n-1].Hi = x.Hi
			continue
		}
		out = append(out, x)
	}
	return out
}

// gapIsRefused reports whether between two stretches lie only ports that no rule
// can permit.
func gapIsRefused(a, b PortRange) bool {
	for port := int(a.Hi) + 1; port < int(b.Lo); port++ {
		if !refusedPort(a.Proto, uint16(port)) {
			return false
		}
	}
	return true
}

// portKey writes a stretch the way people name it: TCP by its number alone.
func portKey(p PortRange) string {
	if p.Proto.HasPorts() && p.Lo <= 1 && p.Hi == 65535 {
		return p.Proto.String()
	}
	if p.Proto == TCP && p.Lo == p.Hi {
		return fmt.Sprint(p.Lo)
	}
	return p.String()
}
