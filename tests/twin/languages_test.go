package twin

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
)

// TestLanguages: the same spoke in every language is the same resources with the same inputs.
func TestLanguages(t *testing.T) {
	bundle := release(t, "0.1.0")
	var want map[string]map[string]any
	for _, language := range []struct {
		name    string
		project func(e *engine.Engine, dir string) *engine.Stack
	}{
		{"yaml", (*engine.Engine).Project},
		{"go", (*engine.Engine).Project},
		{"typescript", (*engine.Engine).TypeScript},
		{"python", (*engine.Engine).Python},
		{"java", (*engine.Engine).Java},
	} {
		t.Run(language.name, func(t *testing.T) {
			e := engine.New(t, bulkhead, azureNative)
			e.Setenv(newSubscription(t).Environment(planes.Deployer)...)
			s := language.project(e, e.Copy("examples/"+language.name))
			s.SetConfig("bundleFile", bundle)
			run := s.Preview().OK()
			got := map[string]map[string]any{}
			for urn, inputs := range run.Registered {
				if !strings.HasPrefix(urn, "pulumi:pulumi:Stack::") && !strings.HasPrefix(urn, "pulumi:providers:") {
					got[urn] = nameless(inputs)
				}
			}
			if want == nil {
				want = got
				t.Logf("%d resources", len(got))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("unlike the first language:\n%s", diff)
			}
		})
	}
}

// invented ends the names that azure-native makes up; roles have nothing but such.
var invented = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$`)

// nameless are inputs without what differs from stack to stack.
func nameless(inputs map[string]any) map[string]any {
	inputs = maps.Clone(inputs)
	for key, value := range inputs {
		if name, ok := value.(string); ok && strings.HasSuffix(key, "Name") {
			inputs[key] = invented.ReplaceAllString(name, "")
		}
	}
	return inputs
}

// TestClone: the program in the root of a clone finds the plugin that make build leaves in bin,
// and needs no configuration but the release.
func TestClone(t *testing.T) {
	e := engine.New(t, azureNative)
	e.Setenv(newSubscription(t).Environment(planes.Deployer)...)
	plugin, err := engine.Program(bulkhead.Package)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(filepath.Join(engine.Root(), "Pulumi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Pulumi.yaml"), program, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(plugin, filepath.Join(dir, "bin", "pulumi-resource-bulkhead")); err != nil {
		t.Fatal(err)
	}
	s := e.Project(dir)
	s.SetConfig("bundleFile", release(t, "0.1.0"))
	if run := s.Preview().OK(); run.Step("spoke-agents") == nil {
		t.Errorf("no agents' subnet\n%s", run.Text)
	}
}
