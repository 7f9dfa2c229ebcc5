// Package canaryrun has the custom resource CanaryRun: a deployment stands still in it until the
// canary's probe has run to its end, from a subnet with the agents' own routes and security group, and
// found what the ruleset says.
//
// It stands between the canary and the Foundry account, which is bound to its subnet for good. What a
// probe that fails found out is in its output; Azure's resource manager tells only how an execution
// ended, and no exit code (Microsoft.App/jobs/executions, API version 2025-01-01).
package canaryrun

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"

	"github.com/bulkhead-dev/bulkhead/components/patience"
)

// CanaryRun is the resource. The zero value is for the provider.
type CanaryRun struct {
	second time.Duration // how long one takes; zero: as everywhere
}

// Args are its inputs.
type Args struct {
	JobID          string  `pulumi:"jobId"`
	Digest         string  `pulumi:"digest"`
	Image          *string `pulumi:"image,optional"`
	TimeoutSeconds int     `pulumi:"timeoutSeconds,optional"`
}

// State is its outputs, beside its inputs.
type State struct {
	Args
	ExecutionName string `pulumi:"executionName"`
	FinishedAt    string `pulumi:"finishedAt"`
}

// Annotate describes the resource.
func (c *CanaryRun) Annotate(n infer.Annotator) {
	n.SetToken("index", "CanaryRun")
	n.Describe(&c, "Starts a canary's job and waits until it has succeeded. Put it between the canary and whatever must not exist before the network is proven. "+
		"Another digest, image or job runs it again. A preview starts nothing; deleting it does nothing.\n\n"+
		"The deployer needs `Microsoft.App/jobs/start/action` and to read the job's executions, as `Container Apps Jobs Operator` may.")
}

// Annotate describes the inputs.
func (i *Args) Annotate(n infer.Annotator) {
	n.Describe(&i.JobID, "ARM id of the job, as Canary has it.")
	n.Describe(&i.Digest, "The digest of the ruleset that is in force, as Ruleset has it.")
	n.Describe(&i.Image, "Reference of the job's image, so that another one is tried out too.")
	n.Describe(&i.TimeoutSeconds, "How long to wait, from 30 seconds to 2 hours. The job's own limit is five minutes, and its image has to be fetched first.")
	n.SetDefault(&i.TimeoutSeconds, 900)
}

// Annotate describes the outputs.
func (s *State) Annotate(n infer.Annotator) {
	n.Describe(&s.ExecutionName, "Name of the execution that succeeded.")
	n.Describe(&s.FinishedAt, "When it ended, as Azure has it (RFC 3339).")
}

// Check refuses what cannot be run.
func (c *CanaryRun) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[Args], error) {
	in, failures, err := infer.DefaultCheck[Args](ctx, req.NewInputs)
	if err != nil {
		return infer.CheckResponse[Args]{}, err
	}
	fail := func(property, reason string, wrong bool) {
		if wrong && !req.NewInputs.Get(property).IsComputed() {
			failures = append(failures, p.CheckFailure{Property: property, Reason: reason})
		}
	}
	job, err := arm.ParseResourceID(in.JobID)
	fail("jobId", "give the id of a Microsoft.App/jobs, as Canary has it", err != nil || !strings.EqualFold(job.ResourceType.String(), "Microsoft.App/jobs"))
	fail("digest", "give the ruleset's digest, as its resource has it", in.Digest == "")
	fail("timeoutSeconds", "wait from 30 seconds to 2 hours", in.TimeoutSeconds < 30 || in.TimeoutSeconds > 7200)
	return infer.CheckResponse[Args]{Inputs: in, Failures: failures}, nil
}

// Create runs the job.
func (c *CanaryRun) Create(ctx context.Context, req infer.CreateRequest[Args]) (infer.CreateResponse[State], error) {
	if req.DryRun {
		return infer.CreateResponse[State]{Output: State{Args: req.Inputs}}, nil
	}
	s, err := c.run(ctx, req.Inputs)
	return infer.CreateResponse[State]{ID: req.Inputs.JobID, Output: s}, err
}

// Update runs it again, unless only the patience with it has changed.
func (c *CanaryRun) Update(ctx context.Context, req infer.UpdateRequest[Args, State]) (infer.UpdateResponse[State], error) {
	if req.DryRun || !again(req.State.Args, req.Inputs) {
		s := req.State
		s.Args = req.Inputs
		return infer.UpdateResponse[State]{Output: s}, nil
	}
	s, err := c.run(ctx, req.Inputs)
	return infer.UpdateResponse[State]{Output: s}, err
}

// again says whether what was proven is not what is there now.
func again(was, is Args) bool {
	image := func(a Args) string {
		if a.Image == nil {
			return ""
		}
		return *a.Image
	}
	return was.JobID != is.JobID || was.Digest != is.Digest || image(was) != image(is)
}

// pending is what is seen while the job has not ended.
type pending struct {
	seen string
	err  error
}

func (e *pending) Error() string { return e.seen }
func (e *pending) Unwrap() error { return e.err }

func isPending(err error) bool {
	var e *pending
	return errors.As(err, &e)
}

// run starts the job and looks at that execution until it has ended.
func (c *CanaryRun) run(ctx context.Context, in Args) (State, error) {
	e, err := newExecution(in.JobID)
	if err != nil {
		return State{}, fmt.Errorf("canary: %w", err)
	}
	second := time.Second
	if c.second > 0 {
		second = c.second
	}
	how := patience.Patience{Limit: time.Duration(in.TimeoutSeconds) * second, Pause: 2 * second, Longest: 10 * second}
	// The official client has a patience of its own with a service that is not there.
	ctx, cancel := context.WithTimeout(ctx, how.Limit+time.Minute)
	defer cancel()
	log := p.GetLogger(ctx)
	var finished string
	err = how.Until(ctx, log.InfoStatus, isPending, func(ctx context.Context) (err error) {
		if e.name == "" {
			if err := e.start(ctx); err != nil {
				return err
			}
		}
		finished, err = e.look(ctx)
		return err
	})
	if err != nil {
		return State{}, fmt.Errorf("canary: the probe has not shown that %s is what agents meet: %w.%s Then run `pulumi up` again, which starts the probe again; what waits for the canary was not made or changed", in.Digest, err, e.advice(err))
	}
	log.Infof("the canary's execution %s succeeded under %s", e.name, in.Digest)
	return State{Args: in, ExecutionName: e.name, FinishedAt: finished}, nil
}

// execution is one of a job's, asked for and then found by its name.
type execution struct {
	job    *arm.ResourceID
	jobs   *armappcontainers.JobsClient
	all    *armappcontainers.ContainerAppsAPIClient
	poller *runtime.Poller[armappcontainers.JobsClientStartResponse]
	name   string // empty until Azure has given it one
}

func newExecution(job string) (*execution, error) {
	id, err := arm.ParseResourceID(job)
	if err != nil {
		return nil, err
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, patience.Terse(err)
	}
	clients, err := armappcontainers.NewClientFactory(id.SubscriptionID, credential, nil)
	if err != nil {
		return nil, patience.Terse(err)
	}
	return &execution{job: id, jobs: clients.NewJobsClient(), all: clients.NewContainerAppsAPIClient()}, nil
}

// start has the job started, once, and learns the execution's name.
func (e *execution) start(ctx context.Context) (err error) {
	if e.poller == nil {
		if e.poller, err = e.jobs.BeginStart(ctx, e.job.ResourceGroupName, e.job.Name, nil); err != nil {
			return waiting("the job cannot be started yet", err, http.StatusForbidden)
		}
	}
	if !e.poller.Done() {
		if _, err = e.poller.Poll(ctx); err != nil {
			return waiting("what became of the start cannot be read yet", err, http.StatusForbidden)
		}
	}
	if !e.poller.Done() {
		return &pending{"the job is being started", nil}
	}
	got, err := e.poller.Result(ctx)
	if err != nil {
		return patience.Terse(err)
	}
	if got.Name == nil || *got.Name == "" {
		return errors.New("the job was started, and Azure named no execution")
	}
	e.name = *got.Name
	return nil
}

// ended is an execution that has ended, and not well.
type ended struct{ name, status string }

func (e *ended) Error() string { return fmt.Sprintf("its execution %s is %s", e.name, e.status) }

// look says when the execution has succeeded. Whatever Azure may call it besides, it is only that.
func (e *execution) look(ctx context.Context) (finished string, err error) {
	got, err := e.all.JobExecution(ctx, e.job.ResourceGroupName, e.job.Name, e.name, nil)
	if err != nil {
		return "", waiting("its execution "+e.name+" cannot be read yet", err, http.StatusForbidden, http.StatusNotFound)
	}
	if got.Properties == nil || got.Properties.Status == nil {
		return "", &pending{"its execution " + e.name + " has no status", nil}
	}
	switch status := *got.Properties.Status; status {
	case armappcontainers.JobExecutionRunningStateSucceeded:
		if end := got.Properties.EndTime; end != nil {
			finished = end.UTC().Format(time.RFC3339)
		}
		return finished, nil
	case armappcontainers.JobExecutionRunningStateFailed, armappcontainers.JobExecutionRunningStateStopped:
		return "", &ended{e.name, string(status)}
	default:
		return "", &pending{fmt.Sprintf("its execution %s is %s", e.name, status), nil}
	}
}

// waiting tells what passes by itself from what does not: a role is on its way, a new execution is not shown yet.
func waiting(seen string, err error, passing ...int) error {
	var answer *azcore.ResponseError
	passes := errors.As(err, &answer) && slices.Contains(passing, answer.StatusCode)
	if err = patience.Terse(err); passes {
		return &pending{seen + ": " + err.Error(), err}
	}
	return err
}

// advice is where a person looks.
func (e *execution) advice(err error) string {
	switch {
	case patience.Refused(err):
		return " The deployer needs Microsoft.App/jobs/start/action on the job, and to read its executions: Container Apps Jobs Operator has both."
	case e.name == "":
		return " See the job in the portal."
	}
	return fmt.Sprintf(" Azure tells no exit code; the probe's output has a line for each check, whether it is ok and what was found: "+
		"that a permitted name is answered and reached, that a denied name and a bare address are not, that Azure's own resolver is closed, and that a decrypted name shows the gateway's root. "+
		"Read it by: az containerapp job logs show --resource-group %s --name %s --execution %s --container probe. "+
		"Without any output the image was not fetched: the ruleset has to permit its registry, and the hosts that the registry sends to.", e.job.ResourceGroupName, e.job.Name, e.name)
}
