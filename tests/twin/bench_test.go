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
	b.Run("spoke", func(b *testing.B) {
		s := newSpoke(b)
		for b.Loop() {
			s.Preview().OK()
		}
	})
	b.Run("floor", func(b *testing.B) {
		s := floor(b)
		for b.Loop() {
			s.Preview().OK()
		}
	})
}

func BenchmarkUp(b *testing.B) {
	for name, make := range map[string]func(testing.TB) *engine.Stack{
		"spoke": func(t testing.TB) *engine.Stack { return newSpoke(t).Stack }, "floor": floor,
	} {
		b.Run(name, func(b *testing.B) {
			s := make(b)
			for b.Loop() {
				s.Up().OK()
				b.StopTimer()
				s.Destroy().OK()
				b.StartTimer()
			}
		})
	}
}

// floor is a stack of as many resource groups as a spoke has resources.
func floor(t testing.TB) *engine.Stack {
	t.Helper()
	e := engine.New(t, bulkhead, azureNative)
	e.Setenv(newSubscription(t).Environment(planes.Deployer)...)
	return e.Inline("floor", func(ctx *pulumi.Context) error {
		for i := range 57 {
			var group pulumi.CustomResourceState
			err := ctx.RegisterResource("azure-native:resources:ResourceGroup", fmt.Sprint("g", i), pulumi.Map{"location": pulumi.String("eastus2")}, &group, pulumi.Version(azureNative.Version))
			if err != nil {
				return err
			}
		}
		return nil
	})
}
