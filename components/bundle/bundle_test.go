package bundle

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blang/semver"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi-go-provider/integration"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/components/blob"
)

// shelf is a container in memory. It proves nothing of Azure: tests/twin has the official client and
// a real blob service.
type shelf map[string][]byte

type place struct {
	shelf shelf
	url   string
}

func (p place) Get(context.Context, int64) (*blob.Object, error) {
	body := p.shelf[p.url]
	if body == nil {
		return nil, blob.ErrAbsent
	}
	return &blob.Object{Body: body, ETag: string(body)}, nil
}

func (p place) Put(_ context.Context, body []byte, _ string, _ map[string]string, etag string) error {
	if string(p.shelf[p.url]) != etag {
		return blob.ErrChanged
	}
	p.shelf[p.url] = body
	return nil
}

func TestGatewayBundle(t *testing.T) {
	on := shelf{}
	res := &GatewayBundle{Open: func(_ context.Context, url string, _ func(string)) (blob.Blob, error) { return place{on, url}, nil }}
	provider, err := infer.NewProviderBuilder().WithNamespace("test").WithResources(infer.Resource(res)).Build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := integration.NewServer(t.Context(), "bulkhead", semver.MustParse("0.1.0"), integration.WithProvider(provider))
	if err != nil {
		t.Fatal(err)
	}
	urn := resource.NewURN("dev", "test", "", "bulkhead:index:GatewayBundle", "release")
	file := filepath.Join(t.TempDir(), "bulkhead-gateway_0.1.0_linux_amd64.tar.gz")
	in := property.NewMap(map[string]property.Value{
		"file": property.New(file), "containerUrl": property.New("https://a.blob.core.windows.net/bundle"),
	})
	check := func(wantFailure string) property.Map {
		t.Helper()
		c, err := s.Check(p.CheckRequest{Urn: urn, Inputs: in})
		if err != nil {
			t.Fatal(err)
		}
		if (wantFailure != "") != (len(c.Failures) > 0) || wantFailure != "" && !strings.Contains(c.Failures[0].Reason, wantFailure) {
			t.Fatalf("%q: %v", wantFailure, c.Failures)
		}
		return c.Inputs
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check("make bundle")
	write("#!/bin/sh")
	check("no gzip archive")
	write("\x1f\x8bone")
	checked := check("")
	made, err := s.Create(p.CreateRequest{Urn: urn, Properties: checked})
	if err != nil {
		t.Fatal(err)
	}
	url := made.Properties.Get("url").AsString()
	if string(on[url]) != "\x1f\x8bone" || !strings.Contains(url, made.Properties.Get("sha256").AsString()) || made.Properties.Get("version").AsString() != "0.1.0" {
		t.Errorf("%v: %q", made.Properties, on)
	}
	if d, err := s.Diff(p.DiffRequest{Urn: urn, State: made.Properties, Inputs: check("")}); err != nil || d.HasChanges {
		t.Error(d, err)
	}
	// What is there is seen, and put right.
	read := func() p.ReadResponse {
		t.Helper()
		r, err := s.Read(p.ReadRequest{ID: made.ID, Urn: urn, Properties: made.Properties, Inputs: checked})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := read(); r.ID != made.ID || !r.Properties.Equals(made.Properties) {
		t.Errorf("read %v, made %v", r.Properties, made.Properties)
	}
	on[url] = []byte("\x1f\x8bevil")
	replaced := read()
	if d, err := s.Diff(p.DiffRequest{Urn: urn, State: replaced.Properties, Inputs: checked}); err != nil || d.DetailedDiff["sha256"].Kind != p.Update {
		t.Error("another archive under the name is no change:", d, err)
	}
	if _, err := s.Update(p.UpdateRequest{ID: made.ID, Urn: urn, State: replaced.Properties, Inputs: checked}); err != nil || string(on[url]) != "\x1f\x8bone" {
		t.Errorf("%v: %q", err, on)
	}
	delete(on, url)
	if r := read(); r.ID != "" {
		t.Errorf("gone, and read as %v", r)
	}
	on[url] = []byte("\x1f\x8bone")
	// Another archive under the same name is a change, and the first stays for whoever runs it.
	write("\x1f\x8btwo")
	second := check("")
	if d, err := s.Diff(p.DiffRequest{Urn: urn, State: made.Properties, Inputs: second}); err != nil || d.DetailedDiff["sha256"].Kind != p.Update {
		t.Error(d, err)
	}
	for range 2 { // what is there is not written again
		if _, err := s.Update(p.UpdateRequest{ID: made.ID, Urn: urn, State: made.Properties, Inputs: second}); err != nil || len(on) != 2 {
			t.Error(err, len(on))
		}
	}
	// Changed between preview and update, it is not published.
	write("\x1f\x8bthree")
	if _, err := s.Update(p.UpdateRequest{ID: made.ID, Urn: urn, State: made.Properties, Inputs: second}); err == nil || len(on) != 2 {
		t.Error(err, len(on))
	}
}
