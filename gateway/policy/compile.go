package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// maxNamePorts bounds how many single ports rules with web groups may spell out:
// each is an entry in the kernel's gate for every pinned address.
const maxNamePorts = 1024

// rule is a Rule prepared for evaluation.
type rule struct {
	*Rule
	monitored    bool
	byName       bool // has web groups
	byThreat     bool // has a threat group among its destinations
	threatOnly   bool // has nothing else among them
	decrypts     bool
	explicit     []AddrRange // destinations, without the built-in groups
	destinations []AddrRange
	named        []PortRange // where a permit by name can match
}

// Compile prepares a document for evaluation where env says. The document must
// have passed Decode; a document that only fails Check compiles, so that it can be
// explained. Groups whose data is missing match nothing.
func Compile(doc *Document, env Environment) (*Ruleset, error) {
	c := &compiler{
		Ruleset: &Ruleset{doc: doc, env: env, digest: digest(doc), defaultMonitored: doc.Mode == ModeMonitor || doc.Default.Mode == ModeMonitor},
		smart:   map[string]*SmartGroup{}, web: map[string]*WebGroup{}, threat: map[string]*ThreatGroup{},
	}
	for i := range doc.SmartGroups {
		c.smart[doc.SmartGroups[i].Name] = &doc.SmartGroups[i]
	}
	for i := range doc.WebGroups {
		c.web[doc.WebGroups[i].Name] = &doc.WebGroups[i]
	}
	for i := range doc.ThreatGroups {
		c.threat[doc.ThreatGroups[i].Name] = &doc.ThreatGroups[i]
	}
	c.order()
	for _, step := range []func() error{c.authorities, c.addresses, c.names, c.ports, c.resolvable} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c.Ruleset, nil
}

type compiler struct {
	*Ruleset
	smart  map[string]*SmartGroup
	web    map[string]*WebGroup
	threat map[string]*ThreatGroup
}

// authorities reads the certificates to verify origins with.
func (c *compiler) authorities() error {
	for _, ca := range c.doc.OriginCAs {
		certs, err := parseCertificates(ca.PEM)
		if err != nil {
			return fmt.Errorf("origin CA %q: %w", ca.Name, err)
		}
		c.originCAs = append(c.originCAs, certs...)
	}
	return nil
}

// order sorts the rules and precomputes what each is.
func (c *compiler) order() {
	for i := range c.doc.Rules {
		src := &c.doc.Rules[i]
		r := rule{Rule: src, monitored: c.doc.Mode == ModeMonitor || src.Mode == ModeMonitor,
			byName: len(src.WebGroups) > 0, decrypts: src.Decrypt == DecryptAllowed}
		c.rules = append(c.rules, r)
	}
	slices.SortStableFunc(c.rules, func(a, b rule) int { return cmp.Compare(a.Priority, b.Priority) })
	c.in = newInterner(len(c.rules))
	c.enforced, c.permits, c.byNames = c.bits(), c.bits(), c.bits()
	c.threats, c.threatNames = c.bits(), c.bits()
	c.watches = c.defaultMonitored
	for i := range c.rules {
		if c.rules[i].monitored {
			c.watches = true
		} else {
			c.enforced.set(i)
		}
		if c.rules[i].Action == Permit {
			c.permits.set(i)
		}
		if c.rules[i].byName {
			c.byNames.set(i)
		}
	}
}

func (r *Ruleset) bits() bitset { return newBitset(len(r.rules)) }

// prefixesOf lists the addresses of a smart group.
func (c *compiler) prefixesOf(g *SmartGroup) []netip.Prefix {
	out := slices.Clone(g.CIDRs)
	for _, tag := range g.ServiceTags {
		out = append(out, c.env.Data.ServiceTags[tag]...)
	}
	return out
}

// addresses builds the source and destination tables.
func (c *compiler) addresses() error {
	c.srcAny, c.dstAny, c.dstInternet, c.srcInternet = c.bits(), c.bits(), c.bits(), c.bits()
	c.allAgents = c.bits()
	src, dst := map[netip.Prefix]bitset{}, map[netip.Prefix]bitset{}
	enter := func(t map[netip.Prefix]bitset, ps []netip.Prefix, i int) {
		for _, p := range ps {
			if !p.Addr().Is4() {
				continue // no egress over IPv6
			}
			b := t[p.Masked()]
			if b == nil {
				b = c.bits()
				t[p.Masked()] = b
			}
			b.set(i)
		}
	}
	for i := range c.rules {
		r := &c.rules[i]
		if err := c.sources(r, i, enter, src); err != nil {
			return err
		}
		if err := c.destinations(r, i, enter, dst); err != nil {
			return err
		}
	}
	c.src, c.dst = c.table(src), c.table(dst)
	return nil
}

type enterFunc func(map[netip.Prefix]bitset, []netip.Prefix, int)

func (c *compiler) sources(r *rule, i int, enter enterFunc, src map[netip.Prefix]bitset) error {
	var all []netip.Prefix
	names := r.Sources
	if len(names) == 0 {
		names = []string{GroupAny}
	}
	for _, name := range names {
		switch g := c.smart[name]; {
		case name == GroupAny:
			c.srcAny.set(i)
			all = append(all, netip.MustParsePrefix("0.0.0.0/0"))
		case name == GroupInternet:
			c.srcInternet.set(i)
		case g != nil:
			ps := c.prefixesOf(g)
			enter(src, ps, i)
			all = append(all, ps...)
		case c.threat[name] != nil:
			// A threat group as a source matches by address alone: an agent has no name.
			ps, _ := c.threatData(c.threat[name])
			enter(src, ps, i)
		default:
			return fmt.Errorf("rule %q: no group %q", r.Name, name)
		}
	}
	// For questions that come from a resolver which hides the asker, a permit
	// applies if it could apply to some agent, a deny only if it does to all.
	if r.Action == Permit || covered(ranges(c.env.Agents), ranges(all)) {
		c.allAgents.set(i)
	}
	return nil
}

func (c *compiler) destinations(r *rule, i int, enter enterFunc, dst map[netip.Prefix]bitset) error {
	names := r.Destinations
	if len(names) == 0 {
		names = []string{GroupInternet}
		if r.Action == Deny {
			names = []string{GroupAny}
		}
	}
	var explicit, all []netip.Prefix
	r.threatOnly = true
	for _, name := range names {
		switch g := c.smart[name]; {
		case name == GroupAny:
			c.dstAny.set(i)
			all = append(all, netip.MustParsePrefix("0.0.0.0/0"))
			r.threatOnly = false
		case name == GroupInternet:
			c.dstInternet.set(i)
			r.destinations = append(r.destinations, internetRanges...)
			r.threatOnly = false
		case g != nil:
			ps := c.prefixesOf(g)
			enter(dst, ps, i)
			explicit = append(explicit, ps...)
			r.threatOnly = false
		case c.threat[name] != nil:
			ps, ns := c.threatData(c.threat[name])
			enter(dst, ps, i)
			all = append(all, ps...)
			r.byThreat = true
			c.threats.set(i)
			if len(ns) > 0 {
				c.threatNames.set(i)
			}
		default:
			return fmt.Errorf("rule %q: no group %q", r.Name, name)
		}
	}
	r.threatOnly = r.threatOnly && r.byThreat
	r.explicit = ranges(explicit)
	r.destinations = mergeRanges(append(r.destinations, ranges(append(explicit, all...))...))
	return nil
}

func (c *compiler) threatData(g *ThreatGroup) (ps []netip.Prefix, ns []string) {
	for _, f := range g.Feeds {
		d := c.env.Data.Feeds[f.Name]
		ps = append(ps, d.Prefixes...)
		ns = append(ns, d.Names...)
	}
	return ps, ns
}

// table turns prefixes into a longest-prefix table whose every entry already holds
// the rules of the shorter prefixes around it, so that one look-up is the answer.
func (c *compiler) table(m map[netip.Prefix]bitset) *bart.Table[uint32] {
	ps := make([]netip.Prefix, 0, len(m))
	for p := range m {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b netip.Prefix) int { return cmp.Compare(a.Bits(), b.Bits()) })
	t := &bart.Table[uint32]{}
	for _, p := range ps {
		id := c.in.intern(m[p])
		if around, ok := t.LookupPrefix(p); ok {
			id = c.in.union(id, around)
		}
		t.Insert(p, id)
	}
	return t
}

// names builds the name tables of web groups, URL hosts and threat feeds.
func (c *compiler) names() error {
	c.fqdns, c.hosts, c.bad = newNameTable(c.in), newNameTable(c.in), newNameTable(c.in)
	c.requests = newRequestTable()
	webs, threats := map[string]bitset{}, map[string]bitset{}
	note := func(m map[string]bitset, name string, i int) {
		if m[name] == nil {
			m[name] = c.bits()
		}
		m[name].set(i)
	}
	for i := range c.rules {
		for _, g := range c.rules[i].WebGroups {
			if c.web[g] == nil {
				return fmt.Errorf("rule %q: no web group %q", c.rules[i].Name, g)
			}
			note(webs, g, i)
		}
		for _, g := range c.rules[i].Destinations {
			if c.threat[g] != nil {
				note(threats, g, i)
			}
		}
	}
	for name, rules := range webs {
		id, g := c.in.intern(rules), c.web[name]
		for _, p := range g.FQDNs {
			c.fqdns.add(p, id)
		}
		for i := range g.URLs {
			c.hosts.add(g.URLs[i].Host, id)
			c.requests.addURL(&g.URLs[i], id)
		}
		for i := range g.MCP {
			c.hosts.add(g.MCP[i].Host, id)
			c.requests.addMCP(&g.MCP[i], id)
		}
	}
	for name, rules := range threats {
		_, ns := c.threatData(c.threat[name])
		id := c.in.intern(rules)
		for _, n := range ns {
			c.bad.addDomain(n, id)
		}
	}
	return nil
}

// ports builds the port tables and the list of ports on which names exist.
func (c *compiler) ports() error {
	c.namePorts = []PortRange{{TCP, 80, 80}, {TCP, 443, 443}}
	for i := range c.rules {
		r := &c.rules[i]
		if r.byName {
			for _, p := range r.Ports {
				if p.Proto == TCP && !(p.Lo == 0 && p.Hi == 65535) {
					c.namePorts = append(c.namePorts, p)
				}
			}
		}
	}
	c.namePorts = mergePorts(c.namePorts)
	c.protoPorts = map[Proto]*portTable{}
	anyPort := c.bits()
	protos := map[Proto]bool{TCP: true, UDP: true, ICMP: true}
	for i := range c.rules {
		if len(c.rules[i].Ports) == 0 {
			anyPort.set(i)
		}
		for _, p := range c.rules[i].Ports {
			protos[p.Proto] = true
		}
	}
	for proto := range protos {
		c.protoPorts[proto] = c.portTable(proto, anyPort)
	}
	c.otherProtos = c.in.intern(anyPort)
	total := 0
	for _, p := range c.namePorts {
		total += int(p.Hi) - int(p.Lo) + 1
	}
	if total > maxNamePorts {
		return fmt.Errorf("rules with web groups spell out %d TCP ports, more than %d: name the ports that the services really use", total, maxNamePorts)
	}
	return nil
}

// mergePorts sorts ranges of one protocol and joins those that touch.
func mergePorts(ps []PortRange) []PortRange {
	slices.SortFunc(ps, func(a, b PortRange) int { return cmp.Compare(a.Lo, b.Lo) })
	out := ps[:0]
	for _, p := range ps {
		if n := len(out); n > 0 && int(p.Lo) <= int(out[n-1].Hi)+1 {
			out[n-1].Hi = max(out[n-1].Hi, p.Hi)
			continue
		}
		out = append(out, p)
	}
	return out
}

// portTable maps the ports of one protocol to rules, as segments between the
// ports at which any rule begins or ends.
type portTable struct {
	starts []uint16
	sets   []uint32
}

func (t *portTable) lookup(port uint16) uint32 {
	i, found := slices.BinarySearch(t.starts, port)
	if !found {
		i--
	}
	return t.sets[i]
}

func (c *compiler) portTable(proto Proto, anyPort bitset) *portTable {
	starts := []uint16{0}
	for i := range c.rules {
		for _, p := range c.rules[i].Ports {
			if p.Proto == proto && proto.HasPorts() {
				starts = append(starts, p.Lo)
				if p.Hi < 65535 {
					starts = append(starts, p.Hi+1)
				}
			}
		}
	}
	slices.Sort(starts)
	t := &portTable{starts: slices.Compact(starts)}
	for _, start := range t.starts {
		b := anyPort.clone()
		for i := range c.rules {
			for _, p := range c.rules[i].Ports {
				if p.Contains(proto, start) {
					b.set(i)
				}
			}
		}
		t.sets = append(t.sets, c.in.intern(b))
	}
	return t
}

// mergeRanges sorts ranges and joins those that touch or overlap.
func mergeRanges(rs []AddrRange) []AddrRange {
	slices.SortFunc(rs, func(a, b AddrRange) int { return a.From.Compare(b.From) })
	var out []AddrRange
	for _, x := range rs {
		if n := len(out); n > 0 && uint64(toUint(x.From)) <= uint64(toUint(out[n-1].To))+1 {
			if out[n-1].To.Less(x.To) {
				out[n-1].To = x.To
			}
			continue
		}
		out = append(out, x)
	}
	return out
}

// parents yields the names above a pattern: what must not be answered with
// NXDOMAIN while the pattern is resolvable.
func parents(pattern string) []string {
	if i := strings.LastIndexByte(pattern, '*'); i >= 0 {
		_, rest, ok := strings.Cut(pattern[i:], ".")
		if !ok {
			return nil
		}
		return append([]string{rest}, parents(rest)...)
	}
	var out []string
	for {
		_, rest, ok := strings.Cut(pattern, ".")
		if !ok {
			return out
		}
		out = append(out, rest)
		pattern = rest
	}
}
