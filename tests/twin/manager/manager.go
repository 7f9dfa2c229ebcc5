// Package manager is the reading side of Azure's resource manager in the twin: what the
// official clients get from https://management.azure.com about resources that the twin has.
// Nothing is made or changed over it: the twin's stand-in provider does that.
package manager

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
)

// Host is the resource manager's.
const Host = "management.azure.com"

// Service answers for every subscription.
type Service struct {
	Identity *identity.Service
	// Resource finds one by its id, as the resource manager writes it in JSON.
	Resource func(id string) (json.RawMessage, bool)
	// Authorize says why a principal (object id) may not do an action, such as
	// Microsoft.Network/virtualNetworks/subnets/read, at a scope.
	Authorize func(principal, action, scope string) error
}

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
	case r.Method != http.MethodGet:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the twin's resource manager is read here, and changed by its provider")
		return
	case r.URL.Query().Get("api-version") == "":
		refuse(w, http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
		return
	}
	id := r.URL.Path
	if err := s.Authorize(p.ObjectID, kind(id)+"/read", id); err != nil {
		refuse(w, http.StatusForbidden, "AuthorizationFailed", "The client '"+p.ClientID+"' with object id '"+p.ObjectID+"' does not have authorization to perform action '"+kind(id)+"/read' over scope '"+id+"': "+err.Error())
		return
	}
	body, ok := s.Resource(id)
	if !ok {
		refuse(w, http.StatusNotFound, "ResourceNotFound", "The Resource '"+id+"' was not found.")
		return
	}
	w.Write(body)
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
