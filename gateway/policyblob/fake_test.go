package policyblob

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
)

const token = "token-of-the-machine"

// storage is a blob service, over HTTPS, that takes what the Blob service's REST reference
// demands for Get Blob and Put Blob and nothing else: a bearer token, a service version, a blob type.
// It proves nothing about roles and firewalls, which are Azure's.
type storage struct {
	*httptest.Server
	t *testing.T

	mu     sync.Mutex
	blobs  map[string]content
	status int // answered instead, if not 0
	reads  int // with content
	etag   int
}

type content struct {
	body, serial, etag, kind string
}

func newStorage(t *testing.T) *storage {
	s := &storage{t: t, blobs: map[string]content{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *storage) options() *blob.ClientOptions {
	return &blob.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: s.Client()}}
}

// publish writes as the deployer does; serial empty is none.
func (s *storage) publish(path, body, serial string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.etag++
	s.blobs[path] = content{body: body, serial: serial, etag: fmt.Sprintf(`"0x%d"`, s.etag)}
}

func (s *storage) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(status int, code string) {
		w.Header().Set("x-ms-error-code", code)
		w.WriteHeader(status)
	}
	if r.Header.Get("Authorization") != "Bearer "+token || r.Header.Get("x-ms-version") == "" {
		s.t.Errorf("%s %s without token or version: %v", r.Method, r.URL, r.Header)
		fail(http.StatusUnauthorized, "NoAuthenticationInformation")
		return
	}
	if s.status != 0 {
		fail(s.status, "AuthorizationFailure")
		return
	}
	c, found := s.blobs[r.URL.Path]
	switch r.Method {
	case http.MethodGet:
		if !found {
			fail(http.StatusNotFound, "BlobNotFound")
			return
		}
		w.Header().Set("ETag", c.etag)
		if r.Header.Get("If-None-Match") == c.etag {
			fail(http.StatusNotModified, "ConditionNotMet")
			return
		}
		s.reads++
		if c.serial != "" {
			w.Header().Set("x-ms-meta-serial", c.serial)
		}
		io.WriteString(w, c.body)
	case http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if kind := r.Header.Get("x-ms-blob-type"); err != nil || kind != "BlockBlob" || r.ContentLength != int64(len(body)) {
			s.t.Errorf("put as %q, %d of %d bytes, %v", kind, len(body), r.ContentLength, err)
			fail(http.StatusBadRequest, "InvalidHeaderValue")
			return
		}
		s.blobs[r.URL.Path] = content{body: string(body), kind: r.Header.Get("x-ms-blob-content-type")}
		w.WriteHeader(http.StatusCreated)
	default:
		s.t.Errorf("unexpected %s", r.Method)
		fail(http.StatusMethodNotAllowed, "UnsupportedHttpVerb")
	}
}

// machine is the managed identity.
type machine struct{ fails error }

func (m machine) GetToken(_ context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if m.fails != nil {
		return azcore.AccessToken{}, m.fails
	}
	if scopes := strings.Join(opts.Scopes, " "); scopes != "https://storage.azure.com/.default" {
		return azcore.AccessToken{}, fmt.Errorf("asked for %q", scopes)
	}
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}
