package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// show runs parts of the demonstration. It is skipped in short mode, because the engine is built first.
func show(t *testing.T, parts ...part) {
	t.Helper()
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
	if err := d.main(t.Output(), parts); err != nil {
		t.Fatal(err)
	}
}

// TestDemo holds what `make demo` shows: from pulumi up to pulumi destroy, with every step
// ending as it should.
func TestDemo(t *testing.T) { show(t, whole...) }

// TestCanaryHoldsBack: a canary finds that a name is answered which it was told would not be. The update fails, and says
// how to read that; no account can be made, for nothing says where. Once what it was told is true, the next update goes through.
func TestCanaryHoldsBack(t *testing.T) {
	program := func(d *demo, old, new string) error {
		file := filepath.Join(d.project(), "Pulumi.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(file, []byte(strings.Replace(string(text), old, new, 1)), 0o644)
	}
	subnet := func(d *demo, ctx context.Context) (string, error) {
		text, err := d.pulumi(ctx, "stack", "output", "--json")
		if err != nil {
			return "", err
		}
		var outputs struct{ AgentSubnetID string }
		return outputs.AgentSubnetID, json.Unmarshal([]byte(text), &outputs)
	}
	show(t, func(d *demo, ctx context.Context) error {
		if err := program(d, "required: true", "required: true, denied: api.github.com"); err != nil {
			return err
		}
		if err := d.up(ctx); err == nil || !strings.Contains(err.Error(), "az containerapp job logs show") {
			t.Errorf("a canary that failed: %v", err)
		}
		if id, err := subnet(d, ctx); err != nil || id != "" {
			t.Errorf("an account could be made in %q, after a canary that failed: %v", id, err)
		}
		return program(d, ", denied: api.github.com", "")
	}, (*demo).up, func(d *demo, ctx context.Context) error {
		if id, err := subnet(d, ctx); err != nil || !strings.HasSuffix(id, "/subnets/agents") {
			t.Errorf("an account could be made in %q, after a canary that succeeded: %v", id, err)
		}
		return nil
	}, (*demo).destroy)
}
