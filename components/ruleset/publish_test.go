package ruleset

import (
	"strings"
	"testing"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/components/blob"
)

// published is a rig with one ruleset published under a number.
func published(t *testing.T, serial string) (r *rig, made p.CreateResponse, in property.Map) {
	t.Helper()
	r = newRig(t)
	in = r.check(t, typed(t, example(t), map[string]any{"publishUrl": blobURL})).Inputs
	made, err := r.Create(p.CreateRequest{Urn: urn, Properties: in})
	if err != nil {
		t.Fatal(err)
	}
	r.store.object.Metadata[serialKey] = serial
	read, err := r.Read(p.ReadRequest{ID: "policy", Urn: urn, Properties: made.Properties, Inputs: in})
	if err != nil {
		t.Fatal(err)
	}
	made.Properties = read.Properties
	return r, made, in
}

// other is a ruleset that is not the example.
func other(t *testing.T, r *rig) property.Map {
	t.Helper()
	return r.check(t, typed(t, strings.Replace(example(t), "api.github.com", "api.example.net", 1), map[string]any{"publishUrl": blobURL})).Inputs
}

// TestNumbersNeverGoDown holds that gateways, which refuse a number below the last one, take what is published after
// whatever happened to the blob.
func TestNumbersNeverGoDown(t *testing.T) {
	for what, happens := range map[string]func(r *rig){
		"it was deleted":               func(r *rig) { r.store.object = nil },
		"it was written by hand":       func(r *rig) { r.store.object = &blob.Object{Body: []byte("version: 1\nrules: []\n"), ETag: "x"} },
		"it is no ruleset any more":    func(r *rig) { r.store.object = &blob.Object{Body: []byte("<html>"), ETag: "x"} },
		"its number went down":         func(r *rig) { r.store.object.Metadata[serialKey] = "2" },
		"its number is no number":      func(r *rig) { r.store.object.Metadata[serialKey] = "99999999999999999999" },
		"it lost its number":           func(r *rig) { r.store.object.Metadata = nil },
		"nothing":                      func(*rig) {},
		"somebody else published more": func(r *rig) { r.store.object.Metadata[serialKey] = "7" },
	} {
		t.Run(what, func(t *testing.T) {
			r, made, in := published(t, "7")
			happens(r)
			read, err := r.Read(p.ReadRequest{ID: "policy", Urn: urn, Properties: made.Properties, Inputs: in})
			if err != nil {
				t.Fatal(err)
			}
			if what == "it was deleted" || what == "it is no ruleset any more" {
				if d, err := r.Diff(p.DiffRequest{Urn: urn, State: read.Properties, Inputs: in, OldInputs: in}); err != nil || !d.HasChanges {
					t.Error("a refresh does not show it", err)
				}
			}
			u, err := r.Update(p.UpdateRequest{ID: "policy", Urn: urn, State: read.Properties, Inputs: other(t, r), OldInputs: in})
			if err != nil || u.Properties.Get("serial").AsNumber() != 8 || r.store.object.Metadata[serialKey] != "8" {
				t.Error(err, u.Properties.Get("serial"), r.store.object.Metadata)
			}
		})
	}
}

// TestNobodyIsOverwrittenUnseen holds that what somebody else wrote stays until a refresh has shown it, whatever
// number they left on it.
func TestNobodyIsOverwrittenUnseen(t *testing.T) {
	for _, number := range []string{"1", "7", "8", ""} {
		r, made, in := published(t, "7")
		theirs := []byte("version: 1\nrules: []\n")
		r.store.object = &blob.Object{Body: theirs, ETag: "x", Metadata: map[string]string{serialKey: number}}
		_, err := r.Update(p.UpdateRequest{ID: "policy", Urn: urn, State: made.Properties, Inputs: other(t, r), OldInputs: in})
		if err == nil || !strings.Contains(err.Error(), "pulumi refresh") || string(r.store.object.Body) != string(theirs) {
			t.Errorf("number %q: %v, %s", number, err, r.store.object.Body)
		}
	}
}

// TestLostAnswer holds that a write whose answer was lost, so that the client's next attempt finds the blob changed, is
// known as one's own.
func TestLostAnswer(t *testing.T) {
	r, made, in := published(t, "7")
	r.store.deaf = true
	u, err := r.Update(p.UpdateRequest{ID: "policy", Urn: urn, State: made.Properties, Inputs: other(t, r), OldInputs: in})
	if err != nil || u.Properties.Get("serial").AsNumber() != 8 {
		t.Error(err, u.Properties.Get("serial"))
	}
}

// TestPreviewKnowsTheDigest holds that a pipeline can show what is to be approved, and that nothing of
// the publication is claimed before it happened.
func TestPreviewKnowsTheDigest(t *testing.T) {
	r, made, in := published(t, "7")
	next := other(t, r)
	c, err := r.Create(p.CreateRequest{Urn: urn, Properties: in, DryRun: true})
	if err != nil || !c.Properties.Get("digest").Equals(made.Properties.Get("digest")) || !c.Properties.Get("serial").IsComputed() {
		t.Error(err, c.Properties.Get("digest"), c.Properties.Get("serial"))
	}
	u, err := r.Update(p.UpdateRequest{ID: "policy", Urn: urn, State: made.Properties, Inputs: next, OldInputs: in, DryRun: true})
	if digest := u.Properties.Get("digest"); err != nil || !digest.IsString() || digest.Equals(made.Properties.Get("digest")) || !u.Properties.Get("serial").IsComputed() {
		t.Error(err, digest, u.Properties.Get("serial"))
	}
	unknown, err := r.Create(p.CreateRequest{Urn: urn, Properties: in.Delete("canonical", "access").Set("smartGroups", property.New(property.Computed)), DryRun: true})
	if err != nil || !unknown.Properties.Get("digest").IsComputed() {
		t.Error(err, unknown.Properties.Get("digest"))
	}
}
