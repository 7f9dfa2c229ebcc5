// Package attestation has the custom resource Attestation: a deployment stands still in it
// until the gateway itself says that it enforces the ruleset that was deployed.
//
// It stands between the gateway and the agents' subnet. What is made after it can rely on a
// gateway that passed its self-test with that very digest; a gateway that does not come up
// leaves a spoke without agents, which is the closed state.
//
// The gateway writes its report into a blob that nobody else may write. Whether a report is of
// now is told by the storage account's clock alone, which stamps both the blob and the answer:
// the deployer's clock may be off, and a gateway's that is off is a reason to wait.
package attestation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"

	"github.com/bulkhead-dev/bulkhead/components/blob"
	"github.com/bulkhead-dev/bulkhead/components/patience"
)

// Attestation is the resource. The zero value is for the provider.
type Attestation struct {
	second time.Duration // how long one takes; zero: as everywhere
}

// Args are its inputs.
type Args struct {
	URL            string `pulumi:"url"`
	Digest         string `pulumi:"digest"`
	TimeoutSeconds int    `pulumi:"timeoutSeconds,optional"`
}

// State is its outputs, beside its inputs.
type State struct {
	Args
	AttestedAt     string `pulumi:"attestedAt"`
	GatewayVersion string `pulumi:"gatewayVersion"`
}

// Annotate describes the resource.
func (a *Attestation) Annotate(n infer.Annotator) {
	n.SetToken("index", "Attestation")
	n.Describe(&a, "Waits until the gateway reports that it is ready and enforces the ruleset with the wanted digest. "+
		"Put it between the gateway and whatever must not exist without one. Another digest waits again. "+
		"A preview waits for nothing; deleting it does nothing.\n\n"+
		"The deployer needs `Storage Blob Data Reader` on the report.")
}

// Annotate describes the inputs.
func (i *Args) Annotate(n infer.Annotator) {
	n.Describe(&i.URL, "The blob that the gateway reports into, such as `https://ACCOUNT.blob.core.windows.net/attestation/gateway.json`.")
	n.Describe(&i.Digest, "The digest of the ruleset that is to be in force, as Ruleset has it.")
	n.Describe(&i.TimeoutSeconds, "How long to wait, from 30 seconds to 2 hours. A new virtual machine needs some minutes, a new role assignment up to ten.")
	n.SetDefault(&i.TimeoutSeconds, 1200)
}

// Annotate describes the outputs.
func (s *State) Annotate(n infer.Annotator) {
	n.Describe(&s.AttestedAt, "When the gateway said so, by its own clock (RFC 3339).")
	n.Describe(&s.GatewayVersion, "The version of the gateway that said so.")
}

// Check refuses what nothing can be waited for with.
func (a *Attestation) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[Args], error) {
	in, failures, err := infer.DefaultCheck[Args](ctx, req.NewInputs)
	if err != nil {
		return infer.CheckResponse[Args]{}, err
	}
	fail := func(property, reason string, wrong bool) {
		if wrong && !req.NewInputs.Get(property).IsComputed() {
			failures = append(failures, p.CheckFailure{Property: property, Reason: reason})
		}
	}
	u, err := url.Parse(in.URL)
	// A signature in the address would end up in the state.
	fail("url", "give the blob as https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB, without a signature", err != nil || u.Scheme != "https" || u.Host == "" || strings.Count(u.Path, "/") < 2 || u.RawQuery != "" || u.User != nil)
	fail("digest", "give the ruleset's digest, as its resource has it", in.Digest == "")
	fail("timeoutSeconds", "wait from 30 seconds to 2 hours", in.TimeoutSeconds < 30 || in.TimeoutSeconds > 7200)
	return infer.CheckResponse[Args]{Inputs: in, Failures: failures}, nil
}

// Create waits.
func (a *Attestation) Create(ctx context.Context, req infer.CreateRequest[Args]) (infer.CreateResponse[State], error) {
	if req.DryRun {
		return infer.CreateResponse[State]{Output: State{Args: req.Inputs}}, nil
	}
	s, err := a.wait(ctx, req.Inputs)
	return infer.CreateResponse[State]{ID: req.Inputs.URL, Output: s}, err
}

// Update waits again.
func (a *Attestation) Update(ctx context.Context, req infer.UpdateRequest[Args, State]) (infer.UpdateResponse[State], error) {
	if req.DryRun {
		s := req.State
		s.Args = req.Inputs
		return infer.UpdateResponse[State]{Output: s}, nil
	}
	s, err := a.wait(ctx, req.Inputs)
	return infer.UpdateResponse[State]{Output: s}, err
}

// report is what the gateway says of itself.
type report struct {
	Digest  string    `json:"digest"`
	Serial  uint64    `json:"serial"`
	Ready   bool      `json:"ready"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	Error   string    `json:"error"`
}

const (
	maxReport = 64 << 10
	// fresh is how long before the wait a report may have been written. A gateway writes one
	// every three minutes, and whenever it has something else to say.
	fresh = 5 * time.Minute
	// skew is how far the gateway's clock may be off. Certificates, tokens and feeds depend on it.
	skew = 5 * time.Minute
)

// pending is what is seen while it is not what is waited for, and what a person does about it.
type pending struct {
	seen, todo string
	err        error
}

func (e *pending) Error() string { return e.seen }
func (e *pending) Unwrap() error { return e.err }

// wait looks at the report until it says what is wanted.
func (a *Attestation) wait(ctx context.Context, in Args) (State, error) {
	log := p.GetLogger(ctx)
	source, err := blob.Open(ctx, in.URL, log.InfoStatus)
	if err != nil {
		return State{}, fmt.Errorf("attestation: %w", err)
	}
	second := time.Second
	if a.second > 0 {
		second = a.second
	}
	how := patience.Patience{Limit: time.Duration(in.TimeoutSeconds) * second, Pause: 2 * second, Longest: 10 * second}
	// Reading has a patience of its own with roles that are on their way.
	ctx, cancel := context.WithTimeout(ctx, how.Limit+time.Minute)
	defer cancel()
	var since time.Time // when the wait began, by the storage account's clock
	var got report
	err = how.Until(ctx, log.InfoStatus, isPending, func(ctx context.Context) error {
		seen, err := source.Get(ctx, maxReport)
		if hopeless(err) {
			return err
		}
		if err != nil {
			return &pending{"no report of the gateway: " + err.Error(), "Look at the virtual machine's serial log (boot diagnostics) for what cloud-init and the gateway say. " +
				"The gateway's identity needs Storage Blob Data Contributor on the report, the deployer Storage Blob Data Reader, and the storage account's firewall has to let both in", err}
		}
		if since.IsZero() {
			since = seen.Now
		}
		got, err = judge(seen, since, in.Digest)
		return err
	})
	var last *pending
	if errors.As(err, &last) {
		return State{}, fmt.Errorf("attestation: the gateway has not reported that it enforces %s: %w. %s. Then run `pulumi up` again; what depends on the gateway was not made or changed", in.Digest, err, last.todo)
	}
	if err != nil {
		return State{}, fmt.Errorf("attestation: %w", err)
	}
	log.Infof("the gateway, version %s, enforces %s (serial %d)", got.Version, got.Digest, got.Serial)
	return State{Args: in, AttestedAt: got.Time.UTC().Format(time.RFC3339), GatewayVersion: got.Version}, nil
}

// hopeless is a failure to be anybody at all, which waiting does not cure. The SDK's own
// retries tell it by the same method.
func hopeless(err error) bool {
	var final interface {
		error
		NonRetriable()
	}
	return errors.As(err, &final)
}

func isPending(err error) bool {
	var e *pending
	return errors.As(err, &e)
}

// judge says what is missing from a report, or nothing.
func judge(seen *blob.Object, since time.Time, digest string) (report, error) {
	var r report
	if err := json.Unmarshal(seen.Body, &r); err != nil {
		return r, &pending{"the report is malformed", "Only the gateway may write it: see who has roles on that container", err}
	}
	// What the gateway says is shown to a person: one line, of a bounded length.
	r.Digest, r.Version, r.Error = line(r.Digest), line(r.Version), line(r.Error)
	off := seen.Written.Sub(r.Time)
	switch {
	case seen.Written.Before(since.Add(-fresh)):
		return r, &pending{fmt.Sprintf("the last report is of %s", seen.Written.UTC().Format(time.RFC3339)),
			"The gateway does not run, or cannot write: look at the virtual machine's serial log (boot diagnostics)", nil}
	case off.Abs() > skew:
		return r, &pending{fmt.Sprintf("the gateway's clock is off by %s", off.Round(time.Second)), "See why the virtual machine's clock is not synchronised (chrony)", nil}
	case r.Digest != digest:
		seen := "another ruleset, " + r.Digest
		if r.Digest == "" {
			seen = "no ruleset"
		}
		return r, &pending{"the gateway enforces " + seen + because(r.Error), "If the gateway refused the ruleset, its version may be older than what checked it; else see whether it can read the policy blob", nil}
	case !r.Ready:
		return r, &pending{"the gateway is not ready" + because(r.Error), "`bulkhead status` on the gateway says which part of the self-test fails", nil}
	}
	return r, nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func line(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }), " ")
	return strings.ToValidUTF8(s[:min(len(s), 300)], "")
}
