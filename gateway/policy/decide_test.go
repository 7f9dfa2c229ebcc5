package policy

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
)

var (
	agent  = netip.MustParseAddr("10.20.1.20")
	github = netip.MustParseAddr("140.82.112.6")
	evil   = netip.MustParseAddr("45.33.32.156")
)

// exampleRuleset compiles the default ruleset with a little data behind its groups.
func exampleRuleset(t testing.TB, edit func(*Document)) *Ruleset {
	t.Helper()
	data, err := os.ReadFile("../../examples/ruleset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(doc)
	}
	r, err := Compile(doc, Environment{
		Agents: prefixes("10.20.1.0/24"), Gateway: []netip.Addr{netip.MustParseAddr("10.20.0.4")},
		Data: Data{
			ServiceTags: map[string][]netip.Prefix{"AzureContainerRegistry": prefixes("20.61.97.0/25")},
			Feeds:       map[string]FeedData{"ipsum": {Prefixes: prefixes("77.90.185.20/32"), Names: []string{"c2.example.net"}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDecide walks flows of the default ruleset through the stages at which they are
// asked about.
func TestDecide(t *testing.T) {
	r := exampleRuleset(t, nil)
	flow := func(stage Stage, dst string, edit func(*Flow)) *Flow {
		f := &Flow{Stage: stage, Src: agent, Dst: netip.MustParseAddr(dst), Proto: TCP, Port: 443}
		if edit != nil {
			edit(f)
		}
		return f
	}
	named := func(name string, pin PinState) func(*Flow) {
		return func(f *Flow) { f.Name, f.Pin, f.Wire = name, pin, WireTLS }
	}
	for _, tc := range []struct {
		what    string
		flow    *Flow
		verdict Action
		rule    string
		reason  Reason
		tier    Tier
		pending Fact
	}{
		{"unpinned address", flow(StagePacket, "45.33.32.156", nil), Deny, "default-deny-internet", ReasonNotPinned, TierKernel, ""},
		{"unpinned on a port without names", flow(StagePacket, "45.33.32.156", func(f *Flow) { f.Port = 8443 }), Deny, "default-deny-internet", ReasonRule, TierKernel, ""},
		{"pinned address", flow(StagePacket, "140.82.112.6", func(f *Flow) { f.Pin = PinMatch }), Permit, "allow-aca-fqdn", ReasonRule, TierSplice, PendingName},
		{"approved call", flow(StageName, "140.82.112.6", named("api.github.com", PinMatch)), Permit, "allow-tool-calls", ReasonRule, TierDecrypt, ""},
		{"platform name", flow(StageName, "20.190.128.1", named("login.microsoftonline.com", PinMatch)), Permit, "allow-aca-fqdn", ReasonRule, TierSplice, ""},
		{"forged name", flow(StageName, "45.33.32.156", named("api.github.com", PinNone)), Deny, "default-deny-internet", ReasonNotPinned, TierSplice, ""},
		{"another name's address", flow(StageName, "140.82.112.6", named("mcr.microsoft.com", PinOther)), Deny, "default-deny-internet", ReasonAddressMismatch, TierSplice, ""},
		{"no name", flow(StageName, "140.82.112.6", func(f *Flow) { f.Wire = WireTLS }), Deny, "default-deny-internet", ReasonNoName, TierSplice, ""},
		{"no name, all pins in the rule, under its tag", flow(StageName, "20.61.97.4", func(f *Flow) { f.Wire, f.PinnedNames = WireTLS, []string{"mcr.microsoft.com"} }),
			Permit, "allow-aca-svctag", ReasonRule, TierSplice, ""},
		{"no name, one pin not in the rule", flow(StageName, "20.61.97.4", func(f *Flow) {
			f.Wire, f.PinnedNames = WireTLS, []string{"mcr.microsoft.com", "api.github.com"}
		}), Deny, "default-deny-internet", ReasonNoName, TierSplice, ""},
		{"threat address", flow(StagePacket, "77.90.185.20", func(f *Flow) { f.Pin = PinMatch }), Deny, "deny-threat-intel", ReasonThreatAddress, TierKernel, ""},
		{"threat name", flow(StageName, "140.82.112.6", named("a.c2.example.net", PinNone)), Deny, "deny-threat-intel", ReasonThreatName, TierSplice, ""},
		{"url rule waits for the request", flow(StageName, "20.50.2.1", named("mcp.contoso.com", PinMatch)), Permit, "allow-tool-calls", ReasonRule, TierDecrypt, PendingRequest},
		{"url rule, right request", flow(StageRequest, "20.50.2.1", func(f *Flow) {
			named("mcp.contoso.com", PinMatch)(f)
			f.Method, f.Path = "POST", "/mcp"
		}), Permit, "allow-tool-calls", ReasonRule, TierDecrypt, ""},
		{"url rule, wrong request", flow(StageRequest, "20.50.2.1", func(f *Flow) {
			named("mcp.contoso.com", PinMatch)(f)
			f.Method, f.Path = "DELETE", "/mcp"
		}), Deny, "default-deny-internet", ReasonRule, TierSplice, ""},
		{"east-west", flow(StagePacket, "10.30.4.10", func(f *Flow) { f.Port = 5432 }), Deny, "deny-east-west", ReasonRule, TierKernel, ""},
		{"a private address of no group", flow(StagePacket, "10.99.0.1", nil), Deny, "default", ReasonDefault, TierKernel, ""},
		{"agent infra", flow(StagePacket, "100.64.3.4", func(f *Flow) { f.Port = 9000 }), Permit, "allow-agent-infra", ReasonRule, TierKernel, ""},
		{"metadata", flow(StagePacket, "169.254.169.254", func(f *Flow) { f.Port = 80 }), Deny, "invariant", ReasonInvariant, TierKernel, ""},
		{"wire server", flow(StagePacket, "168.63.129.16", func(f *Flow) { f.Port = 80 }), Deny, "invariant", ReasonInvariant, TierKernel, ""},
		{"QUIC", flow(StagePacket, "140.82.112.6", func(f *Flow) { f.Proto, f.Pin = UDP, PinMatch }), Deny, "invariant", ReasonQUIC, TierKernel, ""},
		{"not an agent", flow(StagePacket, "140.82.112.6", func(f *Flow) { f.Src = github }), Deny, "invariant", ReasonInvariant, TierKernel, ""},
		{"IPv6", flow(StagePacket, "2606:50c0:8000::153", nil), Deny, "invariant", ReasonInvariant, TierKernel, ""},
	} {
		t.Run(tc.what, func(t *testing.T) {
			d := r.Decide(tc.flow)
			got := fmt.Sprint(d.Verdict, d.Rule, d.Reason, d.Tier, d.Pending)
			if want := fmt.Sprint(tc.verdict, tc.rule, tc.reason, tc.tier, tc.pending); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestQuestion shows which names of the default ruleset resolve, for whom and why not.
func TestQuestion(t *testing.T) {
	r := exampleRuleset(t, nil)
	for _, tc := range []struct {
		name           string
		verdict        Action
		rule           string
		reason         Reason
		nodata, direct bool
	}{
		{"api.github.com", Permit, "allow-tool-calls", ReasonRule, false, false},
		{"mcp.contoso.com", Permit, "allow-tool-calls", ReasonRule, false, false},
		{"contoso.com", Deny, "default-deny-internet", ReasonRule, true, false},
		{"eus.login.microsoft.com", Permit, "allow-aca-fqdn", ReasonRule, false, false},
		{"gsm1eh.servicebus.windows.net", Permit, "allow-aca-fqdn", ReasonRule, false, false},
		{"attacker.servicebus.windows.net", Deny, "default-deny-internet", ReasonRule, false, false},
		{"secret.attacker.example", Deny, "default-deny-internet", ReasonRule, false, false},
		{"x.c2.example.net", Deny, "deny-threat-intel", ReasonThreatName, false, false},
		{"acct.openai.azure.com", Permit, RuleResolve, ReasonRule, false, true},
	} {
		q := r.Question(agent, tc.name)
		got := fmt.Sprint(q.Verdict, q.Rule, q.Reason, q.NoData, q.Direct)
		if want := fmt.Sprint(tc.verdict, tc.rule, tc.reason, tc.nodata, tc.direct); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.name, got, want)
		}
	}
}

// TestExact tells names that the ruleset spells out from those of the asker's choice.
func TestExact(t *testing.T) {
	r := exampleRuleset(t, nil)
	for name, want := range map[string]bool{
		"api.github.com": true, "mcp.contoso.com": true, "login.microsoft.com": true,
		"a.login.microsoft.com": false, "gsm1eh.servicebus.windows.net": false, "attacker.example": false,
	} {
		if q := r.Question(agent, name); q.Exact != want {
			t.Errorf("%s: exact %v", name, q.Exact)
		}
	}
}

// TestAnswer shows which addresses may be given for a name.
func TestAnswer(t *testing.T) {
	r := exampleRuleset(t, nil)
	for _, tc := range []struct {
		name, addr string
		chain      []string
		verdict    Action
		reason     Reason
	}{
		{"api.github.com", "140.82.112.6", nil, Permit, ReasonRule},
		{"api.github.com", "10.30.4.10", nil, Deny, ReasonRebind},
		{"api.github.com", "127.0.0.1", nil, Deny, ReasonRebind},
		{"api.github.com", "169.254.169.254", nil, Deny, ReasonRebind},
		{"api.github.com", "77.90.185.20", nil, Deny, ReasonThreatAddress},
		{"api.github.com", "140.82.112.6", []string{"a.c2.example.net"}, Deny, ReasonThreatName},
		{"acct.openai.azure.com", "10.20.2.7", []string{"acct.privatelink.openai.azure.com"}, Permit, ReasonRule},
		{"acct.openai.azure.com", "20.50.2.1", nil, Deny, ReasonRebind},
		{"acct.openai.azure.com", "10.30.4.10", nil, Deny, ReasonRebind},
	} {
		q := r.Question(agent, tc.name)
		d := r.Answer(&q, tc.chain, netip.MustParseAddr(tc.addr))
		if d.Verdict != tc.verdict || d.Reason != tc.reason {
			t.Errorf("%s %s: got %s %s by %s, want %s %s", tc.name, tc.addr, d.Verdict, d.Reason, d.Rule, tc.verdict, tc.reason)
		}
	}
}

// TestAliasesBelowThePermit: an alias is judged by the denies above the permit, as the flow would be.
func TestAliasesBelowThePermit(t *testing.T) {
	for priority, want := range map[int]Action{0: Deny, 1 << 20: Permit} {
		r := exampleRuleset(t, func(doc *Document) {
			doc.WebGroups = append(doc.WebGroups, WebGroup{Name: "cdn", FQDNs: []string{"*.cdn.example"}})
			doc.Rules = append(doc.Rules, Rule{Name: "deny-cdn", Priority: priority, WebGroups: []string{"cdn"}, Action: Deny})
		})
		q := r.Question(agent, "api.github.com")
		if d := r.Answer(&q, []string{"github.cdn.example"}, netip.MustParseAddr("140.82.112.6")); d.Verdict != want {
			t.Errorf("an alias that is denied at priority %d: %s by %s", priority, d.Verdict, d.Rule)
		}
	}
}

// TestBudgetIsForTCP: what cannot be metered is not permitted by a rule with a budget.
func TestBudgetIsForTCP(t *testing.T) {
	r := exampleRuleset(t, func(doc *Document) {
		doc.SmartGroups = append(doc.SmartGroups, SmartGroup{Name: "metered", CIDRs: prefixes("45.9.200.0/24")})
		doc.Rules = append(doc.Rules, Rule{Name: "metered", Priority: 0, Destinations: []string{"metered"}, Action: Permit,
			Budget: &Budget{BytesOut: 1 << 20, Window: "24h", Per: "source"}})
	})
	for proto, want := range map[Proto]Action{TCP: Permit, UDP: Deny, ICMP: Deny} {
		if d := r.Decide(&Flow{Stage: StagePacket, Src: agent, Dst: netip.MustParseAddr("45.9.200.1"), Proto: proto, Port: 5000}); d.Verdict != want {
			t.Errorf("%s: %s by %s", proto, d.Verdict, d.Rule)
		}
	}
}

// TestMonitor shows that watching changes no verdict, and what it writes down.
func TestMonitor(t *testing.T) {
	all := exampleRuleset(t, func(d *Document) { d.Mode = ModeMonitor })
	f := &Flow{Stage: StageName, Src: agent, Dst: github, Proto: TCP, Port: 443, Name: "api.github.com", Pin: PinMatch, Wire: WireTLS}
	if d := all.Decide(f); d.Verdict != Permit || d.Rule != RuleDefault || d.Would == nil || *d.Would != (Would{"allow-tool-calls", Permit}) {
		t.Errorf("approved call under mode monitor: %+v would %+v", d, d.Would)
	}
	f = &Flow{Stage: StagePacket, Src: agent, Dst: evil, Proto: TCP, Port: 8443}
	if d := all.Decide(f); d.Verdict != Permit || d.Tier != TierKernel || !d.Detected() || d.Would.Rule != "default-deny-internet" {
		t.Errorf("exfiltration under mode monitor: %+v would %+v", d, d.Would)
	}
	if q := all.Question(agent, "anything.example.org"); q.Verdict != Permit || q.Would == nil || q.Would.Verdict != Deny {
		t.Errorf("question under mode monitor: %+v would %+v", q, q.Would)
	}
	one := exampleRuleset(t, func(d *Document) {
		for i := range d.Rules {
			if d.Rules[i].Name == "allow-tool-calls" {
				d.Rules[i].Mode = ModeMonitor
			}
		}
	})
	if q := one.Question(agent, "api.github.com"); q.Verdict != Deny || q.Rule != "default-deny-internet" || q.Would == nil || q.Would.Verdict != Permit {
		t.Errorf("question for a monitored permit: %+v would %+v", q, q.Would)
	}
}

// TestFlatten checks that the kernel's classes are what Decide says, address by
// address at their edges.
func TestFlatten(t *testing.T) {
	for _, mode := range []Mode{ModeEnforce, ModeMonitor} {
		r := exampleRuleset(t, func(d *Document) { d.Mode = mode })
		table := r.Flatten()
		if len(table.Classes) == 0 {
			t.Fatal("nothing is permitted by address")
		}
		for _, c := range table.Classes {
			probe := func(rs []AddrRange, want bool, tier bool) {
				for _, x := range rs {
					for _, a := range []netip.Addr{x.From, x.To} {
						proto := c.Ports[0].Proto
						if proto == ProtoOther {
							proto = GRE
						}
						d := r.Decide(&Flow{Stage: StagePacket, Src: c.Sources[0].From, Dst: a, Proto: proto, Port: c.Ports[0].Lo})
						if !d.Permitted() || (d.Tier == TierKernel) != tier {
							t.Errorf("%s %s: %+v", a, c.Ports[0], d)
						}
					}
				}
			}
			probe(c.Forward, true, true)
			probe(c.Enforce, true, false)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	bench := func(name string, r *Ruleset, f Flow) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Decide(&f)
			}
		})
	}
	packet := Flow{Stage: StagePacket, Src: agent, Dst: evil, Proto: TCP, Port: 443}
	name := Flow{Stage: StageName, Src: agent, Dst: github, Proto: TCP, Port: 443, Name: "api.github.com", Pin: PinMatch, Wire: WireTLS}
	seven := exampleRuleset(b, nil)
	bench("packet/rules=7", seven, packet)
	bench("name/rules=7", seven, name)
	many := exampleRuleset(b, func(d *Document) {
		for i := range 993 {
			g := fmt.Sprintf("tools-%d", i)
			d.WebGroups = append(d.WebGroups, WebGroup{Name: g, FQDNs: []string{fmt.Sprintf("api.tool-%d.example.com", i)}})
			d.Rules = append(d.Rules, Rule{Name: g, Priority: -1000 + i, Sources: []string{"foundry-agents"}, WebGroups: []string{g}, Action: Permit})
		}
	})
	bench("packet/rules=1000", many, packet)
	bench("name/rules=1000", many, name)
	million := exampleRuleset(b, func(d *Document) {
		names := make([]string, 1_000_000)
		for i := range names {
			names[i] = fmt.Sprintf("n%d.example.com", i)
		}
		d.WebGroups[1].FQDNs = append(d.WebGroups[1].FQDNs, names...)
	})
	bench("packet/names=1000000", million, packet)
	bench("name/names=1000000", million, name)
}

// BenchmarkRequest compares one URL rule with a thousand, on hosts of their own, on one
// host, and under one directory.
func BenchmarkRequest(b *testing.B) {
	for name, entry := range map[string]func(i int) URL{
		"hosts": func(i int) URL { return URL{Host: fmt.Sprintf("api%d.contoso.com", i), Paths: []string{"/v1/**"}} },
		"paths": func(i int) URL { return URL{Host: "api0.contoso.com", Paths: []string{fmt.Sprintf("/v1/r%d", i)}} },
		"globs": func(i int) URL { return URL{Host: "api0.contoso.com", Paths: []string{fmt.Sprintf("/v1/r%d/**", i)}} },
	} {
		for _, n := range []int{1, 1000} {
			r := exampleRuleset(b, func(d *Document) {
				for i := range n {
					g := fmt.Sprintf("url-%d", i)
					d.WebGroups = append(d.WebGroups, WebGroup{Name: g, URLs: []URL{entry(i)}})
					d.Rules = append(d.Rules, Rule{Name: g, Priority: -2000 + i, Sources: []string{"foundry-agents"}, WebGroups: []string{g},
						Action: Permit, Decrypt: DecryptAllowed})
				}
			})
			last := entry(n - 1)
			f := Flow{Stage: StageRequest, Src: agent, Dst: github, Proto: TCP, Port: 443, Name: last.Host, Pin: PinMatch, Wire: WireTLS,
				Method: "GET", Path: sample(last.Paths[0], "/")}
			if d := r.Decide(&f); d.Rule != fmt.Sprintf("url-%d", n-1) {
				b.Fatalf("%+v", d)
			}
			b.Run(fmt.Sprintf("%s/rules=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r.Decide(&f)
				}
			})
		}
	}
}
