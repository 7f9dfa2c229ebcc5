package azure

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"

	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
)

// manager answers each question about service tags alike.
type manager struct {
	status int
	body   io.Reader
	asked  []string
}

func (m *manager) Do(r *http.Request) (*http.Response, error) {
	m.asked = append(m.asked, r.URL.Path)
	return &http.Response{StatusCode: m.status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(m.body), Request: r}, nil
}

func ask(t *testing.T, m *manager) ([]byte, error) {
	t.Helper()
	return ServiceTags(t.Context(), "00000000-0000-4000-8000-000000000000", "eastus2", &azfake.TokenCredential{}, azcore.ClientOptions{Transport: m})
}

// TestServiceTags: Azure's answer becomes the file that gateways read.
func TestServiceTags(t *testing.T) {
	m := &manager{status: 200, body: strings.NewReader(`{"name":"Public","changeNumber":"376","cloud":"Public","values":[
		{"name":"AzureActiveDirectory","id":"AzureActiveDirectory","properties":{"changeNumber":"12","region":"","systemService":"AzureAD","addressPrefixes":["20.190.128.0/18","2603:1006:2000::/48"]}},
		null, {"name":"nothing"}]}`)}
	file, err := ask(t, m)
	if err != nil {
		t.Fatal(err)
	}
	tags, meta, err := feeds.ServiceTags(bytes.NewReader(file))
	if want := (feeds.Meta{Cloud: "Public", ChangeNumber: 376, Tags: 1, Prefixes: 1, IPv6: 1}); err != nil || meta != want || len(tags["AzureActiveDirectory"]) != 1 {
		t.Errorf("%v, %+v, %v", tags, meta, err)
	}
	if len(m.asked) != 1 || m.asked[0] != "/subscriptions/00000000-0000-4000-8000-000000000000/providers/Microsoft.Network/locations/eastus2/serviceTags" {
		t.Errorf("asked %q", m.asked)
	}
}

// TestServiceTagsRefused: an error is one line, once, and says what the identity lacks.
func TestServiceTagsRefused(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   io.Reader
		want   string
	}{
		{403, strings.NewReader(`{"error":{"code":"AuthorizationFailed","message":"no"}}`), "needs the action Microsoft.Network/locations/serviceTags/read in the subscription"},
		{429, strings.NewReader(`{"error":{"code":"TooManyRequests","message":"later"}}`), "answers 429 TooManyRequests"},
		{503, strings.NewReader("<html>\n<body>"), "answers 503"},
		{200, strings.NewReader("<html>"), "invalid character"},
		{200, strings.NewReader(`{"name":"Public","nextLink":"https://management.azure.com/more","values":[]}`), "a part of its service tags"},
		{200, io.MultiReader(strings.NewReader(`{"name":"`), endless{}), "request body too large"},
	} {
		m := &manager{status: tt.status, body: tt.body}
		if _, err := ask(t, m); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || len(m.asked) != 1 {
			t.Errorf("%d: asked %d times, %v; want %q", tt.status, len(m.asked), err, tt.want)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// TestServiceTagsPublished: of the whole published file, as Azure would answer it, nothing is lost. It is read where BULKHEAD_DATA names a directory
// that holds one.
func TestServiceTagsPublished(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(os.Getenv("BULKHEAD_DATA"), "ServiceTags_Public_*.json"))
	if len(files) == 0 {
		t.Skip("BULKHEAD_DATA names no directory with published files")
	}
	published, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	_, want, err := feeds.ServiceTags(bytes.NewReader(published))
	if err != nil {
		t.Fatal(err)
	}
	// The manager writes numbers of changes as strings.
	var doc map[string]any
	if err := json.Unmarshal(published, &doc); err != nil {
		t.Fatal(err)
	}
	doc["changeNumber"] = "376"
	for _, v := range doc["values"].([]any) {
		v.(map[string]any)["properties"].(map[string]any)["changeNumber"] = "1"
	}
	answer, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	file, err := ask(t, &manager{status: 200, body: bytes.NewReader(answer)})
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := feeds.ServiceTags(bytes.NewReader(file))
	if got.ChangeNumber = want.ChangeNumber; err != nil || got != want {
		t.Errorf("%+v, want %+v, %v", got, want, err)
	}
}
