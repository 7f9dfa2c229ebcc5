package azurenative

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/provider"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// Main is the whole of the command that the engine starts as the provider: it answers until it is
// told to end.
func Main() {
	if err := serve(context.Background(), installed()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// installed is the version that this program was installed as: Pulumi keeps each in a folder of its
// own, resource-azure-native-v3.28.0. One program for both saves linking the Azure SDK twice.
func installed() string {
	file, err := os.Executable()
	if err != nil {
		return Version
	}
	if version, ok := strings.CutPrefix(filepath.Base(filepath.Dir(file)), "resource-azure-native-v"); ok {
		return version
	}
	return Version
}

func serve(ctx context.Context, version string) error {
	file := os.Getenv(StateVariable)
	if file == "" {
		return errors.New(StateVariable + " names no file")
	}
	control, err := arm.Open(file)
	if err != nil {
		return err
	}
	native, err := New(control, version)
	if err != nil {
		return err
	}
	server := p.RawServer("azure-native", version, native)
	return provider.MainContext(ctx, "azure-native", func(host *provider.HostClient) (pulumirpc.ResourceProviderServer, error) {
		s, err := server(host)
		return seeded{s}, err
	})
}

// seeded hands on the seed of names, which pulumi-go-provider 1.5.0 leaves out of a check. A saved
// plan holds the seed, so that what is deployed has the names that were reviewed.
type seeded struct {
	pulumirpc.ResourceProviderServer
}

type seedKey struct{}

func (s seeded) Check(ctx context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	return s.ResourceProviderServer.Check(context.WithValue(ctx, seedKey{}, req.GetRandomSeed()), req)
}

// seed is the one of a check.
func seed(ctx context.Context, req p.CheckRequest) []byte {
	if seed, ok := ctx.Value(seedKey{}).([]byte); ok {
		return seed
	}
	return req.RandomSeed
}
