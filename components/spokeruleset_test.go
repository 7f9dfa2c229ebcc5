package components

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	perrors "github.com/pulumi/pulumi/sdk/v3/go/pulumi/errors"

	"github.com/bulkhead-dev/bulkhead/components/ruleset"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// The standard ruleset passes `policy check` without a word, and permits to nobody but the
// spoke's own agents.
func TestSpokeStandardRuleset(t *testing.T) {
	args := spokeArgs()
	args.Canary = &CanaryOptions{Image: "registry.example/bulkhead:1"}
	args.AdjacentPrefixes = []string{"10.30.0.0/16"}
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	inputs := r.one(t, "Ruleset", "").inputs.Mappable()
	delete(inputs, "publishUrl")
	delete(inputs, "requireApproval")
	text, err := json.Marshal(inputs)
	if err != nil {
		t.Fatal(err)
	}
	var typed ruleset.Document
	if err := json.Unmarshal(text, &typed); err != nil {
		t.Fatal(err)
	}
	canonical, diagnostics, err := typed.Check("")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diagnostics {
		t.Error(d)
	}
	doc, err := policy.Decode([]byte(canonical))
	if err != nil {
		t.Fatal(err)
	}
	var agents []string
	for _, prefix := range doc.SmartGroups[0].CIDRs {
		agents = append(agents, prefix.String())
	}
	if want := []string{"10.20.1.0/24", "10.20.3.0/27"}; !slices.Equal(agents, want) {
		t.Errorf("agents are %v, want %v", agents, want)
	}
}

func TestSpokeRulesetFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ruleset.yaml")
	text, err := os.ReadFile("../examples/ruleset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	args := spokeArgs()
	args.ToolCalls, args.RulesetFile = nil, &file
	args.RequireApproval, args.ApprovedDigest, args.ServiceTagsFile = new(true), new("sha256:1"), new("tags.json")
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	got := r.one(t, "Ruleset", "").inputs.Mappable()
	want := map[string]any{
		"file": file, "requireApproval": true, "approvedDigest": "sha256:1", "serviceTags": "tags.json",
		"publishUrl": got["publishUrl"],
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ruleset\n got %v\nwant %v", got, want)
	}
}

// A document's diagnostics are on its own paths.
func TestSpokeTypedRuleset(t *testing.T) {
	args := spokeArgs()
	plan, _, err := args.plan()
	if err != nil {
		t.Fatal(err)
	}
	args.ToolCalls = nil
	args.Ruleset = standard(&FoundrySpokeArgs{ToolCalls: []string{"api.github.com"}}, &plan)
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(r.one(t, "Ruleset", "").plain("rules").([]any)); got != len(args.Ruleset.Rules) {
		t.Errorf("%d rules arrived, want %d", got, len(args.Ruleset.Rules))
	}
	for path, spoil := range map[string]func(d *ruleset.Document){
		"ruleset.rules[1].webGroups[0]":   func(d *ruleset.Document) { d.Rules[1].WebGroups = []string{"absent"} },
		"ruleset.webGroups[1].fqdns[0]":   func(d *ruleset.Document) { d.WebGroups[1].FQDNs = []string{"https://x"} },
		"ruleset.smartGroups[0].cidrs[0]": func(d *ruleset.Document) { d.SmartGroups[0].CIDRs = []string{"10.20.1.0/40"} },
		"ruleset":                         func(d *ruleset.Document) { d.Rules = d.Rules[:1] }, // nothing for the platform
	} {
		args.Ruleset = standard(&FoundrySpokeArgs{ToolCalls: []string{"api.github.com"}}, &plan)
		spoil(args.Ruleset)
		_, err := provisionSpoke(t, args)
		var input *perrors.InputPropertiesError
		if !errors.As(err, &input) || !slices.ContainsFunc(input.Errors, func(d perrors.InputPropertyErrorDetails) bool { return d.PropertyPath == path }) {
			t.Errorf("%s: error is %v", path, err)
		}
	}
}

// Everything that has to be resolved through Azure's resolver is on the policy's list, and
// what no rule makes resolvable is not.
func TestSpokeResolvable(t *testing.T) {
	args := spokeArgs()
	args.DnsClosure = new("policy")
	r, err := provisionSpoke(t, args)
	if err != nil {
		t.Fatal(err)
	}
	domains := r.one(t, "DnsResolverDomainList", "spoke-agents-dns-allow").plain("domains").([]any)
	for _, want := range []string{"api.github.com.", "mcr.microsoft.com.", "vault.azure.net.", "blob.core.windows.net.", "openai.azure.com.", "privatelink.openai.azure.com.", "raw.githubusercontent.com.", "login.microsoftonline.com."} {
		covered := slices.ContainsFunc(domains, func(d any) bool { return want == d || strings.HasSuffix(want, "."+d.(string)) })
		if !covered {
			t.Errorf("%s is not answered", want)
		}
	}
	for _, d := range domains {
		if strings.Count(d.(string), ".") < 2 {
			t.Errorf("%v answers a whole top-level domain", d)
		}
	}
}
