package twin

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

var existing = regexp.MustCompile(`cannot create already existing resource '([^']+)'`)

// TestFaults makes the creation of every resource of a spoke fail, one after the other, in the ways in which Azure does.
// After each update whatever is there contains its agents, and the updates after it finish the work.
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
		kinds[r.Type]++
	}
	s.Destroy().OK()
	if len(kinds) < 12 {
		t.Fatalf("a spoke of %d kinds of resources: %v", len(kinds), slices.Sorted(maps.Keys(kinds)))
	}
	for _, mode := range []arm.Mode{arm.Before, arm.Accepted, arm.Lost} {
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
				// What was made without the engine hearing of it, azure-native finds and will not take over. A
				// person removes it, or imports it; nothing of it has opened anything meanwhile.
				for _, found := range existing.FindAllStringSubmatch(up.Text, -1) {
					if mode != arm.Lost {
						t.Errorf("not known to the engine: %s", found[1])
					}
					s.remove(found[1])
				}
			}
			if failed < 5 {
				t.Errorf("only %d updates failed", failed)
			}
			// What comes with its parent is never made by itself.
			if err := s.on.Control.Edit(func(state *arm.State) error { state.Faults = nil; return nil }); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d updates failed, for %d resources of %d kinds", failed, total, len(kinds))
			s.wholesome(t)
			s.Destroy().OK()
		})
	}
}

// remove takes a resource away as a person does who finds it; a key goes by way of its vault's data plane.
func (s *spoke) remove(id string) {
	s.t.Helper()
	err := s.on.Control.Delete(id)
	if arm.Code(err) == "MethodNotAllowed" {
		err = s.on.Control.Edit(func(state *arm.State) error { delete(state.Resources, strings.ToLower(id)); return nil })
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
