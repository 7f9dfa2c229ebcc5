package twin

import (
	"fmt"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
)

// BenchmarkPreview and BenchmarkUp time the standard spoke beside the engine's own floor: as many resources that are
// nothing but a name. What a gateway needs to boot is no part of it; its stand-in reports at once.
func BenchmarkPreview(b *testing.B) {
	resources := 0
	b.Run("spoke", func(b *testing.B) {
		s := newSpoke(b)
		for b.Loop() {
			resources = len(s.Preview().OK().Steps)
		}
		b.ReportMetric(float64(resources), "resources")
	})
	b.Run("floor", func(b *testing.B) {
		s := floor(b, resources)
		for b.Loop() {
			s.Preview().OK()
		}
	})
}

func BenchmarkUp(b *testing.B) {
	up := func(b *testing.B, s *engine.Stack) (resources int) {
		for b.Loop() {
			resources = len(s.Up().OK().Steps)
			b.StopTimer()
			s.Destroy().OK()
			b.StartTimer()
		}
		b.ReportMetric(float64(resources), "resources")
		return resources
	}
	resources := 0
	b.Run("spoke", func(b *testing.B) { resources = up(b, newSpoke(b).Stack) })
	b.Run("floor", func(b *testing.B) { up(b, floor(b, resources)) })
}

// floor is a stack of nothing but resource groups; with itself and its provider they are as many as are asked for.
func floor(t testing.TB, resources int) *engine.Stack {
	t.Helper()
	e := engine.New(t, bulkhead, azureNative)
	e.Setenv(newSubscription(t).Environment(planes.Deployer)...)
	return e.Inline("floor", func(ctx *pulumi.Context) error {
		for i := range resources - 2 {
			var group pulumi.CustomResourceState
			err := ctx.RegisterResource("azure-native:resources:ResourceGroup", fmt.Sprint("g", i), pulumi.Map{"location": pulumi.String("eastus2")}, &group, pulumi.Version(azureNative.Version))
			if err != nil {
				return err
			}
		}
		return nil
	})
}
