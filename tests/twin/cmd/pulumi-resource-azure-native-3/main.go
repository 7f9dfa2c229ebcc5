// Command pulumi-resource-azure-native-3 is pulumi-resource-azure-native in the version that
// programs in TypeScript name.
package main

import "github.com/bulkhead-dev/bulkhead/tests/twin/azurenative"

func main() { azurenative.Main(azurenative.Version3) }
