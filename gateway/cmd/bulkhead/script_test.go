package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bulkhead": main})
}

// TestScripts runs the command lines in testdata as a user would.
func TestScripts(t *testing.T) {
	ruleset, err := os.ReadFile("../../../examples/ruleset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	spoke, err := os.ReadFile("../../../components/preflight/testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"ruleset.yaml": ruleset,
		"spoke.json":   spoke,
		// The first subnet with a delegation is the agents'.
		"delegation.json": bytes.Replace(spoke, []byte("\"Microsoft.App/environments\""), []byte("\"Microsoft.app/environments\""), 1),
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
		Setup: func(env *testscript.Env) error {
			for name, data := range files {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// exits runs a command and holds it to an exit code: `exits 3 bulkhead policy …`.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if e, ok := err.(interface{ ExitCode() int }); ok {
		code = strconv.Itoa(e.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}
