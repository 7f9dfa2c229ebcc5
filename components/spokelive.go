package components

import (
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/errors"

	"github.com/bulkhead-dev/bulkhead/components/azure"
	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

// readAzure reads what there is, as whoever deploys. Tests have it saved.
var readAzure = func(ctx context.Context, scope azure.Scope) (preflight.Inventory, error) {
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return preflight.Inventory{}, err
	}
	return azure.Read(ctx, scope, credential)
}

// live asks, in a preview that was told to, the guards about what is in Azure already.
//
// A guard that has to hold before there is an account refuses. One that has to hold all the
// time, and does not, is drift: it is said, and refuses nothing, because the update that would
// put it right comes after this preview.
func (s *spokeBuilder) live() error {
	scope := s.args.LiveGuards
	if scope == nil || !s.ctx.DryRun() {
		return nil
	}
	plan := s.args.guarded(&s.plan)
	account := s.foundry()
	inv, err := readAzure(s.ctx.Context(), azure.Scope{
		Scope: preflight.Scope{
			Subscription: s.subscription, ResourceGroup: scope.ResourceGroupName, VNet: scope.VnetName,
			AgentSubnet: agentSubnetName, Account: or(account.Name, ""),
		},
		Plan:     &plan,
		Ruleset:  []byte(s.plan.document.text),
		Progress: status{s},
	})
	if err != nil {
		return errors.InputPropertyErrorf("liveGuards", "%v", err)
	}
	report, err := preflight.Run(inv, preflight.Options{Skips: s.args.skips()})
	if err != nil {
		return errors.InputPropertyErrorf("skipGuards", "%v", err)
	}
	before := map[string]bool{}
	for _, g := range preflight.Guards() {
		before[g.ID] = g.When == preflight.Before
	}
	var p problems
	var drift []string
	for _, r := range report.Results {
		switch {
		case r.Outcome == preflight.NotChecked && r.Severity == preflight.Fail && before[r.ID]:
			p.add("liveGuards", "%s is not checked: %s. To go on without it, skip it with the reason.", r.ID, r.Note)
		case r.Outcome == preflight.NotChecked:
			drift = append(drift, fmt.Sprintf("%s is not checked: %s", r.ID, r.Note))
		case r.Outcome == preflight.Failed && before[r.ID]:
			for _, f := range r.Findings {
				p.add("liveGuards", "%s", r.Explain(f))
			}
		case r.Outcome == preflight.Failed, r.Outcome == preflight.Warned:
			for _, f := range r.Findings {
				drift = append(drift, r.Explain(f))
			}
		}
	}
	if err := s.warn(drift); err != nil {
		return err
	}
	return p.err()
}

// status shows on the spoke's line what is being read.
type status struct{ *spokeBuilder }

func (w status) Write(line []byte) (int, error) {
	return len(line), w.ctx.Log.Info(strings.TrimSpace(string(line)), &pulumi.LogArgs{Resource: w.spoke, Ephemeral: true})
}

func (s *spokeBuilder) warn(all []string) error {
	for _, text := range all {
		if err := s.ctx.Log.Warn(text, &pulumi.LogArgs{Resource: s.spoke}); err != nil {
			return err
		}
	}
	return nil
}
