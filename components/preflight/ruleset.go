package preflight

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// tagsAge is how old data of service tags may be: Microsoft uses no new address within a
// week of publishing it.
const tagsAge = 7 * 24 * time.Hour

const (
	srcCheck       = "docs/reference/checks.md"
	srcServiceTags = "Azure Virtual Network documentation, service-tags-overview"
	srcFirewall    = "Azure Container Apps documentation, use-azure-firewall"
)

var rulesetGuards = []Guard{{
	ID: "RUL-01", Severity: Fail, When: Continuous, Static: true, Needs: []Part{PartRuleset},
	Condition: "every name that the platform needs is permitted, before any deny that would hold it (POL-09, POL-10)",
	Why:       "Agents do not start or cannot sign in without any one of them, and some fail only when the first request comes.",
	Source:    srcFirewall + "; Azure/bicep-ptn-aiml-landing-zone, #39, #40, #134 (seen in deployments); " + srcCheck,
	Fix:       "keep the default ruleset's allow-aca-fqdn above every deny",
	check:     func(v *view) { v.diagnosed("POL-09", "POL-10") },
}, {
	ID: "RUL-02", Severity: Fail, When: Continuous, Static: true, Needs: []Part{PartRuleset},
	Condition: "no name of the platform is decrypted (POL-02)",
	Why:       "The platform's clients take no certificate but Microsoft's; its documentation asks that no inspection happens there.",
	Source:    srcVirtualNetworks + "; " + srcCheck,
	Fix:       "permit them in a rule with DECRYPT_NOT_ALLOWED",
	check:     func(v *view) { v.diagnosed("POL-02") },
}, {
	ID: "RUL-03", Severity: Fail, When: Before, Static: true, Needs: []Part{PartVNets, PartRuleset},
	Condition: "where agents are in 10.0.0.0/8, the platform's own addresses in 100.64.0.0/10 are permitted",
	Why:       "Microsoft asks for \"necessary traffic to Agent Infra services\" at 100.x addresses for class A subnets.",
	Source:    srcVirtualNetworks + " (February 2026)",
	Fix:       "keep the default ruleset's agent-infra group and allow-agent-infra above deny-east-west",
	check:     func(v *view) { v.infrastructure(true) },
}, {
	ID: "RUL-04", Severity: Fail, When: Continuous, Static: true, Needs: []Part{PartRuleset},
	Condition: "the default denies in force, denials are logged, and no rule permits everything (POL-04, POL-07)",
	Why:       "One permit of everything above the default makes every other rule a comment.",
	Source:    "alexandreweiss/aviatrix-blueprints, rule no-zero-trust, as a counterexample; " + srcCheck,
	Fix:       "name what is meant; to watch before enforcing, skip this guard with the reason and a date",
	check:     defaultDenies,
}, {
	ID: "RUL-05", Severity: Fail, When: Continuous, Static: true, Needs: []Part{PartRuleset},
	Condition: "every permit by service tag names hosts too, each tag is known, and the tags' addresses are at most seven days old (POL-05, POL-25)",
	Why:       "A tag holds every tenant's resources; and Microsoft uses new addresses of a tag a week after publishing them.",
	Source:    srcServiceTags + "; " + srcCheck,
	Fix:       "add web groups to the rule, correct the tag's name, or fetch the tags again",
	check:     serviceTags,
}, {
	ID: "RUL-06", Severity: Fail, When: Before, Static: true, Needs: []Part{PartRuleset},
	Condition: "no permit holds a wildcard under which anybody can get a name, without an override in writing (POL-06)",
	Why:       "Under *.blob.core.windows.net and its like an attacker's account has a name as good as yours.",
	Source:    "Azure Virtual Network documentation, virtual-network-service-endpoint-policies-overview; " + srcCheck,
	Fix:       "name the hosts that are yours",
	check:     func(v *view) { v.diagnosed("POL-06") },
}, {
	ID: "RUL-07", Severity: Warn, When: Before, Static: true, Needs: []Part{PartRuleset},
	Condition: "`policy check` has no warnings: no shadowed rule, unused group, misspelling",
	Why:       "A rule that never decides is read as if it did.",
	Source:    srcCheck,
	Fix:       "as the diagnostic says",
	check:     func(v *view) { v.diagnosedAs(policy.SeverityWarning, "POL-25") },
}, {
	ID: "RUL-08", Severity: Fail, When: Continuous, Static: true, Needs: []Part{PartRuleset},
	Condition: "the ruleset can be read, and `policy check` finds no other error in it where it will apply",
	Why:       "The gateway refuses a ruleset with an error, and keeps the last one.",
	Source:    srcCheck,
	Fix:       "as the diagnostic says",
	check: func(v *view) {
		v.diagnosedAs(policy.SeverityError, "POL-02", "POL-04", "POL-05", "POL-06", "POL-07", "POL-09", "POL-10")
	},
}, {
	ID: "RUL-09", Severity: Fail, When: Before, Static: true, Needs: []Part{PartRuleset, PartGatewayReports},
	Condition: "the gateway's version supports everything that the ruleset uses",
	Why:       "A gateway refuses a document with a key that it does not know, and keeps the last ruleset.",
	Source:    "CHANGELOG.md",
	Fix:       "deploy a newer bundle first, then the ruleset",
	check:     supported,
}, {
	ID: "RUL-10", Severity: Fail, When: Before, Static: true, Needs: []Part{PartVNets, PartRuleset},
	Condition: "the ruleset governs the whole agent subnet: its first and its last address may reach what the platform needs",
	Why:       "An agent whose address is in no source group is denied everything, and the platform's names with it.",
	Source:    srcFirewall,
	Fix:       "put the agent subnet's prefix into the source group",
	check:     governed,
}, {
	ID: "RUL-11", Severity: Warn, When: Before, Needs: []Part{PartRuleset},
	Condition: "the planned ruleset permits nothing that the published one does not",
	Why:       "What agents gain has to be seen by whoever approves it; `bulkhead policy diff` shows all of it.",
	Source:    "docs/reference/ruleset.md",
	Fix:       "approve the new digest, or take the permit back",
	check:     widened,
}, {
	ID: "RUL-12", Severity: Warn, When: Before, Static: true, Needs: []Part{PartVNets, PartRuleset},
	Condition: "where agents are outside of 10.0.0.0/8, the platform's own 10.x addresses that were seen are permitted one by one",
	Why:       "Microsoft asks for \"necessary traffic to Agent Infra services\" at 10.x addresses for such subnets, and does not say which; the audit of a monitored ruleset does.",
	Source:    srcVirtualNetworks + " (February 2026)",
	Fix:       "run with mode monitor first, and add the addresses that agents try to an agent-infra group",
	check:     func(v *view) { v.infrastructure(false) },
}, {
	ID: "RUL-13", Severity: Fail, When: Before, Static: true, Needs: []Part{PartVNets, PartRuleset},
	Condition: "the canary may reach the registry that its image is in",
	Why:       "Container Apps pulls an image by the subnet's routes, so through the gateway: an image that is denied is a canary that never runs.",
	Source:    srcFirewall,
	Fix:       "permit the registry to the canary's prefix on tcp/443, with DECRYPT_NOT_ALLOWED, and the host that it sends to for layers: REGISTRY.REGION.data.azurecr.io of a Premium registry with dedicated data endpoints",
	check:     pulled,
}}

// documents are the planned ruleset, decoded and compiled for the spoke; nil where it
// cannot be.
func (v *view) documents() (*policy.Document, *policy.Ruleset) { return v.rules.doc, v.rules.compiled }

// rules is the planned ruleset and what is said of it.
type rules struct {
	doc         *policy.Document
	compiled    *policy.Ruleset
	diagnostics []policy.Diagnostic
}

func (v *view) readRules() {
	if v.inv.Ruleset == nil {
		return
	}
	doc, err := policy.Decode([]byte(v.inv.Ruleset.Document))
	var bad *policy.DecodeError
	if errors.As(err, &bad) {
		v.rules.diagnostics = bad.Diagnostics
		return
	} else if err != nil {
		v.rules.diagnostics = []policy.Diagnostic{{ID: "POL-00", Severity: policy.SeverityError, Message: err.Error()}}
		return
	}
	env := v.environment()
	v.rules.doc, v.rules.diagnostics = doc, policy.Check(doc, env)
	if compiled, err := policy.Compile(doc, env); err == nil {
		v.rules.compiled = compiled
	}
}

// environment says where the ruleset applies.
func (v *view) environment() policy.Environment {
	env := policy.Environment{PinScope: policy.PinScope(v.plan.PinScope), Data: policy.Data{ServiceTags: v.inv.Ruleset.ServiceTags}}
	for _, p := range with(v.agentPrefixes(), planned("canary subnet", v.plan.CanaryPrefix)...) {
		if p.prefix.Addr().Is4() {
			env.Agents = append(env.Agents, p.prefix)
		}
	}
	if a := v.gatewayAddress(); a.IsValid() {
		env.Gateway = []netip.Addr{a}
	}
	return env
}

// ruled says whether there is a ruleset that can be asked, and otherwise why not.
func (v *view) ruled() bool {
	switch {
	case v.inv.Ruleset == nil:
		v.notApplicable("no ruleset was given")
	case v.rules.compiled == nil:
		v.missing("the ruleset cannot be read (RUL-08)")
	}
	return v.rules.compiled != nil
}

// diagnosed reports the diagnostics with these ids.
func (v *view) diagnosed(ids ...string) {
	if v.ruled() {
		v.diagnose(func(d policy.Diagnostic) bool { return slices.Contains(ids, d.ID) })
	}
}

// diagnosedAs reports those of a severity that are no other guard's.
func (v *view) diagnosedAs(s policy.Severity, others ...string) {
	if v.inv.Ruleset == nil {
		v.notApplicable("no ruleset was given")
		return
	}
	v.diagnose(func(d policy.Diagnostic) bool { return d.Severity == s && !slices.Contains(others, d.ID) })
}

func (v *view) diagnose(mine func(policy.Diagnostic) bool) {
	for _, d := range v.rules.diagnostics {
		if !mine(d) {
			continue
		}
		f := Finding{Resource: strings.TrimSpace("ruleset " + d.Path), Found: fmt.Sprintf("%s (%s)", d.Message, d.ID), Wanted: v.guard.Condition, Fix: d.Fix}
		if f.Fix == "" {
			f.Fix = v.guard.Fix
		}
		v.findings = append(v.findings, f)
	}
}

// infrastructure asks the evaluator whether any address of the platform's own range that the
// ruleset names is permitted to the agents, in class A subnets or in others.
func (v *view) infrastructure(inClassA bool) {
	if !v.ruled() {
		return
	}
	doc, compiled := v.documents()
	applies := false
	for _, p := range v.agents() {
		if !p.prefix.Addr().Is4() || classA.Overlaps(p.prefix) != inClassA {
			continue
		}
		applies = true
		space := sharedSpace
		if !inClassA {
			space = classA
		}
		src := nth(p.prefix, 4)
		permitted := false
		for _, g := range doc.SmartGroups {
			for _, c := range g.CIDRs {
				if contains(space, c) {
					flow := policy.Flow{Stage: policy.StagePacket, Src: src, Dst: c.Addr(), Proto: policy.TCP, Port: 443}
					d := compiled.Decide(&flow)
					if d.Permitted() && d.Pending == policy.PendingName { // a rule above looks at names, and the platform's claim none
						flow.Stage, flow.Wire = policy.StageName, policy.WireTLS
						d = compiled.Decide(&flow)
					}
					permitted = permitted || d.Permitted() && d.Pending == ""
				}
			}
		}
		if !permitted {
			v.found("ruleset", fmt.Sprintf("no address in %s that agents in %s may reach", space, p.prefix), "a PERMIT by address of the platform's own")
		}
	}
	if !applies {
		v.notApplicable("the agent subnet is of the other kind")
	}
}

func defaultDenies(v *view) {
	if !v.ruled() {
		return
	}
	v.diagnosed("POL-04", "POL-07")
	doc, _ := v.documents()
	if doc.Mode == policy.ModeMonitor || doc.Default.Mode == policy.ModeMonitor {
		v.found("ruleset default", "a monitored default, which permits", "mode: enforce")
	}
	for _, r := range doc.Rules {
		if r.Action == policy.Deny && !r.Logged() {
			v.found("ruleset "+r.Name, "denials that are not logged", "log: true")
		}
	}
}

func serviceTags(v *view) {
	if !v.ruled() {
		return
	}
	v.diagnosed("POL-05", "POL-25")
	doc, _ := v.documents()
	uses := slices.ContainsFunc(doc.SmartGroups, func(g policy.SmartGroup) bool { return len(g.ServiceTags) > 0 })
	switch set := v.inv.Ruleset; {
	case !uses || v.static:
	case set.ServiceTags == nil:
		v.missing("service tags: not in the inventory")
	case v.inv.Taken.Sub(set.ServiceTagsTaken) > tagsAge:
		v.found("service tags", "data of "+set.ServiceTagsTaken.UTC().Format(time.RFC3339), "data of the seven days before "+v.inv.Taken.UTC().Format(time.RFC3339))
	}
}

// features are what a document may use, with the first version of the gateway that knows it.
var features = []struct {
	name, since string
	used        func(*policy.Document) bool
}{
	{"document version 1", "0.1.0", func(d *policy.Document) bool { return d.Version == 1 }},
	{"tools of MCP servers", "0.1.0", func(d *policy.Document) bool {
		return slices.ContainsFunc(d.WebGroups, func(g policy.WebGroup) bool { return len(g.MCP) > 0 })
	}},
	{"headers, body limits and versions of TLS", "0.1.0", func(d *policy.Document) bool {
		return slices.ContainsFunc(d.Rules, func(r policy.Rule) bool { return len(r.Headers) > 0 || r.MaxRequestBytes > 0 || r.MinTLS != "" })
	}},
	{"origin authorities", "0.1.0", func(d *policy.Document) bool { return len(d.OriginCAs) > 0 }},
	{"budgets", "0.1.0", func(d *policy.Document) bool {
		return slices.ContainsFunc(d.Rules, func(r policy.Rule) bool { return r.Budget != nil })
	}},
}

func supported(v *view) {
	if !v.ruled() {
		return
	}
	doc, _ := v.documents()
	judge := func(resource, version string) {
		// A build on the way to a version (0.2.0-dev) has what that version will have.
		base, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
		if !semver.IsValid("v" + base) {
			v.found(resource, fmt.Sprintf("version %q", version), "a version such as 0.1.0")
			return
		}
		for _, f := range features {
			if f.used(doc) && semver.Compare("v"+base, "v"+f.since) < 0 {
				v.found(resource, "version "+version, fmt.Sprintf("%s or newer, for %s", f.since, f.name))
			}
		}
	}
	if v.plan.GatewayVersion != "" { // it will run before the ruleset is published
		judge("planned gateway", v.plan.GatewayVersion)
		return
	}
	for _, r := range v.inv.GatewayReports {
		judge(r.Gateway, r.Version)
	}
	if len(v.inv.GatewayReports) == 0 {
		v.notApplicable("no gateway runs, and no version is planned")
	}
}

func governed(v *view) {
	if !v.ruled() {
		return
	}
	_, compiled := v.documents()
	for _, p := range v.agents() {
		if !p.prefix.Addr().Is4() {
			continue
		}
		for _, src := range []netip.Addr{nth(p.prefix, 4), nth(p.prefix, usable(p.prefix)+3)} {
			const name = "login.microsoftonline.com"
			if q := compiled.Question(src, name); !q.Permitted() {
				v.found(p.resource, fmt.Sprintf("%s may not resolve %s (rule %s)", src, name, q.Rule), "an address that the ruleset governs")
				break
			}
		}
	}
}

func pulled(v *view) {
	if !v.ruled() {
		return
	}
	subnet, err := netip.ParsePrefix(v.plan.CanaryPrefix)
	if err != nil || v.plan.CanaryImageHost == "" { // NET-00 speaks of a prefix that cannot be read
		v.notApplicable("no canary is planned, or not known where its image is")
		return
	}
	_, compiled := v.documents()
	if q := compiled.Question(nth(subnet, 4), v.plan.CanaryImageHost); !q.Permitted() {
		v.found("planned canary", fmt.Sprintf("%s may not resolve %s (rule %s)", subnet, v.plan.CanaryImageHost, q.Rule), "a permit for the registry")
	}
}

func widened(v *view) {
	if !v.ruled() {
		return
	}
	if v.inv.Ruleset.Deployed == "" {
		v.notApplicable("no ruleset is published yet")
		return
	}
	before, err := policy.Decode([]byte(v.inv.Ruleset.Deployed))
	if err != nil {
		v.missing("the published ruleset: " + err.Error())
		return
	}
	old, err := policy.Compile(before, v.environment())
	if err != nil {
		v.missing("the published ruleset: " + err.Error())
		return
	}
	_, compiled := v.documents()
	changes := policy.Diff(old, compiled)
	gained := make([]string, 0, len(changes.Gained))
	for key, access := range changes.Gained {
		gained = append(gained, fmt.Sprintf("%s by %s", key, access))
	}
	doc, _ := v.documents()
	for _, g := range changes.Groups {
		permits := slices.ContainsFunc(doc.Rules, func(r policy.Rule) bool { return r.Action == policy.Permit && slices.Contains(r.Destinations, g.Group) })
		if permits && g.Opened > 0 {
			gained = append(gained, fmt.Sprintf("%d more addresses in group %s", g.Opened, g.Group))
		}
	}
	slices.Sort(gained)
	for i, g := range gained {
		if i == 20 {
			v.found("ruleset", fmt.Sprintf("access to %d more", len(gained)-i), "no new access")
			break
		}
		v.found("ruleset", "access to "+g, "no new access")
	}
}

// deployedDigest is the digest of the published document.
func (v *view) deployedDigest() (string, error) {
	if v.inv.Ruleset.Deployed == "" {
		return "", errors.New("none was read")
	}
	doc, err := policy.Decode([]byte(v.inv.Ruleset.Deployed))
	if err != nil {
		return "", err
	}
	compiled, err := policy.Compile(doc, v.environment())
	if err != nil {
		return "", err
	}
	return compiled.Digest(), nil
}

// nth is the address at an offset in an IPv4 prefix.
func nth(p netip.Prefix, offset int) netip.Addr {
	n := uint64(be32(p.Masked().Addr().As4())) + uint64(offset)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
