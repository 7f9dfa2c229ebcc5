package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
)

// A Run is what one operation of the engine did and said.
type Run struct {
	// Changes counts the resources by what was done, or would be, with them.
	Changes map[apitype.OpType]int
	// Steps are the resources that something is done with, those that stay as they are left out.
	Steps []apitype.StepEventMetadata
	// Registered are all resources of the program, by URN without the stack's part, with
	// their inputs: what two programs have in common.
	Registered map[string]map[string]any
	// Messages are what the engine, plugins and programs told the person in front.
	Messages []Message
	// Text is the whole output as that person saw it.
	Text string
	// Err is the operation's failure.
	Err error

	t testing.TB
}

// A Message is one line of the engine's diagnostics.
type Message struct {
	Severity string // debug, info, warning, error
	URN      string // of the resource that it is about, or empty
	Text     string
}

// OK ends the test if the operation failed.
func (r *Run) OK() *Run {
	r.t.Helper()
	if r.Err != nil {
		r.t.Fatalf("%v\n%s", r.Err, r.Text)
	}
	return r
}

// Failed ends the test if the operation succeeded, or failed without saying this.
func (r *Run) Failed(saying ...string) *Run {
	r.t.Helper()
	if r.Err == nil {
		r.t.Fatalf("succeeded\n%s", r.Text)
	}
	for _, text := range saying {
		if !r.Says("", text) {
			r.t.Errorf("failed, but does not say %q\n%s", text, r.Text)
		}
	}
	return r
}

// Unchanged ends the test if anything was, or would be, changed.
func (r *Run) Unchanged() *Run {
	r.t.Helper()
	r.OK()
	for _, step := range r.Steps {
		r.t.Errorf("%s %s: %s", step.Op, name(step.URN), differences(step))
	}
	if r.t.Failed() {
		r.t.Fatalf("not unchanged\n%s", r.Text)
	}
	return r
}

// Says reports whether a message of this severity, or of any, holds this text.
func (r *Run) Says(severity, text string) bool {
	return slices.ContainsFunc(r.Messages, func(m Message) bool {
		return (severity == "" || m.Severity == severity) && strings.Contains(m.Text, text)
	})
}

// Step is what is done with the resource of this name, or nil.
func (r *Run) Step(resource string) *apitype.StepEventMetadata {
	for i := range r.Steps {
		if name(r.Steps[i].URN) == resource {
			return &r.Steps[i]
		}
	}
	return nil
}

// add takes in one event.
func (r *Run) add(e apitype.EngineEvent) {
	switch {
	case e.SummaryEvent != nil:
		r.Changes = e.SummaryEvent.ResourceChanges
	case e.DiagnosticEvent != nil && !e.DiagnosticEvent.Ephemeral:
		r.Messages = append(r.Messages, Message{e.DiagnosticEvent.Severity, e.DiagnosticEvent.URN, e.DiagnosticEvent.Message})
	case e.ResourcePreEvent != nil:
		m := e.ResourcePreEvent.Metadata
		if m.Op != apitype.OpSame && m.Op != apitype.OpRead && m.Op != apitype.OpRefresh {
			r.Steps = append(r.Steps, m)
		}
		r.register(m)
	case e.ResOutputsEvent != nil:
		// A refresh says here what it found.
		if m := e.ResOutputsEvent.Metadata; e.ResOutputsEvent.Metadata.Op != apitype.OpSame && r.found(m) {
			r.Steps = append(r.Steps, m)
		}
	}
}

// found tells whether it is news that a refresh brings.
func (r *Run) found(m apitype.StepEventMetadata) bool {
	return (m.Op == apitype.OpUpdate || m.Op == apitype.OpDelete) &&
		!slices.ContainsFunc(r.Steps, func(s apitype.StepEventMetadata) bool { return s.URN == m.URN && s.Op == m.Op })
}

func (r *Run) register(m apitype.StepEventMetadata) {
	if m.New == nil {
		return
	}
	if r.Registered == nil {
		r.Registered = map[string]map[string]any{}
	}
	_, tail, _ := strings.Cut(strings.TrimPrefix(m.URN, "urn:pulumi:"), "::") // stack
	_, tail, _ = strings.Cut(tail, "::")                                      // project
	r.Registered[tail] = m.New.Inputs
}

// name is the last part of a URN.
func name(urn string) string { return urn[strings.LastIndex(urn, "::")+2:] }

// differences are the properties in which a step changes its resource.
func differences(m apitype.StepEventMetadata) string {
	var all []string
	for path, diff := range m.DetailedDiff {
		all = append(all, fmt.Sprintf("%s (%s)", path, diff.Kind))
	}
	slices.Sort(all)
	if len(all) == 0 {
		all = m.Diffs
	}
	return strings.Join(all, ", ")
}
