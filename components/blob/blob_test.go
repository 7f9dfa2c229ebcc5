package blob

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/components/patience"
)

// account is a storage account and the identity endpoint of an App Service, which the official clients talk to as they
// would on Azure: a token is asked for and shown, and what Get Blob and Put Blob (REST reference, Blob service) demand is
// demanded here. It proves nothing about roles, firewalls, or what else Azure may answer; tests/twin has a whole blob service.
type account struct {
	*httptest.Server
	mu      sync.Mutex
	body    []byte
	etag    int // 0: there is none
	meta    string
	refusal []string // codes that are answered first, with their status: "403 AuthorizationFailure"
	wrong   []string // what a request should not have been
	tokens  int
}

const token = "token-of-the-deployer"

// storage is one for all tests, because a process reads SSL_CERT_FILE and makes its credential once.
var storage *account

func TestMain(m *testing.M) {
	storage = &account{}
	storage.Server = httptest.NewTLSServer(storage)
	identity := httptest.NewServer(http.HandlerFunc(storage.identity))
	folder, err := os.MkdirTemp("", "blob")
	if err != nil {
		panic(err)
	}
	roots := filepath.Join(folder, "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: storage.Certificate().Raw}), 0o600); err != nil {
		panic(err)
	}
	for key, value := range map[string]string{"SSL_CERT_FILE": roots, "IDENTITY_ENDPOINT": identity.URL, "IDENTITY_HEADER": "header"} {
		if err := os.Setenv(key, value); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// identity is the App Service protocol (learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference).
func (a *account) identity(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Header.Get("X-IDENTITY-HEADER") != "header" || r.FormValue("resource") != "https://storage.azure.com" {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	a.tokens++
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"access_token": token, "token_type": "Bearer", "resource": "https://storage.azure.com",
		"expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix())})
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fail := func(status int, code string) {
		w.Header().Set("x-ms-error-code", code)
		w.WriteHeader(status)
	}
	body, err := io.ReadAll(r.Body)
	if r.Header.Get("Authorization") != "Bearer "+token || r.Header.Get("x-ms-version") == "" || r.URL.Path != "/policy/ruleset.json" || r.URL.RawQuery != "" || err != nil {
		a.wrong = append(a.wrong, fmt.Sprint(r.Method, " ", r.URL, " ", r.Header, err))
		fail(http.StatusUnauthorized, "NoAuthenticationInformation")
		return
	}
	if len(a.refusal) > 0 {
		var status int
		var code string
		fmt.Sscan(a.refusal[0], &status, &code)
		a.refusal = a.refusal[1:]
		fail(status, code)
		return
	}
	etag := fmt.Sprintf(`"0x%d"`, a.etag)
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	switch r.Method {
	case http.MethodGet:
		if a.etag == 0 {
			fail(http.StatusNotFound, "BlobNotFound")
			return
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("x-ms-meta-serial", a.meta)
		w.Write(a.body)
	case http.MethodPut:
		match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
		if r.Header.Get("x-ms-blob-type") != "BlockBlob" || r.ContentLength != int64(len(body)) || r.Header.Get("x-ms-blob-content-type") != "application/json" || (match == "") == (none == "") {
			a.wrong = append(a.wrong, fmt.Sprint("PUT ", r.Header))
			fail(http.StatusBadRequest, "InvalidHeaderValue")
			return
		}
		switch {
		case none == "*" && a.etag > 0:
			fail(http.StatusConflict, "BlobAlreadyExists")
			return
		case match != "" && match != etag:
			fail(http.StatusPreconditionFailed, "ConditionNotMet")
			return
		}
		a.body, a.meta = body, r.Header.Get("x-ms-meta-serial")
		a.etag++
		w.Header().Set("ETag", fmt.Sprintf(`"0x%d"`, a.etag))
		w.WriteHeader(http.StatusCreated)
	default:
		a.wrong = append(a.wrong, r.Method)
		fail(http.StatusMethodNotAllowed, "UnsupportedHttpVerb")
	}
}

// open is the blob on a new account that answers some requests with refusals first.
func open(t *testing.T, refusals ...string) (b Blob, said *[]string) {
	t.Helper()
	storage.mu.Lock()
	storage.body, storage.etag, storage.meta, storage.refusal, storage.wrong = nil, 0, "", refusals, nil
	storage.mu.Unlock()
	said = &[]string{}
	b, err := Open(t.Context(), storage.URL+"/policy/ruleset.json", func(s string) { *said = append(*said, s) })
	if err != nil {
		t.Fatal(err)
	}
	b.(*azure).patience = patience.Patience{Limit: 200 * time.Millisecond, Pause: time.Millisecond, Longest: time.Millisecond}
	t.Cleanup(func() {
		storage.mu.Lock()
		defer storage.mu.Unlock()
		if len(storage.wrong) > 0 {
			t.Errorf("storage would have refused: %q", storage.wrong)
		}
	})
	return b, said
}

// TestConditions holds that nobody is overwritten unseen.
func TestConditions(t *testing.T) {
	b, _ := open(t)
	put := func(body, etag string) error {
		return b.Put(t.Context(), []byte(body), "application/json", map[string]string{"serial": "7"}, etag)
	}
	if _, err := b.Get(t.Context(), 100); !errors.Is(err, ErrAbsent) {
		t.Fatal(err)
	}
	if err := put("one", ""); err != nil {
		t.Fatal(err)
	}
	first, err := b.Get(t.Context(), 100)
	if err != nil || string(first.Body) != "one" || first.Metadata["serial"] != "7" || first.ETag == "" || first.Written.IsZero() || first.Now.IsZero() {
		t.Fatal(first, err)
	}
	if err := put("two", ""); !errors.Is(err, ErrChanged) {
		t.Errorf("as the first: %v", err)
	}
	if err := put("two", first.ETag); err != nil {
		t.Error(err)
	}
	if err := put("three", first.ETag); !errors.Is(err, ErrChanged) {
		t.Errorf("as the second, of an older one: %v", err)
	}
	if _, err := b.Get(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "more than 2 bytes") {
		t.Errorf("longer than asked for: %v", err)
	}
}

// TestWaiting holds which answers are waited out, that it is said, and what a person is told when they last.
func TestWaiting(t *testing.T) {
	for answer, tc := range map[string]struct {
		waits bool
		says  string
	}{
		"403 AuthorizationPermissionMismatch": {true, `the role Storage Blob Data Contributor on the container "policy" of the storage account "127"`},
		"403 AuthorizationFailure":            {true, "deployerAddresses"},
		"403 InsufficientAccountPermissions":  {true, "deployerAddresses"},
		"404 ResourceNotFound":                {true, "No storage account"},
		"409 AccountBeingCreated":             {true, "AccountBeingCreated"},
		"404 ContainerNotFound":               {false, `has no container "policy"`},
		"409 ContainerBeingDeleted":           {false, "ContainerBeingDeleted"},
		"401 InvalidAuthenticationInfo":       {false, "InvalidAuthenticationInfo"},
	} {
		t.Run(answer, func(t *testing.T) {
			put := func(b Blob) error { return b.Put(t.Context(), []byte("x"), "application/json", nil, "") }
			b, said := open(t, answer, answer)
			err := put(b)
			if tc.waits != (err == nil) || tc.waits != (len(*said) > 0) {
				t.Errorf("twice: %v, said %q", err, *said)
			}
			forever := make([]string, 100000)
			for i := range forever {
				forever[i] = answer
			}
			b, _ = open(t, forever...)
			err = put(b)
			if err == nil || errors.Is(err, ErrChanged) || errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("for good: %v", err)
			}
		})
	}
}

// TestReadingSaysAbsentOnlyOfTheBlob holds that an account or container which is not there is not taken for an empty one.
func TestReadingSaysAbsentOnlyOfTheBlob(t *testing.T) {
	b, _ := open(t, "404 ContainerNotFound")
	if _, err := b.Get(t.Context(), 100); err == nil || errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
}

// TestOneCredential holds that the deployer's identity is asked for a token once in a process, not once for each blob.
func TestOneCredential(t *testing.T) {
	for range 3 {
		b, _ := open(t)
		if _, err := b.Get(t.Context(), 100); !errors.Is(err, ErrAbsent) {
			t.Fatal(err)
		}
	}
	storage.mu.Lock()
	defer storage.mu.Unlock()
	if storage.tokens != 1 {
		t.Errorf("%d tokens", storage.tokens)
	}
}

func TestAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://account.blob.core.windows.net/policy/ruleset.json":          true,
		"https://account.blob.core.windows.net/policy/a/b.json":              true,
		"https://account.blob.core.windows.net/policy":                       false,
		"http://account.blob.core.windows.net/policy/ruleset.json":           false,
		"https://account.blob.core.windows.net/policy/ruleset.json?sig=abc":  false,
		"https://user@account.blob.core.windows.net/policy/ruleset.json":     false,
		"account/policy/ruleset.json":                                        false,
		"https://account.blob.core.windows.net/policy/ruleset.json\x00":      false,
		"https://account.blob.core.windows.net/policy/ruleset.json#fragment": false,
	} {
		if _, err := Open(t.Context(), address, func(string) {}); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}
