// Command pulumi-resource-bulkhead is the Pulumi plugin. The engine starts it; nobody else
// needs to.
package main

import (
	"context"
	"fmt"
	"os"

	p "github.com/pulumi/pulumi-go-provider"

	"github.com/bulkhead-dev/bulkhead/components/provider"
)

// version is set by the build.
var version = "0.1.0-dev"

func main() {
	plugin, err := provider.New(version)
	if err == nil {
		err = p.RunProvider(context.Background(), provider.Name, version, plugin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-bulkhead: "+err.Error())
		os.Exit(1)
	}
}
