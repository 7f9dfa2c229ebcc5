package preflight

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// good is a spoke in which every guard passes, or whose question does not arise.
func good(t testing.TB) Inventory {
	t.Helper()
	data, err := os.ReadFile("testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	inv, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func outcomes(t testing.TB, inv Inventory) map[string]Result {
	t.Helper()
	report, err := Run(inv, Options{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Result{}
	for _, r := range report.Results {
		out[r.ID] = r
	}
	return out
}

func TestGood(t *testing.T) {
	moot := []string{"RUL-12", "RUL-13", "GW-05", "CA-05", "FND-07"} // the mutations prepare an inventory for these
	for id, r := range outcomes(t, good(t)) {
		if r.Outcome != Passed && !(r.Outcome == NotApplicable && slices.Contains(moot, id)) {
			t.Errorf("%s: %s %s %+v", id, r.Outcome, r.Note, r.Findings)
		}
	}
}

// TestMutations breaks the good inventory in one place at a time. Every guard has to have a
// change before which it passes and after which it fails, and no change may trip a guard
// that it was not expected to.
func TestMutations(t *testing.T) {
	has := map[string]bool{}
	for _, m := range mutations {
		has[m.guard] = true
		t.Run(m.guard+" "+m.name, func(t *testing.T) {
			inv := good(t)
			if m.prepare != nil {
				m.prepare(&inv)
			}
			if r := outcomes(t, inv)[m.guard]; r.Outcome != Passed {
				t.Fatalf("before: %s %s %+v", r.Outcome, r.Note, r.Findings)
			}
			m.change(&inv)
			want := append([]string{m.guard}, m.also...)
			for id, r := range outcomes(t, inv) {
				tripped := r.Outcome == Failed || r.Outcome == Warned
				if tripped != slices.Contains(want, id) {
					t.Errorf("%s: %s %+v", id, r.Outcome, r.Findings)
				}
				if tripped && (r.Outcome == Failed) != (r.Severity == Fail) {
					t.Errorf("%s: %s of severity %s", id, r.Outcome, r.Severity)
				}
				for _, f := range r.Findings {
					if f.Resource == "" || f.Found == "" || f.Wanted == "" || f.Fix == "" || r.Why == "" || r.Source == "" {
						t.Errorf("%s does not say everything: %+v", id, f)
					}
				}
			}
		})
	}
	for _, g := range Guards() {
		if !has[g.ID] {
			t.Errorf("%s: no change makes it fail", g.ID)
		}
	}
}

// TestFoundWithHalfTheFacts holds that what is found is said, although not all could be looked at.
func TestFoundWithHalfTheFacts(t *testing.T) {
	inv := good(t)
	i := slices.IndexFunc(mutations, func(m mutation) bool { return m.guard == "RTE-06" })
	mutations[i].change(&inv)
	inv.VNets = inv.VNets[:1] // the peered network's endpoints may not be read
	if r := outcomes(t, inv)["RTE-06"]; r.Outcome != Warned || len(r.Findings) != 1 || !strings.Contains(r.Note, "peered network") {
		t.Errorf("%+v", r)
	}
}

// TestWithin holds that a scope whose name merely begins alike is another one.
func TestWithin(t *testing.T) {
	for id, want := range map[string]bool{"/s/vaults/kv": true, "/S/Vaults/KV": true, "/s/vaults/kv/keys/root": true, "/s/vaults/kv2": false, "/s/vaults": false} {
		if got := within("/s/vaults/kv/", id); got != want {
			t.Errorf("%s: %t", id, got)
		}
	}
}

// TestTable holds each row to be complete and written alike.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range Guards() {
		switch {
		case seen[g.ID]:
			t.Errorf("%s twice", g.ID)
		case g.Condition == "" || g.Why == "" || g.Source == "" || g.Fix == "" || g.check == nil || g.When == "":
			t.Errorf("%s: the row is not complete", g.ID)
		case !strings.HasSuffix(g.Why, ".") || strings.HasSuffix(g.Condition, ".") || strings.HasSuffix(g.Fix, "."):
			t.Errorf("%s: why is a sentence; condition and fix are clauses", g.ID)
		}
		seen[g.ID] = true
		for _, p := range g.Needs {
			if _, ok := fields[p]; !ok || parts[p] == nil {
				t.Errorf("%s needs %s, which is no part of an inventory", g.ID, p)
			}
		}
	}
}

// TestNotRead takes one part at a time away: each guard that needs it says so, gives the
// reason, and does not pass; no other guard changes.
func TestNotRead(t *testing.T) {
	const reason = "403 AuthorizationFailed"
	before := outcomes(t, good(t))
	for part, remove := range parts {
		t.Run(string(part), func(t *testing.T) {
			inv := good(t)
			remove(&inv)
			inv.NotRead = map[Part]string{part: reason}
			after := outcomes(t, inv)
			for _, g := range Guards() {
				r := after[g.ID]
				switch needs := slices.Contains(g.Needs, part); {
				case needs && (r.Outcome != NotChecked || !strings.Contains(r.Note, string(part)+": "+reason)):
					t.Errorf("%s: %s %q", g.ID, r.Outcome, r.Note)
				case !needs && r.Outcome != before[g.ID].Outcome:
					t.Errorf("%s: %s, and %s without a part that it does not name: %+v", g.ID, before[g.ID].Outcome, r.Outcome, r)
				}
			}
		})
	}
}

// parts takes each part of an inventory away.
var parts = map[Part]func(*Inventory){
	PartRuleset: func(i *Inventory) { i.Ruleset = nil }, PartVNets: func(i *Inventory) { i.VNets = nil },
	PartRouteTables: func(i *Inventory) { i.RouteTables = nil }, PartNSGs: func(i *Inventory) { i.NSGs = nil },
	PartNICs: func(i *Inventory) { i.NICs = nil }, PartEffectiveRoutes: func(i *Inventory) { i.EffectiveRoutes = nil },
	PartLoadBalancers: func(i *Inventory) { i.LoadBalancers = nil }, PartVMs: func(i *Inventory) { i.VMs = nil },
	PartPrivateEndpoints: func(i *Inventory) { i.PrivateEndpoints = nil }, PartPrivateZones: func(i *Inventory) { i.PrivateZones = nil },
	PartDNSPolicies: func(i *Inventory) { i.DNSPolicies = nil }, PartDNSForwarding: func(i *Inventory) { i.DNSForwarding = nil },
	PartVaults: func(i *Inventory) { i.Vaults = nil }, PartDeletedVaults: func(i *Inventory) { i.DeletedVaults = nil },
	PartStorage: func(i *Inventory) { i.StorageAccounts = nil }, PartRoleAssignments: func(i *Inventory) { i.RoleAssignments = nil },
	PartDeployer: func(i *Inventory) { i.Deployer = nil }, PartProviders: func(i *Inventory) { i.Providers = nil },
	PartRegistries: func(i *Inventory) { i.Registries = nil }, PartAccounts: func(i *Inventory) { i.Accounts = nil },
	PartDeletedAccounts: func(i *Inventory) { i.DeletedAccounts = nil }, PartAgents: func(i *Inventory) { i.Agents = nil },
	PartGatewayReports: func(i *Inventory) { i.GatewayReports = nil }, PartEnvironments: func(i *Inventory) { i.Environments = nil },
	PartCanaries: func(i *Inventory) { i.Canaries = nil },
}
