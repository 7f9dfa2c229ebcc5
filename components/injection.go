package components

import (
	"context"
	"reflect"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// NetworkInjection puts the agents of a Foundry account into a subnet
// (Microsoft.CognitiveServices/accounts, property networkInjections).
type NetworkInjection struct {
	// What is injected: agent.
	Scenario string `pulumi:"scenario"`
	// ARM id of the subnet.
	SubnetArmID string `pulumi:"subnetArmId"`
	// Whether agents live in a network of Microsoft's instead: false.
	UseMicrosoftManagedNetwork bool `pulumi:"useMicrosoftManagedNetwork"`
}

// NetworkInjectionArrayOutput is a list of injections that may not be known yet.
type NetworkInjectionArrayOutput struct{ *pulumi.OutputState }

// ElementType is the type of the value.
func (NetworkInjectionArrayOutput) ElementType() reflect.Type {
	return reflect.TypeFor[[]NetworkInjection]()
}

// ToNetworkInjectionArrayOutput is the output itself.
func (o NetworkInjectionArrayOutput) ToNetworkInjectionArrayOutput() NetworkInjectionArrayOutput {
	return o
}

// ToNetworkInjectionArrayOutputWithContext is the output itself.
func (o NetworkInjectionArrayOutput) ToNetworkInjectionArrayOutputWithContext(context.Context) NetworkInjectionArrayOutput {
	return o
}

func init() { pulumi.RegisterOutputType(NetworkInjectionArrayOutput{}) }

func injections(subnet pulumi.StringOutput) NetworkInjectionArrayOutput {
	return subnet.ApplyT(func(id string) []NetworkInjection {
		return []NetworkInjection{{Scenario: "agent", SubnetArmID: id}}
	}).(NetworkInjectionArrayOutput)
}
