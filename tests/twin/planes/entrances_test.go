package planes

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
)

// TestProxy has it lead to the twin's own names alone.
func TestProxy(t *testing.T) {
	for address, want := range map[string]string{
		"https://kv-nowhere.vault.azure.net/":      "Bad Gateway",
		"https://example.com/":                     "Bad Gateway",
		"https://kv-contoso.vault.azure.net:8443/": "Method Not Allowed",
	} {
		if _, err := planes.Front.Client().Get(address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	resp, err := (&http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(planes.Front.Proxy())}}).Get("http://kv-contoso.vault.azure.net/")
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("without TLS: %v", err)
	}
}

// TestServe takes connections from a listener, as in a laboratory with its own DNS.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	planes.Front.Serve(l)
	defer l.Close()
	client := planes.Front.Client()
	transport := client.Transport.(*http.Transport)
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
	}
	resp, err := client.Get("https://kv-contoso.vault.azure.net/keys/root")
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !strings.Contains(resp.Header.Get("WWW-Authenticate"), `resource="https://vault.azure.net"`) {
		t.Errorf("%v, %v", resp, err)
	}
	if _, err := client.Get("https://kv-nowhere.vault.azure.net/"); err == nil {
		t.Error("a certificate for a name that does not exist")
	}
	// The name of the connection is the name of the request.
	r, _ := http.NewRequest(http.MethodGet, "https://kv-contoso.vault.azure.net/keys/root", nil)
	r.Host = "contoso.blob.core.windows.net"
	if resp, err := client.Do(r); err != nil || resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("%v, %v", resp, err)
	}
}

// TestIdentity has the endpoints give a principal tokens of its own, and nobody else any.
func TestIdentity(t *testing.T) {
	gateway := identity.Principal{Name: "gateway", ObjectID: "gateway-object", ClientID: "gateway-client"}
	endpoint, header := "", ""
	for _, kv := range planes.Identity.Environment(gateway) {
		if v, ok := strings.CutPrefix(kv, "IDENTITY_ENDPOINT="); ok {
			endpoint = v
		}
		if v, ok := strings.CutPrefix(kv, "IDENTITY_HEADER="); ok {
			header = v
		}
	}
	machine := httptest.NewServer(planes.Identity.IMDS(gateway))
	defer machine.Close()
	imds := machine.URL + "/metadata/identity/oauth2/token"
	for what, tc := range map[string]struct {
		url     string
		headers map[string]string
		query   url.Values
		want    int
	}{
		"App Service":               {endpoint, map[string]string{"X-Identity-Header": header}, url.Values{"api-version": {"2019-08-01"}, "resource": {"https://vault.azure.net"}}, 200},
		"its own identity":          {endpoint, map[string]string{"X-Identity-Header": header}, url.Values{"api-version": {"2019-08-01"}, "resource": {"https://vault.azure.net"}, "client_id": {"gateway-client"}}, 200},
		"another's identity":        {endpoint, map[string]string{"X-Identity-Header": header}, url.Values{"api-version": {"2019-08-01"}, "resource": {"https://vault.azure.net"}, "client_id": {"other"}}, 400},
		"nobody":                    {endpoint, nil, url.Values{"api-version": {"2019-08-01"}, "resource": {"https://vault.azure.net"}}, 401},
		"no resource":               {endpoint, map[string]string{"X-Identity-Header": header}, url.Values{"api-version": {"2019-08-01"}}, 400},
		"a machine":                 {imds, map[string]string{"Metadata": "true"}, url.Values{"api-version": {"2018-02-01"}, "resource": {"https://vault.azure.net"}}, 200},
		"a machine, without header": {imds, nil, url.Values{"api-version": {"2018-02-01"}, "resource": {"https://vault.azure.net"}}, 400},
	} {
		r, err := http.NewRequest(http.MethodGet, tc.url+"?"+tc.query.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range tc.headers {
			r.Header.Set(name, v)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tc.want {
			t.Errorf("%s: %s: %s", what, resp.Status, body)
			continue
		}
		if tc.want != http.StatusOK {
			continue
		}
		var got struct {
			Token string `json:"access_token"`
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		ask := &http.Request{Header: http.Header{"Authorization": {"Bearer " + got.Token}}}
		if p, err := planes.Identity.Verify(ask, "https://vault.azure.net"); err != nil || p.ObjectID != gateway.ObjectID {
			t.Errorf("%s: %v, %v", what, p, err)
		}
	}
}
