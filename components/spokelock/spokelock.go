// Package spokelock has the custom resource SpokeLock: what a Foundry account makes immutable,
// written down, and a plan that changes it refused in preview.
//
// When a Foundry account is made with its agents injected into a subnet, that subnet's id,
// prefix and delegation, its virtual network and region, and the injection itself can never be
// changed again; a plan that does so destroys agents and gets stuck half-way, because Azure
// lets go of the subnet only some time after the account is deleted and purged. Routes are not
// among it: they lie outside of the environment, and only their next hop is worth a warning.
//
// Preview is when it has to be said: the engine asks for differences before anything happens.
// A value that is known now and will be known only after the update belongs to something that
// is being replaced, and counts as changed. An update that skips its preview reaches the lock
// only after the network: that is what `protect` on the network is for.
package spokelock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"

	"github.com/bulkhead-dev/bulkhead/components/patience"
)

// SpokeLock is the resource. The zero value is for the provider.
type SpokeLock struct {
	leaving patience.Patience // zero: leaving
}

// leaving is how long a deletion waits for the account: Azure takes about twenty minutes to let
// go of a subnet.
var leaving = patience.Patience{Limit: 30 * time.Minute, Pause: 2 * time.Second, Longest: time.Minute}

// Args are its inputs.
type Args struct {
	VnetID         string  `pulumi:"vnetId"`
	AgentSubnetID  string  `pulumi:"agentSubnetId"`
	AgentPrefix    string  `pulumi:"agentPrefix"`
	Delegation     string  `pulumi:"delegation"`
	Location       string  `pulumi:"location"`
	GatewayAddress string  `pulumi:"gatewayAddress"`
	AccountID      *string `pulumi:"accountId,optional"`
	Bound          *bool   `pulumi:"bound,optional"`
}

// State is its outputs, beside its inputs.
type State struct {
	Args
	Locked map[string]string `pulumi:"locked"`
}

// Annotate describes the resource.
func (l *SpokeLock) Annotate(a infer.Annotator) {
	a.SetToken("index", "SpokeLock")
	a.Describe(&l, "Records what a Foundry account that is injected into the agents' subnet makes immutable, and refuses in preview a plan that changes or replaces it. "+
		"While no account is bound, changes are let through and said. "+
		"Whether one is bound is told by `bound`, or looked up: at the account if `accountId` is given, and at the subnet.\n\n"+
		"Deleting it waits for the account named by `accountId` to go, and is refused while it stays. "+
		"The order of destruction is: project capability hosts, the account's capability host, the account, its purge, then this package.")
}

// Annotate describes the inputs.
func (i *Args) Annotate(a infer.Annotator) {
	a.Describe(&i.VnetID, "The virtual network's resource id.")
	a.Describe(&i.AgentSubnetID, "The agents' subnet's resource id.")
	a.Describe(&i.AgentPrefix, "The agents' subnet's address prefix.")
	a.Describe(&i.Delegation, "The service that the agents' subnet is delegated to.")
	a.Describe(&i.Location, "The region of the virtual network, and so of the account.")
	a.Describe(&i.GatewayAddress, "The next hop of the agents' routes. A change of it is warned of, not refused.")
	a.Describe(&i.AccountID, "The Foundry account's resource id, to look up whether its agents are injected into the subnet. If the look-up fails, it counts as bound.")
	a.Describe(&i.Bound, "Whether a Foundry account is bound to the subnet. `true` needs no look-up. `false` without `accountId` needs none either, and says that none is. Absent: it is looked up.")
}

// Annotate describes the outputs.
func (s *State) Annotate(a infer.Annotator) {
	a.Describe(&s.Locked, "What cannot change while an account is bound, by the name of its input.")
}

// locked are the inputs that a bound account makes immutable, and how two values compare.
var locked = []struct {
	name string
	of   func(Args) string
	same func(a, b string) bool
}{
	{"vnetId", func(a Args) string { return a.VnetID }, strings.EqualFold}, // resource ids have no case
	{"agentSubnetId", func(a Args) string { return a.AgentSubnetID }, strings.EqualFold},
	{"agentPrefix", func(a Args) string { return a.AgentPrefix }, exact},
	{"delegation", func(a Args) string { return a.Delegation }, exact}, // this one has case
	{"location", func(a Args) string { return region(a.Location) }, exact},
	{"accountId", func(a Args) string { return value(a.AccountID) }, strings.EqualFold}, // whose injection it is
}

func exact(a, b string) bool { return a == b }

// region is "East US 2" as Azure's ids have it.
func region(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

func value[T any](v *T) (zero T) {
	if v == nil {
		return zero
	}
	return *v
}

// Check refuses inputs that say nothing. An empty text is one that is not known yet, after it.
func (l *SpokeLock) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[Args], error) {
	in, failures, err := infer.DefaultCheck[Args](ctx, req.NewInputs)
	if err != nil {
		return infer.CheckResponse[Args]{}, err
	}
	fail := func(property, reason string) {
		failures = append(failures, p.CheckFailure{Property: property, Reason: reason})
	}
	for _, property := range []string{"vnetId", "agentSubnetId", "agentPrefix", "delegation", "location", "gatewayAddress", "accountId"} {
		if v := req.NewInputs.Get(property); v.IsString() && v.AsString() == "" {
			fail(property, "must not be empty")
		}
	}
	if req.NewInputs.Get("bound").IsComputed() {
		fail("bound", "must be known in preview: give a value that no other resource yields, or accountId instead")
	}
	return infer.CheckResponse[Args]{Inputs: in, Failures: failures}, nil
}

// Create writes it down.
func (l *SpokeLock) Create(_ context.Context, req infer.CreateRequest[Args]) (infer.CreateResponse[State], error) {
	return infer.CreateResponse[State]{ID: req.Inputs.AgentSubnetID, Output: record(req.Inputs)}, nil
}

// Update writes down what Diff let through.
func (l *SpokeLock) Update(_ context.Context, req infer.UpdateRequest[Args, State]) (infer.UpdateResponse[State], error) {
	return infer.UpdateResponse[State]{Output: record(req.Inputs)}, nil
}

func record(in Args) State {
	s := State{Args: in, Locked: map[string]string{}}
	for _, k := range locked {
		if v := k.of(in); v != "" {
			s.Locked[k.name] = v
		}
	}
	return s
}

// change is one of what is locked.
type change struct{ name, from, to string }

// changes compares what was written down with what is planned.
func changes(old State, in Args) (all []change) {
	for _, k := range locked {
		was, is := k.of(old.Args), k.of(in)
		if was == "" || k.same(was, is) {
			continue // not written down yet, or the same
		}
		if k.name == "accountId" && in.AccountID == nil {
			continue // no longer named: nothing happens to the account
		}
		if is == "" {
			is = "known after the update: it is being replaced"
		}
		all = append(all, change{k.name, was, is})
	}
	return all
}

// Diff refuses what Azure cannot change.
func (l *SpokeLock) Diff(ctx context.Context, req infer.DiffRequest[Args, State]) (infer.DiffResponse, error) {
	old, in, log := req.State, req.Inputs, p.GetLogger(ctx)
	diff := map[string]p.PropertyDiff{}
	update := func(property string, changed bool) {
		if changed {
			diff[property] = p.PropertyDiff{Kind: p.Update, InputDiff: true}
		}
	}
	forbidden := changes(old, in)
	for _, c := range forbidden {
		update(c.name, true)
	}
	update("accountId", (old.AccountID == nil) != (in.AccountID == nil))
	update("bound", (old.Bound == nil) != (in.Bound == nil) || value(old.Bound) != value(in.Bound))
	update("gatewayAddress", old.GatewayAddress != in.GatewayAddress)
	if old.GatewayAddress != in.GatewayAddress {
		log.Warningf("the next hop of the agents' routes changes from %s to %s. Nothing documents that a bound account forbids it, nor that it does not; flows under way break. An address that stays (a static one, or a load balancer's) is better.",
			old.GatewayAddress, or(in.GatewayAddress, "an address known after the update"))
	}
	if len(forbidden) == 0 {
		return infer.DiffResponse{HasChanges: len(diff) > 0, DetailedDiff: diff}, nil
	}
	if why := bound(ctx, old.Args, in); why != "" {
		return infer.DiffResponse{}, refusal(forbidden, why)
	}
	for _, c := range forbidden {
		log.Infof("no Foundry account is bound to the agents' subnet, so this may still change: %s: %s -> %s", c.name, c.from, c.to)
	}
	return infer.DiffResponse{HasChanges: true, DetailedDiff: diff}, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

const wayOut = `The way out:
  1. delete the capability hosts of the account's projects,
  2. delete the account's capability host,
  3. delete the account, and purge it,
  4. wait until the subnet has no service association link (legionservicelink) any more: about 20 minutes,
  5. apply this change, and make the account again.
Agents, their threads and their sessions are lost with the account.`

func refusal(forbidden []change, why string) error {
	var b strings.Builder
	b.WriteString("a Foundry account is bound to the agents' subnet, and Azure cannot change what it is bound to:\n")
	for _, c := range forbidden {
		fmt.Fprintf(&b, "  %s: %s -> %s\n", c.name, c.from, c.to)
	}
	fmt.Fprintf(&b, "It counts as bound because %s.\n%s\nOr undo the change.", why, wayOut)
	return errors.New(b.String())
}

// errBound is while a deletion waits.
type errBound struct{ why string }

func (e *errBound) Error() string {
	return "a Foundry account is bound to the agents' subnet: " + e.why
}

// Delete lets go of a subnet that no account is bound to. Where the account is deleted in the
// same run, it waits for that: Azure would not let the subnet go earlier either.
func (l *SpokeLock) Delete(ctx context.Context, req infer.DeleteRequest[State]) (infer.DeleteResponse, error) {
	s := req.State
	switch {
	case s.AccountID == nil && value(s.Bound):
		return infer.DeleteResponse{}, fmt.Errorf("a Foundry account is bound to the agents' subnet: the program says so (bound: true).\n%s\nThen set bound to false, run `pulumi up`, and destroy", wayOut)
	case s.AccountID == nil:
		return infer.DeleteResponse{}, nil // Azure itself does not delete a subnet that is in use
	}
	how := l.leaving
	if how == (patience.Patience{}) {
		how = leaving
	}
	failed := false
	err := how.Until(ctx, p.GetLogger(ctx).InfoStatus, func(error) bool { return !failed }, func(ctx context.Context) error {
		why, err := look(ctx, s.Args)
		failed = err != nil
		if failed {
			return &errBound{unknown(err)}
		}
		if why != "" {
			return &errBound{why}
		}
		return nil
	})
	if err != nil {
		return infer.DeleteResponse{}, fmt.Errorf("%w.\n%s\nThen destroy again", err, wayOut)
	}
	return infer.DeleteResponse{}, nil
}

// bound says why the subnet that is there now counts as bound, or nothing.
func bound(ctx context.Context, old, in Args) string {
	if value(in.Bound) {
		return "the program says so (bound: true)"
	}
	if old.AccountID == nil && value(in.AccountID) != "" {
		old.AccountID = in.AccountID
	}
	if in.Bound != nil && old.AccountID == nil {
		return "" // the program says that none is
	}
	why, err := look(ctx, old)
	if err != nil {
		return unknown(err)
	}
	return why
}

func unknown(err error) string {
	return fmt.Sprintf("it could not be looked up (%v). Give the deployer Reader on the virtual network and the account; or, if you know that no account is bound, leave accountId out and set bound to false", err)
}
