package azurenative

import (
	"context"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/provider"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// Serve answers the engine that started this process, until it is told to end.
func Serve(ctx context.Context, control *arm.Control) error {
	native, err := New(control)
	if err != nil {
		return err
	}
	server := p.RawServer("azure-native", Version, native)
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
