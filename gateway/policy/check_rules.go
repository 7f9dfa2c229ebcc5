package policy

import (
	"fmt"
	"slices"
	"strings"
)

// rule judges one rule, alone and against the others.
func (c *checker) rule(r *scope) {
	c.requests(r)
	c.obligations(r)
	if r.byName() && !portsMeet(r.Ports, []PortRange{{TCP, 0, 65535}}) {
		c.add(checkNoNamePort, SeverityWarning, r.path+".ports", "name TCP ports, or take the web groups out",
			"rule %q never matches: it names web groups, and only TCP flows carry names", r.Name)
	}
	if r.Action == Permit {
		c.threats(r)
		c.breadth(r)
		c.tags(r)
		c.wildcards(r)
		if r.inForce() {
			c.nameless(r)
		}
	} else if r.Mode == ModeMonitor {
		c.monitoredDeny(r)
	}
	if by := c.shadows(r); len(by) > 0 {
		c.add(checkShadowed, SeverityWarning, r.path, "move it up, narrow the earlier rules, or remove it",
			"rule %q never matches: %s above it take%s all that it could", r.Name, quoteAll(by), map[bool]string{true: "s"}[len(by) == 1])
	}
}

// threats judges permits towards threat groups.
func (c *checker) threats(r *scope) {
	for i, name := range r.Destinations {
		if slices.ContainsFunc(c.doc.ThreatGroups, func(g ThreatGroup) bool { return g.Name == name }) {
			c.add(checkThreatPermit, SeverityError, fmt.Sprintf("%s.destinations[%d]", r.path, i), "deny it, or name the destinations that are meant",
				"rule %q permits what the feeds of %q call dangerous", r.Name, name)
		}
	}
}

// breadth judges permits by address to the whole internet.
func (c *checker) breadth(r *scope) {
	if r.byName() || !r.wholeInternet() {
		return
	}
	everyPort := len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(p PortRange) bool {
		return p.Proto == TCP && p.Lo <= 1 && p.Hi == 65535
	})
	if everyPort {
		c.add(checkMatchAll, SeverityError, r.path, "name web groups, or the destinations and ports that are meant",
			"rule %q permits every destination on the internet", r.Name)
		return
	}
	c.add(checkInternetPort, SeverityWarning, r.path, "name web groups or the destinations that are meant",
		"rule %q permits %s to every address on the internet, so whoever listens there can receive data", r.Name, portList(r.Ports))
}

// tags judges service tags that are permitted without a name beside them.
func (c *checker) tags(r *scope) {
	if r.byName() {
		return
	}
	for k, name := range r.Destinations {
		d := c.destination(name)
		if !d.tags {
			continue
		}
		opens := "what it opens is known once service tags are loaded"
		if n := count(d.ranges); n > 0 {
			opens = fmt.Sprintf("it opens %d addresses", n)
		}
		c.addUnlessAllowed(checkServiceTag, r, fmt.Sprintf("%s.destinations[%d]", r.path, k), "add the web groups of the names that are meant (one rule takes both)",
			"rule %q permits the service tags of %q without a name: %s, and every tenant's registry, storage or vault behind those tags is among them", r.Name, name, opens)
	}
}

// wildcards judges the wildcards of a permit.
func (c *checker) wildcards(r *scope) {
	seen := map[string]bool{}
	for _, t := range r.names {
		if !strings.Contains(t.pattern, "*") || seen[t.path+t.pattern] {
			continue
		}
		seen[t.path+t.pattern] = true
		if c.env.PinScope == ScopeVerify {
			c.add(checkVerifyWildcard, SeverityError, t.path, "name each host, or let agents ask this gateway's resolver (dns.pinScope: source)",
				"rule %q permits %s, but with pinScope verify names are resolved ahead, which a wildcard cannot be", r.Name, t.pattern)
		}
		if host := multiTenant(t.pattern); host != "" {
			c.addUnlessAllowed(checkMultiTenant, r, t.path, "name the hosts that are yours",
				"rule %q permits %s, and anybody can get a name under %s", r.Name, t.pattern, host)
		}
	}
}

// nameless warns of denies by name above a permit by address: a flow that shows no
// name, or hides it (ECH), passes the one and matches the other.
func (c *checker) nameless(r *scope) {
	if r.byName() {
		return
	}
	for _, d := range c.rules {
		if d.Priority < r.Priority && d.Action == Deny && d.byName() && d.inForce() && d.meets(r) && c.namesExist(d, r) {
			c.add(checkNamelessPass, SeverityWarning, d.path, "permit by name in that rule, or deny the destinations by address",
				"a flow without a readable name passes deny %q and is then permitted by address in rule %q", d.Name, r.Name)
		}
	}
}

// namesExist reports whether the rules meet on a TCP port where flows carry names.
func (c *checker) namesExist(d, r *scope) bool {
	ports := []PortRange{{TCP, 80, 80}, {TCP, 443, 443}}
	for _, o := range c.rules {
		if o.byName() {
			ports = append(ports, o.Ports...)
		}
	}
	for _, p := range ports {
		one := []PortRange{p}
		if p.Proto == TCP && portsMeet(d.Ports, one) && portsMeet(r.Ports, one) {
			return true
		}
	}
	return false
}

// monitoredDeny warns where watching a deny suggests that its traffic flows, while
// nothing below permits it and the default refuses it.
func (c *checker) monitoredDeny(r *scope) {
	if c.doc.Mode == ModeMonitor || c.doc.Default.Mode == ModeMonitor {
		return
	}
	for _, o := range c.rules {
		if o.Priority > r.Priority && o.Action == Permit && o.inForce() && c.mayShare(r, o) {
			return
		}
	}
	c.add(checkMonitoredDeny, SeverityWarning, r.path+".mode", "enforce it, or set default.mode to monitor as well",
		"rule %q only watches, but what it matches is denied anyway by the enforced rules and default below it", r.Name)
}

// mayShare reports whether a flow might match both rules; groups whose addresses
// are not known here might hold any.
func (c *checker) mayShare(a, b *scope) bool {
	unknown := func(s *scope) bool {
		return slices.ContainsFunc(s.destinations, func(d destination) bool { return !d.known })
	}
	if !intersects(a.sources, b.sources) || !portsMeet(a.Ports, b.Ports) || !a.meets(b) && !unknown(a) && !unknown(b) {
		return false
	}
	return !a.byName() || slices.ContainsFunc(a.names, func(t target) bool { return b.holds(t.pattern) })
}

// count is the number of addresses in disjoint ranges.
func count(rs []AddrRange) uint64 {
	var n uint64
	for _, r := range rs {
		n += uint64(toUint(r.To)-toUint(r.From)) + 1
	}
	return n
}

func portList(ps []PortRange) string {
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return strings.Join(quoted, ", ")
}
