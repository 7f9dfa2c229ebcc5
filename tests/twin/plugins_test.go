package twin

import (
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
)

// bulkhead is the plugin of this repository, azureNative the stand-in for the real provider.
var (
	bulkhead    = engine.Plugin{Name: "bulkhead", Version: "0.1.0-dev", Package: "./components/cmd/pulumi-resource-bulkhead"}
	azureNative = engine.Plugin{Name: "azure-native", Version: "2.90.0", Package: "./tests/twin/cmd/pulumi-resource-azure-native"}
)

// release is a gateway's release archive as far as the deployment looks at it.
func release(t testing.TB, version string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "bulkhead-gateway_"+version+"_linux_amd64.tar.gz")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	if _, err := z.Write([]byte(version)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}
