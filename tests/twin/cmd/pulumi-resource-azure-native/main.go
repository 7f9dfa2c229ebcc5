// Command pulumi-resource-azure-native stands in for the provider of that name in tests: it is
// over the twin's control plane, whose file BULKHEAD_TWIN_ARM names.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
	"github.com/bulkhead-dev/bulkhead/tests/twin/azurenative"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	file := os.Getenv(azurenative.StateVariable)
	if file == "" {
		return errors.New(azurenative.StateVariable + " names no file")
	}
	control, err := arm.Open(file)
	if err != nil {
		return err
	}
	return azurenative.Serve(ctx, control)
}
