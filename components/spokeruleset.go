package components

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/components/ruleset"
	"github.com/bulkhead-dev/bulkhead/gateway/image"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// spokeDocument is the ruleset that a spoke begins with, known before anything is made.
type spokeDocument struct {
	argument string            // that it comes from
	typed    *ruleset.Document // nil: it is in a file
	file     *string
	text     string
}

// document is the spoke's ruleset: as it was given, as it is in a file, or the standard one for
// the spoke's prefixes.
func (p *problems) document(args *FoundrySpokeArgs, plan *spokePlan) spokeDocument {
	d := spokeDocument{argument: "toolCalls", typed: args.Ruleset, file: args.RulesetFile}
	given := args.Ruleset != nil || args.RulesetFile != nil
	if given && len(args.ToolCalls) > 0 {
		p.add("toolCalls", "only the standard ruleset takes them; write them into the one that is given")
	}
	switch {
	case args.Ruleset != nil && args.RulesetFile != nil:
		p.add("rulesetFile", "give the ruleset, or a file with it")
	case args.RulesetFile != nil:
		d.argument = "rulesetFile"
		text, err := os.ReadFile(*args.RulesetFile)
		if err != nil {
			p.add(d.argument, "%v", err)
		}
		d.text = string(text)
		return d
	case args.Ruleset != nil:
		d.argument = "ruleset"
	default:
		d.typed = standard(args, plan)
	}
	canonical, diagnostics, err := d.typed.Check("")
	if err != nil {
		p.add(d.argument, "%v", err)
	}
	if canonical == "" {
		for _, found := range diagnostics {
			at := d.at(found.Path)
			found.Path = ""
			p.add(at, "%s", found)
		}
	}
	d.text = canonical
	return d
}

// decrypting is a rule that nobody could follow: without a root there is nothing to decrypt with.
func (p *problems) decrypting(d *spokeDocument) {
	doc, err := policy.Decode([]byte(d.text))
	if err != nil {
		return // a guard says it
	}
	for i, r := range doc.Rules {
		if r.Decrypt == policy.DecryptAllowed {
			p.add(d.at(fmt.Sprintf("rules[%d].decrypt", i)), "rule %q decrypts, and inspection is off: there is no root to decrypt with", r.Name)
		}
	}
}

// written is a path in a ruleset's document.
var written = regexp.MustCompile(`^(version|mode|default|smartGroups|webGroups|threatGroups|resolve|originCAs|rules)\b`)

// at is the argument for a place in the document: itself, where the document is an argument.
func (d *spokeDocument) at(path string) string {
	if d.argument == "ruleset" && written.MatchString(path) {
		return "ruleset." + path
	}
	return d.argument
}

// inputs are the document as those of the resource that publishes it.
func (d *spokeDocument) inputs() (pulumi.Map, error) {
	if d.typed == nil {
		return pulumi.Map{"file": pulumi.String(*d.file)}, nil
	}
	text, err := json.Marshal(d.typed)
	if err != nil {
		return nil, err
	}
	var plain map[string]any
	if err := json.Unmarshal(text, &plain); err != nil {
		return nil, err
	}
	return pulumi.ToMap(plain), nil
}

// gatewayNames are what the gateway itself resolves: its vault, its storage, its tokens, and
// Azure's list of service tags.
var gatewayNames = []string{"*.vault.azure.net", "*.blob.core.windows.net", "login.microsoftonline.com", "management.azure.com"}

// resolvable are the names that Azure's resolver has to answer: those that a permit or a
// private endpoint makes resolvable, the hosts of feeds, and the gateway's own.
func (d *spokeDocument) resolvable() ([]string, error) {
	doc, err := policy.Decode([]byte(d.text))
	if err != nil {
		return nil, err
	}
	names := slices.Concat(gatewayNames, image.Updates)
	for _, z := range privateZones {
		names = append(names, z.zone)
	}
	for _, r := range doc.Resolve {
		names = append(names, r.Names...)
	}
	for _, group := range doc.WebGroups {
		if slices.ContainsFunc(doc.Rules, func(r policy.Rule) bool { return r.Action == policy.Permit && slices.Contains(r.WebGroups, group.Name) }) {
			names = append(names, group.FQDNs...)
			for _, u := range group.URLs {
				names = append(names, u.Host)
			}
			for _, m := range group.MCP {
				names = append(names, m.Host)
			}
		}
	}
	for _, group := range doc.ThreatGroups {
		for _, feed := range group.Feeds {
			if u, err := url.Parse(feed.URL); err == nil && strings.Contains(u.Hostname(), ".") {
				names = append(names, u.Hostname())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// platformNames are what Foundry and Container Apps need of the Internet. Nobody else's
// certificate is taken for them, so they are never decrypted.
var platformNames = []string{
	"mcr.microsoft.com", "*.data.mcr.microsoft.com", "packages.aks.azure.com", "acs-mirror.azureedge.net", "*.identity.azure.net",
	"login.microsoftonline.com", "*.login.microsoftonline.com", "login.microsoft.com", "*.login.microsoft.com",
	"agent365.svc.cloud.microsoft", "gsm*eh.servicebus.windows.net",
}

// standard is the ruleset that a spoke begins with: what the platform needs, the services that
// tools call, Foundry's private endpoints, and nothing else. examples/ruleset.yaml is the same
// for the default prefixes.
func standard(args *FoundrySpokeArgs, plan *spokePlan) *ruleset.Document {
	const (
		agents, endpoints, infra, tags, neighbours = "foundry-agents", "private-endpoints", "agent-infra", "aca-svctag", "other-spoke-resources"
		platform, tools, threats                   = "aca-requirements-fqdns", "foundry-tool-calls", "default-threatgroup"
	)
	permit, deny := ruleset.Action(policy.Permit), ruleset.Action(policy.Deny)
	untouched, decrypted, anySNI := ruleset.Decrypt(policy.DecryptNotAllowed), ruleset.Decrypt(policy.DecryptAllowed), ruleset.SNI(policy.SNIOptional)
	generated := []ruleset.Exemption{{Check: "POL-06", Reason: "Microsoft's broker names under servicebus.windows.net are generated; the glob is as narrow as they allow"}}

	var private []string
	for _, z := range privateZones {
		private = append(private, z.names)
	}
	d := &ruleset.Document{
		SmartGroups: []ruleset.SmartGroup{
			{Name: agents, CIDRs: plan.agentPrefixes()},
			{Name: endpoints, CIDRs: []string{plan.endpoints}},
			{Name: infra, CIDRs: []string{"100.64.0.0/11"}},
			{Name: tags, ServiceTags: []string{"MicrosoftContainerRegistry", "AzureFrontDoor.FirstParty", "AzureContainerRegistry", "AzureActiveDirectory"}},
		},
		WebGroups:    []ruleset.WebGroup{{Name: platform, FQDNs: platformNames}},
		ThreatGroups: []ruleset.ThreatGroup{{Name: threats, Feeds: []ruleset.Feed{{Name: "ipsum", Format: "netset", URL: "https://raw.githubusercontent.com/stamparm/ipsum/master/levels/3.txt"}}}},
		Resolve:      []ruleset.Resolve{{Names: private, Answers: []string{endpoints}}},
	}
	add := func(r ruleset.Rule) {
		r.Priority, r.Sources = len(d.Rules)+1, []string{agents}
		d.Rules = append(d.Rules, r)
	}
	https := []string{"tcp/443"}
	add(ruleset.Rule{Name: "deny-threat-intel", Destinations: []string{threats}, Action: deny})
	add(ruleset.Rule{Name: "allow-aca-fqdn", WebGroups: []string{platform}, Ports: https, Action: permit, Decrypt: &untouched, Allow: generated})
	add(ruleset.Rule{Name: "allow-aca-svctag", Destinations: []string{tags}, WebGroups: []string{platform}, SNI: &anySNI, Ports: https, Action: permit, Decrypt: &untouched, Allow: generated})
	if len(args.ToolCalls) > 0 {
		d.WebGroups = append(d.WebGroups, ruleset.WebGroup{Name: tools, FQDNs: args.ToolCalls})
		decrypt := &untouched
		if or(args.Inspection, true) {
			decrypt = &decrypted
		}
		add(ruleset.Rule{Name: "allow-tool-calls", WebGroups: []string{tools}, Ports: https, Action: permit, Decrypt: decrypt})
	}
	add(ruleset.Rule{Name: "allow-agent-infra", Destinations: []string{infra}, Action: permit})
	add(ruleset.Rule{Name: "default-deny-internet", Destinations: []string{policy.GroupInternet}, Action: deny})
	if len(plan.adjacent) > 0 {
		d.SmartGroups = append(d.SmartGroups, ruleset.SmartGroup{Name: neighbours, CIDRs: plan.adjacent})
		add(ruleset.Rule{Name: "deny-east-west", Destinations: []string{neighbours}, Action: deny})
	}
	return d
}
