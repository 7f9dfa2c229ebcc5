package published

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// account is a storage account, as far as a gateway sees it: the blobs, and the metadata service that
// gives out tokens for it. It proves nothing about roles, firewalls and Azure's own limits.
type account struct {
	mu     sync.Mutex
	blobs  map[string]version // by path
	away   bool
	serial int
	wrote  chan struct{} // closed and replaced when the gateway writes
}

type version struct{ body, serial, etag string }

const (
	policyPath = "/policy/ruleset.json"
	reportPath = "/attestation/gateway.json"
	token      = "token-of-the-gateway"
)

func serve(l *lab.Lab) *account {
	a := &account{blobs: map[string]version{}, wrote: make(chan struct{})}
	l.Sites[lab.Internet].Handle(lab.StorageName, a)
	l.Sites[lab.Platform].Handle(lab.Metadata.String(), http.HandlerFunc(metadata))
	return a
}

// metadata is the token endpoint of the instance metadata service (learn.microsoft.com,
// "How to use managed identities on an Azure VM to acquire an access token").
func metadata(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metadata/identity/oauth2/token" || r.Header.Get("Metadata") != "true" || r.FormValue("resource") != "https://storage.azure.com" {
		http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"access_token": token, "expires_in": "3600", "resource": r.FormValue("resource"), "token_type": "Bearer"})
}

// publish writes as a deployment does.
func (a *account) publish(body string, serial int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	a.blobs[policyPath] = version{body, fmt.Sprint(serial), fmt.Sprintf(`"0x%d"`, a.serial)}
}

func (a *account) goAway(away bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = away
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fail := func(status int, code string) {
		w.Header().Set("x-ms-error-code", code)
		w.WriteHeader(status)
	}
	blob, found := a.blobs[r.URL.Path]
	switch {
	case a.away:
		fail(http.StatusServiceUnavailable, "ServerBusy")
	case r.Header.Get("Authorization") != "Bearer "+token:
		fail(http.StatusUnauthorized, "NoAuthenticationInformation")
	case r.Method == http.MethodPut && r.URL.Path == reportPath && r.Header.Get("x-ms-blob-type") == "BlockBlob":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		a.blobs[reportPath] = version{body: string(body)}
		close(a.wrote)
		a.wrote = make(chan struct{})
		w.WriteHeader(http.StatusCreated)
	case r.Method != http.MethodGet || r.URL.Path != policyPath:
		fail(http.StatusForbidden, "AuthorizationPermissionMismatch")
	case !found:
		fail(http.StatusNotFound, "BlobNotFound")
	case r.Header.Get("If-None-Match") == blob.etag:
		fail(http.StatusNotModified, "ConditionNotMet")
	default:
		w.Header().Set("ETag", blob.etag)
		w.Header().Set("x-ms-meta-serial", blob.serial)
		io.WriteString(w, blob.body)
	}
}
