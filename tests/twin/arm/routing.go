package arm

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// tag says whether s may be a service tag. Azure knows which there are; the twin knows their form.
func tag(s string) bool {
	return s != "" && s != "*" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.')
	}) < 0 && s[0] >= 'A' && s[0] <= 'Z'
}

func routeRules(o *operation) error {
	prefix, hop, address := o.body.Text("properties", "addressPrefix"), o.body.Text("properties", "nextHopType"), o.body.Text("properties", "nextHopIpAddress")
	p, err := netip.ParsePrefix(prefix)
	switch {
	case err != nil && !tag(prefix):
		return failure(400, "InvalidAddressPrefixFormat", "Address prefix %s of resource %s is not formatted correctly. It should follow CIDR notation, for example 10.0.0.0/24.", prefix, o.id)
	case err == nil && p != p.Masked():
		return failure(400, "InvalidCIDRNotation", "The address prefix %s of resource %s has an invalid CIDR notation. For the given prefix length, the address prefix should be %s.", p, o.id, p.Masked())
	case hop == "":
		return failure(400, "InvalidRequestFormat", "Route %s has no next hop type.", o.id)
	case same(hop, "VirtualAppliance") && address == "":
		return failure(400, "NextHopIpAddressRequired", "Route %s with next hop type VirtualAppliance must have a next hop IP address.", o.id)
	case !same(hop, "VirtualAppliance") && address != "":
		return failure(400, "NextHopIpAddressNotAllowed", "Route %s: a next hop IP address is allowed only where the next hop type is VirtualAppliance.", o.id)
	}
	if address != "" {
		if _, err := netip.ParseAddr(address); err != nil {
			return failure(400, "InvalidNextHopIpAddress", "Next hop IP address %s of route %s is not valid.", address, o.id)
		}
	}
	for _, other := range o.s.parts(o.id.Parent(), typeRoute) {
		if !same(other.ID, o.id.text) && same(other.Body.Text("properties", "addressPrefix"), prefix) {
			return failure(400, "RouteConflict", "Route %s conflicts with %s: both have the address prefix %s.", o.id.Name(), last(other.ID), prefix)
		}
	}
	return nil
}

func routeFill(o *operation, _ *Resource) { o.body.Set(false, "properties", "hasBgpOverride") }

// defaultRules are those that every security group has
// (learn.microsoft.com/azure/virtual-network/network-security-groups-overview).
var defaultRules = []struct {
	name, direction, access, from, to string
	priority                          float64
}{
	{"AllowVnetInBound", "Inbound", "Allow", "VirtualNetwork", "VirtualNetwork", 65000},
	{"AllowAzureLoadBalancerInBound", "Inbound", "Allow", "AzureLoadBalancer", "*", 65001},
	{"DenyAllInBound", "Inbound", "Deny", "*", "*", 65500},
	{"AllowVnetOutBound", "Outbound", "Allow", "VirtualNetwork", "VirtualNetwork", 65000},
	{"AllowInternetOutBound", "Outbound", "Allow", "*", "Internet", 65001},
	{"DenyAllOutBound", "Outbound", "Deny", "*", "*", 65500},
}

func nsgFill(o *operation, r *Resource) {
	all := []any{}
	for _, d := range defaultRules {
		all = append(all, map[string]any{
			"id": r.ID + "/defaultSecurityRules/" + d.name, "name": d.name, "type": "Microsoft.Network/networkSecurityGroups/defaultSecurityRules",
			"properties": map[string]any{
				"provisioningState": "Succeeded", "protocol": "*", "sourcePortRange": "*", "destinationPortRange": "*",
				"sourceAddressPrefix": d.from, "destinationAddressPrefix": d.to, "access": d.access, "priority": d.priority, "direction": d.direction,
				"sourcePortRanges": []any{}, "destinationPortRanges": []any{}, "sourceAddressPrefixes": []any{}, "destinationAddressPrefixes": []any{},
			},
		})
	}
	o.body.Set(all, "properties", "defaultSecurityRules")
}

func securityRuleRules(o *operation) error {
	p := o.body.Object("properties")
	for _, need := range []string{"access", "direction", "protocol"} {
		if p.Text(need) == "" {
			return failure(400, "SecurityRuleParameterMissing", "Required security rule parameter is missing for security rule with Id: %s. Security rule must specify %s.", o.id, need)
		}
	}
	if n := p.Number("priority"); n < 100 || n > 4096 {
		return failure(400, "SecurityRuleInvalidPriority", "Security rule has invalid Priority. Value provided: %v Allowed range 100-4096.", n)
	}
	for _, side := range []string{"source", "destination"} {
		if err := o.endpointOf(p, side); err != nil {
			return err
		}
	}
	for _, other := range o.s.parts(o.id.Parent(), typeSecurityRule) {
		q := other.Body.Object("properties")
		if !same(other.ID, o.id.text) && q.Number("priority") == p.Number("priority") && same(q.Text("direction"), p.Text("direction")) {
			return failure(400, "SecurityRuleConflict", "Security rule %s conflicts with rule %s. Rules cannot have the same Priority and Direction.", last(other.ID), o.id.Name())
		}
	}
	return nil
}

// endpointOf checks the addresses and ports of one side of a rule.
func (o *operation) endpointOf(p Object, side string) error {
	one, many := p.Text(side+"AddressPrefix"), p.Texts(side+"AddressPrefixes")
	if one == "" && len(many) == 0 && len(p.List(side+"ApplicationSecurityGroups")) == 0 {
		return failure(400, "SecurityRuleParameterMissing", "Required security rule parameter is missing for security rule with Id: %s. Security rule must specify %sAddressPrefixes, %sAddressPrefix, or %sApplicationSecurityGroups.", o.id, side, side, side)
	}
	if one != "" && len(many) > 0 {
		return failure(400, "SecurityRuleAddressPrefixAndPrefixesSpecified", "Security rule %s cannot have both %sAddressPrefix and %sAddressPrefixes.", o.id, side, side)
	}
	for i, s := range append(slices.Clone(many), one) {
		_, badPrefix := netip.ParsePrefix(s)
		_, badAddr := netip.ParseAddr(s)
		single := i == len(many)
		if s == "" && single || badPrefix == nil || badAddr == nil || single && (s == "*" || tag(s)) || !single && tag(s) && len(many) == 1 {
			continue
		}
		return failure(400, "SecurityRuleInvalidAddressPrefix", "Security rule has invalid Address prefix. Value provided: %s", s)
	}
	port, ports := p.Text(side+"PortRange"), p.Texts(side+"PortRanges")
	if port == "" && len(ports) == 0 {
		return failure(400, "SecurityRuleParameterMissing", "Required security rule parameter is missing for security rule with Id: %s. Security rule must specify %sPortRanges or %sPortRange.", o.id, side, side)
	}
	for _, s := range append(slices.Clone(ports), port) {
		if s != "" && !portRange(s) {
			return failure(400, "SecurityRuleInvalidPortRange", "Security rule has invalid Port range. Value provided: %s. Value should be an integer OR integer range with '-' delimiter. Valid range 0-65535.", s)
		}
	}
	return nil
}

func portRange(s string) bool {
	if s == "*" {
		return true
	}
	from, to, ranged := strings.Cut(s, "-")
	a, err := strconv.ParseUint(from, 10, 16)
	if err != nil || !ranged {
		return err == nil
	}
	b, err := strconv.ParseUint(to, 10, 16)
	return err == nil && a <= b
}
