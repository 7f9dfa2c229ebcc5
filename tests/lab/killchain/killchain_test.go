package killchain_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

var gateway string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "killchain")
	if err == nil {
		defer os.RemoveAll(dir)
		gateway, err = lab.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func up(t *testing.T, opt lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	opt.Gateway = gateway
	l, err := lab.Up(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(l.Paths.Log)
			t.Logf("the gateway's log:\n%s", log)
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	return ctx, l
}

// TestChain: every step ends as it should, the second time too, when the gateway
// counts denials rather than writing them.
func TestChain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		twoArm bool
	}{{"one-arm", false}, {"two-arm", true}} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, l := up(t, lab.Options{TwoArm: tc.twoArm})
			for _, round := range []string{"first", "again"} {
				var played []string
				err := killchain.Run(ctx, l, lab.InvoiceAgent, func(r killchain.Result) {
					played = append(played, r.Step)
					if !r.OK {
						t.Errorf("%s: %s: %s (%+v)", round, r.Step, r.Problem, r)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(played, killchain.Steps()) {
					t.Errorf("%s: played %q", round, played)
				}
			}
		})
	}
}

// TestChainNotices: with a ruleset that is open, the chain says of the attacker's steps
// that they went through. A chain that could not fail would prove nothing.
func TestChainNotices(t *testing.T) {
	monitored := strings.Replace(lab.Ruleset, "\nmode: enforce", "\nmode: monitor", 1)
	ctx, l := up(t, lab.Options{Ruleset: monitored})
	wrong := map[string]string{}
	if err := killchain.Run(ctx, l, lab.InvoiceAgent, func(r killchain.Result) {
		if !r.OK {
			wrong[r.Step] = r.Problem
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"exfiltrate by name", "exfiltrate by address", "raw TCP", "raw UDP", "database next door", "DNS tunnelling", "ICMP tunnel"} {
		if wrong[step] != "it went through" {
			t.Errorf("%s: %q", step, wrong[step])
		}
	}
	// Invariants hold in every mode.
	for _, step := range []string{"the gateway's admin port", "QUIC to a permitted address", "DNS over TLS"} {
		if p, ok := wrong[step]; ok {
			t.Errorf("%s: %s", step, p)
		}
	}
}

func TestPromoted(t *testing.T) {
	ctx, l := up(t, lab.Options{})
	const step = "watched, not yet refused"
	ok := func(r killchain.Result) {
		if !r.OK {
			t.Errorf("%s: %s", r.Step, r.Problem)
		}
	}
	if err := killchain.Run(ctx, l, lab.InvoiceAgent, ok, step); err != nil {
		t.Fatal(err)
	}
	if err := l.WriteRuleset(strings.Replace(lab.Ruleset, "action: DENY, mode: monitor}", "action: DENY, mode: enforce}", 1)); err != nil {
		t.Fatal(err)
	}
	if err := l.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := killchain.Promoted(ctx, l, lab.InvoiceAgent, step, ok); err != nil {
		t.Fatal(err)
	}
}

// TestProcess: the gateway can be stopped, killed and started around a lab that stays.
func TestProcess(t *testing.T) {
	ctx, l := up(t, lab.Options{})
	if err := l.Process.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if l.Process.PID() != 0 {
		t.Error("a gateway that was stopped still runs")
	}
	agent := l.Host(lab.InvoiceAgent)
	if _, err := agent.HTTPClient(l).Get("https://" + lab.GitHub.String()); err == nil {
		t.Error("what is closed did not stay closed")
	}
	for range 2 {
		if err := l.Process.Start(ctx); err != nil {
			t.Fatal(err)
		}
		resp, err := agent.HTTPClient(l).Get("https://" + lab.ToolName)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		l.Process.Kill()
	}
}
