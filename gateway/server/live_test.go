package server

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestDenials shows that repeats are counted, permits left out, and the list bounded
// whatever an agent does.
func TestDenials(t *testing.T) {
	var d denials
	at := time.Unix(1, 0)
	note := func(name string, action policy.Action) {
		at = at.Add(time.Second)
		d.note(&audit.Record{Time: at, Src: netip.MustParseAddrPort("10.20.1.20:1"), Host: name,
			Decision: policy.Decision{Verdict: action, Rule: "default", Reason: policy.ReasonDefault}})
	}
	note("a.example", policy.Deny)
	note("b.example", policy.Deny)
	note("a.example", policy.Deny)
	note("c.example", policy.Permit)
	if got := d.list(); len(got) != 2 || got[0].Name != "a.example" || got[0].Count != 2 || got[1].Count != 1 {
		t.Errorf("%+v", got)
	}
	for i := range 10 * shownDenials {
		note(fmt.Sprintf("n%d.example", i), policy.Deny)
	}
	if got := d.list(); len(got) != shownDenials || got[0].Name != fmt.Sprintf("n%d.example", 10*shownDenials-1) {
		t.Errorf("%d denials, the latest %s", len(got), got[0].Name)
	}
}
