package boot_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/policyblob"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

func asResponse[T error](err error, to *T) bool { return errors.As(err, to) }

// ruleset is the lab's without what needs files beside it.
func ruleset() []byte {
	return []byte(strings.ReplaceAll(lab.Ruleset, "FEEDS", "/var/lib/bulkhead/feeds"))
}

// TestSpoke boots a whole spoke: the gateway comes out of its user data, takes the ruleset that was
// published, reports it, and holds against the kill chain.
func TestSpoke(t *testing.T) {
	put(t, "policy/ruleset.json", ruleset(), 1)
	whole := published(t)
	early := maps.Clone(whole) // the agents' subnet is made once the gateway has reported
	delete(early, agents)
	delete(early, canary)
	ctx, l := up(t, early)
	if err := l.Follow(whole); err != nil {
		t.Fatal(err)
	}
	err := killchain.Run(ctx, l.Lab, lab.InvoiceAgent, func(r killchain.Result) {
		t.Logf("%-34s %-8s %-28s %s %s", r.Step, r.Verdict, r.Saw, r.Rule, r.Reason)
		if !r.OK {
			t.Errorf("%s: %s", r.Step, r.Problem)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := l.Resolve(ctx, l.Host(lab.InvoiceAgent), "fabrikam.privatelink.openai.azure.com"); err != nil || len(a) != 1 || a[0].String() != "10.20.2.5" {
		t.Errorf("a name of a linked private zone: %v, %v", a, err)
	}
	var report policyblob.Report
	if err := json.Unmarshal(get(t, "attestation/gateway.json"), &report); err != nil || !report.Ready || report.Serial != 1 {
		t.Errorf("reported %+v, %v", report, err)
	}
}
