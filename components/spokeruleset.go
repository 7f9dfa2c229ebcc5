package components

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"

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
		d.typed = ruleset.Fill(args.Ruleset, spokeOf(args, plan))
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

// tagged reports whether the document has groups by service tag.
func (d *spokeDocument) tagged() bool {
	doc, err := policy.Decode([]byte(d.text))
	return err == nil && slices.ContainsFunc(doc.SmartGroups, func(g policy.SmartGroup) bool { return len(g.ServiceTags) > 0 })
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
	names = append(names, ruleset.ResolvableNames(doc)...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// standard is the ruleset that a spoke begins with, for its prefixes.
func standard(args *FoundrySpokeArgs, plan *spokePlan) *ruleset.Document {
	return ruleset.Standard(spokeOf(args, plan))
}

// spokeOf is the spoke as its ruleset knows it.
func spokeOf(args *FoundrySpokeArgs, plan *spokePlan) ruleset.Spoke {
	spoke := ruleset.Spoke{
		AgentPrefixes: plan.agentPrefixes(), EndpointPrefixes: []string{plan.endpoints}, AdjacentPrefixes: plan.adjacent,
		ToolCalls: args.ToolCalls, Inspection: or(args.Inspection, true),
	}
	if args.Canary != nil {
		spoke.CanaryPrefix, spoke.CanaryImage = plan.canary, imageHosts(args.Canary.Image, args.Location)
	}
	for _, z := range privateZones {
		spoke.Resolve = append(spoke.Resolve, z.names)
	}
	return spoke
}
