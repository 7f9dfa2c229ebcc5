package arm

import (
	"strings"
	"testing"
)

// begin sends a PUT and does not ask after it.
func (w *world) begin(path, body string) (Answer, error) {
	w.t.Helper()
	return w.Begin(w.id(path), w.body(body))
}

// TestOperation is the life of one: the answer, what the resource says of itself meanwhile, and how it turns out.
func TestOperation(t *testing.T) {
	for _, c := range []struct {
		path, body    string
		status        int
		making, ended string
		questions     int
	}{
		{"vnets/w", vnetBody("10.9.0.0/16"), 201, "Creating", "Succeeded", 1},
		{"storage/account1", storageBody, 202, "Creating", "Succeeded", 1},
		{"cosmos/threads", cosmosBody(), 200, "Creating", "Succeeded", 6},
		{"search/vectors", searchBody(), 201, "provisioning", "succeeded", 3},
		{"ai/foundry", accountBody("vnets/v/subnets/agents"), 201, "Accepted", "Succeeded", 3},
	} {
		t.Run(c.path, func(t *testing.T) {
			w := newWorld(t)
			w.standard()
			answer, err := w.begin(c.path, c.body)
			if err != nil || answer.Status != c.status || answer.AsyncOperation == "" || answer.Body.Text("properties", "provisioningState") != c.making {
				t.Fatalf("%d, %q, %v: %v", answer.Status, answer.AsyncOperation, answer.Body, err)
			}
			for i := range c.questions {
				if got := w.get(c.path).Text("properties", "provisioningState"); got != c.making {
					t.Errorf("before question %d it is %s", i, got)
				}
				status, err := w.Ask(answer.AsyncOperation)
				want := "InProgress"
				if i == c.questions-1 {
					want = "Succeeded"
				}
				if err != nil || status.Text("status") != want {
					t.Errorf("question %d: %v, %v", i, status, err)
				}
			}
			if got := w.get(c.path).Text("properties", "provisioningState"); got != c.ended {
				t.Errorf("in the end it is %s", got)
			}
			if _, err := w.Ask(answer.AsyncOperation + "0"); Code(err) != "OperationNotFound" {
				t.Errorf("another operation: %v", err)
			}

			again, err := w.begin(c.path, c.body)
			if err != nil || again.Status != 200 {
				t.Errorf("an update is answered %d, %v", again.Status, err)
			}
			if _, err := w.wait(w.id(c.path), again, nil); err != nil {
				t.Error(err)
			}
			gone, err := w.BeginDelete(w.id(c.path))
			if err != nil || gone.Status != 202 || w.get(c.path).Text("properties", "provisioningState") != "Deleting" {
				t.Fatalf("a deletion: %d, %v, %v", gone.Status, w.get(c.path), err)
			}
			if _, err := w.wait(w.id(c.path), gone, nil); err != nil {
				t.Error(err)
			}
			if _, err := w.Get(w.id(c.path)); !NotFound(err) {
				t.Errorf("after its deletion: %v", err)
			}
		})
	}
}

// TestOperationFails at the end, after it was taken.
func TestOperationFails(t *testing.T) {
	w := newWorld(t)
	if err := w.Inject(Fault{Type: typeCosmos, Operation: "create", Mode: Accepted}); err != nil {
		t.Fatal(err)
	}
	answer, err := w.begin("cosmos/threads", cosmosBody())
	if err != nil || answer.Status != 200 {
		t.Fatalf("%d, %v", answer.Status, err)
	}
	_, err = w.wait(w.id("cosmos/threads"), answer, nil)
	if Code(err) != "InternalExecutionError" || w.get("cosmos/threads").Text("properties", "provisioningState") != "Failed" {
		t.Errorf("%v, %v", w.get("cosmos/threads"), err)
	}
	w.make("cosmos/threads", cosmosBody())
	if got := w.get("cosmos/threads").Text("properties", "provisioningState"); got != "Succeeded" {
		t.Errorf("made anew it is %s", got)
	}
}

// TestOneAtATime: what Azure changes one after the other, asked for at once.
func TestOneAtATime(t *testing.T) {
	for _, c := range []struct{ name, first, firstBody, second, secondBody, code string }{
		{"two subnets of a network", "vnets/v/subnets/c", subnetBody("10.0.3.0/24"), "vnets/v/subnets/d", subnetBody("10.0.4.0/24"), "AnotherOperationInProgress"},
		{"a network and its subnet", "vnets/v", vnetBody("10.0.0.0/16"), "vnets/v/subnets/d", subnetBody("10.0.4.0/24"), "AnotherOperationInProgress"},
		{"two networks", "vnets/x", vnetBody("10.8.0.0/16"), "vnets/y", vnetBody("10.9.0.0/16"), ""},
		{"two endpoints of a subnet", "endpoints/e", endpointBody("vnets/v/subnets/b", "blob"), "endpoints/f", endpointBody("vnets/v/subnets/b", "blob"), "AnotherOperationInProgress"},
		{"endpoints of two subnets", "endpoints/e", endpointBody("vnets/v/subnets/b", "blob"), "endpoints/f", endpointBody("vnets/v/subnets/a", "blob"), ""},
		{"an endpoint and its zones", "endpoints/e", endpointBody("vnets/v/subnets/b", "blob"), "endpoints/e/privateDnsZoneGroups/default", `{"properties":{}}`, "AnotherOperationInProgress"},
		{"a database account twice", "cosmos/threads", cosmosBody(), "cosmos/threads", cosmosBody(), "PreconditionFailed"},
		{"an endpoint of an account that is being made", "ai/foundry", accountBody("vnets/v/subnets/agents"), "endpoints/f", strings.Replace(endpointBody("vnets/v/subnets/b", "account"), "storage/account1", "ai/foundry", 1), "AccountProvisioningStateInvalid"},
		{"a project of an account that is being made", "ai/foundry", accountBody("vnets/v/subnets/agents"), "ai/foundry/projects/agent", projectBody, "RequestConflict"},
		{"an account twice", "ai/foundry", accountBody("vnets/v/subnets/agents"), "ai/foundry", accountBody("vnets/v/subnets/agents"), "RequestConflict"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.standard()
			w.make("storage/account1", storageBody)
			first, err := w.begin(c.first, c.firstBody)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.begin(c.second, c.secondBody); Code(err) != c.code || (err == nil) != (c.code == "") {
				t.Errorf("%v, want %q", err, c.code)
			}
			if c.code == "" {
				return
			}
			for range 10 { // each request that is refused takes a while too
				if _, err = w.begin(c.second, c.secondBody); err == nil {
					return
				}
				w.Ask(first.AsyncOperation)
			}
			t.Errorf("afterwards: %v", err)
		})
	}
}

// TestLink: the subnet of an account is let go of some time after the purge; at once if the account's capability host
// was deleted before the account.
func TestLink(t *testing.T) {
	slowly := func(w *world) error {
		return w.Edit(func(s *State) error { s.Settings.LinkDelay = 3; return nil })
	}
	account := request("ai/foundry", accountBody("vnets/v/subnets/agents"))
	host := "ai/foundry/capabilityHosts/foundry@aml_aiagentservice"
	purge := func(w *world) error { return w.Purge(w.id("ai/foundry")) }
	linked := func(w *world) error {
		if len(w.get("vnets/v/subnets/agents").List("properties", "serviceAssociationLinks")) == 0 {
			return failure(0, "NoLink", "the subnet has no service association link")
		}
		return nil
	}
	subnet := removal("vnets/v/subnets/agents")
	run(t, []step{
		{"Azure takes a while", slowly, ""}, {"account", account, ""}, {"account goes", removal("ai/foundry"), ""},
		{"subnet goes before the purge", subnet, "InUseSubnetCannotBeDeleted"}, {"the link is seen", linked, ""}, {"purge", purge, ""},
		{"the link outlives it", linked, ""}, {"subnet goes too early", subnet, "InUseSubnetCannotBeDeleted"}, {"another account in it", request("ai/other", strings.Replace(accountBody("vnets/v/subnets/agents"), `"agents"`, `"others"`, 1)), "SubnetAlreadyInUse"},
		{"the link is still seen", linked, ""}, {"the link is gone", linked, "NoLink"}, {"subnet goes", subnet, ""},
	})
	run(t, []step{
		{"Azure takes a while", slowly, ""}, {"account", account, ""}, {"its host goes", removal(host), ""}, {"account goes", removal("ai/foundry"), ""},
		{"subnet goes before the purge", subnet, "InUseSubnetCannotBeDeleted"}, {"purge", purge, ""}, {"subnet goes", subnet, ""},
	})
}

// TestRolesOfACapabilityHost: one that is made before its identity's roles have made their way fails at the end, and can
// be made again.
func TestRolesOfACapabilityHost(t *testing.T) {
	host := request("ai/foundry/projects/agent/capabilityHosts/h", fullHost)
	run(t, []step{
		{"account", request("ai/foundry", accountBody("vnets/v/subnets/agents")), ""},
		{"project", request("ai/foundry/projects/agent", projectBody), ""},
		{"where data is kept", stored, ""},
		{"connection", request("ai/foundry/projects/agent/connections/search", connection("CognitiveSearch", "search/vectors")), ""},
		{"connection", request("ai/foundry/projects/agent/connections/blobs", connection("AzureStorageAccount", "storage/files1")), ""},
		{"connection", request("ai/foundry/projects/agent/connections/cosmos", connection("CosmosDB", "cosmos/threads")), ""},
		{"Azure takes a while", func(w *world) error {
			return w.Edit(func(s *State) error { s.Settings.RoleDelay = 2; return nil })
		}, ""},
		{"roles", roled, ""},
		{"host", host, "CapabilityHostProvisioningFailed"}, {"host", host, "CapabilityHostProvisioningFailed"}, {"host", host, ""},
		{"where threads are kept loses its endpoint", removal("endpoints/threads"), ""},
		{"host goes", removal("ai/foundry/projects/agent/capabilityHosts/h"), ""},
		{"host without a way to its threads", host, "CapabilityHostProvisioningFailed"},
	})
}
