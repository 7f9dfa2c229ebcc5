package lab

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Build builds the gateway's binary into a folder, for tests, and returns its path. The
// working folder must be in the module.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "bulkhead")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/bulkhead-dev/bulkhead/gateway/cmd/bulkhead").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the gateway: %w: %s", err, out)
	}
	return path, nil
}
