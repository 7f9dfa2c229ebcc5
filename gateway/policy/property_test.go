package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

// world draws rulesets and flows from a universe so small that they meet often.
type world struct{ *rand.Rand }

var (
	worldSources = []string{"10.20.1.4", "10.20.1.5", "10.20.1.200", "10.99.0.1"}
	worldAddrs   = []string{"20.1.1.1", "20.1.1.2", "20.1.2.1", "8.8.8.8", "10.30.0.1", "100.64.0.1", "10.20.0.4", "169.254.169.254"}
	worldNames   = []string{"x.y", "a.x.y", "b.a.x.y", "ab.x.y", "c.z", "bad.z", "c.bad.z"}
	worldGlobs   = []string{"x.y", "*.x.y", "a*.x.y", "a.x.y", "c.z", "*.z", "*.bad.z"}
	worldPorts   = []string{"tcp/443", "tcp/80", "tcp/8443", "tcp/22", "tcp", "tcp/400-500", "udp/9", "udp/1-1024", "icmp"}
	worldPaths   = []string{"/", "/a", "/a/b", "/c/d/e", "/mcp"}
	worldTools   = []string{"search", "search_code", "delete", "s\u0435arch", "", "del ete"} // the fourth holds a Cyrillic е
	worldMethods = []string{"tools/call", "tools/call", "tools/call", "tools/list", "Tools/Call", "", "to\u03bfls/call"}
)

func pick[T any](w world, from []T) T { return from[w.IntN(len(from))] }

// some draws up to n different members.
func some(w world, n int, from []string) []string {
	var out []string
	for range w.IntN(n + 1) {
		if s := pick(w, from); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func (w world) chance(percent int) bool { return w.IntN(100) < percent }

func (w world) document() *Document {
	doc := &Document{Version: 1, Mode: ModeEnforce, Default: Default{Action: Deny, Mode: ModeEnforce}}
	if w.chance(10) {
		doc.Mode = ModeMonitor
	}
	if w.chance(20) {
		doc.Default.Mode = ModeMonitor
	}
	doc.SmartGroups = []SmartGroup{
		{Name: "agent", CIDRs: prefixes("10.20.1.4/32")},
		{Name: "agents", CIDRs: prefixes("10.20.1.0/25")},
		{Name: "net", CIDRs: prefixes("20.1.1.0/24", "10.30.0.0/16")},
		{Name: "host", CIDRs: prefixes("20.1.1.1/32")},
		{Name: "infra", CIDRs: prefixes("100.64.0.0/11")},
		{Name: "tag", ServiceTags: []string{"Tag"}},
		{Name: "untagged", ServiceTags: []string{"Missing"}},
	}
	doc.ThreatGroups = []ThreatGroup{{Name: "threat", Feeds: []Feed{{Name: "feed", Format: "netset", URL: "file:feed"}}}}
	groups := []string{"net", "host", "infra", "tag", "untagged", "threat", GroupAny, GroupInternet}
	for i := range 3 {
		g := WebGroup{Name: fmt.Sprintf("web%d", i), FQDNs: some(w, 2, worldGlobs)}
		if w.chance(40) {
			u := URL{Host: pick(w, worldGlobs), Paths: some(w, 2, []string{"/a", "/a/*", "/c/**"})}
			if w.chance(50) {
				u.Methods = []string{"POST"}
			}
			g.URLs = []URL{u}
		}
		for range w.IntN(3) {
			m := MCP{Host: pick(w, worldGlobs), Paths: some(w, 2, []string{"/a", "/**", "/mcp"}),
				AllowTools: some(w, 2, []string{"search*", "search", "*", "s\u0435arch"}), DenyTools: some(w, 1, []string{"*_code", "delete"})}
			m.Paths = m.endpoints() // as Decode writes it
			g.MCP = append(g.MCP, m)
		}
		doc.WebGroups = append(doc.WebGroups, g)
	}
	for i := range 1 + w.IntN(6) {
		r := Rule{Name: fmt.Sprintf("r%d", i), Priority: 100 - 10*i, Action: Permit, Decrypt: DecryptNotAllowed, Mode: ModeEnforce, SNI: SNIRequired,
			Sources: some(w, 2, []string{"agent", "agents", "tag", GroupAny}), Destinations: some(w, 2, groups)}
		if w.chance(50) {
			r.WebGroups = some(w, 2, []string{"web0", "web1", "web2"})
		}
		if w.chance(60) {
			for _, p := range some(w, 2, worldPorts) {
				pr, _ := ParsePortRange(p)
				r.Ports = append(r.Ports, pr)
			}
		}
		if w.chance(40) {
			r.Action = Deny
		}
		if w.chance(40) {
			r.Decrypt = DecryptAllowed
		}
		if w.chance(20) {
			r.Mode = ModeMonitor
		}
		if w.chance(30) {
			r.SNI = SNIOptional
		}
		r.EnsureTLS = w.chance(15)
		if r.Action == Permit {
			w.obligations(&r)
		}
		doc.Rules = append(doc.Rules, r)
	}
	return doc
}

// obligations draws what a permit asks of what it permits.
func (w world) obligations(r *Rule) {
	if w.chance(10) {
		r.Headers = []Header{{Name: "X-Tenant", Set: "contoso"}}
	}
	if w.chance(5) {
		r.Headers = []Header{{Name: "Authorization", Secret: "file:///secret"}}
	}
	if w.chance(10) {
		r.MaxRequestBytes = 1000
	}
	if w.chance(5) {
		r.MinTLS = TLS13
	}
	if w.chance(5) {
		r.OriginCertificate = OriginVerify
	}
}

func (w world) environment() Environment {
	return Environment{
		Agents: prefixes("10.20.1.0/24"), Gateway: []netip.Addr{netip.MustParseAddr("10.20.0.4")},
		Data: Data{
			ServiceTags: map[string][]netip.Prefix{"Tag": prefixes("20.1.2.0/24", "8.8.8.0/24", "10.20.1.5/32")},
			Feeds:       map[string]FeedData{"feed": {Prefixes: prefixes("20.1.1.2/32"), Names: []string{"bad.z"}}},
		},
	}
}

// flow draws a first packet; name and request complete it.
func (w world) flow() Flow {
	f := Flow{Stage: StagePacket, Src: netip.MustParseAddr(pick(w, worldSources)), Dst: netip.MustParseAddr(pick(w, worldAddrs)), Proto: TCP,
		PinnedNames: some(w, 2, worldNames)}
	switch w.IntN(10) {
	case 0:
		f.Proto = ICMP
	case 1:
		f.Proto, f.Port = UDP, pick(w, []uint16{9, 53, 443})
	case 2:
		f.Proto = GRE
	default:
		f.Port = pick(w, []uint16{443, 443, 443, 80, 8443, 22, 450})
	}
	if len(f.PinnedNames) > 0 {
		f.Pin = PinMatch
	}
	return f
}

func (w world) withName(f Flow) Flow {
	f.Stage, f.Wire = StageName, pick(w, []Wire{WireTLS, WireTLS, WireHTTP, WireOther})
	if f.Wire != WireOther && w.chance(80) {
		f.Name = pick(w, worldNames)
		if len(f.PinnedNames) > 0 && w.chance(60) {
			f.Name = pick(w, f.PinnedNames)
		}
	}
	switch {
	case f.Name == "" || len(f.PinnedNames) == 0:
		f.Pin = PinNone
	case slices.Contains(f.PinnedNames, f.Name):
		f.Pin = PinMatch
	default:
		f.Pin = PinOther
	}
	return f
}

func (w world) withRequest(f Flow) Flow {
	f.Stage, f.Method, f.Path = StageRequest, pick(w, []string{"GET", "POST", "PUT"}), pick(w, worldPaths)
	return f
}

func (w world) withMessage(f Flow) Flow {
	f.RPC = &RPC{Method: pick(w, worldMethods), Tool: pick(w, worldTools), Malformed: w.chance(10)}
	return f
}

func show(t *testing.T, doc *Document, f *Flow) string {
	t.Helper()
	text, err := Encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	out, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s\nflow: %+v", out, *f)
}

// TestDecideAgreesWithReference draws rulesets and flows and wants the same answer
// from the evaluator and from the reference at every stage.
func TestDecideAgreesWithReference(t *testing.T) {
	const rulesets, flows = 4000, 12
	w := world{rand.New(rand.NewPCG(20240611, 1))}
	for range rulesets {
		doc, env := w.document(), w.environment()
		compiled, err := Compile(doc, env)
		if err != nil {
			t.Fatal(err)
		}
		ref := &reference{doc, env}
		for range flows {
			packet := w.flow()
			named := w.withName(packet)
			asked := w.withRequest(named)
			for _, f := range []Flow{packet, named, asked, w.withMessage(asked)} {
				if f.Stage == StageRequest && f.Wire == WireOther {
					continue
				}
				if why := disagreement(compiled, ref, &f); why != "" {
					small, flow := shrink(doc, env, f)
					t.Fatalf("%s\n%s", disagreementIn(small, env, &flow), show(t, small, &flow))
				}
			}
		}
	}
}

// disagreement says where the evaluator and the reference differ, or "".
func disagreement(r *Ruleset, ref *reference, f *Flow) string {
	got, want := r.Decide(f), ref.decide(f, false)
	switch {
	case got.Verdict != want.verdict:
		return fmt.Sprintf("%s: verdict %s by %s, reference %s by %s", f.Stage, got.Verdict, got.Rule, want.verdict, want.rule)
	case !want.pending && got.Rule != want.rule:
		return fmt.Sprintf("%s: rule %s, reference %s", f.Stage, got.Rule, want.rule)
	case want.pending && got.Pending == "":
		return fmt.Sprintf("%s: decided by %s, reference still waits", f.Stage, got.Rule)
	case !want.pending && got.Pending != "" && !ref.decide(f, true).pending:
		return fmt.Sprintf("%s: waits for %s, reference decided by %s", f.Stage, got.Pending, want.rule)
	}
	if f.Stage == StageName && f.Wire == WireTLS && want.verdict == Permit && (got.Tier == TierDecrypt) != want.decrypt {
		return fmt.Sprintf("%s: tier %s, reference decrypts: %v", f.Stage, got.Tier, want.decrypt)
	}
	if would, some := ref.would(f); got.Pending == "" && !want.pending && (got.Would != nil) != some {
		return fmt.Sprintf("%s: would %v, reference %v %v", f.Stage, got.Would, some, would)
	} else if some && got.Would != nil && *got.Would != would {
		return fmt.Sprintf("%s: would %v, reference %v", f.Stage, *got.Would, would)
	}
	return ""
}

func disagreementIn(doc *Document, env Environment, f *Flow) string {
	r, err := Compile(doc, env)
	if err != nil {
		return ""
	}
	return disagreement(r, &reference{doc, env}, f)
}

// shrink removes from a document and a flow what the disagreement does not need.
func shrink(doc *Document, env Environment, f Flow) (*Document, Flow) {
	for again := true; again; {
		again = false
		for _, try := range smaller(doc, f) {
			if disagreementIn(try.doc, env, &try.flow) != "" {
				doc, f, again = try.doc, try.flow, true
				break
			}
		}
	}
	return doc, f
}

type attempt struct {
	doc  *Document
	flow Flow
}

func smaller(doc *Document, f Flow) []attempt {
	var out []attempt
	edit := func(change func(*Document)) {
		c := *doc
		c.Rules = slices.Clone(doc.Rules)
		c.WebGroups = slices.Clone(doc.WebGroups)
		change(&c)
		out = append(out, attempt{&c, f})
	}
	for i := range doc.Rules {
		edit(func(c *Document) { c.Rules = slices.Delete(c.Rules, i, i+1) })
		r := doc.Rules[i]
		if len(r.Sources) > 0 {
			edit(func(c *Document) { c.Rules[i].Sources = nil })
		}
		if len(r.Ports) > 0 {
			edit(func(c *Document) { c.Rules[i].Ports = nil })
		}
		for k := range r.Destinations {
			edit(func(c *Document) { c.Rules[i].Destinations = slices.Delete(slices.Clone(r.Destinations), k, k+1) })
		}
		for k := range r.WebGroups {
			edit(func(c *Document) { c.Rules[i].WebGroups = slices.Delete(slices.Clone(r.WebGroups), k, k+1) })
		}
		if r.EnsureTLS {
			edit(func(c *Document) { c.Rules[i].EnsureTLS = false })
		}
		if r.SNI == SNIOptional {
			edit(func(c *Document) { c.Rules[i].SNI = SNIRequired })
		}
		if r.Mode == ModeMonitor {
			edit(func(c *Document) { c.Rules[i].Mode = ModeEnforce })
		}
		if r.Decrypt == DecryptAllowed {
			edit(func(c *Document) { c.Rules[i].Decrypt = DecryptNotAllowed })
		}
	}
	for i, g := range doc.WebGroups {
		for k := range g.FQDNs {
			edit(func(c *Document) { c.WebGroups[i].FQDNs = slices.Delete(slices.Clone(g.FQDNs), k, k+1) })
		}
		if len(g.URLs) > 0 {
			edit(func(c *Document) { c.WebGroups[i].URLs = nil })
		}
		if len(g.MCP) > 0 {
			edit(func(c *Document) { c.WebGroups[i].MCP = g.MCP[1:] })
		}
	}
	if doc.Mode == ModeMonitor {
		edit(func(c *Document) { c.Mode = ModeEnforce })
	}
	if doc.Default.Mode == ModeMonitor {
		edit(func(c *Document) { c.Default.Mode = ModeEnforce })
	}
	return out
}

// TestQuestionAgreesWithReference draws rulesets and names. What could be permitted
// has to be resolved; what one deny refuses altogether must not be.
func TestQuestionAgreesWithReference(t *testing.T) {
	w := world{rand.New(rand.NewPCG(20240611, 2))}
	var universe []netip.Addr
	for _, a := range append(worldAddrs, "9.9.9.9", "20.1.2.9", "100.65.0.1", "10.30.9.9", "10.20.1.5") {
		universe = append(universe, netip.MustParseAddr(a))
	}
	for range 3000 {
		doc, env := w.document(), w.environment()
		passable(doc)
		r, err := Compile(doc, env)
		if err != nil {
			t.Fatal(err)
		}
		ref := &reference{doc, env}
		for range 4 {
			src, name := netip.MustParseAddr(pick(w, worldSources)), pick(w, worldNames)
			got := r.Question(src, name)
			must, may, rule := ref.question(src, name, universe, []uint16{443, 80, 8443, 22, 450})
			if must && !got.Permitted() || !may && got.Permitted() || !got.Permitted() && got.Rule != rule {
				t.Fatalf("question %s from %s: %s by %s, reference must %v, may %v, or %s\n%s", name, src, got.Verdict, got.Rule, must, may, rule, show(t, doc, &Flow{}))
			}
		}
	}
}

// passable mends what Check refuses outright: rules that tell requests apart decrypt,
// and none permits what a threat feed holds.
func passable(doc *Document) {
	for i := range doc.Rules {
		r := &doc.Rules[i]
		if len(r.WebGroups) > 0 {
			r.Decrypt = DecryptAllowed
		}
		if r.Action == Permit {
			r.Destinations = slices.DeleteFunc(r.Destinations, func(g string) bool { return g == "threat" })
		}
	}
}
