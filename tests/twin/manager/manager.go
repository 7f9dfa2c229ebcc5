// Package manager is the reading side of Azure's resource manager in the twin: what the
// official clients get from https://management.azure.com about resources that the twin has.
// Nothing is made or changed over it, because the twin's stand-in provider does that, except that
// a job can be started.
package manager

import (
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
)

// Host is the resource manager's.
const Host = "management.azure.com"

// serviceTags is what a subscription is told of service tags, in each region: those that the standard ruleset names, with the
// addresses that their services have in the laboratory.
//
//go:embed servicetags.json
var serviceTags []byte

const serviceTagsKind = "Microsoft.Network/locations/serviceTags"

// Service answers for every subscription.
type Service struct {
	Identity *identity.Service
	// Resource finds one by its id, as the resource manager writes it in JSON; nil: there are none.
	Resource func(id string) (json.RawMessage, bool)
	// Authorize says why a principal (object id) may not do an action, such as
	// Microsoft.Network/virtualNetworks/subnets/read, at a scope.
	Authorize func(principal, action, scope string) error
	// Start starts a job (Microsoft.App/jobs) and returns the id of its execution; nil: none can be
	// started. What it fails with as a [*Refusal] is answered so, and with anything else the
	// connection breaks.
	Start func(job string) (execution string, err error)

	mu      sync.Mutex
	started map[string]string // execution by the path that its start is asked about at
}

// Refusal is an answer that is an error.
type Refusal struct {
	Status        int
	Code, Message string
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

var _ front.Site = (*Service)(nil)

// Known is for [front.Front.Handle].
func (s *Service) Known(host string) bool { return host == Host }

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	p, err := s.Identity.Verify(r, "https://management.azure.com", "https://management.core.windows.net")
	switch {
	case err != nil:
		w.Header().Set("WWW-Authenticate", `Bearer authorization_uri="https://login.microsoftonline.com/`+identity.Tenant+`", error="invalid_token"`)
		refuse(w, http.StatusUnauthorized, "AuthenticationFailed", err.Error())
		return
	case r.Method == http.MethodPost && s.Start != nil && strings.EqualFold(kind(r.URL.Path), "Microsoft.App/jobs/start"):
	case r.Method != http.MethodGet:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the twin's resource manager is read here, and changed by its provider")
		return
	}
	if r.URL.Query().Get("api-version") == "" {
		refuse(w, http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
		return
	}
	id, action := r.URL.Path, kind(r.URL.Path)+"/read"
	if r.Method == http.MethodPost {
		id, action = path.Dir(id), kind(id)+"/action" // Microsoft.App/jobs/start/action on the job
	}
	if err := s.Authorize(p.ObjectID, action, id); err != nil {
		refuse(w, http.StatusForbidden, "AuthorizationFailed", "The client '"+p.ClientID+"' with object id '"+p.ObjectID+"' does not have authorization to perform action '"+action+"' over scope '"+id+"': "+err.Error())
		return
	}
	if r.Method == http.MethodPost {
		s.start(w, r, id)
		return
	}
	if kind(id) == serviceTagsKind {
		w.Write(serviceTags)
		return
	}
	if execution, ok := s.result(id); ok {
		json.NewEncoder(w).Encode(map[string]string{"id": execution, "name": path.Base(execution)})
		return
	}
	var body json.RawMessage
	ok := false
	if s.Resource != nil {
		body, ok = s.Resource(id)
	}
	if !ok {
		refuse(w, http.StatusNotFound, "ResourceNotFound", "The Resource '"+id+"' was not found.")
		return
	}
	w.Write(body)
}

// start takes a request to start a job. Its execution is named where Location says, a while later; what that
// path looks like is the resource provider's own affair.
func (s *Service) start(w http.ResponseWriter, r *http.Request, job string) {
	if r.ContentLength != 0 {
		refuse(w, http.StatusBadRequest, "InvalidRequestContent", "the twin starts a job with the template that it has, and takes no other")
		return
	}
	execution, err := s.Start(job)
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		refuse(w, refused.Status, refused.Code, refused.Message)
		return
	case err != nil:
		panic(http.ErrAbortHandler)
	}
	at := strings.Join(strings.Split(job, "/")[:3], "/") + "/providers/Microsoft.App/locations/twin/jobOperationResults/" + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started == nil {
		s.started = map[string]string{}
	}
	s.started[at] = execution
	w.Header().Set("Location", "https://"+Host+at+"?"+r.URL.RawQuery)
	w.WriteHeader(http.StatusAccepted)
}

// result is the execution that a start has led to.
func (s *Service) result(at string) (execution string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	execution, ok = s.started[at]
	return execution, ok
}

// kind is the type of a resource, such as Microsoft.Network/virtualNetworks/subnets.
func kind(id string) string {
	part := strings.Split(id, "/")
	for i := len(part) - 2; i > 0; i-- {
		if part[i] != "providers" {
			continue
		}
		of := part[i+1]
		for j := i + 2; j < len(part); j += 2 {
			of += "/" + part[j]
		}
		return of
	}
	return "Microsoft.Resources/subscriptions/resourceGroups"
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": message}})
}
