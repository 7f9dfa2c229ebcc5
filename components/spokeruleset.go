package components

import (
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// spokeDocument is the ruleset that a spoke begins with, known before anything is made.
type spokeDocument struct {
	*policy.Document
	path string // the argument that it comes from
	file *string
}

// document reads the spoke's ruleset, or writes the standard one for its prefixes.
func (p *problems) document(args *FoundrySpokeArgs, plan *spokePlan) spokeDocument {
	if args.RulesetFile == nil {
		d := spokeDocument{path: "toolCalls"}
		var err error
		if d.Document, err = standard(args, plan); err != nil {
			p.add(d.path, "%v", err)
		}
		return d
	}
	d := spokeDocument{path: "rulesetFile", file: args.RulesetFile}
	if len(args.ToolCalls) > 0 {
		p.add("toolCalls", "only the standard ruleset takes them; write them into %s", *args.RulesetFile)
	}
	text, err := os.ReadFile(*args.RulesetFile)
	if err == nil {
		d.Document, err = policy.Decode(text)
	}
	if err != nil {
		p.add(d.path, "%v", err)
	}
	return d
}

// inputs are the document as those of the resource that publishes it.
func (d spokeDocument) inputs() (pulumi.Map, error) {
	if d.file != nil {
		return pulumi.Map{"file": pulumi.String(*d.file)}, nil
	}
	text, err := d.text()
	if err != nil {
		return nil, err
	}
	var plain map[string]any
	if err := json.Unmarshal([]byte(text), &plain); err != nil {
		return nil, err
	}
	return pulumi.ToMap(plain), nil
}

func (d spokeDocument) text() (string, error) {
	text, err := policy.Encode(d.Document)
	return string(text), err
}

// gatewayNames are what the gateway itself resolves: its vault, its storage, its tokens, and
// Azure's list of service tags.
var gatewayNames = []string{"*.vault.azure.net", "*.blob.core.windows.net", "login.microsoftonline.com", "management.azure.com"}

// resolvable are the names that Azure's resolver has to answer: those that a permit or a
// private endpoint makes resolvable, and the gateway's own.
func (d spokeDocument) resolvable() []string {
	names := slices.Clone(gatewayNames)
	for _, rule := range d.Rules {
		if rule.Action != policy.Permit {
			continue
		}
		for _, group := range d.WebGroups {
			if !slices.Contains(rule.WebGroups, group.Name) {
				continue
			}
			names = append(names, group.FQDNs...)
			for _, u := range group.URLs {
				names = append(names, u.Host)
			}
			for _, m := range group.MCP {
				names = append(names, m.Host)
			}
		}
	}
	for _, r := range d.Resolve {
		names = append(names, r.Names...)
	}
	for _, group := range d.ThreatGroups {
		for _, feed := range group.Feeds {
			if u, err := url.Parse(feed.URL); err == nil && u.Hostname() != "" {
				names = append(names, u.Hostname())
			}
		}
	}
	for _, z := range privateZones {
		names = append(names, z.zone)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// standard is the ruleset that a spoke begins with, for its own prefixes: what the platform needs, undecrypted; the
// services that tools call; Foundry's own answers for private endpoints; and nothing else. examples/ruleset.yaml is
// the same document for the default prefixes, with the reasons.
func standard(args *FoundrySpokeArgs, plan *spokePlan) (*policy.Document, error) {
	type object = map[string]any
	type list = []any
	group := func(name string, prefixes ...string) object { return object{"name": name, "cidrs": prefixes} }
	agents := []string{"foundry-agents"}
	smart := list{
		group("foundry-agents", plan.agentPrefixes()...),
		group("private-endpoints", plan.endpoints),
		group("agent-infra", "100.64.0.0/11"),
		object{"name": "aca-svctag", "serviceTags": []string{"MicrosoftContainerRegistry", "AzureFrontDoor.FirstParty", "AzureContainerRegistry", "AzureActiveDirectory"}},
	}
	web := list{object{"name": "aca-requirements-fqdns", "fqdns": []string{
		"mcr.microsoft.com", "*.data.mcr.microsoft.com", "packages.aks.azure.com", "acs-mirror.azureedge.net", "*.identity.azure.net",
		"login.microsoftonline.com", "*.login.microsoftonline.com", "login.microsoft.com", "*.login.microsoft.com",
		"agent365.svc.cloud.microsoft", "gsm*eh.servicebus.windows.net",
	}}}
	platform := func(name string, more object) object {
		rule := object{"name": name, "sources": agents, "webGroups": []string{"aca-requirements-fqdns"}, "ports": []string{"tcp/443"},
			"action": "PERMIT", "decrypt": "DECRYPT_NOT_ALLOWED", "allow": list{object{"check": "POL-06",
				"reason": "Microsoft's broker names under servicebus.windows.net are generated; the glob is as narrow as they allow"}}}
		maps.Copy(rule, more)
		return rule
	}
	rules := list{
		object{"name": "deny-threat-intel", "sources": agents, "destinations": []string{"default-threatgroup"}, "action": "DENY"},
		platform("allow-aca-fqdn", nil),
		platform("allow-aca-svctag", object{"destinations": []string{"aca-svctag"}, "sni": "optional"}),
	}
	if len(args.ToolCalls) > 0 {
		web = append(web, object{"name": "foundry-tool-calls", "fqdns": args.ToolCalls})
		decrypt := "DECRYPT_NOT_ALLOWED"
		if or(args.Inspection, true) {
			decrypt = "DECRYPT_ALLOWED"
		}
		rules = append(rules, object{"name": "allow-tool-calls", "sources": agents, "webGroups": []string{"foundry-tool-calls"},
			"ports": []string{"tcp/443"}, "action": "PERMIT", "decrypt": decrypt})
	}
	rules = append(rules,
		object{"name": "allow-agent-infra", "sources": agents, "destinations": []string{"agent-infra"}, "action": "PERMIT"},
		object{"name": "default-deny-internet", "sources": agents, "destinations": []string{"internet"}, "action": "DENY"})
	if len(plan.adjacent) > 0 {
		smart = append(smart, group("other-spoke-resources", plan.adjacent...))
		rules = append(rules, object{"name": "deny-east-west", "sources": agents, "destinations": []string{"other-spoke-resources"}, "action": "DENY"})
	}
	for i, rule := range rules {
		rule.(object)["priority"] = i + 1
	}
	names := []string{}
	for _, z := range privateZones {
		names = append(names, z.names)
	}
	text, err := json.Marshal(object{
		"version": 1, "mode": "enforce", "default": object{"action": "DENY", "mode": "enforce"},
		"smartGroups": smart, "webGroups": web, "rules": rules,
		"threatGroups": list{object{"name": "default-threatgroup", "feeds": list{object{"name": "ipsum", "format": "netset",
			"url": "https://raw.githubusercontent.com/stamparm/ipsum/master/levels/3.txt"}}}},
		"resolve": list{object{"names": names, "answers": []string{"private-endpoints"}}},
	})
	if err != nil {
		return nil, err
	}
	return policy.Decode(text)
}
