// Command go deploys a contained Foundry spoke. The component runs in this program itself;
// of the plugin it needs only the custom resources.
package main

import (
	"github.com/bulkhead-dev/bulkhead/components"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

func main() {
	pulumi.Run(func(ctx *pulumi.Context) error {
		cfg := config.New(ctx, "")
		location := cfg.Get("location")
		if location == "" {
			location = "eastus2"
		}
		prefix := "10.20.1.0/24"
		spoke, err := components.NewFoundrySpoke(ctx, "spoke", components.FoundrySpokeArgs{
			Location:          location,
			BundleFile:        cfg.Require("bundleFile"),
			AddressSpace:      []string{"10.20.0.0/16"},
			AgentPrefix:       &prefix,
			ToolCalls:         []string{"api.github.com"},
			DeployerAddresses: []string{"203.0.113.10"}, // where you deploy from, as Azure sees it
		})
		if err != nil {
			return err
		}
		ctx.Export("agentSubnetId", spoke.AgentSubnetID)
		ctx.Export("rulesetDigest", spoke.RulesetDigest)
		return nil
	})
}
