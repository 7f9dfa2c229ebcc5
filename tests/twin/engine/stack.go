package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optdestroy"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optrefresh"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// A Stack is a program with its state, named dev.
type Stack struct {
	t       testing.TB
	engine  *Engine
	dir     string
	operate operator
}

// An Option of an operation. Those that it has no use for are ignored.
type Option func(*options)

type options struct{ plan, savePlan string }

// Plan has up refuse what a saved plan does not hold.
func Plan(file string) Option { return func(o *options) { o.plan = file } }

// SavePlan has preview write its plan.
func SavePlan(file string) Option { return func(o *options) { o.savePlan = file } }

// Preview says what Up would do.
func (s *Stack) Preview(opts ...Option) *Run { return s.run("preview", opts) }

// Up makes it so.
func (s *Stack) Up(opts ...Option) *Run { return s.run("up", opts) }

// Refresh takes over what is there into the state.
func (s *Stack) Refresh(opts ...Option) *Run { return s.run("refresh", opts) }

// Destroy removes everything.
func (s *Stack) Destroy(opts ...Option) *Run { return s.run("destroy", opts) }

func (s *Stack) run(verb string, opts []Option) *Run {
	s.t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	r := &Run{t: s.t}
	var text bytes.Buffer
	r.Err = s.operate.run(s.t.Context(), verb, o, &text, r.add)
	r.Text = text.String()
	return r
}

// SetProgram replaces the function of an inline stack.
func (s *Stack) SetProgram(program pulumi.RunFunc) {
	s.operate.(automation).stack.Workspace().SetProgram(program)
}

// SetConfig sets a value of the program's configuration; a key without a colon is the
// project's own. A path, such as spoke.zones[0], sets part of a structured value.
func (s *Stack) SetConfig(key, value string) {
	s.t.Helper()
	s.command("config", "set", "--stack", "dev", "--path", key, value)
}

// Outputs are the program's, in clear.
func (s *Stack) Outputs() map[string]any {
	s.t.Helper()
	var outputs map[string]any
	if err := json.Unmarshal(s.command("stack", "output", "--stack", "dev", "--json", "--show-secrets"), &outputs); err != nil {
		s.t.Fatal(err)
	}
	return outputs
}

// Export is the state as the backend holds it.
func (s *Stack) Export() []byte {
	s.t.Helper()
	return s.command("stack", "export", "--stack", "dev")
}

// Resources are the state's resources.
func (s *Stack) Resources() []apitype.ResourceV3 {
	s.t.Helper()
	var untyped apitype.UntypedDeployment
	if err := json.Unmarshal(s.Export(), &untyped); err != nil {
		s.t.Fatal(err)
	}
	var deployment apitype.DeploymentV3
	if err := json.Unmarshal(untyped.Deployment, &deployment); err != nil {
		s.t.Fatal(err)
	}
	return deployment.Resources
}

// command runs the command line in the stack's directory and returns what it prints.
func (s *Stack) command(args ...string) []byte {
	s.t.Helper()
	cmd := s.engine.Command(s.dir, append(args, "--non-interactive")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("pulumi %s: %v\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return out
}

// An operator carries out an operation.
type operator interface {
	run(ctx context.Context, verb string, o options, text io.Writer, event func(apitype.EngineEvent)) error
}

// automation is the Automation API.
type automation struct{ stack *auto.Stack }

func (a automation) run(ctx context.Context, verb string, o options, text io.Writer, event func(apitype.EngineEvent)) error {
	stream := make(chan events.EngineEvent)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range stream {
			event(e.EngineEvent)
		}
	}()
	var err error
	switch verb {
	case "preview":
		_, err = a.stack.Preview(ctx, optpreview.EventStreams(stream), optpreview.ProgressStreams(text), optpreview.Plan(o.savePlan))
	case "up":
		_, err = a.stack.Up(ctx, optup.EventStreams(stream), optup.ProgressStreams(text), optup.Plan(o.plan))
	case "refresh":
		_, err = a.stack.Refresh(ctx, optrefresh.EventStreams(stream), optrefresh.ProgressStreams(text))
	case "destroy":
		_, err = a.stack.Destroy(ctx, optdestroy.EventStreams(stream), optdestroy.ProgressStreams(text))
	}
	<-done // the API closes the stream
	return err
}

// commandLine is the program pulumi in a project's directory.
type commandLine struct {
	engine *Engine
	dir    string
}

func (c commandLine) run(_ context.Context, verb string, o options, text io.Writer, event func(apitype.EngineEvent)) (err error) {
	log := filepath.Join(c.engine.t.TempDir(), verb+".jsonl")
	args := []string{verb, "--stack", "dev", "--non-interactive", "--color", "never", "--event-log", log}
	if verb != "preview" {
		args = append(args, "--yes", "--skip-preview")
	}
	if o.plan != "" {
		args = append(args, "--plan", o.plan)
	}
	if o.savePlan != "" {
		args = append(args, "--save-plan", o.savePlan)
	}
	cmd := c.engine.Command(c.dir, args...)
	cmd.Stdout, cmd.Stderr = text, text
	err = cmd.Run()
	file, open := os.Open(log)
	if open != nil {
		return errors.Join(err, open)
	}
	defer file.Close()
	for dec := json.NewDecoder(file); ; {
		var e apitype.EngineEvent
		if decode := dec.Decode(&e); errors.Is(decode, io.EOF) {
			return err
		} else if decode != nil {
			return errors.Join(err, decode)
		}
		event(e)
	}
}
