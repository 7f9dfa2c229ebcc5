package ruleset

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/blang/semver"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/integration"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/components/blob"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// store is a blob in memory, with the ETags of a real one. It proves nothing of Azure: tests/twin has the
// official client and a real blob service.
type store struct {
	object *blob.Object
	n      int
	deaf   bool // the next write happens, and its answer is lost
}

func (s *store) Get(context.Context, int64) (*blob.Object, error) {
	if s.object == nil {
		return nil, blob.ErrAbsent
	}
	o := *s.object
	return &o, nil
}

func (s *store) Put(_ context.Context, body []byte, _ string, metadata map[string]string, etag string) error {
	if (s.object == nil) != (etag == "") || s.object != nil && etag != s.object.ETag {
		return blob.ErrChanged
	}
	s.n++
	s.object = &blob.Object{Body: body, ETag: fmt.Sprint(s.n), Metadata: metadata}
	if s.deaf {
		s.deaf = false
		return blob.ErrChanged
	}
	return nil
}

// rig is the resource behind the plugin's protocol.
type rig struct {
	integration.Server
	store *store
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{store: &store{}}
	res := &Ruleset{Open: func(context.Context, string, func(string)) (blob.Blob, error) { return r.store, nil }}
	provider, err := infer.NewProviderBuilder().WithNamespace("test").WithResources(infer.Resource(res)).
		WithModuleMap(map[tokens.ModuleName]tokens.ModuleName{"ruleset": "index"}).Build()
	if err != nil {
		t.Fatal(err)
	}
	r.Server, err = integration.NewServer(t.Context(), "bulkhead", semver.MustParse("0.1.0"), integration.WithProvider(provider))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var urn = resource.NewURN("dev", "test", "", "bulkhead:index:Ruleset", "policy")

func (r *rig) check(t *testing.T, in property.Map) p.CheckResponse {
	t.Helper()
	c, err := r.Check(p.CheckRequest{Urn: urn, Inputs: in})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// typed is a document as a program in any language sends it.
func typed(t *testing.T, text string, more map[string]any) property.Map {
	t.Helper()
	doc, err := policy.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := policy.Encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(canonical, &m); err != nil {
		t.Fatal(err)
	}
	maps.Copy(m, more)
	return resource.FromResourcePropertyMap(resource.NewPropertyMapFromMap(m))
}

func example(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../examples/ruleset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFields holds the typed document and what gateway/policy reads to the same fields.
func TestFields(t *testing.T) {
	var same func(path string, ours, theirs reflect.Type)
	same = func(path string, ours, theirs reflect.Type) {
		for ours.Kind() == reflect.Pointer || ours.Kind() == reflect.Slice {
			ours = ours.Elem()
		}
		for theirs.Kind() == reflect.Pointer || theirs.Kind() == reflect.Slice {
			theirs = theirs.Elem()
		}
		if ours.Kind() != reflect.Struct {
			return
		}
		names := func(typ reflect.Type, tag string) map[string]reflect.Type {
			all := map[string]reflect.Type{}
			for i := range typ.NumField() {
				name, _, _ := strings.Cut(typ.Field(i).Tag.Get(tag), ",")
				all[name] = typ.Field(i).Type
			}
			return all
		}
		mine, wire, read := names(ours, "pulumi"), names(ours, "json"), names(theirs, "json")
		a, b, c := slices.Sorted(maps.Keys(mine)), slices.Sorted(maps.Keys(wire)), slices.Sorted(maps.Keys(read))
		if !slices.Equal(a, c) || !slices.Equal(b, c) {
			t.Errorf("%s: properties %v, in JSON %v, gateway/policy reads %v", path, a, b, c)
		}
		for name, typ := range mine {
			if theirs, ok := read[name]; ok {
				same(path+"."+name, typ, theirs)
			}
		}
	}
	same("document", reflect.TypeFor[Document](), reflect.TypeFor[policy.Document]())
}

// TestTypedAndFile holds that a ruleset is the same, whichever way it is given.
func TestTypedAndFile(t *testing.T) {
	r := newRig(t)
	file := filepath.Join(t.TempDir(), "ruleset.yaml")
	if err := os.WriteFile(file, []byte(example(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	a := r.check(t, typed(t, example(t), nil))
	b := r.check(t, property.NewMap(map[string]property.Value{"file": property.New(file)}))
	if len(a.Failures)+len(b.Failures) > 0 {
		t.Fatal(a.Failures, b.Failures)
	}
	if a.Inputs.Get("canonical").AsString() != b.Inputs.Get("canonical").AsString() || !a.Inputs.Get("access").Equals(b.Inputs.Get("access")) {
		t.Error("they differ")
	}
	if rule := a.Inputs.Get("access").AsMap().Get("api.github.com:443").AsString(); rule != "allow-tool-calls, decrypted" {
		t.Errorf("access by %q", rule)
	}
	both := r.check(t, b.Inputs.Set("rules", property.New(a.Inputs.Get("rules").AsArray())))
	if len(both.Failures) != 1 || both.Failures[0].Property != "file" {
		t.Error(both.Failures)
	}
}

func TestCheckFailures(t *testing.T) {
	r := newRig(t)
	for what, tc := range map[string]struct {
		change func(m property.Map) property.Map
		path   string
		says   string
	}{
		"a dangling name": {func(m property.Map) property.Map {
			rules := m.Get("rules").AsArray()
			rule := rules.Get(3).AsMap().Set("webGroups", property.New([]property.Value{property.New("foundry-toolcalls")}))
			all := rules.AsSlice()
			all[3] = property.New(rule)
			return m.Set("rules", property.New(all))
		}, "rules[3].webGroups[0]", `did you mean "foundry-tool-calls"`},
		"a default that permits": {func(m property.Map) property.Map {
			return m.Set("default", property.New(map[string]property.Value{"action": property.New("PERMIT")}))
		}, "default.action", "DENY"},
		"a file that is not there": {func(property.Map) property.Map {
			return property.NewMap(map[string]property.Value{"file": property.New("nowhere.yaml")})
		}, "file", "no such file"},
	} {
		c := r.check(t, tc.change(typed(t, example(t), nil)))
		if len(c.Failures) == 0 || c.Failures[0].Property != tc.path || !strings.Contains(c.Failures[0].Reason, tc.says) {
			t.Errorf("%s: %+v", what, c.Failures)
		}
	}
}

// TestUnknown holds that values of resources that do not exist yet are waited for.
func TestUnknown(t *testing.T) {
	r := newRig(t)
	in := typed(t, example(t), nil).Set("smartGroups", property.New(property.Computed))
	c := r.check(t, in)
	if len(c.Failures) > 0 || !c.Inputs.Get("canonical").IsNull() {
		t.Fatal(c.Failures, c.Inputs.Get("canonical"))
	}
	if _, err := r.Create(p.CreateRequest{Urn: urn, Properties: c.Inputs, DryRun: true}); err != nil {
		t.Error(err)
	}
}

const blobURL = "https://account.blob.core.windows.net/policy/ruleset.json"

// TestLifecycle publishes, changes, and finds what somebody else changed.
func TestLifecycle(t *testing.T) {
	r := newRig(t)
	first := r.check(t, typed(t, example(t), map[string]any{"publishUrl": blobURL}))
	made, err := r.Create(p.CreateRequest{Urn: urn, Properties: first.Inputs})
	if err != nil {
		t.Fatal(err)
	}
	if made.Properties.Get("serial").AsNumber() != 1 || r.store.object.Metadata["serial"] != "1" || string(r.store.object.Body) != first.Inputs.Get("canonical").AsString() {
		t.Fatalf("%v, %+v", made.Properties.Get("serial"), r.store.object)
	}
	same, err := r.Diff(p.DiffRequest{Urn: urn, State: made.Properties, Inputs: first.Inputs, OldInputs: first.Inputs})
	if err != nil || same.HasChanges {
		t.Fatal(same, err)
	}

	// A host in the middle of the list is one line.
	changed := strings.Replace(example(t), "fqdns: [api.github.com]", "fqdns: [api.example.net, api.github.com]", 1)
	second := r.check(t, typed(t, changed, map[string]any{"publishUrl": blobURL}))
	diff, err := r.Diff(p.DiffRequest{Urn: urn, State: made.Properties, Inputs: second.Inputs, OldInputs: first.Inputs})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]p.PropertyDiff{`access["api.example.net:443"]`: {Kind: p.Add, InputDiff: true}}
	if !reflect.DeepEqual(diff.DetailedDiff, want) || !diff.HasChanges {
		t.Errorf("%+v", diff.DetailedDiff)
	}
	updated, err := r.Update(p.UpdateRequest{ID: "policy", Urn: urn, State: made.Properties, Inputs: second.Inputs, OldInputs: first.Inputs})
	if err != nil || r.store.object.Metadata["serial"] != "2" {
		t.Fatal(err, r.store.object)
	}
	// Tried again, as after a lost answer, it is not written twice.
	if _, err = r.Update(p.UpdateRequest{ID: "policy", Urn: urn, State: made.Properties, Inputs: second.Inputs, OldInputs: first.Inputs}); err != nil || r.store.object.Metadata["serial"] != "2" {
		t.Error(err, r.store.object)
	}

	// Somebody publishes by hand: an update does not overwrite it unseen, a refresh shows it.
	r.store.object = &blob.Object{Body: []byte(first.Inputs.Get("canonical").AsString()), ETag: "x", Metadata: map[string]string{"serial": "9"}}
	third := r.check(t, typed(t, strings.Replace(changed, "api.example.net, ", "", 1), map[string]any{"publishUrl": blobURL, "mode": "monitor"}))
	if _, err := r.Update(p.UpdateRequest{ID: "policy", Urn: urn, State: updated.Properties, Inputs: third.Inputs, OldInputs: second.Inputs}); err == nil || !strings.Contains(err.Error(), "pulumi refresh") {
		t.Error(err)
	}
	read, err := r.Read(p.ReadRequest{ID: "policy", Urn: urn, Properties: updated.Properties, Inputs: second.Inputs})
	if err != nil || read.Properties.Get("serial").AsNumber() != 9 || read.Properties.Get("digest").AsString() != made.Properties.Get("digest").AsString() {
		t.Fatal(err, read.Properties.Get("digest"))
	}
	diff, err = r.Diff(p.DiffRequest{Urn: urn, State: read.Properties, Inputs: second.Inputs, OldInputs: second.Inputs})
	if err != nil || !reflect.DeepEqual(diff.DetailedDiff, want) {
		t.Error(err, diff.DetailedDiff)
	}
	if _, err := r.Update(p.UpdateRequest{ID: "policy", Urn: urn, State: read.Properties, Inputs: second.Inputs, OldInputs: second.Inputs}); err != nil || r.store.object.Metadata["serial"] != "10" {
		t.Error(err, r.store.object)
	}
	// Gone is published again, under a number of its own.
	r.store.object = nil
	read, err = r.Read(p.ReadRequest{ID: "policy", Urn: urn, Properties: updated.Properties, Inputs: second.Inputs})
	if err != nil {
		t.Fatal(err)
	}
	if diff, err = r.Diff(p.DiffRequest{Urn: urn, State: read.Properties, Inputs: second.Inputs, OldInputs: second.Inputs}); err != nil || !diff.HasChanges {
		t.Error(diff, err)
	}
}

// TestApproval holds what opens something until exactly that ruleset is approved.
func TestApproval(t *testing.T) {
	base := example(t)
	for what, tc := range map[string]struct {
		change *strings.Replacer
		widens bool
	}{
		"one host more":                      {strings.NewReplacer("fqdns: [api.github.com]", "fqdns: [api.github.com, api.example.net]"), true},
		"one host fewer":                     {strings.NewReplacer("fqdns: [api.github.com]", "fqdns: []"), false},
		"another host":                       {strings.NewReplacer("fqdns: [api.github.com]", "fqdns: [api.example.net]"), true},
		"one path more":                      {strings.NewReplacer(`paths: ["/mcp"]`, `paths: ["/mcp", "/admin"]`), true},
		"a wider group of permits":           {strings.NewReplacer("cidrs: [100.64.0.0/11]", "cidrs: [100.64.0.0/10]"), true},
		"a smaller one":                      {strings.NewReplacer("cidrs: [100.64.0.0/11]", "cidrs: [100.64.0.0/12]"), false},
		"a deny that is gone":                {strings.NewReplacer("  - {name: deny-threat-intel,       priority: 1, sources: [foundry-agents], destinations: [default-threatgroup], action: DENY}\n", "", "threatGroups:\n  - {name: default-threatgroup, feeds: [{name: ipsum, format: netset, url: \"https://raw.githubusercontent.com/stamparm/ipsum/master/levels/3.txt\"}]}\n", ""), true},
		"a monitored default":                {strings.NewReplacer("default: {action: DENY, mode: enforce}", "default: {action: DENY, mode: monitor}"), true},
		"a monitored deny":                   {strings.NewReplacer("destinations: [default-threatgroup], action: DENY", "destinations: [default-threatgroup], action: DENY, mode: monitor"), true},
		"a permit before a deny":             {strings.NewReplacer("name: allow-tool-calls,        priority: 4", "name: allow-tool-calls,        priority: 0"), true},
		"other priorities in the same order": {strings.NewReplacer("name: deny-east-west,          priority: 7", "name: deny-east-west,          priority: 70"), false},
		"any method":                         {strings.NewReplacer(`methods: [POST], `, ""), true},
		"another method":                     {strings.NewReplacer(`methods: [POST]`, "methods: [GET]"), true},
		"a budget":                           {strings.NewReplacer("action: PERMIT, decrypt: DECRYPT_ALLOWED", "action: PERMIT, budget: {bytesOut: 1000, window: 24h}, decrypt: DECRYPT_ALLOWED"), false},
		"any certificate":                    {strings.NewReplacer("action: PERMIT, decrypt: DECRYPT_ALLOWED", "action: PERMIT, originCertificate: ignore, decrypt: DECRYPT_ALLOWED"), true},
		"a header that is set":               {strings.NewReplacer("action: PERMIT, decrypt: DECRYPT_ALLOWED", "action: PERMIT, headers: [{name: X-Team, set: agents}], decrypt: DECRYPT_ALLOWED"), true},
		"a header that is required":          {strings.NewReplacer("action: PERMIT, decrypt: DECRYPT_ALLOWED", "action: PERMIT, headers: [{name: X-Team, require: [agents]}], decrypt: DECRYPT_ALLOWED"), false},
		"a feed read otherwise":              {strings.NewReplacer("format: netset", "format: domains"), true},
		"a name more to resolve":             {strings.NewReplacer(`names: ["*.openai.azure.com"`, `names: ["*.example.net", "*.openai.azure.com"`), true},
		"other answers":                      {strings.NewReplacer("answers: [private-endpoints]", "answers: [private-endpoints, agent-infra]"), true},
		"a tag more":                         {strings.NewReplacer("AzureActiveDirectory]", "AzureActiveDirectory, AzureMonitor]"), true},
		"not recorded":                       {strings.NewReplacer("action: PERMIT, decrypt: DECRYPT_ALLOWED", "action: PERMIT, log: false, decrypt: DECRYPT_ALLOWED"), false},
		"everything is watched":              {strings.NewReplacer("mode: enforce                     # ", "mode: monitor # "), true},
		"a new deny":                         {strings.NewReplacer("rules:\n", "rules:\n  - {name: deny-paste, priority: 100, destinations: [other-spoke-resources], action: DENY}\n"), false},
		"less is read":                       {strings.NewReplacer("\n    urls:                                       # need decryption\n      - {host: mcp.contoso.com, methods: [POST], paths: [\"/mcp\"]}", "", "action: PERMIT, decrypt: DECRYPT_ALLOWED", "action: PERMIT"), true},
	} {
		t.Run(what, func(t *testing.T) {
			text := tc.change.Replace(base)
			if text == base {
				t.Fatal("the example has changed: this test no longer tests what it says")
			}
			r := newRig(t)
			ask := map[string]any{"requireApproval": true}
			first := r.check(t, typed(t, base, ask))
			_, err := r.Create(p.CreateRequest{Urn: urn, Properties: first.Inputs, DryRun: true})
			if err == nil {
				t.Fatal("the first ruleset was not held")
			}
			_, digest, _ := strings.Cut(err.Error(), "set approvedDigest to ")
			first.Inputs = first.Inputs.Set("approvedDigest", property.New(digest))
			made, err := r.Create(p.CreateRequest{Urn: urn, Properties: first.Inputs})
			if err != nil {
				t.Fatal(err)
			}
			second := r.check(t, typed(t, text, map[string]any{"requireApproval": true, "approvedDigest": digest}))
			if len(second.Failures) > 0 {
				t.Fatal(second.Failures)
			}
			_, err = r.Diff(p.DiffRequest{Urn: urn, State: made.Properties, Inputs: second.Inputs, OldInputs: first.Inputs})
			if (err != nil) != tc.widens {
				t.Fatalf("held: %v", err)
			}
			if err == nil {
				return
			}
			if _, err := r.Update(p.UpdateRequest{ID: "policy", Urn: urn, State: made.Properties, Inputs: second.Inputs, OldInputs: first.Inputs}); err == nil {
				t.Error("an update without a preview was not held")
			}
			_, digest, _ = strings.Cut(err.Error(), "set approvedDigest to ")
			second.Inputs = second.Inputs.Set("approvedDigest", property.New(digest))
			if _, err := r.Diff(p.DiffRequest{Urn: urn, State: made.Properties, Inputs: second.Inputs, OldInputs: first.Inputs}); err != nil {
				t.Error(err)
			}
		})
	}
}
