package components

import (
	stderrors "errors"
	"reflect"

	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/errors"
)

// Version is that of the plugin which the components' own custom resources ask for. The
// plugin sets it to its own; a program in Go that calls the constructors uses the module's.
var Version = "0.1.0-dev"

// PluginURL is where the engine finds the plugin if it is not installed.
const PluginURL = "github://api.github.com/bulkhead-dev/bulkhead"

// Components are the constructors as the plugin offers them to every other language.
//
// A component's outputs are registered exactly once: the engine refuses a second time. The
// plugin's framework does it for the component that a program asked for, and the exported
// constructors do it for those that are made in-process or inside another component.
func Components() []infer.InferredComponent {
	return []infer.InferredComponent{
		infer.ComponentF(newAgentSubnet),
		infer.ComponentF(newCanary),
		infer.ComponentF(newFoundrySpoke),
		infer.ComponentF(newInspectionCA),
		infer.ComponentF(newSpokeGateway),
	}
}

// registered ends an exported constructor.
func registered[C pulumi.ComponentResource](ctx *pulumi.Context, component C, err error) (C, error) {
	if err != nil {
		var none C
		var input *errors.InputPropertiesError
		if stderrors.As(err, &input) {
			err = refusal{input}
		}
		return none, err
	}
	return component, ctx.RegisterResourceOutputs(component, outputs(component))
}

// outputs are the fields of a component that carry a property's name.
func outputs(component any) pulumi.Map {
	m := pulumi.Map{}
	v := reflect.ValueOf(component).Elem()
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("pulumi"); name != "" {
			m[name] = v.Field(i).Interface().(pulumi.Input)
		}
	}
	return m
}

// own are the options of a custom resource that this package's plugin serves.
func own(opts ...pulumi.ResourceOption) []pulumi.ResourceOption {
	return append(opts, pulumi.Version(Version), pulumi.PluginDownloadURL(PluginURL))
}

// after is what a component was told to wait for, as an option of those of its children that
// it is meant for: the SDK does not hand it down.
func after(opts []pulumi.ResourceOption) (pulumi.ResourceOption, error) {
	given, err := pulumi.NewResourceOptions(opts...)
	if err != nil {
		return nil, err
	}
	all := []pulumi.ResourceOption{pulumi.DependsOn(given.DependsOn)}
	for _, d := range given.DependsOnInputs {
		all = append(all, pulumi.DependsOnInputs(d))
	}
	return pulumi.Composite(all...), nil
}
