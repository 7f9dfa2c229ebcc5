package twin

import (
	"compress/gzip"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-dev/bulkhead/tests/twin/cloud"
	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
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
			e := engine.New(t, bulkhead, azure)
			e.Setenv(cloud.New(t).Environment()...)
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

// release is a gateway's release archive as far as the deployment looks at it.
func release(t *testing.T, version string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "bulkhead-gateway_"+version+"_linux_amd64.tar.gz")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	if _, err := z.Write([]byte(version)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}
