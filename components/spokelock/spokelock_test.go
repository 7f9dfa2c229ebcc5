package spokelock

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/components/patience"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/manager"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/resource"
)

// The official azidentity and armresources ask the twin's resource manager.

const (
	group   = "/subscriptions/00000000-0000-4000-8000-000000000000/resourceGroups/rg-spoke/providers/"
	vnetID  = group + "Microsoft.Network/virtualNetworks/vnet-spoke"
	subnet1 = vnetID + "/subnets/agents"
	foundry = group + "Microsoft.CognitiveServices/accounts/contoso"
)

var (
	twin  *planes.Planes
	roles planes.Roles
	live  resources
)

// resources are those of the resource manager, by id.
type resources struct {
	mu   sync.Mutex
	all  map[string]string // properties
	asks int
	left func(asks int) // called on each question
}

func (r *resources) find(id string) (json.RawMessage, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asks++; r.left != nil {
		r.left(r.asks)
	}
	properties, ok := r.all[id]
	return json.RawMessage(fmt.Sprintf(`{"id":%q,"properties":%s}`, id, properties)), ok
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if twin, err = planes.Start(planes.Control{Resources: live.find, Authorize: roles.Authorize}); err == nil {
		err = twin.Setenv(planes.Deployer)
	}
	if err != nil {
		println(err.Error())
		return 1
	}
	defer twin.Close()
	return m.Run()
}

const (
	injected = `{"networkInjections":[{"scenario":"agent","subnetArmId":"` + subnet1 + `","useMicrosoftManagedNetwork":false}]}`
	outside  = `{"networkInjections":[]}`
	linked   = `{"addressPrefix":"10.0.1.0/24","serviceAssociationLinks":[{"name":"legionservicelink"}]}`
	free     = `{"addressPrefix":"10.0.1.0/24"}`
)

func setUp(t *testing.T, all map[string]string) (resource.Inputs, *resource.Resource) {
	t.Helper()
	live.mu.Lock()
	live.all, live.asks, live.left = all, 0, nil
	live.mu.Unlock()
	in := resource.Inputs{}
	for name, v := range map[string]string{"vnetId": vnetID, "agentSubnetId": subnet1, "agentPrefix": "10.0.1.0/24", "delegation": "Microsoft.App/environments", "location": "eastus2", "gatewayAddress": "10.0.0.4"} {
		in[name] = property.New(v)
	}
	return in, lock(t, time.Minute)
}

// lock is a resource whose deletion waits so long.
func lock(t *testing.T, limit time.Duration) *resource.Resource {
	t.Helper()
	return resource.New(t, "bulkhead:index:SpokeLock", infer.Resource(&SpokeLock{leaving: patience.Patience{Limit: limit, Pause: time.Millisecond, Longest: time.Millisecond}}))
}

var unknownYet = property.New(property.Computed)

// TestChanges has each input change, while the program says that an account is bound, and
// while it says that none is.
func TestChanges(t *testing.T) {
	for _, tc := range []struct {
		property string
		to       property.Value
		refused  string // while bound; empty: let through
		op       string
	}{
		{"vnetId", property.New(vnetID + "2"), "vnetId: " + vnetID + " -> " + vnetID + "2", "update"},
		{"vnetId", unknownYet, "vnetId: " + vnetID + " -> known after the update: it is being replaced", "update"},
		{"vnetId", property.New(strings.ToUpper(vnetID)), "", "same"},
		{"agentSubnetId", property.New(vnetID + "/subnets/other"), "agentSubnetId: ", "update"},
		{"agentSubnetId", unknownYet, "is being replaced", "update"},
		{"agentPrefix", property.New("10.0.1.0/25"), "agentPrefix: 10.0.1.0/24 -> 10.0.1.0/25", "update"},
		{"agentPrefix", unknownYet, "is being replaced", "update"},
		{"delegation", property.New("Microsoft.app/environments"), "delegation: Microsoft.App/environments -> Microsoft.app/environments", "update"},
		{"location", property.New("East US 2"), "", "same"},
		{"location", property.New("westus3"), "location: eastus2 -> westus3", "update"},
		{"gatewayAddress", property.New("10.0.0.5"), "", "update"},
		{"gatewayAddress", unknownYet, "", "update"},
	} {
		for _, bound := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s to %v, bound %v", tc.property, tc.to, bound), func(t *testing.T) {
				in, r := setUp(t, nil)
				in["bound"] = property.New(bound)
				if op, err := r.Up(in); err != nil || op != "create" {
					t.Fatalf("%s, %v", op, err)
				}
				if got := r.State.Get("locked").AsMap().Get("agentPrefix").AsString(); got != "10.0.1.0/24" {
					t.Errorf("locked: %v", r.State)
				}
				if op, err := r.Up(in); err != nil || op != "same" {
					t.Errorf("%s, %v", op, err)
				}
				r.Said()
				in[tc.property] = tc.to
				op, err := r.Preview(in)
				said := r.Said()
				if bound && tc.refused != "" {
					for _, want := range []string{tc.refused, "bound: true", "purge it", "legionservicelink", "Or undo"} {
						if err == nil || !strings.Contains(err.Error(), want) {
							t.Errorf("%s, %v: nothing of %q", op, err, want)
						}
					}
					return
				}
				if err != nil || op != tc.op {
					t.Errorf("%s, %v", op, err)
				}
				if tc.refused != "" && (!strings.Contains(said, "may still change") || !strings.Contains(said, tc.refused)) {
					t.Errorf("said %s", said)
				}
				if warned := strings.Contains(said, "next hop"); warned != (tc.property == "gatewayAddress") {
					t.Errorf("said %s", said)
				}
				if live.asks > 0 {
					t.Error("looked up what the program says")
				}
			})
		}
	}
}

// TestLookUp has the account or the subnet say whether one is bound.
func TestLookUp(t *testing.T) {
	for what, tc := range map[string]struct {
		account bool
		all     map[string]string
		inject  *front.Fault
		refused string
	}{
		"an account that is not there yet":    {account: true, all: map[string]string{subnet1: free}},
		"an account with its agents here":     {account: true, all: map[string]string{subnet1: free, foundry: injected}, refused: "has its agents injected"},
		"an account with its agents nowhere":  {account: true, all: map[string]string{subnet1: free, foundry: outside}},
		"an account that is not purged":       {account: true, all: map[string]string{subnet1: linked}, refused: "legionservicelink"},
		"an account that the program leaves":  {all: map[string]string{subnet1: linked}, refused: "legionservicelink"},
		"no account":                          {all: map[string]string{subnet1: free}},
		"no subnet":                           {all: map[string]string{}},
		"no role":                             {account: true, inject: &front.Fault{Status: http.StatusForbidden, Body: `{"error":{"code":"AuthorizationFailed"}}`}, refused: "could not be looked up (account: Azure answers 403 AuthorizationFailed)"},
		"no role on the subnet":               {inject: &front.Fault{Status: http.StatusForbidden, Body: `{"error":{"code":"AuthorizationFailed"}}`}, refused: "could not be looked up (subnet: Azure answers 403"},
		"an answer that is none":              {inject: &front.Fault{Status: http.StatusOK, Body: `<html>`}, refused: "could not be looked up"},
		"an answer of another type":           {inject: &front.Fault{Status: http.StatusOK, Body: `{"properties":{"serviceAssociationLinks":"x"}}`}, refused: "could not be looked up"},
		"a resource manager that is not ours": {account: true, inject: &front.Fault{Status: http.StatusUnauthorized}, refused: "could not be looked up"},
	} {
		t.Run(what, func(t *testing.T) {
			in, r := setUp(t, tc.all)
			if tc.account {
				in["accountId"] = property.New(foundry)
			}
			if _, err := r.Up(in); err != nil {
				t.Fatal(err)
			}
			if op, err := r.Preview(in); err != nil || op != "same" || live.asks > 0 {
				t.Errorf("%s, %v: without a change, nobody is asked", op, err)
			}
			if tc.inject != nil {
				tc.inject.Host = manager.Host
				defer twin.Front.Inject(*tc.inject)()
			}
			moved := maps.Clone(in)
			moved["agentPrefix"] = property.New("10.0.9.0/24")
			op, err := r.Preview(moved)
			if tc.refused == "" && (err != nil || op != "update") {
				t.Errorf("%s, %v", op, err)
			}
			if tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)) {
				t.Errorf("%s, %v", op, err)
			}
		})
	}
}

// TestAccount has the account itself be replaced, or no longer be named.
func TestAccount(t *testing.T) {
	in, r := setUp(t, map[string]string{subnet1: free, foundry: injected})
	in["accountId"] = property.New(foundry)
	if _, err := r.Up(in); err != nil {
		t.Fatal(err)
	}
	for _, to := range []property.Value{property.New(foundry + "2"), unknownYet} {
		in["accountId"] = to
		if op, err := r.Preview(in); err == nil || !strings.Contains(err.Error(), "accountId: "+foundry) {
			t.Errorf("%s, %v", op, err)
		}
	}
	delete(in, "accountId")
	if op, err := r.Preview(in); err != nil || op != "update" {
		t.Errorf("%s, %v", op, err)
	}
	in["bound"], in["agentPrefix"] = property.New(false), property.New("10.0.9.0/24")
	if op, err := r.Preview(in); err == nil || !strings.Contains(err.Error(), "injected") {
		t.Errorf("the account that was named until now is asked: %s, %v", op, err)
	}
}

func TestDelete(t *testing.T) {
	leave := func(after int) func(int) {
		return func(asks int) {
			if asks == after {
				delete(live.all, foundry)
				live.all[subnet1] = linked
			}
			if asks == 2*after {
				live.all[subnet1] = free
			}
		}
	}
	for what, tc := range map[string]struct {
		account bool
		bound   *bool
		all     map[string]string
		left    func(int)
		refused string
	}{
		"nothing is said":               {all: map[string]string{subnet1: linked}}, // Azure refuses by itself
		"said to be bound":              {bound: ptr(true), refused: "set bound to false"},
		"said not to be":                {bound: ptr(false)},
		"no account":                    {account: true, all: map[string]string{subnet1: free}},
		"no account, though said to be": {account: true, bound: ptr(true), all: map[string]string{subnet1: free}},
		"an account":                    {account: true, all: map[string]string{subnet1: free, foundry: injected}, refused: "has its agents injected"},
		"an account, said not to be":    {account: true, bound: ptr(false), all: map[string]string{subnet1: free, foundry: injected}, refused: "has its agents injected"},
		"an account that goes":          {account: true, all: map[string]string{subnet1: free, foundry: injected}, left: leave(5)},
	} {
		t.Run(what, func(t *testing.T) {
			in, r := setUp(t, tc.all)
			if tc.refused != "" {
				r = lock(t, 100*time.Millisecond)
			}
			if tc.account {
				in["accountId"] = property.New(foundry)
			}
			if tc.bound != nil {
				in["bound"] = property.New(*tc.bound)
			}
			if _, err := r.Up(in); err != nil {
				t.Fatal(err)
			}
			live.mu.Lock()
			live.left = tc.left
			live.mu.Unlock()
			r.Said()
			err := r.Delete()
			if tc.refused == "" && err != nil || tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused) || !strings.Contains(err.Error(), "purge it")) {
				t.Errorf("%v", err)
			}
			if said := r.Said(); tc.left != nil && (!strings.Contains(said, "has its agents injected") || !strings.Contains(said, "legionservicelink") || !strings.Contains(said, "kind=status")) {
				t.Errorf("said %s", said)
			}
		})
	}
	t.Run("who cannot look waits for nothing", func(t *testing.T) {
		in, r := setUp(t, map[string]string{})
		in["accountId"] = property.New(foundry)
		if _, err := r.Up(in); err != nil {
			t.Fatal(err)
		}
		roles.Refuse("Microsoft.CognitiveServices/accounts/read", 1)
		if err := r.Delete(); err == nil || !strings.Contains(err.Error(), "could not be looked up") {
			t.Errorf("%v", err)
		}
		if err := r.Delete(); err != nil {
			t.Error(err)
		}
	})
}

func ptr[T any](v T) *T { return &v }

func TestCheck(t *testing.T) {
	for _, name := range []string{"vnetId", "agentSubnetId", "agentPrefix", "delegation", "location", "gatewayAddress", "accountId"} {
		in, r := setUp(t, nil)
		in[name] = property.New("")
		if op, err := r.Preview(in); op != "check" || err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %s, %v", name, op, err)
		}
	}
	in, r := setUp(t, nil)
	in["bound"] = unknownYet
	if op, err := r.Preview(in); op != "check" || err == nil || !strings.Contains(err.Error(), "known in preview") {
		t.Errorf("%s, %v", op, err)
	}
	in, r = setUp(t, nil)
	for _, name := range []string{"vnetId", "agentSubnetId", "gatewayAddress"} {
		in[name] = unknownYet
	}
	if op, err := r.Preview(in); op != "create" || err != nil {
		t.Errorf("%s, %v", op, err)
	}
}
