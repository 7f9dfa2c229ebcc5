package arm

import (
	"fmt"
	"strings"
	"testing"
)

// step is one request of a sequence, and what Azure says to it.
type step struct {
	name string
	do   func(*world) error
	code string
}

func run(t *testing.T, steps []step) *world {
	t.Helper()
	w := newWorld(t)
	w.standard()
	for _, s := range steps {
		if err := s.do(w); Code(err) != s.code || (err == nil) != (s.code == "") {
			t.Fatalf("%s: %v, want %q", s.name, err, s.code)
		}
	}
	return w
}

func request(path, body string) func(*world) error {
	return func(w *world) error { _, err := w.try(path, body); return err }
}

func removal(path string) func(*world) error {
	return func(w *world) error { return w.delete(path) }
}

const (
	projectBody = `{"location":"eastus2","identity":{"type":"SystemAssigned"},"properties":{}}`
	hostBody    = `{"properties":{"capabilityHostKind":"Agents"}}`
	fullHost    = `{"properties":{"capabilityHostKind":"Agents","vectorStoreConnections":["search"],"storageConnections":["blobs"],"threadStorageConnections":["cosmos"]}}`
)

const sqlRole = `{"properties":{"principalId":"<ai/foundry/projects/agent#principalId>","roleDefinitionId":"<cosmos/threads/sqlRoleDefinitions/00000000-0000-0000-0000-000000000002>","scope":"<cosmos/threads/dbs/enterprise_memory>"}}`

func connection(category, to string) string {
	return `{"properties":{"category":"` + category + `","authType":"AAD","target":"https://x.example","metadata":{"ApiType":"Azure","ResourceId":"<` + to + `>"}}}`
}

// stored are the three services of the standard setup, each behind its private endpoint.
func stored(w *world) error {
	w.make("cosmos/threads", cosmosBody())
	w.make("search/vectors", searchBody())
	w.make("storage/files1", storageBody)
	for _, c := range []struct{ name, service, group, zone string }{
		{"threads", "cosmos/threads", "Sql", "privatelink.documents.azure.com"},
		{"vectors", "search/vectors", "searchService", "privatelink.search.windows.net"},
		{"files", "storage/files1", "blob", "privatelink.blob.core.windows.net"},
	} {
		w.make("zones/"+c.zone, `{"location":"global"}`)
		w.make("zones/"+c.zone+"/virtualNetworkLinks/spoke", linkBody)
		w.make("endpoints/"+c.name, strings.Replace(endpointBody("vnets/v/subnets/b", c.group), "storage/account1", c.service, 1))
		w.make("endpoints/"+c.name+"/privateDnsZoneGroups/default", `{"properties":{"privateDnsZoneConfigs":[{"name":"z","properties":{"privateDnsZoneId":"<zones/`+c.zone+`>"}}]}}`)
	}
	return nil
}

// roled gives the project's identity its roles.
func roled(w *world) error {
	principal := w.get("ai/foundry/projects/agent").Text("identity", "principalId")
	for i, c := range []struct{ at, role string }{
		{"cosmos/threads", "230815da-be43-4aae-9cb4-875f7bd000aa"}, {"storage/files1", "ba92f5b4-2d11-453d-a403-e96b0029c9fe"},
		{"search/vectors", "8ebe5a00-799e-43f5-93ac-243d3dce84a7"}, {"search/vectors", "7ca78c08-252a-4471-8644-bb5ff32d4ba0"},
	} {
		w.make(fmt.Sprintf("%s/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-00000000000%d", w.id(c.at), i), roleBody(principal, c.role, `"principalType":"ServicePrincipal"`))
	}
	return nil
}

// TestFoundry is the way of a Foundry account in a network of one's own, and back.
func TestFoundry(t *testing.T) {
	account := request("ai/foundry", accountBody("vnets/v/subnets/agents"))
	run(t, []step{
		{"account into a subnet of nobody's", request("ai/foundry", accountBody("vnets/v/subnets/b")), "SubnetNotDelegated"},
		{"account", account, ""},
		{"account anew", account, ""},
		{"another account in the subnet", request("ai/other", strings.Replace(accountBody("vnets/v/subnets/agents"), `"agents"`, `"others"`, 1)), "SubnetAlreadyInUse"},
		{"the same subdomain", request("ai/other", strings.Replace(accountBody("vnets/v/subnets/agents"), `/subnets/agents`, `/subnets/b`, 1)), "CustomDomainInUse"},
		{"injection taken away", request("ai/foundry", strings.Replace(accountBody("vnets/v/subnets/agents"), `"networkInjections":[{"scenario":"agent","subnetArmId":"<vnets/v/subnets/agents>","useMicrosoftManagedNetwork":false}]`, `"disableLocalAuth":true`, 1)), "NetworkInjectionsCannotBeChanged"},
		{"subdomain changed", request("ai/foundry", strings.Replace(accountBody("vnets/v/subnets/agents"), `"agents"`, `"others"`, 1)), "CustomSubDomainNameCannotBeChanged"},
		{"second capability host", request("ai/foundry/capabilityHosts/mine", hostBody), "Conflict"},
		{"the one that Azure made, anew", request("ai/foundry/capabilityHosts/foundry@aml_aiagentservice", hostBody), ""},
		{"project", request("ai/foundry/projects/agent", projectBody), ""},
		{"project without identity", request("ai/foundry/projects/other", `{"location":"eastus2","properties":{}}`), "InvalidRequestContent"},
		{"host of unknown connections", request("ai/foundry/projects/agent/capabilityHosts/h", fullHost), "BadRequest"},
		{"where data is kept", stored, ""},
		{"connection to nothing", request("ai/foundry/projects/agent/connections/search", connection("CognitiveSearch", "search/none")), "InvalidResourceReference"},
		{"connection", request("ai/foundry/projects/agent/connections/search", connection("CognitiveSearch", "search/vectors")), ""},
		{"connection", request("ai/foundry/projects/agent/connections/blobs", connection("AzureStorageAccount", "storage/files1")), ""},
		{"connection", request("ai/foundry/connections/cosmos", connection("CosmosDB", "cosmos/threads")), ""},
		{"project's host of two of three", request("ai/foundry/projects/agent/capabilityHosts/h", strings.Replace(fullHost, `"storageConnections":["blobs"],`, ``, 1)), "BadRequest"},
		{"project's host with two of them exchanged", request("ai/foundry/projects/agent/capabilityHosts/h", strings.NewReplacer(`"blobs"`, `"search"`, `"search"`, `"blobs"`).Replace(fullHost)), "BadRequest"},
		{"project's host, whose identity has no roles", request("ai/foundry/projects/agent/capabilityHosts/h", fullHost), "CapabilityHostProvisioningFailed"},
		{"roles", roled, ""},
		{"role for data that is not there", request("cosmos/threads/sqlRoleAssignments/b01dc0de-0000-4000-8000-000000000001", sqlRole), "BadRequest"},
		{"project's host", request("ai/foundry/projects/agent/capabilityHosts/h", fullHost), ""},
		{"role for the data that the host made", request("cosmos/threads/sqlRoleAssignments/b01dc0de-0000-4000-8000-000000000001", sqlRole), ""},
		{"connection of the host goes", removal("ai/foundry/projects/agent/connections/search"), "Conflict"},
		{"project's host anew", request("ai/foundry/projects/agent/capabilityHosts/h", fullHost), ""},
		{"project's host changed", request("ai/foundry/projects/agent/capabilityHosts/h", hostBody), "BadRequest"},
		{"subnet goes", removal("vnets/v/subnets/agents"), "InUseSubnetCannotBeDeleted"},
		{"account's host goes before the project's", removal("ai/foundry/capabilityHosts/foundry@aml_aiagentservice"), "Conflict"},
		{"project goes before its host", removal("ai/foundry/projects/agent"), "Conflict"},
		{"account goes before its project", removal("ai/foundry"), "CannotDeleteResource"},
		{"project's host goes", removal("ai/foundry/projects/agent/capabilityHosts/h"), ""},
		{"account's host goes", removal("ai/foundry/capabilityHosts/foundry@aml_aiagentservice"), ""},
		{"project goes", removal("ai/foundry/projects/agent"), ""},
		{"account goes", removal("ai/foundry"), ""},
		{"subnet goes while the account can still be restored", removal("vnets/v/subnets/agents"), "InUseSubnetCannotBeDeleted"},
		{"account anew", account, "FlagMustBeSetForRestore"},
		{"account is purged", func(w *world) error { return w.Purge(w.id("ai/foundry")) }, ""},
		{"subnet goes", removal("vnets/v/subnets/agents"), ""},
	})
}

// TestDelegationInAnotherCase is taken by the subnet and by the account, and fails the
// capability host.
func TestDelegationInAnotherCase(t *testing.T) {
	w := run(t, []step{
		{"subnet", request("vnets/v/subnets/c", subnetBody("10.0.3.0/24", strings.Replace(delegated, "Microsoft.App", "Microsoft.app", 1))), ""},
		{"account", request("ai/foundry", accountBody("vnets/v/subnets/c")), ""},
		{"project", request("ai/foundry/projects/agent", projectBody), ""},
		{"project's host", request("ai/foundry/projects/agent/capabilityHosts/h", hostBody), "BadRequest"},
	})
	if got := w.get("ai/foundry/capabilityHosts/foundry@aml_aiagentservice").Text("properties", "provisioningState"); got != "Failed" {
		t.Errorf("the account's capability host is %s", got)
	}
}
