package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
)

func TestMain(m *testing.M) {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestDemo holds what `make demo` shows: from pulumi up to pulumi destroy, with every step
// ending as it should. It is skipped in short mode, because the engine is built first.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the engine is built first")
	}
	dir := t.TempDir()
	binary, err := lab.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(dir, "bundle.tar.gz")
	if out, err := exec.Command("make", "-C", engine.Root(), "bundle", "BUNDLE="+bundle).CombinedOutput(); err != nil {
		t.Fatalf("make bundle: %v\n%s", err, out)
	}
	d := &demo{bundle: bundle, binary: binary}
	if err := d.main(t.Output()); err != nil {
		t.Fatal(err)
	}
}
