package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
)

// rulesetType is the resource whose inputs say what agents can reach.
const rulesetType = "bulkhead:index:Ruleset"

// Summary is what a preview would change, for people.
type Summary struct {
	Gained, Lost map[string]string // access, and the rule that permits it
	Changed      map[string][2]string
	Steps        []Step   // what else is done with resources
	Warnings     []string // of the package: what the change means, in words
	Errors       []string
	Refused      bool
}

// Step is one resource.
type Step struct {
	Op, Type, Name string
	Properties     []string
}

// Summarize reads a preview's events to their end.
func Summarize(stream <-chan events.EngineEvent) Summary {
	s := Summary{Gained: map[string]string{}, Lost: map[string]string{}, Changed: map[string][2]string{}}
	for e := range stream {
		switch {
		case e.ResourcePreEvent != nil:
			s.step(e.ResourcePreEvent.Metadata)
		case e.DiagnosticEvent != nil && !e.DiagnosticEvent.Ephemeral:
			text := strings.TrimSpace(e.DiagnosticEvent.Message)
			switch {
			case e.DiagnosticEvent.Severity == "error":
				s.Errors = append(s.Errors, text)
			case e.DiagnosticEvent.Severity == "warning", strings.Contains(e.DiagnosticEvent.URN, rulesetType):
				s.Warnings = append(s.Warnings, text)
			}
		}
	}
	return s
}

func (s *Summary) step(m apitype.StepEventMetadata) {
	if m.Op == apitype.OpSame || m.Op == apitype.OpRead || strings.HasPrefix(m.Type, "pulumi:") {
		return
	}
	if m.Type == rulesetType {
		s.access(inputs(m.Old), inputs(m.New))
	}
	step := Step{Op: string(m.Op), Type: m.Type, Name: m.URN[strings.LastIndex(m.URN, "::")+2:]}
	for path := range m.DetailedDiff {
		if !strings.HasPrefix(path, "access[") { // shown above
			step.Properties = append(step.Properties, path)
		}
	}
	slices.Sort(step.Properties)
	s.Steps = append(s.Steps, step)
}

func inputs(state *apitype.StepEventStateMetadata) map[string]any {
	if state == nil {
		return nil
	}
	access, _ := state.Inputs["access"].(map[string]any)
	return access
}

func (s *Summary) access(was, is map[string]any) {
	for key, rule := range is {
		switch old, there := was[key]; {
		case !there:
			s.Gained[key] = fmt.Sprint(rule)
		case old != rule:
			s.Changed[key] = [2]string{fmt.Sprint(old), fmt.Sprint(rule)}
		}
	}
	for key, rule := range was {
		if _, there := is[key]; !there {
			s.Lost[key] = fmt.Sprint(rule)
		}
	}
}

// Markdown is the comment in a pull request.
func (s *Summary) Markdown() string {
	var b strings.Builder
	switch {
	case s.Refused:
		b.WriteString("## Refused\n\nThe preview failed; nothing can be deployed from it.\n")
	case len(s.Gained)+len(s.Lost)+len(s.Changed) > 0:
		fmt.Fprintf(&b, "## Agents gain %d, lose %d, and %d change\n", len(s.Gained), len(s.Lost), len(s.Changed))
	default:
		b.WriteString("## What agents can reach stays as it is\n")
	}
	for _, text := range s.Errors {
		b.WriteString("\n" + quote(text, "❌ ") + "\n")
	}
	if len(s.Gained)+len(s.Lost)+len(s.Changed) > 0 {
		b.WriteString("\n| | access | by |\n|---|---|---|\n")
		for _, key := range slices.Sorted(maps.Keys(s.Gained)) {
			fmt.Fprintf(&b, "| **gained** | %s | %s |\n", code(key), cell(s.Gained[key]))
		}
		for _, key := range slices.Sorted(maps.Keys(s.Changed)) {
			fmt.Fprintf(&b, "| changed | %s | %s, was %s |\n", code(key), cell(s.Changed[key][1]), cell(s.Changed[key][0]))
		}
		for _, key := range slices.Sorted(maps.Keys(s.Lost)) {
			fmt.Fprintf(&b, "| lost | %s | %s |\n", code(key), cell(s.Lost[key]))
		}
	}
	for _, text := range s.Warnings {
		b.WriteString("\n" + quote(text, "") + "\n")
	}
	if len(s.Steps) > 0 {
		b.WriteString("\n<details><summary>" + strconv.Itoa(len(s.Steps)) + " resources</summary>\n\n| | resource | properties |\n|---|---|---|\n")
		for _, step := range s.Steps {
			fmt.Fprintf(&b, "| %s | %s %s | %s |\n", step.Op, code(step.Type), code(step.Name), cell(strings.Join(step.Properties, ", ")))
		}
		b.WriteString("\n</details>\n")
	}
	return b.String()
}

// What comes from a ruleset's author ends up in a comment under the pipeline's name, so none
// of it may become markup.
var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "|", "\\|", "\n", " ", "\r", " ",
	"`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "@", "@\u200b", "#", "\\#", "!", "\\!")

func cell(text string) string { return escape.Replace(text) }

func code(text string) string {
	return "`" + strings.NewReplacer("`", "'", "|", "\\|", "\n", " ", "\r", " ").Replace(text) + "`"
}

// quote sets text apart, line by line.
func quote(text, mark string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = "> " + cell(lines[i])
	}
	lines[0] = "> " + mark + strings.TrimPrefix(lines[0], "> ")
	return strings.Join(lines, "  \n")
}
