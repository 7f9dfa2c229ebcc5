package twin

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/subscription"
)

// pipeline is examples/pipeline with its program.
type pipeline struct {
	t                    *testing.T
	on                   *subscription.Subscription
	engine               *engine.Engine
	binary, dir, ruleset string
}

func newPipeline(t *testing.T) *pipeline {
	t.Helper()
	p := &pipeline{t: t, on: newSubscription(t), engine: engine.New(t, bulkhead, azureNative)}
	p.engine.Setenv(p.on.Environment(planes.Deployer)...)
	var err error
	if p.binary, err = engine.Program("./examples/pipeline"); err != nil {
		t.Fatal(err)
	}
	p.dir = p.engine.Copy("examples/pipeline")
	// A gateway that never comes is not waited for longer than must be.
	program := filepath.Join(p.dir, "spoke", "Pulumi.yaml")
	text := p.read(program)
	p.write(program, strings.Replace(text, "attestationTimeoutSeconds: 600", "attestationTimeoutSeconds: 30", 1))
	p.ruleset = filepath.Join(p.dir, "ruleset.yaml")
	p.write(p.ruleset, p.read(filepath.Join(engine.Root(), "examples", "ruleset.yaml")))
	s := p.engine.Project(filepath.Join(p.dir, "spoke"))
	s.SetConfig("bundleFile", release(t, "0.1.0"))
	s.SetConfig("rulesetFile", p.ruleset)
	s.SetConfig("deployerAddresses[0]", planes.DeployerAddress.String())
	return p
}

// run is one job. It returns what it says.
func (p *pipeline) run(job string) (string, error) {
	p.t.Helper()
	cmd := exec.Command(p.binary, job)
	cmd.Dir, cmd.Env = p.dir, p.engine.Command(p.dir).Env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (p *pipeline) must(job string) string {
	p.t.Helper()
	out, err := p.run(job)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", job, err, out)
	}
	return out
}

// gateway works until the function is called.
func (p *pipeline) gateway() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := p.on.StandIn(ctx)
	return func() { cancel(); <-done }
}

// permit adds a host to what tools may call.
func (p *pipeline) permit(host string) {
	text := p.read(p.ruleset)
	changed := strings.Replace(text, "api.github.com", host+", api.github.com", 1)
	if changed == text {
		p.t.Fatal("the example ruleset permits api.github.com no more")
	}
	p.write(p.ruleset, changed)
}

func (p *pipeline) read(file string) string {
	p.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

func (p *pipeline) write(file, text string) {
	p.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pipeline) summary() string { return p.read(filepath.Join(p.dir, "review", "summary.md")) }

// TestPipeline takes a policy from a pull request to the gateway, refuses one that was not
// reviewed, and puts the last one back where the gateway does not take the new one.
func TestPipeline(t *testing.T) {
	p := newPipeline(t)
	stop := p.gateway()
	p.must("review")
	if out := p.must("deploy"); !strings.Contains(out, "the gateway enforces sha256:") {
		t.Errorf("the first deployment:\n%s", out)
	}
	p.must("review")
	if s := p.summary(); !strings.Contains(s, "stays as it is") {
		t.Errorf("nothing changed, and the summary says:\n%s", s)
	}

	p.permit("api.vendor.example")
	p.must("review")
	if s := p.summary(); !strings.Contains(s, "Agents gain 1, lose 0") || !strings.Contains(s, "| **gained** | `api.vendor.example:") {
		t.Errorf("one host was added, and the summary says:\n%s", s)
	}
	reviewed := p.read(p.ruleset)
	p.permit("evil.example") // after the review
	if out, err := p.run("deploy"); err == nil || !strings.Contains(out, errMoved) {
		t.Errorf("a ruleset that nobody reviewed was deployed: %v\n%s", err, out)
	}
	p.write(p.ruleset, reviewed)
	good := p.must("deploy")

	// The gateway is gone; it is back when the pipeline has begun to put the old ruleset back.
	stop()
	p.permit("api.other.example")
	p.must("review")
	finished := make(chan struct{})
	watched := make(chan func(), 1)
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-finished:
				watched <- func() {}
				return
			case <-ticker.C:
			}
			if _, err := os.Stat(filepath.Join(p.dir, "review", "last-good.json")); err == nil {
				watched <- p.gateway()
				return
			}
		}
	}()
	out, err := p.run("deploy")
	close(finished)
	stop = <-watched
	defer stop()
	if err == nil || !strings.Contains(out, "the ruleset from before is in force again") {
		t.Fatalf("the gateway never took the ruleset: %v\n%s", err, out)
	}
	p.write(p.ruleset, reviewed)
	p.must("review")
	if s := p.summary(); !strings.Contains(s, "stays as it is") {
		t.Errorf("what is deployed is not the ruleset from before:\n%s", s)
	}
	if again := p.must("deploy"); last(again) != last(good) {
		t.Errorf("in force: %s, was %s", last(again), last(good))
	}
}

// errMoved is what a person reads when a plan does not fit.
const errMoved = "what was reviewed has moved"

func last(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
