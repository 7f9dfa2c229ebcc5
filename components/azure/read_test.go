package azure

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

// good is the spoke of components/preflight's tests, with what only live Azure tells.
func good(t *testing.T) preflight.Inventory {
	t.Helper()
	data, err := os.ReadFile("../preflight/testdata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	inv, err := preflight.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	inv.StorageAccounts[0].Endpoint = "https://stagents7d2984.blob.core.windows.net/"
	inv.Accounts[0].Projects[0].Endpoint = "https://foundry-contoso.services.ai.azure.com/api/projects/invoices"
	inv.Agents = append(inv.Agents, preflight.Agent{Name: "second", Project: "invoices", Tools: []string{}})
	inv.LoadBalancers = []preflight.LoadBalancer{{ID: strings.Replace(inv.NICs[0].ID, "networkInterfaces/nic", "loadBalancers/lb", 1), SKU: "Standard", Frontends: []string{"10.20.0.9"}, HAPorts: true, Backends: []string{inv.NICs[0].ID}}}
	inv.DNSForwarding = []preflight.DNSForwarding{{ID: strings.Replace(inv.DNSPolicies[0].ID, "dnsResolverPolicies", "dnsForwardingRulesets", 1), Links: []string{"/elsewhere"},
		Rules: []preflight.DNSForwardingRule{{Domain: "corp.contoso.com.", Enabled: true, Targets: []netip.Addr{netip.MustParseAddr("10.30.0.10")}}}}}
	return inv
}

func read(t *testing.T, s *subscription) (preflight.Inventory, string) {
	t.Helper()
	var progress bytes.Buffer
	options := &arm.ClientOptions{ClientOptions: policy.ClientOptions{Transport: s, Retry: policy.RetryOptions{MaxRetries: -1}}}
	got, err := Read(context.Background(), Scope{Scope: s.inv.Scope, Plan: s.inv.Plan, Ruleset: []byte(s.inv.Ruleset.Document), Progress: &progress, Options: options}, &azfake.TokenCredential{})
	if err != nil {
		t.Fatal(err)
	}
	return got, progress.String()
}

// equal compares inventories as they are saved, but for times that the reader sets.
var equal = cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(preflight.Inventory{}, "Taken"), cmpopts.IgnoreFields(preflight.Ruleset{}, "ServiceTagsTaken"),
	cmpopts.SortSlices(func(a, b preflight.NSG) bool { return a.ID < b.ID }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

// TestRead serves a spoke through the SDK's models and reads it back the same, with GETs and
// the one POST that reads.
func TestRead(t *testing.T) {
	inv := good(t)
	s := serve(&inv)
	got, progress := read(t, s)
	if diff := cmp.Diff(inv, got, equal); diff != "" {
		t.Errorf("what is read is not what is there:\n%s", diff)
	}
	if len(got.NotRead)+len(got.Partial) > 0 || !strings.Contains(progress, "reading vnets") {
		t.Errorf("%v %v %q", got.NotRead, got.Partial, progress)
	}
	for _, a := range s.asked {
		if !strings.HasPrefix(a, "GET ") && !strings.HasSuffix(a, "/effectiveRouteTable") {
			t.Errorf("asked %s", a)
		}
	}
	got.Taken = inv.Taken // the saved reports are of that day
	report, err := preflight.Run(got, preflight.Options{})
	if err != nil || report.Count(preflight.Failed) > 0 || report.Count(preflight.NotChecked) > 0 {
		t.Errorf("%v %v", err, report.Err())
	}
	if again, err := got.Encode(); err != nil {
		t.Error(err)
	} else if _, err := preflight.Decode(again); err != nil {
		t.Error(err)
	}
}

// TestNothingThere reads a subscription before anything is made: everything is known, and
// nothing is there.
func TestNothingThere(t *testing.T) {
	inv := good(t)
	empty := preflight.Inventory{Scope: inv.Scope, Plan: inv.Plan, Deployer: inv.Deployer, Providers: inv.Providers, Ruleset: &preflight.Ruleset{Document: inv.Ruleset.Document, ServiceTags: inv.Ruleset.ServiceTags}}
	got, _ := read(t, serve(&empty))
	if len(got.NotRead)+len(got.Partial) > 0 {
		t.Errorf("%v %v", got.NotRead, got.Partial)
	}
	report, err := preflight.Run(got, preflight.Options{})
	if err != nil || !report.Ok() {
		t.Errorf("%v\n%v", err, report.Err())
	}
}

// TestEndpointOfSeveralAddresses reads a private endpoint that has an address for each of its zones, as that of a
// Foundry account does, and tells them by its interface alone.
func TestEndpointOfSeveralAddresses(t *testing.T) {
	inv := good(t)
	e := &inv.PrivateEndpoints[0]
	for i, zone := range []string{"privatelink.cognitiveservices.azure.com", "privatelink.openai.azure.com", "privatelink.services.ai.azure.com"} {
		a := netip.AddrFrom4([4]byte{10, 20, 2, byte(40 + i)})
		if i == 0 {
			e.Addresses = nil
		}
		e.Addresses = append(e.Addresses, a)
		for j := range inv.PrivateZones {
			if inv.PrivateZones[j].Name == zone {
				inv.PrivateZones[j].Records[0].Addresses = []netip.Addr{a}
			}
		}
	}
	inv.NICs = append(inv.NICs, preflight.NIC{ID: e.ID + "-nic", Location: "eastus2", Subnet: e.Subnet, Address: e.Addresses[0].String(), Allocation: "Dynamic", PrivateEndpoint: e.ID})
	got, _ := read(t, serve(&inv))
	if diff := cmp.Diff(inv.PrivateEndpoints, got.PrivateEndpoints, equal); diff != "" {
		t.Errorf("what is read is not what is there:\n%s", diff)
	}
	report, err := preflight.Run(got, preflight.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.ID == "DNS-03" && r.Outcome != preflight.Passed {
			t.Errorf("%s: %+v", r.Outcome, r.Findings)
		}
	}
}

// TestForbidden refuses one kind of request at a time: the part says why, what depends on it
// too, and everything else is read as before.
func TestForbidden(t *testing.T) {
	for _, c := range []struct {
		path    string // of what is refused
		want    []preflight.Part
		partial string
	}{
		{path: "/virtualNetworks/vnet-agents", want: []preflight.Part{preflight.PartVNets, preflight.PartPrivateEndpoints, preflight.PartNICs, preflight.PartRouteTables, preflight.PartNSGs,
			preflight.PartLoadBalancers, preflight.PartVMs, preflight.PartEffectiveRoutes, preflight.PartRoleAssignments, preflight.PartCanaries, preflight.PartGatewayReports}},
		{path: "/virtualNetworks/vnet-hub", partial: "peered network"},
		{path: "/networkInterfaces", want: []preflight.Part{preflight.PartNICs, preflight.PartNSGs, preflight.PartVMs, preflight.PartEffectiveRoutes, preflight.PartRoleAssignments, preflight.PartGatewayReports}},
		{path: "/effectiveRouteTable", want: []preflight.Part{preflight.PartEffectiveRoutes}},
		{path: "/routeTables/rt-agents", want: []preflight.Part{preflight.PartRouteTables}},
		{path: "/networkSecurityGroups/nsg-gateway", want: []preflight.Part{preflight.PartNSGs}},
		{path: "/loadBalancers", want: []preflight.Part{preflight.PartLoadBalancers}},
		{path: "/privateEndpoints", want: []preflight.Part{preflight.PartPrivateEndpoints}},
		{path: "/privateDnsZones", want: []preflight.Part{preflight.PartPrivateZones}},
		{path: "/dnsSecurityRules", want: []preflight.Part{preflight.PartDNSPolicies}},
		{path: "/forwardingRules", want: []preflight.Part{preflight.PartDNSForwarding}},
		{path: "/keys/bulkhead-root", want: []preflight.Part{preflight.PartVaults}},
		{path: "/deletedVaults", want: []preflight.Part{preflight.PartDeletedVaults}},
		{path: "/Microsoft.Storage/storageAccounts", want: []preflight.Part{preflight.PartStorage, preflight.PartGatewayReports}},
		{path: "/roleAssignments", want: []preflight.Part{preflight.PartRoleAssignments, preflight.PartGatewayReports}},
		{path: "/permissions", want: []preflight.Part{preflight.PartDeployer}},
		{path: "/providers/Microsoft.App", want: []preflight.Part{preflight.PartProviders}},
		{path: "/registries", want: []preflight.Part{preflight.PartRegistries}},
		{path: "/accounts/foundry-contoso/projects/invoices/connections", want: []preflight.Part{preflight.PartAccounts, preflight.PartAgents}},
		{path: "/capabilityHosts", want: []preflight.Part{preflight.PartAccounts, preflight.PartAgents}},
		{path: "/deletedAccounts", want: []preflight.Part{preflight.PartDeletedAccounts}},
		{path: "/api/projects/invoices/agents", want: []preflight.Part{preflight.PartAgents}},
		{path: "/managedEnvironments", want: []preflight.Part{preflight.PartEnvironments, preflight.PartCanaries}},
		{path: "/executions", want: []preflight.Part{preflight.PartCanaries}},
		{path: "/attestation/gateway.json", want: []preflight.Part{preflight.PartGatewayReports}},
		{path: "/policy/ruleset.json", partial: "the published ruleset"},
		{path: "/serviceTags", partial: "service tags"},
	} {
		t.Run(c.path, func(t *testing.T) {
			inv := good(t)
			s := serve(&inv)
			s.deny = func(req *http.Request) bool { return strings.HasSuffix(req.URL.Path, c.path) }
			got, progress := read(t, s)
			var missing []preflight.Part
			for part, why := range got.NotRead {
				missing = append(missing, part)
				if !strings.Contains(why, "403 AuthorizationFailed") {
					t.Errorf("%s: %s", part, why)
				}
			}
			slices.Sort(missing)
			slices.Sort(c.want)
			if !slices.Equal(missing, c.want) {
				t.Errorf("not read: %v, want %v", missing, c.want)
			}
			if c.partial != "" && !strings.Contains(strings.Join(got.Partial, "\n"), c.partial) {
				t.Errorf("partial %q, want %q", got.Partial, c.partial)
			}
			if !strings.Contains(progress, "not read: ") {
				t.Error("nobody is told")
			}
		})
	}
}

// TestNoToken says once that there is no credential, rather than for each part.
func TestNoToken(t *testing.T) {
	inv := good(t)
	var credential azfake.TokenCredential
	credential.SetError(errors.New("no credential"))
	if _, err := Read(context.Background(), Scope{Scope: inv.Scope}, &credential); err == nil || !strings.Contains(err.Error(), "no credential") {
		t.Errorf("%v", err)
	}
	if _, err := Read(context.Background(), Scope{}, &azfake.TokenCredential{}); err == nil {
		t.Error("a scope that names nothing is read")
	}
}

// TestEndless bounds a list that never ends.
func TestEndless(t *testing.T) {
	inv := good(t)
	for range maxPages + 1 {
		inv.Registries = append(inv.Registries, inv.Registries[0])
	}
	got, _ := read(t, serve(&inv))
	if got.Registries != nil || got.NotRead[preflight.PartRegistries] != errTooMany.Error() {
		t.Errorf("%d registries, %q", len(got.Registries), got.NotRead[preflight.PartRegistries])
	}
}
