// Package bundle has the custom resource GatewayBundle: the gateway's release archive (`make bundle`), published in
// a container of the storage account that the gateway's machine reads.
//
// The blob is named after the archive's SHA-256, so that it never changes once it is there and an
// old release stays available to a machine that still runs it. The machine unpacks an archive only if its digest is
// the one in its user data (gateway/image).
package bundle

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"

	"github.com/bulkhead-dev/bulkhead/components/blob"
	"github.com/bulkhead-dev/bulkhead/components/describe"
)

// GatewayBundle is the gateway's release archive, published for the gateway's machine under its own digest.
type GatewayBundle struct {
	// Open is how a blob is reached; nil: as the deployer, on Azure.
	Open func(ctx context.Context, url string, say func(string)) (blob.Blob, error)
}

// Args are the inputs.
type Args struct {
	// The archive, as `make bundle` makes it. A relative path begins at the program's directory.
	File string `pulumi:"file"`
	// The container, such as `https://ACCOUNT.blob.core.windows.net/bundle`.
	ContainerURL string `pulumi:"containerUrl"`
	// SHA-256 of the archive. Filled in by the check; what a program writes here is ignored.
	SHA256 *string `pulumi:"sha256,optional"`
}

// State is where the archive is.
type State struct {
	// The archive, as it was given.
	File string `pulumi:"file"`
	// The container.
	ContainerURL string `pulumi:"containerUrl"`
	// SHA-256 of the archive, 64 hexadecimal digits.
	SHA256 string `pulumi:"sha256"`
	// The blob with the archive.
	URL string `pulumi:"url"`
	// The release's version, from the archive's name.
	Version string `pulumi:"version"`
}

//go:embed bundle.go
var sources embed.FS

var comments = describe.In(sources)

// Annotate describes the resource.
func (g *GatewayBundle) Annotate(a infer.Annotator) {
	a.SetToken("index", "GatewayBundle")
	a.Describe(&g, comments.Of("GatewayBundle"))
}

// Annotate describes the inputs.
func (t *Args) Annotate(a infer.Annotator) { comments.Describe(a, t) }

// Annotate describes the outputs.
func (t *State) Annotate(a infer.Annotator) { comments.Describe(a, t) }

// maxArchive bounds what is read; a release has some tens of megabytes.
const maxArchive = 512 << 20

// read returns the archive and its digest.
func read(file string) ([]byte, string, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("%s does not exist: make it with `make bundle`, or download it from the release", file)
	} else if err != nil {
		return nil, "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxArchive+1))
	switch {
	case err != nil:
		return nil, "", err
	case len(b) > maxArchive:
		return nil, "", fmt.Errorf("%s has more than %d MiB: that is no release", file, maxArchive>>20)
	case len(b) < 2 || b[0] != 0x1f || b[1] != 0x8b: // RFC 1952, section 2.3.1
		return nil, "", fmt.Errorf("%s is no gzip archive: give the one that `make bundle` makes", file)
	}
	sum := sha256.Sum256(b)
	return b, hex.EncodeToString(sum[:]), nil
}

// Check reads the archive, so that another one under the same name is a change.
func (g *GatewayBundle) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[Args], error) {
	in, failures, err := infer.DefaultCheck[Args](ctx, req.NewInputs.Delete("sha256"))
	if err != nil || len(failures) > 0 || req.NewInputs.Get("file").IsComputed() {
		return infer.CheckResponse[Args]{Inputs: in, Failures: failures}, err
	}
	_, digest, err := read(in.File)
	if err != nil {
		failures = append(failures, p.CheckFailure{Property: "file", Reason: err.Error()})
	}
	in.SHA256 = &digest
	return infer.CheckResponse[Args]{Inputs: in, Failures: failures}, nil
}

// Diff goes by content: where the file lies does not matter.
func (g *GatewayBundle) Diff(_ context.Context, req infer.DiffRequest[Args, State]) (infer.DiffResponse, error) {
	diff := p.DiffResponse{DetailedDiff: map[string]p.PropertyDiff{}}
	if req.Inputs.SHA256 == nil || *req.Inputs.SHA256 != req.State.SHA256 {
		diff.DetailedDiff["sha256"] = p.PropertyDiff{Kind: p.Update, InputDiff: true}
	}
	if req.Inputs.ContainerURL != req.State.ContainerURL {
		diff.DetailedDiff["containerUrl"] = p.PropertyDiff{Kind: p.Update, InputDiff: true}
	}
	diff.HasChanges = len(diff.DetailedDiff) > 0
	return diff, nil
}

// version is how `make bundle` writes it into the archive's name.
var version = regexp.MustCompile(`_v?([0-9]+\.[0-9]+\.[0-9]+[^_]*)_`)

func (in *Args) state() State {
	s := State{File: in.File, ContainerURL: in.ContainerURL}
	if in.SHA256 != nil {
		s.SHA256 = *in.SHA256
	}
	if in.ContainerURL != "" && s.SHA256 != "" {
		s.URL = strings.TrimSuffix(in.ContainerURL, "/") + "/bulkhead-gateway-" + s.SHA256 + ".tar.gz"
	}
	if m := version.FindStringSubmatch(filepath.Base(in.File)); m != nil {
		s.Version = m[1]
	}
	return s
}

// Create publishes the archive.
func (g *GatewayBundle) Create(ctx context.Context, req infer.CreateRequest[Args]) (infer.CreateResponse[State], error) {
	s := req.Inputs.state()
	if req.DryRun {
		return infer.CreateResponse[State]{ID: s.SHA256, Output: s}, nil
	}
	return infer.CreateResponse[State]{ID: s.SHA256, Output: s}, g.publish(ctx, &s)
}

// Update publishes another archive beside the first.
func (g *GatewayBundle) Update(ctx context.Context, req infer.UpdateRequest[Args, State]) (infer.UpdateResponse[State], error) {
	s := req.Inputs.state()
	if req.DryRun {
		return infer.UpdateResponse[State]{Output: s}, nil
	}
	return infer.UpdateResponse[State]{Output: s}, g.publish(ctx, &s)
}

// Read looks at the archive where it was published. One that is gone, with its container or without, is to be made
// again; of another one under its name the digest is told, so that an update puts the right one back. A machine
// would refuse it, and so not come up again.
func (g *GatewayBundle) Read(ctx context.Context, req infer.ReadRequest[Args, State]) (infer.ReadResponse[Args, State], error) {
	resp := infer.ReadResponse[Args, State](req)
	if req.State.URL == "" {
		return resp, nil
	}
	b, err := g.open(ctx, req.State.URL)
	if err != nil {
		return resp, err
	}
	digest, _, err := found(ctx, b)
	if errors.Is(err, blob.ErrAbsent) {
		return infer.ReadResponse[Args, State]{}, nil
	} else if err != nil {
		return resp, err
	}
	if digest != req.State.SHA256 {
		p.GetLogger(ctx).Warning("What is published under the archive's name is another one. A gateway's machine refuses it; an update publishes the right one again.")
		resp.State.SHA256 = digest
	}
	return resp, nil
}

// found is the digest of what is published, and which writing of it that is.
func found(ctx context.Context, b blob.Blob) (digest, etag string, err error) {
	o, err := b.Get(ctx, maxArchive)
	if err != nil {
		return "", "", err
	}
	sum := sha256.Sum256(o.Body)
	return hex.EncodeToString(sum[:]), o.ETag, nil
}

func (g *GatewayBundle) open(ctx context.Context, url string) (blob.Blob, error) {
	open := g.Open
	if open == nil {
		open = blob.Open
	}
	return open(ctx, url, p.GetLogger(ctx).InfoStatus)
}

// publish writes the archive, unless it is there already. Another one under its name is overwritten.
func (g *GatewayBundle) publish(ctx context.Context, s *State) error {
	archive, digest, err := read(s.File)
	if err != nil {
		return err
	}
	if digest != s.SHA256 {
		return fmt.Errorf("%s has changed since it was checked: run the update again", s.File)
	}
	b, err := g.open(ctx, s.URL)
	if err != nil {
		return err
	}
	p.GetLogger(ctx).InfoStatus(fmt.Sprintf("publishing %d MiB", len(archive)>>20))
	put := func(etag string) error {
		return b.Put(ctx, archive, "application/gzip", map[string]string{"version": s.Version}, etag)
	}
	if err = put(""); !errors.Is(err, blob.ErrChanged) {
		return err
	}
	there, etag, err := found(ctx, b)
	if err != nil || there == s.SHA256 {
		return err
	}
	return put(etag)
}

// Delete leaves the archive, which goes with its storage account: a machine may still run it.
func (g *GatewayBundle) Delete(context.Context, infer.DeleteRequest[State]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, nil
}
