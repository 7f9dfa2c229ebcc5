package twin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/bulkhead-dev/bulkhead/components/azure"
	"github.com/bulkhead-dev/bulkhead/components/preflight"
	control "github.com/bulkhead-dev/bulkhead/tests/twin/arm"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
)

// managed answers the SDK's clients from the twin's control plane, lists too, and hands
// blobs on to the twin's storage. It says of itself what the twin has no resources for:
// that providers are registered, and which addresses a service tag has. It has no effective
// routes, as Azure has none for a machine that does not run.
type managed struct{ *spoke }

func (m managed) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Host != "management.azure.com" {
		return m.on.Front.Client().Do(req)
	}
	status, body := m.answer(req.URL.Path)
	text, err := json.Marshal(body)
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Request: req, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(string(text)))}, err
}

func (m managed) answer(at string) (int, any) {
	segments := strings.Split(strings.Trim(at, "/"), "/")
	last := segments[len(segments)-1]
	switch {
	case len(segments) == 4 && segments[2] == "providers":
		return http.StatusOK, map[string]any{"namespace": last, "registrationState": "Registered"}
	case last == "serviceTags":
		return http.StatusOK, map[string]any{"values": []any{tag("MicrosoftContainerRegistry", "20.61.97.128/29"), tag("AzureFrontDoor.FirstParty", "13.107.213.0/24"),
			tag("AzureContainerRegistry", "20.62.128.0/26"), tag("AzureActiveDirectory", "20.190.128.0/18")}}
	case last == "permissions":
		return http.StatusOK, map[string]any{"value": []any{map[string]any{"actions": []string{"*"}}}}
	case last == "effectiveRouteTable":
		return http.StatusConflict, map[string]any{"error": map[string]string{"code": "NetworkInterfaceNotAttachedToRunningVM"}}
	}
	i := len(segments) - 1
	for i > 0 && segments[i] != "providers" {
		i--
	}
	if (len(segments)-i)%2 == 0 { // provider, then type and name by turns
		body, err := m.on.Control.Get(at)
		if err != nil {
			return http.StatusNotFound, map[string]any{"error": map[string]string{"code": "ResourceNotFound", "message": err.Error()}}
		}
		return http.StatusOK, body
	}
	kind, below := segments[i+1], "/"+strings.Join(segments[:i], "/")
	for j := i + 2; j < len(segments); j += 2 {
		kind += "/" + segments[j]
	}
	if i+2 < len(segments)-1 {
		below = path.Dir(at)
	}
	if last == "roleAssignments" { // some lie below resources, whose ids come first
		below = ""
	}
	found, err := m.on.Control.List(kind, below)
	if err != nil {
		return http.StatusInternalServerError, map[string]any{"error": map[string]string{"code": "InternalServerError", "message": err.Error()}}
	}
	return http.StatusOK, map[string]any{"value": append([]any{}, toAny(found)...)}
}

func toAny[T any](in []T) (out []any) {
	for _, v := range in {
		out = append(out, v)
	}
	return out
}

func tag(name, prefix string) any {
	return map[string]any{"name": name, "properties": map[string]any{"addressPrefixes": []string{prefix}}}
}

// credential gives the deployer's tokens for whatever is asked.
type credential struct{ *spoke }

func (c credential) GetToken(_ context.Context, o azpolicy.TokenRequestOptions) (azcore.AccessToken, error) {
	audience := strings.TrimSuffix(o.Scopes[0], "/.default")
	text, err := c.on.Identity.Token(planes.Deployer, audience)
	return azcore.AccessToken{Token: text, ExpiresOn: time.Now().Add(time.Hour)}, err
}

// only is the id of the one resource of a type.
func (s *spoke) only(t *testing.T, kind string) string {
	t.Helper()
	all, err := s.on.Control.List(kind, "")
	if err != nil || len(all) != 1 {
		t.Fatalf("%d of %s (%v)", len(all), kind, err)
	}
	return all[0].Text("id")
}

// TestPreflight reads the standard spoke as `bulkhead preflight` would, and lets every guard
// judge what the component made: none fails, until somebody changes it by hand.
func TestPreflight(t *testing.T) {
	s := newSpoke(t)
	s.Up().OK()
	parts := strings.Split(s.only(t, "Microsoft.Network/virtualNetworks"), "/")
	scope := azure.Scope{Scope: preflight.Scope{Subscription: parts[2], ResourceGroup: parts[4], VNet: parts[len(parts)-1], AgentSubnet: "agents"},
		Plan: &preflight.Plan{Location: "eastus2", VNetPrefixes: []string{"10.20.0.0/16"}, AgentPrefix: "10.20.1.0/24", GatewayPrefix: "10.20.0.0/24", EndpointPrefix: "10.20.2.0/24",
			GatewayAddress: "10.20.0.4", DNSClosure: "nsg", GatewayVersion: "0.1.0", GrantsDeployer: true, Sessions: 100},
		Options: &arm.ClientOptions{ClientOptions: azpolicy.ClientOptions{Transport: managed{s}, Retry: azpolicy.RetryOptions{MaxRetries: -1}}}}
	judge := func() preflight.Report {
		t.Helper()
		inv, err := azure.Read(t.Context(), scope, credential{s})
		if err != nil {
			t.Fatal(err)
		}
		report, err := preflight.Run(inv, preflight.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	report := judge()
	if !report.Ok() || report.Count(preflight.Passed) < 40 {
		t.Error(report.Err())
	}
	for _, r := range report.Results {
		// The twin's machine does not run, and its gateway reports no intermediate.
		if r.Outcome == preflight.NotChecked && r.ID != "RTE-10" && r.ID != "CA-03" {
			t.Errorf("%s: not checked: %s", r.ID, r.Note)
		}
	}
	t.Log(report.Summary())

	// Somebody adds a route past the gateway by hand, and lets gateways announce others.
	table := s.only(t, "Microsoft.Network/routeTables")
	if _, err := s.on.Control.Patch(table, control.Object{"properties": map[string]any{"disableBgpRoutePropagation": false}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.on.Control.Put(table+"/routes/shortcut", control.Object{"properties": map[string]any{"addressPrefix": "20.0.0.0/8", "nextHopType": "Internet"}}); err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, r := range judge().Results {
		if r.Outcome == preflight.Failed {
			failed = append(failed, r.ID)
		}
	}
	if !slices.Equal(failed, []string{"RTE-02", "RTE-03", "RTE-09"}) {
		t.Errorf("failed after drift: %v", failed)
	}
}
