package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
	"github.com/bulkhead-dev/bulkhead/tests/twin/vault"
)

const vaultURL = "https://contoso.vault.azure.net"

// gatewayRole is what Key Vault Crypto User has of what the gateway asks for; everything else is
// refused. (https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/security)
var gatewayRole = []string{"Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/sign/action"}

// fakeVault is the twin's vault with one key, and a root certificate over it in a file. What
// the twin answers can be taken away, or forged.
type fakeVault struct {
	t        *testing.T
	front    *front.Front
	identity *identity.Service
	service  *vault.Service
	registry vault.Registry
	kind     vault.Key
	file     string // of the root's certificate

	mu        sync.Mutex
	calls     []string
	answer    func(http.ResponseWriter) bool // instead; false: as usual
	liar      bool                           // signs with another key
	signature []byte                         // sent in place of one that was made; nil: none
}

var (
	ecKind  = vault.Key{Type: "EC-HSM", Operations: []string{"sign"}}
	rsaKind = vault.Key{Type: "RSA-HSM", Operations: []string{"sign"}}
)

func newFakeVault(t *testing.T, kind vault.Key) *fakeVault {
	f := &fakeVault{t: t, kind: kind, file: filepath.Join(t.TempDir(), "root.crt")}
	var err error
	if f.identity, err = identity.New(); err != nil {
		t.Fatal(err)
	}
	if f.front, err = front.Start(t.TempDir(), front.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.front.Close() })
	f.service = vault.New(vault.Options{Identity: f.identity, Vaults: f.registry.Find, Authorize: func(_, action, scope string) error {
		if !slices.Contains(gatewayRole, action) || scope != "/vaults/contoso/keys/bulkhead-root" {
			t.Errorf("the gateway may not %s at %s", action, scope)
		}
		return nil
	}})
	f.front.Handle(vault.Suffix, f)
	f.registry.Put("contoso", vault.Vault{ID: "/vaults/contoso"})
	f.rotate()
	f.certify()
	return f
}

// rotate makes a new version of the key.
func (f *fakeVault) rotate() { f.registry.MakeKey("contoso", "bulkhead-root", f.kind) }

// certify writes a root certificate over the key's newest version.
func (f *fakeVault) certify() {
	f.t.Helper()
	key, _, err := f.vault().Signer(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	cert, err := SelfSign(key, "Contoso Bulkhead Root", 10*365*24*time.Hour, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	write(f.t, f.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	f.heard()
}

func (f *fakeVault) instead(answer func(http.ResponseWriter) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

// heard returns what was called since the last time, and forgets it.
func (f *fakeVault) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.calls = nil }()
	return f.calls
}

func (f *fakeVault) Known(host string) bool { return f.service.Known(host) }

func (f *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("Authorization") != "" { // else it is told by whom a token is to be
		v, _ := f.registry.Find("contoso")
		call := r.Method + " " + strings.TrimSuffix(r.URL.Path, "/")
		for i, version := range v.Keys["bulkhead-root"].Versions {
			call = strings.Replace(call, version, fmt.Sprintf("v%d", i), 1)
		}
		f.calls = append(f.calls, call)
		w.Header().Set("Content-Type", "application/json")
		if f.answer != nil && f.answer(w) {
			return
		}
		if strings.HasSuffix(r.URL.Path, "/sign") && (f.liar || f.signature != nil) {
			sig := f.signature
			if f.liar {
				sig = f.lie(r)
			}
			json.NewEncoder(w).Encode(map[string]any{"kid": vaultURL + "/keys/bulkhead-root/v0", "value": b64.EncodeToString(sig)})
			return
		}
	}
	f.service.ServeHTTP(w, r)
}

var b64 = base64.RawURLEncoding

// lie signs what is to be signed with a key that is not the vault's.
func (f *fakeVault) lie(r *http.Request) []byte {
	var body struct{ Value string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		f.t.Error(err)
	}
	digest, err := b64.DecodeString(body.Value)
	if err != nil {
		f.t.Error(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Error(err)
	}
	a, b, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		f.t.Error(err)
	}
	return append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)
}

type token string

func (k token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(k), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// vault is a client of the fake, which is found under the real name.
func (f *fakeVault) vault() *Vault {
	f.t.Helper()
	good, err := f.identity.Token(identity.Principal{Name: "gateway"}, "https://vault.azure.net")
	if err != nil {
		f.t.Fatal(err)
	}
	client := f.front.Client()
	f.t.Cleanup(client.CloseIdleConnections)
	opts := azcore.ClientOptions{Transport: client, Retry: policy.RetryOptions{RetryDelay: time.Millisecond, MaxRetryDelay: time.Second}}
	v, err := NewVault(vaultURL, "bulkhead-root", f.file, token(good), &azkeys.ClientOptions{ClientOptions: opts})
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func TestVault(t *testing.T) {
	for what, key := range map[string]vault.Key{"EC": ecKind, "RSA": rsaKind} {
		t.Run(what, func(t *testing.T) {
			f := newFakeVault(t, key)
			a := open(t, Options{Root: f.vault(), Names: []string{"a.example"}})
			leaf, _, err := a.Leaf(t.Context(), "a.example")
			if err != nil {
				t.Fatal(err)
			}
			if out, err := openssl(t, a, leaf.Certificate[0], "-verify_hostname", "a.example"); err != nil {
				t.Errorf("OpenSSL: %s", out)
			}
			if got := f.heard(); !slices.Equal(got, []string{"GET /keys/bulkhead-root", "POST /keys/bulkhead-root/v0/sign"}) {
				t.Errorf("called %q", got)
			}
			// Looking for a change signs nothing.
			if err := a.renew(t.Context()); err != nil || len(f.heard()) != 1 {
				t.Error(err)
			}
		})
	}
}

// TestVaultRotation has a new version of the key appear, and its certificate later.
func TestVaultRotation(t *testing.T) {
	f := newFakeVault(t, ecKind)
	a := open(t, Options{Root: f.vault(), Names: []string{"a.example"}})
	before := a.Root()
	f.rotate()
	if err := a.renew(t.Context()); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("a certificate over another key: %v", err)
	}
	_, root, err := a.Leaf(t.Context(), "a.example")
	if err != nil || !a.Root().Equal(before) {
		t.Errorf("what was issued serves on: %v", err)
	}
	f.certify()
	if err := a.renew(t.Context()); err != nil || a.Root().Equal(before) {
		t.Errorf("the new root: %v", err)
	}
	// A client that is still looking at the old chain proves trust in the root of that one.
	if !root.Equal(before) {
		t.Errorf("the leaf from before was said to be made under %q, serial %x", root.Subject, root.SerialNumber)
	}
	if _, root, err := a.Leaf(t.Context(), "a.example"); err != nil || !root.Equal(a.Root()) {
		t.Errorf("the leaf from after: %v", err)
	}
}

// TestVaultFails has the vault refuse, be throttled, and talk nonsense. In each case the
// intermediate that is there serves on.
func TestVaultFails(t *testing.T) {
	status := func(code int, body string) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			if code == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", "600")
			}
			w.WriteHeader(code)
			fmt.Fprint(w, body)
			return true
		}
	}
	for _, tc := range []struct {
		what   string
		answer func(http.ResponseWriter) bool
		want   string
		pause  time.Duration
	}{
		{"no role", status(403, `{"error":{"code":"Forbidden","message":"x"}}`), "the vault answers 403 Forbidden", 0},
		{"no key", status(404, `{"error":{"code":"KeyNotFound"}}`), "404 KeyNotFound", 0},
		{"throttled", status(429, `{"error":{"code":"Throttled"}}`), "429 Throttled", 10 * time.Minute},
		{"out of order", status(503, ""), "503", 0},
		{"no JSON", status(200, "<html>"), "", 0},
		{"no key in the answer", status(200, "{}"), "has no key", 0},
		{"a curve that is not ours", status(200, `{"key":{"kid":"`+vaultURL+`/keys/bulkhead-root/v0","kty":"EC","crv":"P-384","x":"AA","y":"AA"}}`), "P-256", 0},
		{"a point off the curve", status(200, `{"key":{"kid":"`+vaultURL+`/keys/bulkhead-root/v0","kty":"EC","crv":"P-256","x":"AA","y":"AA"}}`), "", 0},
		{"a short RSA key", status(200, `{"key":{"kid":"`+vaultURL+`/keys/bulkhead-root/v0","kty":"RSA","n":"AQAB","e":"AQAB"}}`), "2048", 0},
		{"an RSA key that is short behind zeros", status(200, `{"key":{"kid":"`+vaultURL+`/keys/bulkhead-root/v0","kty":"RSA","n":"`+b64.EncodeToString(append(make([]byte, 255), 1))+`","e":"AQAB"}}`), "2048", 0},
		{"a key that does not sign", status(200, `{"key":{"kid":"`+vaultURL+`/keys/bulkhead-root/v0","kty":"oct"}}`), "cannot sign", 0},
	} {
		t.Run(tc.what, func(t *testing.T) {
			f := newFakeVault(t, ecKind)
			a := open(t, Options{Root: f.vault(), Names: []string{"a.example"}})
			f.instead(tc.answer)
			err := a.renew(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			if got := pauseAfter(err, retryFirst) - tc.pause; got < retryFirst/2 || got >= 2*retryFirst {
				t.Errorf("asks again after %s", got+tc.pause)
			}
			if _, _, err := a.Leaf(t.Context(), "a.example"); err != nil || a.Ready() != nil || a.Trouble() == nil {
				t.Errorf("leaf %v, ready %v, trouble %v", err, a.Ready(), a.Trouble())
			}
			f.instead(nil)
			if err := a.renew(t.Context()); err != nil || a.Trouble() != nil {
				t.Error(err)
			}
		})
	}
}

// TestVaultThrottledBriefly is within what the SDK waits for by itself.
func TestVaultThrottledBriefly(t *testing.T) {
	f := newFakeVault(t, ecKind)
	left := 2
	f.instead(func(w http.ResponseWriter) bool {
		if left--; left < 0 {
			return false
		}
		w.Header().Set("Retry-After-Ms", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	open(t, Options{Root: f.vault(), Names: []string{"a.example"}})
}

// TestVaultLies has it sign with another key than it shows.
func TestVaultLies(t *testing.T) {
	f := newFakeVault(t, ecKind)
	f.liar = true
	if err := trouble(t, f.vault()); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("%v", err)
	}
}

// TestVaultMalformedSignatures has signatures of a wrong length, and of numbers that are none.
func TestVaultMalformedSignatures(t *testing.T) {
	for what, key := range map[string]vault.Key{"EC": ecKind, "RSA": rsaKind} {
		for _, length := range []int{0, 1, 63, 64, 65, 255, 256, 257} {
			t.Run(fmt.Sprintf("%s, %d zeros", what, length), func(t *testing.T) {
				f := newFakeVault(t, key)
				f.signature = make([]byte, length)
				if err := trouble(t, f.vault()); err == nil || !strings.Contains(err.Error(), "signature") && !strings.Contains(err.Error(), "verification") {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

func FuzzJSONWebKey(f *testing.F) {
	f.Add([]byte(`{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`))
	f.Add([]byte(`{"kty":"RSA","n":"AQAB","e":"AQAB"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var k azkeys.JSONWebKey
		if json.Unmarshal(data, &k) != nil {
			return
		}
		if key, err := publicKey(&k); err == nil && key == nil {
			t.Error("neither a key nor an error")
		}
	})
}
