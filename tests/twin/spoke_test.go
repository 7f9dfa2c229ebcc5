package twin

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/components"
	"github.com/bulkhead-dev/bulkhead/tests/twin/cloud"
	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
)

var (
	bulkhead = engine.Plugin{Name: "bulkhead", Version: "0.1.0-dev", Package: "./components/cmd/pulumi-resource-bulkhead"}
	azure    = engine.Plugin{Name: "azure-native", Version: "2.90.0", Package: "./tests/twin/cmd/pulumi-resource-azure-native"}
)

func TestUp(t *testing.T) {
	c := cloud.New(t)
	c.Machines()
	e := engine.New(t, bulkhead, azure)
	e.Setenv(c.Environment()...)
	file := release(t, "0.1.0")
	s := e.Inline("spoke", func(ctx *pulumi.Context) error {
		spoke, err := components.NewFoundrySpoke(ctx, "spoke", components.FoundrySpokeArgs{
			Location: "eastus2", BundleFile: file, DeployerAddresses: []string{"203.0.113.10"}, ToolCalls: []string{"api.github.com"},
		})
		if err != nil {
			return err
		}
		ctx.Export("agentSubnetId", spoke.AgentSubnetID)
		return nil
	})
	t.Log(s.Preview().OK().Text)
	t.Log(s.Up().OK().Text)
	s.Preview().Unchanged()
	s.Up().Unchanged()
	s.Refresh().Unchanged()
	t.Log(s.Outputs())
}
