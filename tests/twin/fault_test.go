package twin

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// TestFaults makes the creation of every resource of a spoke fail, one after the other, in the ways in which Azure does.
// After each update whatever is there contains its agents, and the updates after it finish the work. A lost reply fails
// no update: the provider asks again, as Azure's own library does. What a provider made before it died, somebody has to
// remove; it has opened nothing meanwhile.
func TestFaults(t *testing.T) {
	// What a spoke is made of is found out, not written down: a resource that is added later fails too.
	s := newSpoke(t)
	s.Up().OK()
	state, err := s.on.Control.State()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, r := range state.Resources {
		if slices.Contains(state.Log, "create "+r.ID) { // routes come with their table, and fail with it
			kinds[r.Type]++
		}
	}
	s.Destroy().OK()
	if len(kinds) < 12 {
		t.Fatalf("a spoke of %d kinds of resources: %v", len(kinds), slices.Sorted(maps.Keys(kinds)))
	}
	for _, mode := range []arm.Mode{arm.Before, arm.Accepted, arm.Lost, arm.Died} {
		t.Run(string(mode), func(t *testing.T) {
			total := 0
			for kind, n := range kinds {
				total += n
				if err := s.on.Control.Inject(arm.Fault{Type: kind, Operation: "create", Mode: mode, Times: n}); err != nil {
					t.Fatal(err)
				}
			}
			failed := 0
			for {
				up := s.Up()
				s.contained(t)
				if up.Err == nil {
					break
				}
				if failed++; failed > total {
					t.Fatalf("the updates do not recover: %v\n%s", up.Err, up.Text)
				}
				if mode == arm.Died {
					s.removeUnknown()
				}
			}
			if state, err := s.on.Control.State(); err != nil || len(state.Faults) > 0 || (failed < 5) != (mode == arm.Lost) {
				t.Errorf("%d updates failed, %d faults had no effect: %v", failed, len(state.Faults), err)
			}
			t.Logf("%d updates failed, for %d resources of %d kinds", failed, total, len(kinds))
			s.wholesome(t)
			s.Destroy().OK()
		})
	}
}

// removeUnknown takes away, as a person does, what is in Azure and unknown to the engine: azure-native refuses to create
// what is there, and an address or a role is given once.
func (s *spoke) removeUnknown() {
	s.t.Helper()
	known := map[string]bool{}
	for _, r := range s.Stack.Resources() {
		known[strings.ToLower(string(r.ID))] = true
	}
	state, err := s.on.Control.State()
	if err != nil {
		s.t.Fatal(err)
	}
	for id, r := range state.Resources {
		if known[id] || !slices.Contains(state.Log, "create "+r.ID) {
			continue
		}
		err := s.on.Control.Delete(r.ID)
		if arm.Code(err) == "MethodNotAllowed" { // a key goes by way of its vault
			err = s.on.Control.Edit(func(state *arm.State) error { delete(state.Resources, id); return nil })
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}
