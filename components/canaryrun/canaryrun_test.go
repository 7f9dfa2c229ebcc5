package canaryrun

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/manager"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/resource"
)

// The official azidentity and armappcontainers ask the twin's resource manager.

const (
	jobID = "/subscriptions/00000000-0000-4000-8000-000000000000/resourceGroups/rg-spoke/providers/Microsoft.App/jobs/probe"
	start = "Microsoft.App/jobs/start/action"
)

var (
	twin  *planes.Planes
	roles planes.Roles
	live  jobs
)

// jobs is one job, whose executions go through the states of a test.
type jobs struct {
	mu     sync.Mutex
	starts int
	states []string // the last one stays
}

func (j *jobs) start(string) (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.starts++
	return fmt.Sprintf("%s/executions/probe-%d", jobID, j.starts), nil
}

func (j *jobs) find(id string) (json.RawMessage, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if id != fmt.Sprintf("%s/executions/probe-%d", jobID, j.starts) {
		return nil, false
	}
	state := j.states[0]
	if len(j.states) > 1 {
		j.states = j.states[1:]
	}
	if state == "" { // not shown yet
		return nil, false
	}
	return json.RawMessage(fmt.Sprintf(`{"id":%q,"properties":{"status":%q,"startTime":"2026-01-01T12:00:00Z","endTime":"2026-01-01T12:01:00Z"}}`, id, state)), true
}

func (j *jobs) reset(states ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.starts, j.states = 0, states
}

func (j *jobs) started() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.starts
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if twin, err = planes.Start(planes.Control{Resources: live.find, Start: live.start, Authorize: roles.Authorize}); err == nil {
		err = twin.Setenv(planes.Deployer)
	}
	if err != nil {
		println(err.Error())
		return 1
	}
	defer twin.Close()
	return m.Run()
}

// setUp has executions go through states, and seconds that take a millisecond.
func setUp(t *testing.T, states ...string) (resource.Inputs, *resource.Resource) {
	t.Helper()
	live.reset(states...)
	in := resource.Inputs{"jobId": property.New(jobID), "digest": property.New("sha256:new"), "image": property.New("registry.example/bulkhead:1"), "timeoutSeconds": property.New(7200.0)}
	return in, resource.New(t, "bulkhead:index:CanaryRun", infer.Resource(&CanaryRun{second: time.Millisecond}))
}

func TestRuns(t *testing.T) {
	in, r := setUp(t, "Succeeded")
	before := len(twin.Front.Requests())
	if op, err := r.Preview(in); err != nil || op != "create" {
		t.Errorf("%s, %v", op, err)
	}
	if got := twin.Front.Requests()[before:]; len(got) != 0 {
		t.Errorf("a preview asked %q", got)
	}
	if op, err := r.Up(in); err != nil || op != "create" || r.Get("executionName") != "probe-1" || r.Get("finishedAt") != "2026-01-01T12:01:00Z" || r.Get("digest") != "sha256:new" {
		t.Fatalf("%s, %v, %v", op, err, r.State)
	}
	if said := r.Said(); !strings.Contains(said, "probe-1 succeeded under sha256:new") {
		t.Errorf("said %s", said)
	}
	for i, step := range []struct {
		property string
		to       property.Value
		op       string
		starts   int
	}{
		{"digest", property.New("sha256:new"), "same", 1},
		{"timeoutSeconds", property.New(3600.0), "update", 1}, // nothing new to prove
		{"digest", property.New("sha256:newer"), "update", 2},
		{"image", property.New("registry.example/bulkhead:2"), "update", 3},
	} {
		in[step.property] = step.to
		before := len(twin.Front.Requests())
		if op, err := r.Preview(in); err != nil || op != step.op {
			t.Errorf("%d: %s, %v", i, op, err)
		}
		if got := twin.Front.Requests()[before:]; len(got) != 0 {
			t.Errorf("a preview asked %q", got)
		}
		if op, err := r.Up(in); err != nil || op != step.op || live.started() != step.starts || r.Get("executionName") != fmt.Sprintf("probe-%d", step.starts) {
			t.Errorf("%d: %s, %v, %d starts, %v", i, op, err, live.started(), r.State)
		}
	}
	before = len(twin.Front.Requests())
	if err := r.Delete(); err != nil {
		t.Error(err)
	}
	if got := twin.Front.Requests()[before:]; len(got) != 0 {
		t.Errorf("a deletion asked %q", got)
	}
}

// TestWaits has one thing after the other not be there yet, each told to the person who waits; the job is started once.
func TestWaits(t *testing.T) {
	in, r := setUp(t, "", "Processing", "Running", "Unknown", "Degraded", "Succeeded")
	roles.Refuse(start, 1)
	twin.Front.Inject(front.Fault{Host: manager.Host, Method: http.MethodGet, Path: "/subscriptions/00000000-0000-4000-8000-000000000000/providers/", Times: 1, Status: http.StatusAccepted})
	if op, err := r.Up(in); err != nil || op != "create" || live.started() != 1 {
		t.Fatalf("%s, %v, %d starts", op, err, live.started())
	}
	said := r.Said()
	for _, want := range []string{"cannot be started yet: Azure answers 403 AuthorizationFailed", "being started", "probe-1 cannot be read yet: Azure answers 404", "is Processing", "is Running", "is Unknown", "is Degraded", "kind=status"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing of %q in what was said:\n%s", want, said)
		}
	}
}

// TestFails: whatever is not Succeeded is an error that tells where to look, and leaves no resource behind.
func TestFails(t *testing.T) {
	output := []string{"az containerapp job logs show --resource-group rg-spoke --name probe --execution probe-1 --container probe", "no exit code", "Azure's own resolver", "registry"}
	for what, tc := range map[string]struct {
		states []string
		spoil  func() (undo func())
		want   []string
	}{
		"the probe fails": {states: []string{"Running", "Failed"}, want: append(output, "probe-1 is Failed")},
		"it is stopped":   {states: []string{"Stopped"}, want: append(output, "probe-1 is Stopped")},
		"it never ends":   {states: []string{"Running"}, want: append(output, "probe-1 is Running; that was after")},
		"no role": {states: []string{"Succeeded"}, want: []string{"403 AuthorizationFailed", start, "Container Apps Jobs Operator"}, spoil: func() func() {
			roles.Refuse(start, -1)
			return func() { roles.Refuse(start, 0) }
		}},
		"no such job": {states: []string{"Succeeded"}, want: []string{"404 ResourceNotFound"}, spoil: func() func() {
			return twin.Front.Inject(front.Fault{Host: manager.Host, Method: http.MethodPost, Status: http.StatusNotFound, Header: map[string]string{"X-Ms-Error-Code": "ResourceNotFound"}})
		}},
		"no name": {states: []string{"Succeeded"}, want: []string{"named no execution"}, spoil: func() func() {
			return twin.Front.Inject(front.Fault{Host: manager.Host, Method: http.MethodPost, Status: http.StatusOK, Body: `{}`})
		}},
	} {
		t.Run(what, func(t *testing.T) {
			in, r := setUp(t, tc.states...)
			in["timeoutSeconds"] = property.New(30.0)
			if tc.spoil != nil {
				defer tc.spoil()()
			}
			_, err := r.Up(in)
			for _, want := range append(tc.want, "sha256:new", "`pulumi up` again") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v: nothing of %q", err, want)
				}
			}
			if r.Exists() {
				t.Error("it exists")
			}
		})
	}
}

// TestFailsAgain: a run that fails after one that succeeded leaves the proof that there was, and is tried again.
func TestFailsAgain(t *testing.T) {
	in, r := setUp(t, "Succeeded", "Failed", "Succeeded")
	if _, err := r.Up(in); err != nil {
		t.Fatal(err)
	}
	in["digest"] = property.New("sha256:newer")
	if op, err := r.Up(in); err == nil || op != "update" || r.Get("digest") != "sha256:new" {
		t.Errorf("%s, %v, %v", op, err, r.State)
	}
	if op, err := r.Up(in); err != nil || op != "update" || r.Get("digest") != "sha256:newer" || live.started() != 3 {
		t.Errorf("%s, %v, %v", op, err, r.State)
	}
}

func TestCheck(t *testing.T) {
	for name, bad := range map[string][]property.Value{
		"jobId":          {property.New(""), property.New("probe"), property.New(strings.Replace(jobID, "jobs", "containerApps", 1))},
		"digest":         {property.New("")},
		"timeoutSeconds": {property.New(29.0), property.New(7201.0)},
	} {
		for _, v := range bad {
			in, r := setUp(t, "Succeeded")
			in[name] = v
			if op, err := r.Preview(in); op != "check" || err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %v: %s, %v", name, v, op, err)
			}
		}
	}
	in, r := setUp(t, "Succeeded")
	in["jobId"], in["digest"] = property.New(property.Computed), property.New(property.Computed)
	if op, err := r.Preview(in); op != "create" || err != nil {
		t.Errorf("%s, %v", op, err)
	}
}
