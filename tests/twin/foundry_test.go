package twin

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
)

// azureNative3 is the same program in the version that examples/foundry names.
var azureNative3 = engine.Plugin{Name: "azure-native", Version: "3.28.0", Package: azureNative.Package}

const (
	foundryAccounts = "Microsoft.CognitiveServices/accounts"
	projectHosts    = "Microsoft.CognitiveServices/accounts/projects/capabilityHosts"
)

// newFoundry is the program of examples/foundry as it stands, with the real @pulumi/azure-native, on a
// subscription of its own.
func newFoundry(t *testing.T) *spoke {
	t.Helper()
	on := newSubscription(t)
	e := engine.New(t, bulkhead, azureNative, azureNative3)
	e.Setenv(on.Environment(planes.Deployer)...)
	// tests/sdk compiles the example against azure-native's types; doing so in each run takes ten seconds.
	e.Setenv("PULUMI_NODEJS_TRANSPILE_ONLY=true")
	s := &spoke{t: t, dir: e.Copy("examples/foundry"), on: on}
	s.Stack = e.TypeScript(s.dir)
	s.SetConfig("bundleFile", release(t, "0.1.0"))
	s.SetConfig("deployerAddresses[0]", planes.DeployerAddress.String())
	s.SetConfig("toolCalls[0]", "api.github.com")
	s.SetConfig("protect", "false")
	s.SetConfig("roleSeconds", "0")
	ctx, cancel := context.WithCancel(context.Background())
	done := on.StandIn(ctx)
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// TestFoundry: a Foundry account in a contained spoke, from nothing to its capability host, bound, and to nothing.
func TestFoundry(t *testing.T) {
	s := newFoundry(t)
	s.Preview().OK()
	if n := writes(t, s); n != 0 {
		t.Errorf("a preview wrote %d times", n)
	}
	start := time.Now()
	up := s.Up().OK()
	t.Logf("%v in %s", up.Changes, time.Since(start).Round(time.Second))
	s.Up().Unchanged()
	s.Refresh().Unchanged()
	s.wholesome(t)
	s.ordered(t)
	s.named(t)

	// Bound, nothing changes any more that the account depends on.
	s.SetConfig("bound", "true")
	s.Up().OK()
	s.SetConfig("agentPrefix", "10.20.4.0/24")
	s.Preview().Failed("agentPrefix: 10.20.1.0/24 -> 10.20.4.0/24", "It counts as bound because the program says so")
	s.SetConfig("agentPrefix", "10.20.1.0/24")
	s.SetConfig("accountName", "another")
	s.Preview().Failed("/accounts/foundry-dev -> ", "/accounts/another", "delete the account, and purge it")
	s.SetConfig("accountName", "foundry-dev")

	// It goes in the order that Azure takes: nothing of the spoke before somebody has purged the account.
	s.SetConfig("bound", "false")
	s.Up().OK()
	if err := s.on.Control.Edit(func(state *arm.State) error { state.Settings.LinkDelay = 1; return nil }); err != nil {
		t.Fatal(err)
	}
	purged := s.purges(t)
	s.Destroy().OK()
	<-purged
	left, err := s.on.Left()
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// purges does what a person does meanwhile: once the account is deleted, it purges it. Until then the agents' subnet has
// to be there, routed as ever.
func (s *spoke) purges(t *testing.T) chan struct{} {
	done := make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(done)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			state, err := s.on.Control.State()
			if err != nil {
				t.Error(err)
				return
			}
			for _, r := range state.Deleted {
				if !strings.EqualFold(r.Type, foundryAccounts) {
					continue
				}
				if n := s.contained(t); n != 1 {
					t.Errorf("%d subnets of agents while the account can be restored", n)
				}
				if err := s.on.Control.Purge(r.ID); err != nil {
					t.Error(err)
				}
				return
			}
		}
	}()
	return done
}

// ordered holds the order in which things were made to the one that works.
func (s *spoke) ordered(t *testing.T) {
	t.Helper()
	state, err := s.on.Control.State()
	if err != nil {
		t.Fatal(err)
	}
	at := func(what string) int {
		i := slices.IndexFunc(state.Log, func(line string) bool {
			return strings.HasPrefix(line, "create ") && strings.Contains(strings.ToLower(line), strings.ToLower(what))
		})
		if i < 0 {
			t.Fatalf("nobody made %s", what)
		}
		return i
	}
	before := ""
	for _, next := range []string{"/virtualMachines/", "/subnets/agents", foundryAccounts + "/foundry-dev", "/projects/agents", "/connections/vectors", "/capabilityHosts/agents", "/sqlRoleAssignments/"} {
		if before != "" && at(before) > at(next) {
			t.Errorf("%s was made before %s", next, before)
		}
		before = next
	}
	for _, line := range state.Log {
		if strings.Contains(line, "/roleAssignments/") && strings.Contains(line, "/accounts/") && at("/capabilityHosts/agents") < at(strings.TrimPrefix(line, "create ")) {
			t.Errorf("after the capability host: %s", line)
		}
	}
}

// named holds that every service is found in the spoke, at an address of the subnet for private endpoints.
func (s *spoke) named(t *testing.T) {
	t.Helper()
	records, err := s.on.Control.List("Microsoft.Network/privateDnsZones/A", "")
	if err != nil {
		t.Fatal(err)
	}
	zones := map[string]int{}
	for _, r := range records {
		zone := strings.Split(r.Text("id"), "/")[8]
		for _, a := range r.List("properties", "aRecords") {
			if address := a.Text("ipv4Address"); !strings.HasPrefix(address, "10.20.2.") {
				t.Errorf("%s is at %s", r.Text("id"), address)
			}
			zones[zone]++
		}
	}
	for zone, want := range map[string]int{
		"privatelink.cognitiveservices.azure.com": 1, "privatelink.openai.azure.com": 1, "privatelink.services.ai.azure.com": 1, "privatelink.search.windows.net": 1,
		"privatelink.documents.azure.com": 2, "privatelink.blob.core.windows.net": 1,
	} {
		if zones[zone] != want {
			t.Errorf("%s has %d addresses, want %d", zone, zones[zone], want)
		}
	}
}

// TestFoundryFaults makes the creation of each kind of resource fail that the account brings, before anything is done and
// at the end of the operation, and roles take a while. After each update whatever is there contains its agents, and the
// updates after it finish the work.
func TestFoundryFaults(t *testing.T) {
	s := newFoundry(t)
	inject := func(kind, name string, modes ...arm.Mode) {
		t.Helper()
		for _, mode := range modes {
			if err := s.on.Control.Inject(arm.Fault{Type: kind, Name: name, Operation: "create", Mode: mode}); err != nil {
				t.Fatal(err)
			}
		}
	}
	inject("Microsoft.DocumentDB/databaseAccounts", "", arm.Accepted)
	inject("Microsoft.Search/searchServices", "", arm.Lost)
	inject("Microsoft.Storage/storageAccounts", "files*", arm.Before)
	inject(foundryAccounts, "", arm.Accepted)
	inject("Microsoft.Network/privateEndpoints", "", arm.Accepted)
	inject("Microsoft.Network/privateEndpoints/privateDnsZoneGroups", "", arm.Before)
	inject(foundryAccounts+"/projects", "", arm.Accepted)
	inject(foundryAccounts+"/projects/connections", "", arm.Before)
	inject(projectHosts, "", arm.Accepted)
	inject("Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments", "", arm.Before, arm.Accepted)
	failed := 0
	for {
		up := s.Up()
		s.contained(t)
		if up.Err == nil {
			break
		}
		if failed++; failed > 12 {
			t.Fatalf("the updates do not recover: %v\n%s", up.Err, up.Text)
		}
		if failed == 1 { // the spoke has its own roles by now
			inject("Microsoft.Authorization/roleAssignments", "", arm.Before, arm.Lost)
			if err := s.on.Control.Edit(func(state *arm.State) error { state.Settings.RoleDelay = 1; return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	state, err := s.on.Control.State()
	if err != nil || len(state.Faults) > 0 || failed < 7 {
		t.Errorf("%d updates failed, %d faults had no effect: %v", failed, len(state.Faults), err)
	}
	t.Logf("%d updates failed", failed)
	s.wholesome(t)
	s.Up().Unchanged()
}
