package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

const vaultURL = "https://contoso.vault.azure.net"

// fakeVault answers two calls of Key Vault's REST interface, `get key` and `sign`, for one
// key, over HTTPS: challenge first, then a bearer token; a method, path, version or body that
// is not theirs is a fault of the test. It does not prove that a real vault grants the role,
// that managed identity yields a token, nor what a real vault's limits are.
type fakeVault struct {
	t      *testing.T
	server *httptest.Server
	file   string // of the root's certificate

	mu       sync.Mutex
	versions []crypto.Signer // the newest is last
	calls    []string
	answer   func(http.ResponseWriter) bool // instead; false: as usual
	liar     crypto.Signer                  // signs in place of the key
	// signature is sent in place of one that was made; nil: none.
	signature []byte
}

func newFakeVault(t *testing.T, key crypto.Signer) *fakeVault {
	f := &fakeVault{t: t, file: filepath.Join(t.TempDir(), "root.crt"), versions: []crypto.Signer{key}}
	f.certify(key)
	f.server = httptest.NewTLSServer(f)
	t.Cleanup(f.server.Close)
	return f
}

// certify writes a root certificate over a key.
func (f *fakeVault) certify(key crypto.Signer) {
	c := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "Contoso Bulkhead Root"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		f.t.Fatal(err)
	}
	write(f.t, f.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (f *fakeVault) rotate(key crypto.Signer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.versions = append(f.versions, key)
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

func (f *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch r.Header.Get("Authorization") {
	case "":
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555", resource="https://vault.azure.net"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case "Bearer good":
	default:
		f.t.Errorf("authorization %q", r.Header.Get("Authorization"))
	}
	if r.Host != "contoso.vault.azure.net" || r.URL.Query().Get("api-version") == "" {
		f.t.Errorf("asked %s for %s", r.Host, r.URL)
	}
	f.calls = append(f.calls, r.Method+" "+r.URL.Path)
	if f.answer != nil && f.answer(w) {
		return
	}
	version := len(f.versions) - 1
	switch {
	case r.Method == http.MethodGet && strings.TrimSuffix(r.URL.Path, "/") == "/keys/bulkhead-root":
		json.NewEncoder(w).Encode(map[string]any{"key": f.jwk(version), "attributes": map[string]any{"enabled": true}})
	case r.Method == http.MethodPost && r.URL.Path == fmt.Sprintf("/keys/bulkhead-root/v%d/sign", version):
		key := f.versions[version]
		if f.liar != nil {
			key = f.liar
		}
		f.sign(w, r, key)
	default:
		f.t.Errorf("the gateway may not %s %s", r.Method, r.URL.Path)
		w.WriteHeader(http.StatusForbidden)
	}
}

var b64 = base64.RawURLEncoding

func (f *fakeVault) jwk(version int) map[string]any {
	k := map[string]any{"kid": fmt.Sprintf("%s/keys/bulkhead-root/v%d", vaultURL, version), "key_ops": []string{"sign"}}
	switch p := f.versions[version].Public().(type) {
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			f.t.Error(err)
		}
		k["kty"], k["crv"], k["x"], k["y"] = "EC-HSM", p.Params().Name, b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:65])
	case *rsa.PublicKey:
		k["kty"], k["n"], k["e"] = "RSA-HSM", b64.EncodeToString(p.N.Bytes()), b64.EncodeToString(big.NewInt(int64(p.E)).Bytes())
	}
	return k
}

func (f *fakeVault) sign(w http.ResponseWriter, r *http.Request, key crypto.Signer) {
	var body struct{ Alg, Value string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		f.t.Error(err)
	}
	digest, err := b64.DecodeString(body.Value)
	if err != nil || len(digest) != 32 {
		f.t.Errorf("to sign: %q, %v", body.Value, err)
	}
	var sig []byte
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		a, b, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil || body.Alg != "ES256" {
			f.t.Errorf("%s: %v", body.Alg, err)
		}
		sig = append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...)
	case *rsa.PrivateKey:
		if sig, err = k.Sign(rand.Reader, digest, crypto.SHA256); err != nil || body.Alg != "RS256" {
			f.t.Errorf("%s: %v", body.Alg, err)
		}
	}
	if f.signature != nil {
		sig = f.signature
	}
	json.NewEncoder(w).Encode(map[string]any{"kid": f.jwk(len(f.versions) - 1)["kid"], "value": b64.EncodeToString(sig)})
}

type token string

func (k token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(k), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// vault is a client of the fake, which is found under the real name.
func (f *fakeVault) vault() *Vault {
	f.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(f.server.Certificate())
	transport := f.server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ServerName = "example.com" // httptest's certificate
	transport.TLSClientConfig.RootCAs = pool
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, f.server.Listener.Addr().String())
	}
	f.t.Cleanup(transport.CloseIdleConnections)
	opts := azcore.ClientOptions{Transport: &http.Client{Transport: transport}, Retry: policy.RetryOptions{RetryDelay: time.Millisecond, MaxRetryDelay: time.Second}}
	v, err := NewVault(vaultURL, "bulkhead-root", f.file, token("good"), &azkeys.ClientOptions{ClientOptions: opts})
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVault(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, key := range map[string]crypto.Signer{"EC": ecKey(t, elliptic.P256()), "RSA": rsaKey} {
		t.Run(what, func(t *testing.T) {
			f := newFakeVault(t, key)
			a := open(t, Options{Root: f.vault(), Names: []string{"a.example"}})
			leaf, err := a.Leaf(t.Context(), "a.example")
			if err != nil {
				t.Fatal(err)
			}
			if out, err := openssl(t, a, leaf.Certificate[0], "-verify_hostname", "a.example"); err != nil {
				t.Errorf("OpenSSL: %s", out)
			}
			if got := f.heard(); !slices.Equal(got, []string{"GET /keys/bulkhead-root/", "POST /keys/bulkhead-root/v0/sign"}) {
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
	f := newFakeVault(t, ecKey(t, elliptic.P256()))
	a := open(t, Options{Root: f.vault(), Names: []string{"a.example"}})
	before := a.Root()
	key := ecKey(t, elliptic.P256())
	f.rotate(key)
	if err := a.renew(t.Context()); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("a certificate over another key: %v", err)
	}
	if _, err := a.Leaf(t.Context(), "a.example"); err != nil || !a.Root().Equal(before) {
		t.Errorf("what was issued serves on: %v", err)
	}
	f.certify(key)
	if err := a.renew(t.Context()); err != nil || a.Root().Equal(before) {
		t.Errorf("the new root: %v", err)
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
			f := newFakeVault(t, ecKey(t, elliptic.P256()))
			a := open(t, Options{Root: f.vault(), Names: []string{"a.example"}})
			f.instead(tc.answer)
			err := a.renew(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			if got := pauseAfter(err, retryFirst) - tc.pause; got < retryFirst/2 || got >= 2*retryFirst {
				t.Errorf("asks again after %s", got+tc.pause)
			}
			if _, err := a.Leaf(t.Context(), "a.example"); err != nil || a.Ready() != nil || a.Trouble() == nil {
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
	f := newFakeVault(t, ecKey(t, elliptic.P256()))
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
	f := newFakeVault(t, ecKey(t, elliptic.P256()))
	f.liar = ecKey(t, elliptic.P256())
	if err := trouble(t, f.vault()); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("%v", err)
	}
}

// TestVaultMalformedSignatures has signatures of a wrong length, and of numbers that are none.
func TestVaultMalformedSignatures(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, key := range map[string]crypto.Signer{"EC": ecKey(t, elliptic.P256()), "RSA": rsaKey} {
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
