package twin

import (
	"maps"
	"slices"
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
					got[urn] = inputs
				}
			}
			if want == nil {
				want = got
				t.Log(len(got), slices.Sorted(maps.Keys(got)))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("unlike the first language:\n%s", diff)
			}
		})
	}
}
