package main

import (
	"flag"
	"os"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
)

var update = flag.Bool("update", false, "write the golden files")

// stream is a preview's events.
func stream(all ...apitype.EngineEvent) <-chan events.EngineEvent {
	c := make(chan events.EngineEvent, len(all))
	for _, e := range all {
		c <- events.EngineEvent{EngineEvent: e}
	}
	close(c)
	return c
}

func step(op apitype.OpType, typ, name string, was, is map[string]any, diff ...string) apitype.EngineEvent {
	m := apitype.StepEventMetadata{Op: op, Type: typ, URN: "urn:pulumi:dev::spoke::" + typ + "::" + name, DetailedDiff: map[string]apitype.PropertyDiff{}}
	for _, path := range diff {
		m.DetailedDiff[path] = apitype.PropertyDiff{Kind: apitype.DiffUpdate}
	}
	if was != nil {
		m.Old = &apitype.StepEventStateMetadata{Inputs: map[string]any{"access": was}}
	}
	if is != nil {
		m.New = &apitype.StepEventStateMetadata{Inputs: map[string]any{"access": is}}
	}
	return apitype.EngineEvent{ResourcePreEvent: &apitype.ResourcePreEvent{Metadata: m}}
}

func say(severity, urn, text string) apitype.EngineEvent {
	return apitype.EngineEvent{DiagnosticEvent: &apitype.DiagnosticEvent{Severity: severity, URN: urn, Message: text}}
}

// TestMarkdown compares what people read. After a change that is meant: go test -update
func TestMarkdown(t *testing.T) {
	const ruleset = "urn:pulumi:dev::spoke::bulkhead:index:FoundrySpoke$bulkhead:index:Ruleset::spoke-ruleset"
	for name, c := range map[string]struct {
		refused bool
		events  []apitype.EngineEvent
	}{
		"changed": {events: []apitype.EngineEvent{
			step(apitype.OpSame, "azure-native:network:VirtualNetwork", "spoke", nil, nil),
			step(apitype.OpUpdate, rulesetType, "spoke-ruleset",
				map[string]any{"api.github.com:tcp/443": "allow-tool-calls", "api.old.example:tcp/443": "allow-tool-calls", "mcr.microsoft.com:tcp/443": "allow-aca-fqdn"},
				map[string]any{"api.github.com:tcp/443": "allow-tool-calls, decrypted", "api.vendor.example:tcp/443": "allow-tool-calls", "mcr.microsoft.com:tcp/443": "allow-aca-fqdn"},
				`access["api.github.com:tcp/443"]`, `access["api.old.example:tcp/443"]`, `access["api.vendor.example:tcp/443"]`),
			step(apitype.OpUpdate, "bulkhead:index:Attestation", "spoke-attestation", nil, nil, "digest"),
			say("warning", ruleset, "this ruleset (sha256:6f93f7fb3b7a) gains 1, loses 1, changes 1 kinds of access\n+ api.vendor.example:tcp/443 by allow-tool-calls"),
			say("info", "", "of no interest"),
		}},
		"same": {events: []apitype.EngineEvent{step(apitype.OpSame, rulesetType, "spoke-ruleset", nil, nil)}},
		"refused": {refused: true, events: []apitype.EngineEvent{
			say("error", ruleset, "RTE-02: 10.20.0.0/16 is reached past the gateway\nfix: route it to 10.20.0.4"),
		}},
		// A name in a ruleset is whoever's wrote it: it must not draw anything in the comment.
		"markup": {events: []apitype.EngineEvent{
			step(apitype.OpCreate, rulesetType, "spoke-ruleset", nil, map[string]any{"a|b`<img src=x>:tcp/443": "rule</td> [click](https://evil.example) @everyone\n# heading"}),
			say("warning", ruleset, "</details> **bold** @team ![x](y)"),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := Summarize(stream(c.events...))
			s.Refused = c.refused
			got, file := s.Markdown(), "testdata/"+name+".md"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(file); err != nil || string(want) != got {
				t.Errorf("%v; %s, got:\n%s", err, file, got)
			}
		})
	}
}
