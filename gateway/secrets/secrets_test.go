package secrets

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// vault answers one call of Key Vault's REST interface, `get secret`, over HTTPS. It does not
// prove that a real vault grants the role, nor that managed identity yields a token.
type vault struct {
	mu     sync.Mutex
	value  string
	status int // instead; 0: as usual
	calls  []string
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555", resource="https://vault.azure.net"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	v.calls = append(v.calls, r.Method+" "+r.Host+strings.TrimSuffix(r.URL.Path, "/"))
	w.Header().Set("Content-Type", "application/json")
	if v.status != 0 {
		w.WriteHeader(v.status)
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": "Forbidden", "message": v.value}})
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"value": v.value, "id": "https://contoso.vault.azure.net/secrets/token/v1"})
}

func (v *vault) set(value string, status int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.value, v.status = value, status
}

func (v *vault) asked() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.calls)
}

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "good", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func store(t *testing.T, v *vault, c *clock) *Store {
	t.Helper()
	srv := httptest.NewTLSServer(v)
	t.Cleanup(srv.Close)
	client := srv.Client()
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, srv.Listener.Addr().String())
	}
	client.Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com" // what httptest's certificate is for
	opt := &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: client, Retry: policy.RetryOptions{MaxRetries: -1}}}
	return New(token{}, opt, c.Now)
}

const id = "https://contoso.vault.azure.net/secrets/token"

func TestVault(t *testing.T) {
	v, c := &vault{value: "first"}, &clock{now: time.Now()}
	s := store(t, v, c)
	want := func(text string) {
		t.Helper()
		if got, err := s.Secret(t.Context(), id); err != nil || got != text {
			t.Fatalf("%q, %v; want %q", got, err, text)
		}
	}
	want("first")
	want("first")
	if n := v.asked(); n != 1 || v.calls[0] != "GET contoso.vault.azure.net/secrets/token" {
		t.Fatalf("%d calls: %v", n, v.calls)
	}
	v.set("second", 0)
	want("first")
	c.add(fresh)
	want("second")

	v.set("hunter2", http.StatusForbidden)
	c.add(fresh)
	want("second") // while the vault is away
	c.add(stale)
	_, err := s.Secret(t.Context(), id)
	if err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("an old value, or an error that tells too much: %v", err)
	}
	v.set("third", 0)
	want("third")
	c.add(-time.Hour) // a clock that is set back keeps nothing
	v.set("fourth", 0)
	want("fourth")
}

func TestValuesThatNoHeaderHolds(t *testing.T) {
	for _, text := range []string{"", "a\r\nX-Evil: 1", "a\x00", strings.Repeat("a", maxSize+1)} {
		s := store(t, &vault{value: text}, &clock{now: time.Now()})
		if got, err := s.Secret(t.Context(), id); err == nil {
			t.Errorf("%.20q is a secret: %.20q", text, got)
		}
	}
}

func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	s := store(t, &vault{}, &clock{now: time.Now()})
	if _, err := s.Secret(t.Context(), "file://"+file); err == nil {
		t.Error("a file that is not there")
	}
	if err := os.WriteFile(file, []byte("ghp_lab\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Secret(t.Context(), "file://"+file); err != nil || got != "ghp_lab" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.Secret(t.Context(), "file:///dev/zero"); err == nil {
		t.Error("an endless file")
	}
}

func TestConcurrent(t *testing.T) {
	v := &vault{value: "one"}
	s := store(t, v, &clock{now: time.Now()})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if got, err := s.Secret(t.Context(), id); err != nil || got != "one" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
}
