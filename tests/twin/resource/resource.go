// Package resource drives one custom resource as the engine does (check, diff, then create,
// update or replace), keeps its state, and hears what it says, for tests that need no engine.
//
// It does not prove what the engine shows of it: tests/twin/engine runs the real one.
package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/blang/semver"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/integration"
	presource "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// Inputs of the resource's program.
type Inputs = map[string]property.Value

// Resource is one in a stack.
type Resource struct {
	server integration.Server
	urn    presource.URN
	said   *messages

	ID     string
	State  property.Map // nil values before it exists
	inputs property.Map
	exists bool
}

// New has a provider with that resource alone, and holds it to its token. What it says goes through slog's default logger,
// so tests with one must not run in parallel.
func New(t *testing.T, token tokens.Type, r infer.InferredResource) *Resource {
	t.Helper()
	provider, err := infer.NewProviderBuilder().WithNamespace("bulkhead").WithResources(r).Build()
	if err != nil {
		t.Fatal(err)
	}
	server, err := integration.NewServer(t.Context(), "bulkhead", semver.MustParse("0.1.0"), integration.WithProvider(provider))
	if err != nil {
		t.Fatal(err)
	}
	schema, err := server.GetSchema(p.GetSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	said := &messages{}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(said, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	if got := described(t, schema.Schema); got != token {
		t.Fatalf("the resource is %s, not %s", got, token)
	}
	return &Resource{server: server, said: said, urn: presource.NewURN("dev", "test", "", token, "it")}
}

// Preview says what an update would do: create, update, replace or same.
func (r *Resource) Preview(in Inputs) (string, error) { return r.run(in, true) }

// Up does it, and says what it did.
func (r *Resource) Up(in Inputs) (string, error) { return r.run(in, false) }

func (r *Resource) run(in Inputs, dry bool) (string, error) {
	check, err := r.server.Check(p.CheckRequest{Urn: r.urn, State: r.inputs, Inputs: property.NewMap(in)})
	if err != nil {
		return "check", err
	}
	if len(check.Failures) > 0 {
		return "check", fmt.Errorf("%v", check.Failures)
	}
	op := "create"
	if r.exists {
		diff, err := r.server.Diff(p.DiffRequest{ID: r.ID, Urn: r.urn, State: r.State, OldInputs: r.inputs, Inputs: check.Inputs})
		if err != nil {
			return "diff", err
		}
		op = "same"
		if diff.HasChanges {
			op = "update"
		}
		for _, d := range diff.DetailedDiff {
			if d.Kind == p.AddReplace || d.Kind == p.DeleteReplace || d.Kind == p.UpdateReplace {
				op = "replace"
			}
		}
	}
	switch op {
	case "create", "replace":
		made, err := r.server.Create(p.CreateRequest{Urn: r.urn, Properties: check.Inputs, DryRun: dry})
		if err != nil {
			return op, err
		}
		if !dry {
			if op == "replace" {
				if err := r.Delete(); err != nil {
					return op, err
				}
			}
			r.ID, r.State, r.inputs, r.exists = made.ID, made.Properties, check.Inputs, true
		}
	case "update":
		made, err := r.server.Update(p.UpdateRequest{ID: r.ID, Urn: r.urn, State: r.State, OldInputs: r.inputs, Inputs: check.Inputs, DryRun: dry})
		if err != nil {
			return op, err
		}
		if !dry {
			r.State, r.inputs = made.Properties, check.Inputs
		}
	}
	return op, nil
}

// Refresh reads the resource, and forgets it if it is gone.
func (r *Resource) Refresh() error {
	got, err := r.server.Read(p.ReadRequest{ID: r.ID, Urn: r.urn, Properties: r.State, Inputs: r.inputs})
	if err != nil {
		return err
	}
	r.ID, r.State, r.inputs, r.exists = got.ID, got.Properties, got.Inputs, got.ID != ""
	return nil
}

// Import reads one by its id alone.
func (r *Resource) Import(id string) error {
	r.ID, r.State, r.inputs = id, property.Map{}, property.Map{}
	return r.Refresh()
}

// Exists says whether the stack has it.
func (r *Resource) Exists() bool { return r.exists }

// Delete takes it out of the stack.
func (r *Resource) Delete() error {
	if err := r.server.Delete(p.DeleteRequest{ID: r.ID, Urn: r.urn, Properties: r.State}); err != nil {
		return err
	}
	r.ID, r.State, r.exists = "", property.Map{}, false
	return nil
}

// Forget loses the state, as a crash between a step and its record does.
func (r *Resource) Forget() {
	r.ID, r.State, r.inputs, r.exists = "", property.Map{}, property.Map{}, false
}

// Get is an output's text.
func (r *Resource) Get(name string) string {
	v := r.State.Get(name)
	if !v.IsString() {
		return ""
	}
	return v.AsString()
}

// Said returns what the resource said since the last time, and forgets it.
func (r *Resource) Said() string { return r.said.take() }

type messages struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (m *messages) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(b)
}

func (m *messages) take() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.text.Reset()
	return m.text.String()
}

// described is the token of the schema's only resource, all of whose properties must be described.
func described(t *testing.T, text string) tokens.Type {
	t.Helper()
	type property struct{ Description string }
	var schema struct {
		Resources map[tokens.Type]struct {
			Description                 string
			Properties, InputProperties map[string]property
		}
	}
	if err := json.Unmarshal([]byte(text), &schema); err != nil || len(schema.Resources) != 1 {
		t.Fatalf("%v: not one resource in %s", err, text)
	}
	var token tokens.Type
	for found, r := range schema.Resources {
		token = found
		if r.Description == "" {
			t.Errorf("%s has no description", token)
		}
		for _, of := range []map[string]property{r.Properties, r.InputProperties} {
			for name, p := range of {
				if p.Description == "" {
					t.Errorf("%s: %s has no description", token, name)
				}
			}
		}
	}
	return token
}
