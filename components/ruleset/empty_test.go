package ruleset

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestEmptyListsAreRefused holds that a list which a program left empty does not mean "any".
func TestEmptyListsAreRefused(t *testing.T) {
	r := newRig(t)
	empty := property.New([]property.Value{})
	for _, field := range []string{"sources", "destinations", "webGroups", "ports", "headers"} {
		in := typed(t, example(t), nil)
		rules := in.Get("rules").AsArray().AsSlice()
		rules[3] = property.New(rules[3].AsMap().Set(field, empty))
		c := r.check(t, in.Set("rules", property.New(rules)))
		if len(c.Failures) == 0 || c.Failures[0].Property != "rules[3]."+field {
			t.Errorf("%s: %v", field, c.Failures)
		}
	}
	for _, field := range []string{"methods", "paths"} {
		in := typed(t, example(t), nil)
		groups := in.Get("webGroups").AsArray().AsSlice()
		u := groups[1].AsMap().Get("urls").AsArray().Get(0).AsMap().Set(field, empty)
		groups[1] = property.New(groups[1].AsMap().Set("urls", property.New([]property.Value{property.New(u)})))
		c := r.check(t, in.Set("webGroups", property.New(groups)))
		if len(c.Failures) == 0 || c.Failures[0].Property != "webGroups[1].urls[0]."+field {
			t.Errorf("%s: %v", field, c.Failures)
		}
	}
}

// mutate changes one thing somewhere in a document: a list loses an element or has its first two swapped, a text or a
// number becomes another one of the document, a field goes.
func mutate(rnd *rand.Rand, v any) any {
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		key := keys[rnd.IntN(len(keys))]
		if rnd.IntN(8) == 0 {
			delete(v, key)
		} else {
			v[key] = mutate(rnd, v[key])
		}
		return v
	case []any:
		switch {
		case len(v) == 0:
		case rnd.IntN(6) == 0:
			return slices.Delete(v, 0, 1)
		case rnd.IntN(6) == 0 && len(v) > 1:
			v[0], v[1] = v[1], v[0]
		default:
			i := rnd.IntN(len(v))
			v[i] = mutate(rnd, v[i])
		}
		return v
	case string:
		others := []string{"PERMIT", "DENY", "monitor", "enforce", "optional", "DECRYPT_ALLOWED", "api.example.net", "10.9.0.0/16", "tcp/8443", "GET", "internet", v}
		return others[rnd.IntN(len(others))]
	case float64:
		return float64(rnd.IntN(12))
	}
	return v
}

// TestDiffIsTheDigest holds, for documents that random changes make of the example, that a difference is
// drawn if and only if the digest is another one, that every path drawn is one that the engine can read, and that a
// change of approval alone is none.
func TestDiffIsTheDigest(t *testing.T) {
	r := newRig(t)
	first := r.check(t, typed(t, example(t), nil)).Inputs
	made, err := r.Create(p.CreateRequest{Urn: urn, Properties: first})
	if err != nil {
		t.Fatal(err)
	}
	judged, same := 0, 0
	for seed := range uint64(250) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		var doc any
		if err := json.Unmarshal([]byte(first.Get("canonical").AsString()), &doc); err != nil {
			t.Fatal(err)
		}
		for range 1 + rnd.IntN(2) {
			doc = mutate(rnd, doc)
		}
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Decode(text); err != nil {
			continue
		}
		c := r.check(t, typed(t, string(text), map[string]any{"approvedDigest": "sha256:0"}))
		if len(c.Failures) > 0 {
			continue
		}
		judged++
		d, err := r.Diff(p.DiffRequest{Urn: urn, State: made.Properties, Inputs: c.Inputs, OldInputs: first})
		if err != nil {
			t.Fatal(err)
		}
		other, err := r.Create(p.CreateRequest{Urn: urn, Properties: c.Inputs, DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		equal := other.Properties.Get("digest").Equals(made.Properties.Get("digest"))
		if equal {
			same++
		}
		if equal == d.HasChanges || d.HasChanges != (len(d.DetailedDiff) > 0) {
			t.Errorf("the digests are equal: %v, changes: %v %v\n%s", equal, d.HasChanges, d.DetailedDiff, text)
		}
	}
	if judged-same < 20 || same < 5 {
		t.Errorf("%d documents judged, %d of them the same: too few to say anything", judged, same)
	}
}
