package twin

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// TestOptions: a spoke with everything that the standard one leaves out, whose canary fails at first, a
// change of what its tools may call, and its end.
func TestOptions(t *testing.T) {
	s := newSpoke(t)
	registry, err := s.on.Registry("contoso")
	if err != nil {
		t.Fatal(err)
	}
	options := []string{
		"dnsClosure: both", fmt.Sprintf(`canary: {image: "contoso.azurecr.io/bulkhead:1", registryId: %s, decrypted: api.github.com, schedule: "0 * * * *", required: true}`, registry),
		`adjacentPrefixes: [10.30.0.0/16]`, "gateway: {zones: ['1'], hsm: true}",
	}
	s.write(options...)
	if err := s.on.Control.Inject(arm.Fault{Type: "Microsoft.App/jobs", Operation: "start", Mode: arm.Accepted}); err != nil {
		t.Fatal(err)
	}
	failed := s.Up()
	if failed.Err == nil || !strings.Contains(failed.Text, "az containerapp job logs show") {
		t.Errorf("the canary failed: %v\n%s", failed.Err, failed.Text)
	}
	if given := s.Outputs()["agentSubnetId"]; given != nil {
		t.Errorf("an account could be made in %v, after a canary that failed", given)
	}
	s.contained(t)
	s.Up().OK()
	if given, _ := s.Outputs()["agentSubnetId"].(string); !strings.HasSuffix(given, "/subnets/agents") {
		t.Errorf("after a canary that succeeded an account could be made in %q", given)
	}
	s.Up().Unchanged()
	s.Refresh().Unchanged()
	for kind, want := range map[string]int{
		"Microsoft.App/jobs": 1, "Microsoft.App/managedEnvironments": 1, "Microsoft.Network/dnsResolverPolicies": 1,
		"Microsoft.Network/dnsResolverDomainLists": 2, "Microsoft.Network/virtualNetworks/subnets": 4,
	} {
		if got := s.exists(kind); len(got) != want {
			t.Errorf("%d of %s, want %d: %v", len(got), kind, want, got)
		}
	}

	// What a policy change touches: the ruleset, its attestation, the canary's proof and the list of names. Nothing
	// that agents live in is replaced, or even updated.
	s.write(append(options, "toolCalls: [api.github.com, api.contoso.com]")...)
	changed := s.Up().OK()
	touched := []string{"Attestation", "CanaryRun", "DnsResolverDomainList", "Ruleset"}
	for _, kind := range touched {
		if !slices.ContainsFunc(changed.Steps, func(step apitype.StepEventMetadata) bool { return strings.HasSuffix(step.Type, ":"+kind) }) {
			t.Errorf("no %s is updated: %v", kind, changed.Steps)
		}
	}
	for _, step := range changed.Steps {
		if kind := step.Type[strings.LastIndex(step.Type, ":")+1:]; step.Op != apitype.OpUpdate || !slices.Contains(touched, kind) {
			t.Errorf("%s: %s", step.URN, step.Op)
		}
	}
	s.Up().Unchanged()
	s.Destroy().OK()
	if left := s.Resources(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
