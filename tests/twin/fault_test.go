package twin

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// TestFaults makes the creation of each resource fail in turn, in the ways in which Azure does. Whatever is left behind
// contains its agents, and the next update finishes the work.
func TestFaults(t *testing.T) {
	// What a spoke is made of is found out, not written down: a resource that is added later is made to fail too.
	s := newSpoke(t)
	s.Up().OK()
	state, err := s.on.Control.State()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, r := range state.Resources {
		kinds[r.Type] = true
	}
	s.Destroy().OK()
	if len(kinds) < 12 {
		t.Fatalf("a spoke of %d kinds of resources: %v", len(kinds), slices.Sorted(maps.Keys(kinds)))
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		for _, mode := range []arm.Mode{arm.Before, arm.Accepted, arm.Lost} {
			t.Run(strings.ReplaceAll(kind, "/", "_")+" "+string(mode), func(t *testing.T) {
				if err := s.on.Control.Inject(arm.Fault{Type: kind, Operation: "create", Mode: mode}); err != nil {
					t.Fatal(err)
				}
				if first := s.Up(); first.Err == nil {
					t.Errorf("the fault had no effect\n%s", first.Text)
				}
				s.contained(t)
				if second := s.Up(); second.Err != nil {
					// What was made without the engine hearing of it is found by a refresh, or imported.
					t.Errorf("the next update does not recover: %v\n%s", second.Err, second.Text)
				}
				s.wholesome(t)
				if again := s.Destroy(); again.Err != nil {
					t.Fatalf("%v\n%s", again.Err, again.Text)
				}
			})
			if t.Failed() && testing.Short() {
				return
			}
		}
	}
}
