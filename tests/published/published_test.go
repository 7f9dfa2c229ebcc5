package published

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policyblob"
	"github.com/bulkhead-dev/bulkhead/gateway/server"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

func TestMain(m *testing.M) {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// rig is a lab whose gateway is told where its ruleset is published, and not started.
type rig struct {
	*testing.T
	*lab.Lab
	*account
	ctx context.Context
}

func up(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	binary, err := lab.Build(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Up(ctx, lab.Options{Gateway: binary, Idle: true, TrustLab: true, Configure: func(config map[string]any) {
		config["policy"] = map[string]any{"blob": "https://" + lab.StorageName + policyPath}
		config["attestation"] = map[string]any{"url": "https://" + lab.StorageName + reportPath}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(l.Paths.Log); err == nil {
				t.Logf("the gateway's log:\n%s", log)
			}
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	return &rig{t, l, serve(l), ctx}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// ruleset is the lab's, with one more name for tool calls.
func (r *rig) ruleset(more string) string {
	const tools = "fqdns: [api.github.com"
	text := strings.Replace(lab.Ruleset, tools, tools+more, 1)
	if more != "" && text == lab.Ruleset {
		r.Fatal("the lab's ruleset has no tool calls")
	}
	return strings.ReplaceAll(text, "FEEDS", r.Paths.Dir+"/feeds")
}

// waitReady waits until /readyz satisfies want.
func (r *rig) waitReady(what string, want func(status int, s server.Readiness) bool) server.Readiness {
	r.Helper()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		var s server.Readiness
		resp, err := r.Process.Admin(r.ctx, "/readyz")
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&s)
			resp.Body.Close()
			if err == nil && want(resp.StatusCode, s) {
				return s
			}
		}
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			r.Fatalf("%s: %v; /readyz says %+v", what, err, s)
		}
	}
}

// waitReport waits until the gateway has reported what satisfies want.
func (r *rig) waitReport(what string, want func(policyblob.Report) bool) {
	r.Helper()
	for {
		r.account.mu.Lock()
		text, next := r.blobs[reportPath].body, r.wrote
		r.account.mu.Unlock()
		var report policyblob.Report
		if text != "" {
			r.must(json.Unmarshal([]byte(text), &report))
			if want(report) {
				return
			}
		}
		select {
		case <-next:
		case <-r.ctx.Done():
			r.Fatalf("%s: the last report is %q", what, text)
		}
	}
}

// reaches asks as an agent does.
func (r *rig) reaches(name string) error {
	resp, err := r.Host(lab.InvoiceAgent).HTTPClient(r.Lab).Get("https://" + name + "/")
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// TestPublished is the life of a gateway that takes its ruleset from a blob.
func TestPublished(t *testing.T) {
	r := up(t)
	const more = "mcp2.contoso.com"
	r.must(r.Upstream.Add(more + ". 60 IN A " + lab.Contoso.String()))

	// First start, nothing published: closed, and it says why.
	r.must(r.Process.Launch())
	s := r.waitReady("nothing published", func(status int, s server.Readiness) bool {
		return status == http.StatusServiceUnavailable && strings.Contains(s.Why, "nothing has been published")
	})
	if s.Ruleset.Digest != "" {
		t.Errorf("a ruleset out of nothing: %+v", s.Ruleset)
	}
	if r.reaches(lab.ToolName) == nil || r.reaches(more) == nil {
		t.Fatal("something passes without a ruleset")
	}
	r.waitReport("not ready", func(p policyblob.Report) bool {
		return !p.Ready && p.Digest == "" && strings.Contains(p.Error, "nothing has been published")
	})

	// Published: in force, by itself.
	r.publish(r.ruleset(""), 7)
	first := r.waitReady("first version", func(status int, s server.Readiness) bool { return status == http.StatusOK && s.Ruleset.Serial == 7 })
	r.must(r.reaches(lab.ToolName))
	if r.reaches(more) == nil {
		t.Error("what is not in the ruleset passes")
	}
	r.waitReport("first version", func(p policyblob.Report) bool {
		return p.Ready && p.Serial == 7 && p.Digest == first.Ruleset.Digest && p.Error == ""
	})

	// A change of policy, from the publisher to the packet.
	r.publish(r.ruleset(", "+more), 8)
	second := r.waitReady("second version", func(_ int, s server.Readiness) bool { return s.Ruleset.Serial == 8 })
	r.must(r.reaches(more))
	r.waitReport("second version", func(p policyblob.Report) bool { return p.Ready && p.Serial == 8 && p.Digest == second.Ruleset.Digest })

	// What must not be: a bad one, and an old one. Both are said, and change nothing.
	r.publish("version: 1\nrules: [{name: all, priority: 1, destinations: [any], action: PERMIT}]\n", 9)
	r.must(r.Process.Signal(syscall.SIGHUP)) // asks at once
	r.waitReady("a bad version", func(status int, s server.Readiness) bool {
		return status == http.StatusOK && strings.Contains(s.Ruleset.Error, "serial 9") && s.Ruleset.Digest == second.Ruleset.Digest
	})
	r.publish(r.ruleset(""), 7)
	r.must(r.Process.Signal(syscall.SIGHUP))
	r.waitReady("a rollback", func(status int, s server.Readiness) bool {
		return status == http.StatusOK && strings.Contains(s.Ruleset.Error, "older than serial 8") && s.Ruleset.Digest == second.Ruleset.Digest
	})
	r.must(r.reaches(more))
	r.waitReport("a rollback", func(p policyblob.Report) bool {
		return p.Ready && p.Serial == 8 && strings.Contains(p.Error, "older than serial 8")
	})

	// A restart while the account is away: the last good one, and a report as soon as it is back.
	r.goAway(true)
	r.Process.Kill()
	r.must(r.Process.Start(r.ctx))
	s = r.waitReady("restarted", func(_ int, s server.Readiness) bool {
		return s.Ruleset.Error != "" && s.Attestation != nil && s.Attestation.Error != ""
	})
	if s.Ruleset.Serial != 8 || s.Ruleset.Digest != second.Ruleset.Digest {
		t.Errorf("after a restart: %+v", s.Ruleset)
	}
	r.must(r.reaches(more))
	r.publish(r.ruleset(""), 10)
	r.goAway(false)
	r.must(r.Process.Signal(syscall.SIGHUP))
	r.waitReport("the account is back", func(p policyblob.Report) bool { return p.Ready && p.Serial == 10 && p.Error == "" })
	if r.reaches(more) == nil {
		t.Error("withdrawn, and still reached")
	}
}
