package boot_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"

	"github.com/bulkhead-dev/bulkhead/gateway/probe"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// job is a canary's as components/canary.go describes it, with an address that the lab has.
func job(retries int, more ...string) json.RawMessage {
	command := append([]string{"bulkhead", "probe", "--json", "--timeout", "2s", "--permitted", "mcr.microsoft.com", "--denied", "example.com",
		"--address", lab.Exfil.String() + ":443"}, more...)
	quoted, _ := json.Marshal(command) // strings
	return json.RawMessage(fmt.Sprintf(`{"properties": {"configuration": {"triggerType": "Manual", "replicaTimeout": 60, "replicaRetryLimit": %d},
		"template": {"containers": [{"name": "probe", "image": "registry.example/bulkhead:1", "command": %s}]}}}`, retries, quoted))
}

// TestJob runs the canary's probe in the booted spoke: contained it succeeds, and whatever is amiss is found by the
// check that is for it.
func TestJob(t *testing.T) {
	programs := t.TempDir()
	if err := os.WriteFile(filepath.Join(programs, "bulkhead"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	rules := strings.ReplaceAll(string(ruleset()), "cidrs: [10.20.1.0/24]", "cidrs: [10.20.1.0/24, 10.20.3.0/27]")
	put(t, "policy/ruleset.json", []byte(rules), 1)
	whole := published(t)
	early := maps.Clone(whole)
	delete(early, agents)
	delete(early, canary)
	ctx, l := up(t, early)

	if _, err := l.RunJob(ctx, job(0), programs); err == nil {
		t.Error("a job ran without a machine")
	}
	if err := l.Follow(whole); err != nil {
		t.Fatal(err)
	}
	run := func(body json.RawMessage, want armappcontainers.JobExecutionRunningState, replicas int) string {
		t.Helper()
		e, err := l.RunJob(ctx, body, programs)
		if err != nil {
			t.Fatal(err)
		}
		last := e.Replicas[len(e.Replicas)-1]
		if e.Status != want || len(e.Replicas) != replicas || (last.ExitCode == 0) != (want == armappcontainers.JobExecutionRunningStateSucceeded) || !e.Ended.After(e.Began) {
			t.Fatalf("%+v, want %s after %d", e, want, replicas)
		}
		return last.Output
	}
	const failed = armappcontainers.JobExecutionRunningStateFailed
	// finds holds that exactly these checks fail, each with what to do.
	finds := func(output string, want ...string) {
		t.Helper()
		var said struct{ Findings []probe.Finding }
		if err := json.Unmarshal([]byte(output), &said); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		var got []string
		for _, f := range said.Findings {
			if !f.OK {
				got = append(got, f.Check)
				t.Logf("%s: found %s, wanted %s, fix: %s", f.Check, f.Found, f.Wanted, f.Fix)
			}
		}
		if strings.Join(got, "; ") != strings.Join(want, "; ") {
			t.Errorf("failed are %q, want %q", got, want)
		}
	}

	finds(run(job(0), armappcontainers.JobExecutionRunningStateSucceeded, 1))
	// No root is given where one is needed: the process's environment is the job's alone.
	t.Setenv("BULKHEAD_ROOT", string(l.CA.PEM))
	if out := run(job(0, "--decrypted", "mcp.contoso.com"), failed, 1); !strings.Contains(out, "BULKHEAD_ROOT") {
		t.Errorf("without a root: %s", out)
	}
	finds(run(job(1, "--permitted", "api.contoso.com"), failed, 2), "a permitted name is answered", "a permitted name is reached")

	l.Process.Kill()
	finds(run(job(0), failed, 1), "a permitted name is answered", "a permitted name is reached")
}

// TestJobHole: the canary's subnet has no routes any more, Azure's default way out, and a group that permits all.
func TestJobHole(t *testing.T) {
	programs := t.TempDir()
	if err := os.WriteFile(filepath.Join(programs, "bulkhead"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, "policy/ruleset.json", []byte(strings.ReplaceAll(string(ruleset()), "cidrs: [10.20.1.0/24]", "cidrs: [10.20.1.0/24, 10.20.3.0/27]")), 1)
	state := published(t)
	var subnet map[string]any
	if err := json.Unmarshal(state[canary], &subnet); err != nil {
		t.Fatal(err)
	}
	properties := subnet["properties"].(map[string]any)
	delete(properties, "routeTable")
	delete(properties, "networkSecurityGroup")
	properties["defaultOutboundAccess"] = true
	open, err := json.Marshal(subnet)
	if err != nil {
		t.Fatal(err)
	}
	state[canary] = open
	ctx, l := up(t, state)
	e, err := l.RunJob(ctx, job(0), programs)
	if err != nil {
		t.Fatal(err)
	}
	out := e.Replicas[0].Output
	if e.Status != armappcontainers.JobExecutionRunningStateFailed || !strings.Contains(out, "accepts connections") || !strings.Contains(out, "route table") {
		t.Errorf("%s: %s", e.Status, out)
	}
}
