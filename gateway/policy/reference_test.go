package policy

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// reference is the ruleset's meaning once more, in the slowest and plainest way:
// loops over the document as it was written, no tables, no sets. It is written from
// the specification alone and exists to disagree with [Ruleset].
type reference struct {
	doc *Document
	env Environment
}

// answer is what one rule says of what is known: false, true, or not yet.
type answer int

const (
	never answer = iota
	perhaps
	always
)

// expected is what the reference makes of a flow.
type expected struct {
	verdict Action
	pending bool
	rule    string // who decided; meaningless while pending
	decrypt bool   // by the rules still possible at the name stage
}

func (ref *reference) rules() []*Rule {
	var out []*Rule
	for i := range ref.doc.Rules {
		out = append(out, &ref.doc.Rules[i])
	}
	slices.SortFunc(out, func(a, b *Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

func (ref *reference) monitored(r *Rule) bool {
	return ref.doc.Mode == ModeMonitor || r.Mode == ModeMonitor
}

func (ref *reference) defaultPermits() bool {
	return ref.doc.Mode == ModeMonitor || ref.doc.Default.Mode == ModeMonitor
}

// refused says what no rule can permit.
func (ref *reference) refused(f *Flow) bool {
	never := []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "224.0.0.0/4", "240.0.0.0/4"}
	for _, p := range never {
		if netip.MustParsePrefix(p).Contains(f.Dst) {
			return true
		}
	}
	governed := false
	for _, p := range ref.env.Agents {
		governed = governed || p.Contains(f.Src)
	}
	dns := (f.Proto == UDP || f.Proto == TCP) && (f.Port == 53 || f.Port == 853)
	quic := f.Proto == UDP && f.Port == 443
	return !governed || dns || quic || slices.Contains(ref.env.Gateway, f.Dst)
}

func (ref *reference) namesExist(proto Proto, port uint16) bool {
	if proto != TCP {
		return false
	}
	if port == 80 || port == 443 {
		return true
	}
	for _, r := range ref.doc.Rules {
		for _, p := range r.Ports {
			if len(r.WebGroups) > 0 && p.Contains(proto, port) && !(p.Lo == 0 && p.Hi == 65535) {
				return true
			}
		}
	}
	return false
}

// inGroup says whether an address is in a group, by address alone.
func (ref *reference) inGroup(name string, a netip.Addr) bool {
	switch name {
	case GroupAny:
		return true
	case GroupInternet:
		return IsInternet(a)
	}
	for _, g := range ref.doc.SmartGroups {
		if g.Name != name {
			continue
		}
		ps := slices.Clone(g.CIDRs)
		for _, tag := range g.ServiceTags {
			ps = append(ps, ref.env.Data.ServiceTags[tag]...)
		}
		for _, p := range ps {
			if p.Contains(a) {
				return true
			}
		}
	}
	for _, g := range ref.doc.ThreatGroups {
		for _, feed := range g.Feeds {
			for _, p := range ref.env.Data.Feeds[feed.Name].Prefixes {
				if g.Name == name && p.Contains(a) {
					return true
				}
			}
		}
	}
	return false
}

// badNames lists the names that the rule's threat groups hold.
func (ref *reference) badNames(r *Rule) []string {
	var out []string
	for _, g := range ref.doc.ThreatGroups {
		if slices.Contains(r.Destinations, g.Name) {
			for _, feed := range g.Feeds {
				out = append(out, ref.env.Data.Feeds[feed.Name].Names...)
			}
		}
	}
	return out
}

func isBad(name string, bad []string) bool {
	for _, b := range bad {
		if name == b || strings.HasSuffix(name, "."+b) {
			return true
		}
	}
	return false
}

func (ref *reference) destinations(r *Rule) []string {
	switch {
	case len(r.Destinations) > 0:
		return r.Destinations
	case r.Action == Permit:
		return []string{GroupInternet}
	}
	return []string{GroupAny}
}

func (ref *reference) fromSource(r *Rule, src netip.Addr) bool {
	return len(r.Sources) == 0 || slices.ContainsFunc(r.Sources, func(g string) bool { return ref.inGroup(g, src) })
}

func onPort(r *Rule, proto Proto, port uint16) bool {
	return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(p PortRange) bool { return p.Contains(proto, port) })
}

// byFQDN and byHost say whether a name is in the rule's web groups as a whole, or as
// the host of single requests.
func (ref *reference) byFQDN(r *Rule, name string) bool {
	for _, g := range ref.doc.WebGroups {
		for _, p := range g.FQDNs {
			if slices.Contains(r.WebGroups, g.Name) && MatchPattern(p, name) {
				return true
			}
		}
	}
	return false
}

func (ref *reference) byHost(r *Rule, name string) []URL {
	var out []URL
	for _, g := range ref.doc.WebGroups {
		for _, u := range g.URLs {
			if slices.Contains(r.WebGroups, g.Name) && MatchPattern(u.Host, name) {
				out = append(out, u)
			}
		}
	}
	return out
}

// match says what one rule makes of what is known of a flow; request reports that it
// waits for the request.
func (ref *reference) match(r *Rule, f *Flow) (out answer, request bool) {
	if !ref.fromSource(r, f.Src) || !onPort(r, f.Proto, f.Port) {
		return never, false
	}
	names := ref.namesExist(f.Proto, f.Port)
	out = never
	for _, g := range ref.destinations(r) {
		if ref.inGroup(g, f.Dst) {
			out = always
		}
	}
	if bad := ref.badNames(r); out == never && names && len(bad) > 0 {
		switch {
		case f.Stage == StagePacket:
			out = perhaps
		case isBad(f.Name, bad):
			out = always
		}
	}
	if out == never {
		return never, false
	}
	if len(r.Headers) > 0 || r.MaxRequestBytes > 0 { // it has to read requests
		switch {
		case !names:
			return never, false
		case f.Stage == StagePacket:
			out = perhaps
		case f.Wire == WireOther, f.Wire == WireTLS && (r.Decrypt != DecryptAllowed || f.Name == ""):
			return never, false
		}
	}
	secret := slices.ContainsFunc(r.Headers, func(h Header) bool { return h.Secret != "" })
	if r.EnsureTLS || r.MinTLS != "" || r.OriginCertificate == OriginVerify || secret {
		switch {
		case f.Proto != TCP:
			return never, false
		case f.Stage == StagePacket:
			out = perhaps
		case f.Wire != WireTLS:
			return never, false
		}
	}
	if len(r.WebGroups) == 0 {
		return out, false
	}
	named, request := ref.matchName(r, f, names)
	return min(out, named), request
}

func (ref *reference) matchName(r *Rule, f *Flow, names bool) (out answer, request bool) {
	holds := func(name string) bool {
		return ref.byFQDN(r, name) || len(ref.byHost(r, name)) > 0 || len(ref.servers(r, name)) > 0
	}
	switch {
	case !names:
		return never, false
	case f.Stage == StagePacket && r.Action == Deny:
		return perhaps, false
	case f.Stage == StagePacket:
		if slices.ContainsFunc(f.PinnedNames, holds) {
			return perhaps, false
		}
		return never, false
	case f.Name == "":
		if r.SNI != SNIOptional || f.Wire != WireTLS || len(f.PinnedNames) == 0 {
			return never, false
		}
		for _, n := range f.PinnedNames {
			if !ref.byFQDN(r, n) {
				return never, false
			}
		}
		return always, false
	case !holds(f.Name), r.Action == Permit && !slices.Contains(f.PinnedNames, f.Name):
		return never, false
	case ref.byFQDN(r, f.Name):
		return always, false
	case f.Stage == StageName && f.Wire == WireTLS && (ref.monitored(r) || r.Decrypt != DecryptAllowed):
		return never, false // unknown, and monitoring never decrypts to know it
	case f.Stage == StageName:
		return perhaps, true
	}
	for _, u := range ref.byHost(r, f.Name) {
		method := len(u.Methods) == 0 || slices.Contains(u.Methods, f.Method)
		path := len(u.Paths) == 0 || slices.ContainsFunc(u.Paths, func(p string) bool { return MatchPath(p, f.Path) })
		if method && path {
			return always, false
		}
	}
	out = never
	for _, m := range ref.servers(r, f.Name) {
		out = max(out, ref.message(r, &m, f))
	}
	return out, false
}

// servers lists the MCP entries of a rule that hold a name.
func (ref *reference) servers(r *Rule, name string) []MCP {
	var out []MCP
	for _, g := range ref.doc.WebGroups {
		for _, m := range g.MCP {
			if slices.Contains(r.WebGroups, g.Name) && MatchPattern(m.Host, name) {
				out = append(out, m)
			}
		}
	}
	return out
}

// message says whether an MCP entry of a rule holds a request to its host.
func (ref *reference) message(r *Rule, m *MCP, f *Flow) answer {
	doubt := never // matches every deny and no permit
	if r.Action == Deny {
		doubt = always
	}
	held := func(list []string) bool {
		return slices.ContainsFunc(list, func(p string) bool {
			parts := strings.Split(p, "*")
			for i, part := range parts {
				parts[i] = regexp.QuoteMeta(part)
			}
			return regexp.MustCompile("^(?s:" + strings.Join(parts, ".*") + ")$").MatchString(f.RPC.Tool)
		})
	}
	plain := regexp.MustCompile(`^[!-~]+$`)
	paths := m.Paths
	if len(paths) == 0 {
		paths = []string{"/mcp"}
	}
	switch {
	case !slices.ContainsFunc(paths, func(p string) bool { return MatchPath(p, f.Path) }):
		return never
	case slices.Contains([]string{"GET", "DELETE", "HEAD", "OPTIONS"}, f.Method):
		return always
	case f.Method != "POST":
		return never
	case f.RPC == nil:
		return perhaps
	case f.RPC.Malformed:
		return doubt
	case f.RPC.Method == "":
		return always
	case f.RPC.Method != "tools/call":
		if strings.ToLower(f.RPC.Method) == "tools/call" || !plain.MatchString(f.RPC.Method) {
			return doubt
		}
		return always
	case !plain.MatchString(f.RPC.Tool) && !slices.Contains(m.AllowTools, f.RPC.Tool):
		return doubt
	case held(m.DenyTools), len(m.AllowTools) > 0 && !held(m.AllowTools):
		return never
	}
	return always
}

// decide lists every outcome that is still possible and says what they have in
// common. With all, nothing is monitored.
func (ref *reference) decide(f *Flow, all bool) expected {
	if ref.refused(f) {
		return expected{verdict: Deny, rule: RuleInvariant}
	}
	type outcome struct {
		verdict Action
		rule    string
	}
	var possible []outcome
	var e expected
	decided, denier := false, RuleDefault
	for _, r := range ref.rules() {
		if ref.monitored(r) && !all {
			continue
		}
		got, request := ref.match(r, f)
		if got == never {
			continue
		}
		possible = append(possible, outcome{r.Action, r.Name})
		if r.Decrypt == DecryptAllowed && (request || got == always) && ref.namesExist(f.Proto, f.Port) {
			e.decrypt = true // a certificate needs a name to be made out to
		}
		if got == always {
			decided = true
			denier = r.Name
			break
		}
	}
	if !decided {
		verdict := Deny
		if ref.defaultPermits() && !all {
			verdict = Permit
		}
		possible = append(possible, outcome{verdict, RuleDefault})
	}
	permits := slices.ContainsFunc(possible, func(o outcome) bool { return o.verdict == Permit })
	switch {
	case !permits: // nothing that is still to come can permit it
		e.verdict, e.rule = Deny, denier
	case len(possible) == 1:
		e.verdict, e.rule = Permit, possible[0].rule
	default:
		e.verdict, e.pending = Permit, true
	}
	return e
}

// would is the verdict with everything in force, where that differs from what was
// decided, or "".
func (ref *reference) would(f *Flow) (Would, bool) {
	if ref.refused(f) {
		return Would{}, false
	}
	now, forced := ref.decide(f, false), ref.decide(f, true)
	if now.pending || forced.pending {
		return Would{}, false
	}
	if forced.rule == now.rule && (forced.rule != RuleDefault || !ref.defaultPermits()) {
		return Would{}, false
	}
	return Would{Rule: forced.rule, Verdict: forced.verdict}, true
}

// question judges a DNS question by what could follow from it: flows to any address
// of the universe, on any port, pinned to the name, as TLS and as plain HTTP. The name
// has to be resolved if a permit that names it is reached by one of them before a deny
// surely takes it (must), and may not be unless some permit is not wholly taken by one
// single deny above it (may). In between, several denies together refuse everything,
// which nobody is asked to find out. Where the name is refused, rule is the first deny
// that takes it at a public address of no group on every port.
func (ref *reference) question(src netip.Addr, name string, universe []netip.Addr, ports []uint16) (must, may bool, rule string) {
	if !slices.ContainsFunc(ref.env.Agents, func(p netip.Prefix) bool { return p.Contains(src) }) {
		return false, false, RuleInvariant
	}
	var flows []Flow
	for _, dst := range universe {
		for _, port := range ports {
			for _, wire := range []Wire{WireTLS, WireHTTP} {
				f := Flow{Stage: StageName, Src: src, Dst: dst, Proto: TCP, Port: port, Name: name, Pin: PinMatch, PinnedNames: []string{name}, Wire: wire}
				if !ref.refused(&f) {
					flows = append(flows, f)
				}
			}
		}
	}
	for _, p := range ref.rules() {
		if p.Action != Permit || ref.monitored(p) || len(p.WebGroups) == 0 {
			continue
		}
		open, takes := false, map[*Rule]int{}
		reached := 0
		for _, f := range flows {
			if got, _ := ref.match(p, &f); got == never {
				continue
			}
			reached++
			denied := false
			for _, d := range ref.rules() {
				if got, _ := ref.match(d, &f); d.Priority < p.Priority && d.Action == Deny && !ref.monitored(d) && got == always {
					takes[d]++
					denied = true
				}
			}
			open = open || !denied
		}
		whole := false
		for _, n := range takes {
			whole = whole || n == reached
		}
		must = must || open
		may = may || reached > 0 && !whole
	}
	public := Flow{Stage: StageName, Src: src, Dst: netip.MustParseAddr("9.9.9.9"), Proto: TCP, Port: 443, Name: name, Wire: WireTLS}
	for _, r := range ref.rules() {
		if r.Action != Deny || ref.monitored(r) || len(r.Ports) > 0 || r.EnsureTLS {
			continue
		}
		if got, _ := ref.match(r, &public); got == always {
			return must, may, r.Name
		}
	}
	if ref.defaultPermits() {
		return true, true, RuleDefault
	}
	return must, may, RuleDefault
}
