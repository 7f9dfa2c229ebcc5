package ruleset

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/components/blob"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Ruleset is one ordered ruleset: checked like `bulkhead policy check`, compared with the last one in
// words of what agents gain and lose, and published where the gateway polls it.
//
// A change that opens something warns in the preview. With `requireApproval` it is refused, until `approvedDigest` is the
// digest of exactly that ruleset.
type Ruleset struct {
	// Open is how the blob is reached; nil: as the deployer, on Azure.
	Open func(ctx context.Context, url string, say func(string)) (blob.Blob, error)
}

// Args are the inputs: a document, or a file with one.
type Args struct {
	Document
	// A file with the ruleset, YAML or JSON, instead of the fields of the document. A relative path begins at the program's directory.
	File *string `pulumi:"file,optional"`
	// Azure's service-tag file (`ServiceTags_Public_….json`). With it the preview says how many addresses a group opens. Default: none.
	ServiceTags *string `pulumi:"serviceTags,optional"`
	// The blob that the gateway polls, such as `https://ACCOUNT.blob.core.windows.net/policy/ruleset.json`. Absent: nothing is published.
	PublishURL *string `pulumi:"publishUrl,optional"`
	// Refuse a change that opens something, and the first ruleset, unless its digest is approved. Default: false.
	RequireApproval *bool `pulumi:"requireApproval,optional"`
	// The digest that was approved, as the refusal printed it.
	ApprovedDigest *string `pulumi:"approvedDigest,optional"`
	// What agents can reach, and by which rule. Filled in by the check; what a program writes here is ignored.
	Access map[string]string `pulumi:"access,optional"`
	// The document in canonical form (RFC 8785). Filled in by the check; what a program writes here is ignored.
	Canonical *string `pulumi:"canonical,optional"`
}

// State is what is known of a ruleset beside its inputs.
type State struct {
	Args
	// Names the ruleset by its content: `sha256:` and the hash of its canonical form.
	Digest string `pulumi:"digest"`
	// The number that it was published under, one higher each time. 0: not published.
	Serial int `pulumi:"serial"`
	// Where it was published.
	PublishedURL string `pulumi:"publishedUrl"`
}

// Annotate describes the resource.
func (r *Ruleset) Annotate(a infer.Annotator) {
	a.SetToken("index", "Ruleset")
	a.Describe(&r, comments.Of("Ruleset"))
}

// WireDependencies says what a preview knows: the digest, once the document is known. The rest is only
// so when it has been published.
func (r *Ruleset) WireDependencies(f infer.FieldSelector, in *Args, s *State) {
	if in.Canonical != nil {
		f.OutputField(&s.Digest).AlwaysKnown()
	}
}

// Check is `policy check`, each diagnostic on its property. What is known only after other resources
// were made is judged then.
func (r *Ruleset) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[Args], error) {
	inputs := req.NewInputs.Delete("access", "canonical")
	in, failures, err := infer.DefaultCheck[Args](ctx, inputs)
	if err != nil || len(failures) > 0 {
		return infer.CheckResponse[Args]{Inputs: in, Failures: failures}, err
	}
	if pending(inputs) {
		return infer.CheckResponse[Args]{Inputs: in}, nil
	}
	fail := func(path, reason string) {
		failures = append(failures, p.CheckFailure{Property: path, Reason: reason})
	}
	text, err := asGiven(inputs)
	switch {
	case in.File != nil && !in.Document.empty():
		fail("file", "both a file and fields of the document are given: keep one of them")
	case in.File != nil:
		if text, err = readFile(*in.File); err != nil {
			fail("file", err.Error())
		}
	case err != nil:
		fail("", err.Error())
	}
	if len(failures) > 0 {
		return infer.CheckResponse[Args]{Inputs: in, Failures: failures}, nil
	}
	canonical, diagnostics, err := check(text, or(in.ServiceTags))
	if err != nil {
		fail("", err.Error())
	}
	for _, d := range diagnostics {
		if d.Severity != policy.SeverityError {
			continue
		}
		path := d.Path
		if in.File != nil { // the document's properties are in the file
			path, d.Message = "file", d.String()
			d.Fix = ""
		}
		fail(path, strings.TrimSuffix(d.ID+": "+d.Message+"; "+d.Fix, "; "))
	}
	if len(failures) == 0 {
		rs, err := compile(canonical, or(in.ServiceTags))
		if err != nil {
			return infer.CheckResponse[Args]{}, err
		}
		in.Canonical, in.Access = &canonical, map[string]string{}
		for key, a := range policy.Diff(nothing, rs).Gained {
			in.Access[key] = a.String()
		}
	}
	return infer.CheckResponse[Args]{Inputs: in, Failures: failures}, nil
}

// asGiven is the document among the inputs. It is not taken from Args, because the engine's decoder leaves no
// difference between an empty list and none.
func asGiven(inputs property.Map) ([]byte, error) {
	doc := map[string]any{"version": 1, "rules": []any{}}
	for t, i := reflect.TypeFor[Document](), 0; i < t.NumField(); i++ {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("pulumi"), ",")
		if v := inputs.Get(name); !v.IsNull() {
			doc[name] = plain(v)
		}
	}
	return json.Marshal(doc)
}

// plain is a value without what the engine knows about it, such as that it is secret.
func plain(v property.Value) any {
	switch {
	case v.IsArray():
		list := []any{}
		for _, x := range v.AsArray().All {
			list = append(list, plain(x))
		}
		return list
	case v.IsMap():
		fields := map[string]any{}
		for key, x := range v.AsMap().All {
			if !x.IsNull() {
				fields[key] = plain(x)
			}
		}
		return fields
	case v.IsBool():
		return v.AsBool()
	case v.IsNumber():
		return v.AsNumber()
	case v.IsString():
		return v.AsString()
	}
	return nil
}

// readFile reads one byte more than a document may have, which is then refused as too long. A relative
// path begins where the engine starts the plugin, which is the program's directory.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxDocument+1))
}

// pending reports whether the document, or where it is read from, is not known yet.
func pending(inputs property.Map) bool {
	for key, v := range inputs.All {
		if key != "publishUrl" && key != "approvedDigest" && v.HasComputed() {
			return true
		}
	}
	return false
}

// Diff draws what is gained and lost, and says it in words.
func (r *Ruleset) Diff(ctx context.Context, req infer.DiffRequest[Args, State]) (infer.DiffResponse, error) {
	diff := p.DiffResponse{DetailedDiff: map[string]p.PropertyDiff{}}
	mark := func(path string, kind p.DiffKind) {
		diff.HasChanges = true
		diff.DetailedDiff[path] = p.PropertyDiff{Kind: kind, InputDiff: true}
	}
	was, is := &req.State.Args, &req.Inputs
	if want := or(is.PublishURL); or(was.PublishURL) != want || req.State.PublishedURL != want {
		mark("publishUrl", p.Update)
	}
	switch {
	case is.Canonical == nil: // not known before other resources are made
		mark("rules", p.Update)
		p.GetLogger(ctx).Warning(notYet)
		return diff, nil
	case or(was.Canonical) == *is.Canonical:
		return diff, nil
	}
	c, err := compare(was, is)
	if err != nil {
		return diff, err
	}
	for key, old := range was.Access {
		if now, there := is.Access[key]; !there {
			mark(path(key), p.Delete)
		} else if now != old {
			mark(path(key), p.Update)
		}
	}
	for key := range is.Access {
		if _, there := was.Access[key]; !there {
			mark(path(key), p.Add)
		}
	}
	if !diff.HasChanges || len(diff.DetailedDiff) == 0 { // the same access, otherwise written
		for _, field := range c.fields() {
			mark(field, p.Update)
		}
	}
	diff.HasChanges = true
	return diff, c.review(ctx, is)
}

const notYet = "What this ruleset permits depends on resources that do not exist yet: it is checked, compared and approved when they do."

// path is a key of the map as the engine reads paths.
func path(key string) string { return "access[" + strconv.Quote(key) + "]" }

// Create publishes the first version.
func (r *Ruleset) Create(ctx context.Context, req infer.CreateRequest[Args]) (infer.CreateResponse[State], error) {
	s := State{Args: req.Inputs}
	if req.Inputs.Canonical == nil {
		if !req.DryRun {
			return infer.CreateResponse[State]{}, fmt.Errorf("the ruleset has values that nobody knows")
		}
		p.GetLogger(ctx).Warning(notYet)
		return infer.CreateResponse[State]{Output: s}, nil
	}
	c, err := compare(&Args{}, &req.Inputs)
	if err != nil {
		return infer.CreateResponse[State]{}, err
	}
	if req.DryRun {
		err = c.review(ctx, &req.Inputs)
	} else {
		err = c.approved(&req.Inputs)
	}
	if err != nil {
		return infer.CreateResponse[State]{}, err
	}
	s.Digest = c.after.Digest()
	if req.DryRun {
		return infer.CreateResponse[State]{ID: req.Name, Output: s}, nil
	}
	err = r.publish(ctx, &s, &State{})
	return infer.CreateResponse[State]{ID: req.Name, Output: s}, err
}

// Update publishes the next version.
func (r *Ruleset) Update(ctx context.Context, req infer.UpdateRequest[Args, State]) (infer.UpdateResponse[State], error) {
	s := State{Args: req.Inputs, Digest: req.State.Digest, Serial: req.State.Serial, PublishedURL: req.State.PublishedURL}
	if req.Inputs.Canonical == nil {
		if !req.DryRun {
			return infer.UpdateResponse[State]{}, fmt.Errorf("the ruleset has values that nobody knows")
		}
		return infer.UpdateResponse[State]{Output: s}, nil
	}
	c, err := compare(&req.State.Args, &req.Inputs)
	if err == nil {
		err = c.approved(&req.Inputs)
	}
	if err != nil {
		return infer.UpdateResponse[State]{}, err
	}
	s.Digest = c.after.Digest()
	if req.DryRun {
		return infer.UpdateResponse[State]{Output: s}, nil
	}
	err = r.publish(ctx, &s, &req.State)
	return infer.UpdateResponse[State]{Output: s}, err
}

// Read finds out what is published now, so that a refresh shows what somebody changed by hand.
func (r *Ruleset) Read(ctx context.Context, req infer.ReadRequest[Args, State]) (infer.ReadResponse[Args, State], error) {
	resp := infer.ReadResponse[Args, State](req)
	if req.State.PublishedURL == "" {
		return resp, nil
	}
	published, err := r.fetch(ctx, req.State.PublishedURL)
	switch {
	case err != nil:
		return resp, err
	case published == nil: // publish it again, under a number that gateways take
		resp.State.PublishedURL = ""
		return resp, nil
	}
	resp.State.Serial = max(resp.State.Serial, serialOf(published))
	if string(published.Body) == or(req.State.Canonical) {
		return resp, nil
	}
	found, _, err := check(published.Body, "")
	if err != nil {
		return resp, err
	}
	if found == "" {
		p.GetLogger(ctx).Warning("What is published is no ruleset. The gateway keeps the last good one; an update publishes this one again.")
		resp.State.Canonical, resp.State.Access = nil, nil
		return resp, nil
	}
	rs, err := compile(found, "")
	if err != nil { // beyond what a gateway can load
		p.GetLogger(ctx).Warning(fmt.Sprintf("What is published is refused by gateways, which keep the last good one: %v", err))
		resp.State.Canonical, resp.State.Access = &found, nil
		return resp, nil
	}
	resp.State.Canonical, resp.State.Digest, resp.State.Access = &found, rs.Digest(), map[string]string{}
	for key, a := range policy.Diff(nothing, rs).Gained {
		resp.State.Access[key] = a.String()
	}
	return resp, nil
}

// Delete leaves the blob, which goes with its storage account. A gateway that still runs must not
// lose what it enforces.
func (r *Ruleset) Delete(context.Context, infer.DeleteRequest[State]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, nil
}

func or[T any](v *T) T {
	if v == nil {
		return reflect.Zero(reflect.TypeFor[T]()).Interface().(T)
	}
	return *v
}
