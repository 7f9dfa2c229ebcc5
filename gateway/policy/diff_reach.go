package policy

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// prober asks two rulesets the same questions: for every kind of source, every name
// and every address group that either document knows, on every stretch of ports that
// their rules tell apart.
type prober struct {
	both  [2]*Ruleset
	ports []PortRange // stretches between which no rule distinguishes
}

// probe is one thing to be reached.
type probe struct {
	what  string // before the port
	after string // behind it
	named bool   // on ports where names exist only
	flow  Flow
}

// agents are sources that both rulesets treat alike, by one address for them.
type agents struct {
	groups string
	addr   netip.Addr
}

// reach lists what agents reach under each of two rulesets.
func reach(before, after *Ruleset) (was, is map[string]Access) {
	p := &prober{both: [2]*Ruleset{before, after}}
	p.ports = p.stretches()
	var out [2]map[string]Access
	sources := p.sources()
	probes := p.probes()
	for k, r := range p.both {
		each := make([]map[string]Access, len(sources))
		for i, src := range sources {
			each[i] = p.ask(r, src.addr, probes)
		}
		out[k] = map[string]Access{}
		for i, src := range sources {
			for key, a := range each[i] {
				out[k][src.groups+" > "+key] = a
			}
		}
	}
	return alike(out[0], out[1], sources)
}

// alike takes the source out of the keys whose access is the same for all agents,
// before and after.
func alike(was, is map[string]Access, sources []agents) (map[string]Access, map[string]Access) {
	keys := map[string]bool{}
	for _, m := range []map[string]Access{was, is} {
		for full := range m {
			_, key, _ := strings.Cut(full, " > ")
			keys[key] = true
		}
	}
	for key := range keys {
		same := true
		for _, s := range sources {
			for _, m := range []map[string]Access{was, is} {
				a, there := m[s.groups+" > "+key]
				b, first := m[sources[0].groups+" > "+key]
				same = same && there == first && reflect.DeepEqual(a, b)
			}
		}
		if !same {
			continue
		}
		for _, m := range []map[string]Access{was, is} {
			a, there := m[sources[0].groups+" > "+key]
			for _, s := range sources {
				delete(m, s.groups+" > "+key)
			}
			if there {
				m[key] = a
			}
		}
	}
	return was, is
}

// sources finds one agent for each combination of groups that rules take as source,
// before and after. Agents in no such group count only where something could be
// permitted to them, which leaves the usual ruleset with one kind of source.
func (p *prober) sources() []agents {
	var groups [2]map[string][]AddrRange
	anyone := false
	groups[0], groups[1] = map[string][]AddrRange{}, map[string][]AddrRange{}
	for _, r := range p.both {
		anyone = anyone || r.defaultMonitored
		for _, rule := range r.doc.Rules {
			anyone = anyone || len(rule.Sources) == 0 && rule.Action == Permit
			for _, g := range rule.Sources {
				if g == GroupAny || g == GroupInternet {
					anyone = true
					continue
				}
				groups[0][g], groups[1][g] = p.both[0].addressesOf(g), p.both[1].addressesOf(g)
			}
		}
	}
	seen := map[string]bool{}
	var out []agents
	for _, a := range p.samples(groups) {
		before, after := groupsOf(groups[0], a), groupsOf(groups[1], a)
		var name string
		switch {
		case before == after && before == "":
			name = "other agents"
		case before == after:
			name = after
		case after == "":
			name = "agents no longer in " + before
		case before == "":
			name = "agents now in " + after
		default:
			name = "agents now in " + after + ", not " + before
		}
		if !p.both[0].governs(a) && !p.both[1].governs(a) || seen[name] || before+after == "" && !anyone {
			continue
		}
		seen[name] = true
		out = append(out, agents{name, a})
	}
	slices.SortFunc(out, func(a, b agents) int { return cmp.Compare(a.groups, b.groups) })
	return out
}

func groupsOf(groups map[string][]AddrRange, a netip.Addr) string {
	var names []string
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		if inRanges(groups[g], a) {
			names = append(names, g)
		}
	}
	return strings.Join(names, "+")
}

// samples returns an address on each side of every border between the ranges and
// the agents' prefixes.
func (p *prober) samples(groups [2]map[string][]AddrRange) []netip.Addr {
	points := []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, 1})}
	add := func(rs []AddrRange) {
		for _, x := range rs {
			points = append(points, x.From, x.To)
			if prev := x.From.Prev(); prev.Is4() {
				points = append(points, prev)
			}
			if next := x.To.Next(); next.Is4() {
				points = append(points, next)
			}
		}
	}
	for k, r := range p.both {
		add(ranges(r.env.Agents))
		for _, rs := range groups[k] {
			add(rs)
		}
	}
	slices.SortFunc(points, netip.Addr.Compare)
	return slices.Compact(points)
}

// probes lists what can be asked for: each name and request of a web group at a
// public address and in each group that its rules require, and each group by address.
func (p *prober) probes() []probe {
	var out []probe
	seen := map[string]bool{}
	add := func(x probe) {
		if key := x.what + "\x00" + x.after; x.flow.Dst.IsValid() && !seen[key] {
			seen[key] = true
			out = append(out, x)
		}
	}
	public := p.unknown("20.0.0.1", "52.0.0.1", "8.8.4.4", "93.184.216.34", "185.15.59.224", "151.101.1.1")
	private := p.unknown("192.168.251.7", "172.23.251.7", "10.251.251.7")
	add(probe{what: GroupInternet, flow: Flow{Dst: public}})
	add(probe{what: GroupAny, flow: Flow{Dst: private}})
	for _, r := range p.both {
		webs := map[string]*WebGroup{}
		for i := range r.doc.WebGroups {
			webs[r.doc.WebGroups[i].Name] = &r.doc.WebGroups[i]
		}
		for _, rule := range r.doc.Rules {
			at := map[string]netip.Addr{"": public}
			for _, g := range rule.Destinations {
				if rs := r.addressesOf(g); g != GroupAny && g != GroupInternet && len(rs) > 0 {
					at[" in "+g] = rs[0].From
					add(probe{what: g, flow: Flow{Dst: rs[0].From}})
				}
			}
			for _, name := range rule.WebGroups {
				for _, where := range slices.Sorted(maps.Keys(at)) {
					for _, x := range requests(webs[name]) {
						x.after += where
						x.flow.Dst = at[where]
						add(x)
					}
				}
			}
		}
	}
	return out
}

// unknown picks the first of some addresses that is in no group of either ruleset.
func (p *prober) unknown(candidates ...string) netip.Addr {
	for _, s := range candidates {
		a := netip.MustParseAddr(s)
		if !slices.ContainsFunc(p.both[:], func(r *Ruleset) bool {
			_, ok := r.dst.Lookup(a)
			return ok
		}) {
			return a
		}
	}
	return netip.Addr{}
}

// requests turns a web group into probes without a destination.
func requests(g *WebGroup) []probe {
	var out []probe
	for _, f := range g.FQDNs {
		out = append(out, probe{what: f, named: true, flow: Flow{Name: sample(f, ".")}})
	}
	for _, u := range g.URLs {
		methods, paths := u.Methods, u.Paths
		if len(methods) == 0 {
			methods = []string{"*"}
		}
		if len(paths) == 0 {
			paths = []string{"/**"}
		}
		for _, m := range methods {
			for _, path := range paths {
				x := probe{what: u.Host, after: " " + m + " " + path, named: true, flow: Flow{Name: sample(u.Host, "."), Method: m, Path: sample(path, "/")}}
				if m == "*" {
					x.flow.Method = "ANY0WHERE" // which no list of methods holds, so that any method is more than GET
				}
				out = append(out, x)
			}
		}
	}
	for i := range g.MCP {
		out = append(out, calls(&g.MCP[i])...)
	}
	return out
}

// calls turns an `mcp` entry into one probe for every tool that it names, denied ones
// too, since what is denied may have been allowed before.
func calls(m *MCP) []probe {
	tools := slices.Concat(m.AllowTools, m.DenyTools)
	if len(m.AllowTools) == 0 {
		tools = append(tools, "*")
	}
	var out []probe
	for _, path := range m.endpoints() {
		at := ""
		if path != defaultEndpoint {
			at = " at " + path
		}
		for _, tool := range tools {
			out = append(out, probe{what: m.Host, after: " " + methodCall + " " + tool + at, named: true, flow: Flow{Name: sample(m.Host, "."),
				Method: "POST", Path: sample(path, "/"), RPC: &RPC{Method: methodCall, Tool: sample(tool, "/")}}})
		}
	}
	return out
}

// sample makes a name or path out of a pattern, with a word in place of wildcards
// that nobody spells out.
func sample(pattern, separator string) string {
	parts := strings.Split(pattern, separator)
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(part, "**", "*"), "*", "any0where")
	}
	return strings.Join(parts, separator)
}

// ask lists what is permitted of the probes, stretches of ports with the same answer
// joined.
func (p *prober) ask(r *Ruleset, src netip.Addr, probes []probe) map[string]Access {
	out := map[string]Access{}
	for _, x := range probes {
		groups := map[Access][]PortRange{}
		would := map[Access]*Would{}
		denied := false
		for _, ports := range p.ports {
			names := ports.Proto == TCP && (p.both[0].isNamePort(TCP, ports.Lo) || p.both[1].isNamePort(TCP, ports.Lo))
			if x.named && !names {
				continue
			}
			d, judged := decideProbe(r, src, x, ports)
			if !judged {
				continue
			}
			if !d.Permitted() {
				denied = true
				continue
			}
			a := Access{Rule: d.Rule, Mode: d.Mode, Decrypt: d.Decrypt}
			if d.Index >= 0 {
				a.Conditions = strings.Join(r.rules[d.Index].conditions(), ", ")
			}
			plain := a
			if d.Would != nil {
				plain.Rule += "\x00" + d.Would.Rule + "\x00" + string(d.Would.Verdict)
			}
			would[plain] = d.Would
			groups[plain] = append(groups[plain], ports)
		}
		for a, ports := range groups {
			access := a
			access.Rule, _, _ = strings.Cut(a.Rule, "\x00")
			access.Would = would[a]
			if !x.named && len(groups) == 1 && !denied {
				out[x.what] = access // every port
				continue
			}
			for _, stretch := range joinPorts(ports, p.ports) {
				out[x.what+":"+portKey(stretch)+x.after] = access
			}
		}
	}
	for _, d := range r.doc.Resolve {
		for _, name := range d.Names {
			if q := r.Question(src, sample(name, ".")); q.Permitted() {
				out[name+":dns"] = Access{Rule: q.Rule, Mode: q.Mode, Decrypt: DecryptNotAllowed}
			}
		}
	}
	return out
}

// decideProbe carries a probe through the stages to its end. It reports false where
// no rule is asked.
func decideProbe(r *Ruleset, src netip.Addr, x probe, ports PortRange) (Decision, bool) {
	f := x.flow
	f.Src, f.Proto, f.Port, f.Stage = src, ports.Proto, ports.Lo, StageName
	if f.Proto == TCP {
		f.Wire = WireTLS
	}
	if f.Name != "" {
		f.Pin, f.PinnedNames = PinMatch, []string{f.Name}
	}
	d := r.Decide(&f)
	if d.Pending != "" {
		if f.Path == "" {
			f.Method, f.Path = "GET", "/any0where"
		}
		f.Stage = StageRequest
		d = r.Decide(&f)
	}
	return d, d.Rule != RuleInvariant
}
