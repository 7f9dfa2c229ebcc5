package ruleset

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

var update = flag.Bool("update", false, "write what the tests got into their golden files")

// tagFile is a service-tag file with one tag, of 256 + 1 addresses.
func tagFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ServiceTags_Public.json")
	text := `{"changeNumber":1,"cloud":"Public","values":[{"name":"AzureMonitor","id":"AzureMonitor","properties":{"changeNumber":1,"region":"","platform":"Azure","systemService":"","addressPrefixes":["20.9.0.0/24","20.9.1.1/32"]}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestWords holds what a preview says, and what it draws. Each file of testdata/words belongs to one change of
// the example; `go test -update` writes what it got.
func TestWords(t *testing.T) {
	tag := []string{"smartGroups:\n", "smartGroups:\n  - {name: telemetry, serviceTags: [AzureMonitor]}\n", "rules:\n",
		"rules:\n  - {name: allow-telemetry, priority: 0, sources: [foundry-agents], destinations: [telemetry], ports: [tcp/443], action: PERMIT, allow: [{check: POL-05, reason: measured}]}\n"}
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("h%02d.example.net", i))
	}
	for what, change := range map[string][]string{
		"first":         nil,
		"host-inserted": {"fqdns: [api.github.com]", "fqdns: [api.example.net, api.github.com]"},
		"host-replaced": {"fqdns: [api.github.com]", "fqdns: [api.example.net]"},
		"many-hosts":    {"fqdns: [api.github.com]", "fqdns: [" + strings.Join(many, ", ") + "]"},
		"monitored":     {"mode: enforce                     # ", "mode: monitor # "},
		"rule-watches":  {"destinations: [default-threatgroup], action: DENY", "destinations: [default-threatgroup], action: DENY, mode: monitor"},
		"undecrypted":   {"\n    urls:                                       # need decryption\n      - {host: mcp.contoso.com, methods: [POST], paths: [\"/mcp\"]}", "", "action: PERMIT, decrypt: DECRYPT_ALLOWED", "action: PERMIT"},
		"group-grows":   {"cidrs: [100.64.0.0/11]", "cidrs: [100.64.0.0/10]"},
		"obligations":   {"action: PERMIT, decrypt: DECRYPT_ALLOWED", "action: PERMIT, maxRequestBytes: 4096, minTLS: \"1.3\", decrypt: DECRYPT_ALLOWED"},
		"moved":         {"name: allow-tool-calls,        priority: 4", "name: allow-tool-calls,        priority: 0"},
		"tag-unknown":   tag,
		"tag-counted":   tag,
		"not-recorded":  {"action: PERMIT, decrypt: DECRYPT_ALLOWED", "action: PERMIT, log: false, decrypt: DECRYPT_ALLOWED"},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			more := map[string]any{}
			if what == "tag-counted" {
				more["serviceTags"] = tagFile(t)
			}
			text := strings.NewReplacer(change...).Replace(example(t))
			if (text == example(t)) != (change == nil) {
				t.Fatal("the example has changed: this test no longer tests what it says")
			}
			was, is := r.check(t, typed(t, example(t), more)), r.check(t, typed(t, text, more))
			if len(is.Failures) > 0 {
				t.Fatal(is.Failures)
			}
			before, after := args(was.Inputs), args(is.Inputs)
			if change == nil {
				before = &Args{}
			}
			c, err := compare(before, after)
			if err != nil {
				t.Fatal(err)
			}
			got := c.words() + "\n"
			if change != nil {
				made, err := r.Create(p.CreateRequest{Urn: urn, Properties: was.Inputs})
				if err != nil {
					t.Fatal(err)
				}
				d, err := r.Diff(p.DiffRequest{Urn: urn, State: made.Properties, Inputs: is.Inputs, OldInputs: was.Inputs})
				if err != nil {
					t.Fatal(err)
				}
				got += "----------\n"
				for _, key := range sortedKeys(d.DetailedDiff) {
					got += fmt.Sprintf("%s %s\n", d.DetailedDiff[key].Kind, key)
				}
			}
			file := filepath.Join("testdata", "words", what+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || got != string(want) {
				t.Errorf("%v\ngot:\n%s\nwant:\n%s", err, got, want)
			}
		})
	}
}

// args are the inputs that a comparison needs.
func args(in property.Map) *Args {
	canonical := in.Get("canonical").AsString()
	a := &Args{Canonical: &canonical}
	if v := in.Get("serviceTags"); v.IsString() {
		file := v.AsString()
		a.ServiceTags = &file
	}
	return a
}
