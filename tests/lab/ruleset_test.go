package lab_test

import (
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// TestRuleset: the lab's ruleset is one that a gateway takes, and so is its configuration.
func TestRuleset(t *testing.T) {
	doc, err := policy.Decode([]byte(strings.ReplaceAll(lab.Ruleset, "FEEDS", "/feeds")))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range policy.Check(doc, policy.Environment{}) {
		t.Log(d)
		if d.Severity == policy.SeverityError {
			t.Error(d)
		}
	}
	_, l := up(t, lab.Options{})
	if _, err := config.Load(l.Paths.Config); err != nil {
		t.Error(err)
	}
}
