// Package blobs is the twin of Azure Storage's blob service, for the official azblob client.
//
// Azurite, Microsoft's own emulator, keeps the blobs and answers for them: conditions, blocks,
// listings. What it has not got stands before it, in a reverse proxy: tokens that are really
// checked, roles, network rules, accounts without keys, and accounts and containers that come
// and go with the resource manager.
//
// What Azurite does not have is not had here either: versions of blobs, soft delete,
// immutability policies. It does not prove that Azure's own service behaves as Azurite.
package blobs

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
)

// Suffix is what an account's blob host ends in.
const Suffix = ".blob.core.windows.net"

const resource = "https://storage.azure.com"

// Account is what the resource manager knows of a storage account.
type Account struct {
	ID         string // in the resource manager: the scope of roles
	Made       string // differs when an account of the same id is made anew, without the old one's blobs
	Firewall   front.Firewall
	Containers []string
}

// Options of the data plane.
type Options struct {
	Identity *identity.Service
	// Accounts finds an account by its name.
	Accounts func(name string) (Account, bool)
	// Authorize says why a principal (object id) may not do an action, such as
	// Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read, at a scope.
	Authorize func(principal, action, scope string) error
	// Dir is where npm installed Azurite; empty: as [Dir] finds it.
	Dir string
}

// Service is the blob service of every account.
type Service struct {
	opt     Options
	azurite *azurite
	relay   *httputil.ReverseProxy
	plain   *http.Client

	mu    sync.Mutex
	slots map[string]string // Azurite's account for each one
	made  map[string]bool   // containers, as slot/name
}

var _ front.Site = (*Service)(nil)

// Azurite takes its accounts when it starts, the twin makes them later: so many may come.
const slots = 32

// Start runs Azurite, with its files in dir, behind a front.
func Start(f *front.Front, dir string, opt Options) (*Service, error) {
	if opt.Dir == "" {
		var err error
		if opt.Dir, err = Dir(); err != nil {
			return nil, err
		}
	}
	certificate, key, err := f.Certify(dir)
	if err != nil {
		return nil, err
	}
	var accounts []string
	for i := range slots {
		accounts = append(accounts, fmt.Sprintf("twin%02d", i))
	}
	a, err := startAzurite(opt.Dir, certificate, key, accounts)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(a.endpoint)
	if err != nil {
		a.stop()
		return nil, fmt.Errorf("blobs: Azurite listens on %q: %w", a.endpoint, err)
	}
	client := f.Client()
	transport := client.Transport.(*http.Transport)
	transport.Proxy = nil
	transport.ForceAttemptHTTP2 = false
	transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	s := &Service{opt: opt, azurite: a, plain: client, slots: map[string]string{}, made: map[string]bool{}}
	s.relay = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			slot := p.In.Context().Value(slotKey{}).(string)
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = target.Scheme, target.Host, target.Host
			p.Out.URL.RawPath = "/" + slot + p.In.URL.EscapedPath()
			p.Out.URL.Path = "/" + slot + p.In.URL.Path
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			refuse(w, http.StatusInternalServerError, "InternalError", err.Error())
		},
	}
	return s, nil
}

type slotKey struct{}

// Close ends Azurite; what it kept is gone.
func (s *Service) Close() error { s.azurite.stop(); return nil }

// Known says whether an account of that host exists.
func (s *Service) Known(host string) bool {
	_, ok := s.opt.Accounts(strings.TrimSuffix(host, Suffix))
	return ok
}

// refusal is an error as the service writes it.
type refusal struct {
	status        int
	code, message string
}

func (e *refusal) Error() string { return e.message }

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Ms-Error-Code", code)
	w.WriteHeader(status)
	xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: code, Message: message})
}

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	slot, err := s.admit(w, r)
	if err == nil {
		s.relay.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), slotKey{}, slot)))
		return
	}
	var e *refusal
	if !errors.As(err, &e) {
		e = &refusal{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	refuse(w, e.status, e.code, e.message)
}

// admit says which of Azurite's accounts a request is for, or why it is refused. The codes are
// those of https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes.
func (s *Service) admit(w http.ResponseWriter, r *http.Request) (slot string, err error) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	account, ok := s.opt.Accounts(strings.TrimSuffix(host, Suffix))
	if !ok {
		return "", &refusal{http.StatusNotFound, "ResourceNotFound", "no such account: " + host}
	}
	if !account.Firewall.Permits(r) {
		return "", &refusal{http.StatusForbidden, "AuthorizationFailure", "This request is not authorized to perform this operation."}
	}
	if r.URL.Query().Has("sig") || strings.HasPrefix(r.Header.Get("Authorization"), "SharedKey") {
		return "", &refusal{http.StatusForbidden, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account."}
	}
	p, err := s.opt.Identity.Verify(r, resource, "https://"+host)
	if err != nil {
		w.Header().Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/"+identity.Tenant+"/oauth2/authorize resource_id="+resource)
		if errors.Is(err, identity.ErrNoToken) {
			return "", &refusal{http.StatusUnauthorized, "NoAuthenticationInformation", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."}
		}
		return "", &refusal{http.StatusUnauthorized, "InvalidAuthenticationInfo", err.Error()}
	}
	if r.Header.Get("X-Ms-Version") == "" {
		return "", &refusal{http.StatusBadRequest, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified: x-ms-version."}
	}
	container, blob, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	action, ok := actionOf(r, blob)
	if !ok || container == "" {
		return "", &refusal{http.StatusBadRequest, "UnsupportedOperation", "the twin has no " + r.Method + " " + r.URL.String()}
	}
	scope := account.ID + "/blobServices/default/containers/" + container
	if blob != "" {
		scope += "/blobs/" + blob
	}
	if err := s.opt.Authorize(p.ObjectID, "Microsoft.Storage/storageAccounts/blobServices/"+action, scope); err != nil {
		return "", &refusal{http.StatusForbidden, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission. " + err.Error()}
	}
	if !slices.Contains(account.Containers, container) {
		return "", &refusal{http.StatusNotFound, "ContainerNotFound", "The specified container does not exist."}
	}
	return s.prepare(account, container)
}

// actionOf is the action that an operation needs
// (https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory#permissions-for-blob-service-operations).
func actionOf(r *http.Request, blob string) (string, bool) {
	q := r.URL.Query()
	comp := q.Get("comp")
	switch {
	case blob == "":
		if r.Method == http.MethodGet && q.Get("restype") == "container" && comp == "list" {
			return "containers/blobs/read", true
		}
		return "containers/read", (r.Method == http.MethodGet || r.Method == http.MethodHead) && q.Get("restype") == "container" && comp == ""
	case r.Method == http.MethodHead || r.Method == http.MethodGet:
		return "containers/blobs/read", comp == "" || comp == "metadata" || comp == "blocklist"
	case r.Method == http.MethodPut:
		return "containers/blobs/write", slices.Contains([]string{"", "block", "blocklist", "metadata", "properties", "lease"}, comp)
	case r.Method == http.MethodDelete:
		return "containers/blobs/delete", comp == ""
	}
	return "", false
}

// prepare gives an account a place in Azurite and makes a container that is new to it.
func (s *Service) prepare(account Account, container string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, ok := s.slots[account.ID+" "+account.Made]
	if !ok {
		if len(s.slots) == slots {
			return "", errors.New("the twin has no room for another account")
		}
		slot = fmt.Sprintf("twin%02d", len(s.slots))
		s.slots[account.ID+" "+account.Made] = slot
	}
	if s.made[slot+"/"+container] {
		return slot, nil
	}
	token, err := s.opt.Identity.Token(identity.Principal{Name: "twin"}, resource)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequest(http.MethodPut, s.azurite.endpoint+"/"+slot+"/"+container+"?restype=container", nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("X-Ms-Version", "2025-11-05")
	resp, err := s.plain.Do(r)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("blobs: Azurite: container %s: %s", container, resp.Status)
	}
	s.made[slot+"/"+container] = true
	return slot, nil
}
