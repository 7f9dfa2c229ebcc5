package twin

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/components"
	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
)

// TestPolicyChange runs the component in this process, by the Automation API, and changes what
// agents may call: the preview draws exactly the host that comes and the one that goes, and
// what opens something waits for its approval.
func TestPolicyChange(t *testing.T) {
	on := newSubscription(t)
	e := engine.New(t, bulkhead, azureNative)
	e.Setenv(on.Environment(planes.Deployer)...)
	gateway := &pipeline{t: t, on: on} // only its stand-in
	t.Cleanup(gateway.gateway())
	args := components.FoundrySpokeArgs{
		Location: "eastus2", BundleFile: release(t, "0.1.0"), DeployerAddresses: []string{planes.DeployerAddress.String()},
		ToolCalls: []string{"api.github.com", "b.example.net", "z.example.net"},
	}
	program := func(ctx *pulumi.Context) error {
		_, err := components.NewFoundrySpoke(ctx, "spoke", args)
		return err
	}
	s := e.Inline("policy", program)
	s.Up().OK()
	s.Up().Unchanged()

	// One host comes, in the middle, and one goes: nothing else is drawn.
	args.ToolCalls = []string{"api.github.com", "m.example.net", "z.example.net"}
	preview := s.Preview().OK()
	step := preview.Step("spoke-ruleset")
	if step == nil {
		t.Fatalf("the ruleset does not change\n%s", preview.Text)
	}
	for path, diff := range step.DetailedDiff {
		gone, come := strings.Contains(path, "b.example.net"), strings.Contains(path, "m.example.net")
		if !strings.HasPrefix(path, `access["`) || gone && diff.Kind != apitype.DiffDelete || come && diff.Kind != apitype.DiffAdd || gone == come {
			t.Errorf("drawn: %s (%s)", path, diff.Kind)
		}
	}
	if len(step.DetailedDiff) != 2 {
		t.Errorf("%d differences, want 2", len(step.DetailedDiff))
	}
	if !preview.Says("warning", "m.example.net") {
		t.Errorf("no warning names what is opened\n%s", preview.Text)
	}
	for _, other := range preview.Steps {
		if name := other.URN[strings.LastIndex(other.URN, "::")+2:]; !slices.Contains([]string{"spoke-ruleset", "spoke-attestation"}, name) {
			t.Errorf("a policy change touches %s (%s)", name, other.Op)
		}
	}

	// With approval asked for, the preview refuses it, and says which digest to approve.
	yes := true
	args.RequireApproval = &yes
	refused := s.Preview().Failed("nobody has approved")
	digest := regexp.MustCompile(`set approvedDigest to (sha256:[0-9a-f]{64})`).FindStringSubmatch(refused.Text)
	if digest == nil {
		t.Fatalf("no digest to approve\n%s", refused.Text)
	}
	s.Up().Failed("nobody has approved")
	args.ApprovedDigest = &digest[1]
	up := s.Up().OK()
	if !up.Says("", "enforces "+digest[1]) {
		t.Errorf("nobody waited for the gateway\n%s", up.Text)
	}

	// What only closes something needs nobody's approval.
	args.ToolCalls, args.ApprovedDigest = []string{"api.github.com"}, nil
	s.Up().OK()
	s.Up().Unchanged()
}

// TestGuards: a plan that would break Foundry or leave a hole is refused in preview, with the
// resource, the reason and the way out, and nothing is made.
func TestGuards(t *testing.T) {
	for name, c := range map[string]struct{ property, saying string }{
		"subnet too small":         {"agentPrefix: 10.20.1.0/28", "NET-02: planned agent subnet: found 10.20.1.0/28, wanted a length of 27 or less"},
		"subnets overlap":          {"agentPrefix: 10.20.0.0/24", "overlap"},
		"no private space":         {"agentPrefix: 8.8.8.0/24", "agentPrefix"},
		"gateway among its agents": {"gatewayAddress: 10.20.1.4", "gatewayAddress"},
		"a ruleset that permits all": {`ruleset: {smartGroups: [{name: agents, cidrs: [10.20.1.0/24]}], rules: [{name: all, priority: 1, sources: [agents], destinations: [any], action: PERMIT}]}`,
			"all"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpoke(t)
			more := []string{c.property}
			if strings.HasPrefix(c.property, "ruleset:") {
				more = append(more, "toolCalls: []")
			}
			s.write(more...)
			s.Preview().Failed(c.saying)
			if n := writes(t, s); n != 0 {
				t.Errorf("%d writes", n)
			}
		})
	}
}
