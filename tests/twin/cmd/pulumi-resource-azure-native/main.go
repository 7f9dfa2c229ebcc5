// Command pulumi-resource-azure-native stands in for the provider of that name in tests: it is
// over the twin's control plane, whose file BULKHEAD_TWIN_ARM names.
package main

import "github.com/bulkhead-dev/bulkhead/tests/twin/azurenative"

func main() { azurenative.Main() }
