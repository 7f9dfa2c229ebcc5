// Package vault is the twin of Key Vault's data plane, for the official azkeys and azsecrets
// clients: keys are read and sign, secrets are set, read, deleted and recovered, as the REST
// reference describes (https://learn.microsoft.com/rest/api/keyvault/). What the reference
// does not have, or a principal may not do, is refused as Azure refuses it.
//
// Vaults and keys are made by the resource manager, not here: [Options.Vaults] is asked about
// them on every request. A key pair is made when its version is first used, and is kept in
// memory; nothing yields its private half.
//
// The emulator that could be had instead (Lowkey Vault, in Java) does not know roles, network
// rules or resource-manager ids, and needs a Java virtual machine in every test.
//
// It does not prove what a real vault's limits are, nor how long its roles take.
package vault

import (
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
)

// Suffix is what a vault's host ends in.
const Suffix = ".vault.azure.net"

const resource = "https://vault.azure.net"

// Vault is what the resource manager knows of one.
type Vault struct {
	ID              string // in the resource manager: the scope of roles
	Made            string // differs when a vault of the same id is made anew, without the old one's secrets
	Location        string
	Firewall        front.Firewall
	PurgeProtection bool
	Keys            map[string]Key
}

// Key is what the resource manager knows of one.
type Key struct {
	Type       string   // EC, EC-HSM, RSA or RSA-HSM
	Curve      string   // P-256 or P-384
	Size       int      // of RSA, in bits
	Operations []string // such as sign
	Versions   []string // the newest is last
	Disabled   bool
}

// Options of the data plane.
type Options struct {
	Identity *identity.Service
	// Vaults finds a vault by its name.
	Vaults func(name string) (Vault, bool)
	// Authorize says why a principal (object id) may not do an action, such as
	// Microsoft.KeyVault/vaults/keys/sign/action, at a scope.
	Authorize func(principal, action, scope string) error
}

// Service is the data plane of every vault.
type Service struct {
	opt Options

	mu      sync.Mutex
	pairs   map[string]crypto.Signer      // by key id
	secrets map[string]map[string]*secret // by vault and name
}

var _ front.Site = (*Service)(nil)

// New makes a data plane, for [front.Front.Handle].
func New(opt Options) *Service {
	return &Service{opt: opt, pairs: map[string]crypto.Signer{}, secrets: map[string]map[string]*secret{}}
}

// Known says whether a vault of that host exists.
func (s *Service) Known(host string) bool {
	_, ok := s.opt.Vaults(strings.TrimSuffix(host, Suffix))
	return ok
}

// problem is an error as Key Vault writes it.
type problem struct {
	status               int
	code, message, inner string
}

func (p *problem) Error() string { return p.message }

func failure(status int, code, format string, args ...any) *problem {
	return &problem{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// call is one request to one vault.
type call struct {
	*Service
	vault     Vault
	url       string // https://NAME.vault.azure.net
	name      string
	principal identity.Principal
	r         *http.Request
}

const maxBody = 64 << 10

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	answer, err := s.serve(w, r)
	switch {
	case err == nil && answer == nil:
		w.WriteHeader(http.StatusNoContent)
		return
	case err == nil:
		json.NewEncoder(w).Encode(answer)
		return
	}
	var p *problem
	if !errors.As(err, &p) {
		p = failure(http.StatusInternalServerError, "InternalError", "%v", err)
	}
	body := map[string]any{"code": p.code, "message": p.message}
	if p.inner != "" {
		body["innererror"] = map[string]string{"code": p.inner}
	}
	w.WriteHeader(p.status)
	json.NewEncoder(w).Encode(map[string]any{"error": body})
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) (any, error) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	name := strings.TrimSuffix(host, Suffix)
	v, ok := s.opt.Vaults(name)
	if !ok {
		return nil, failure(http.StatusNotFound, "VaultNotFound", "no such vault: %s", name)
	}
	p, err := s.opt.Identity.Verify(r, resource)
	if err != nil {
		// The clients ask without a token first, to be told for what and by whom one is to be.
		challenge := fmt.Sprintf(`Bearer authorization="https://login.microsoftonline.com/%s", resource="%s"`, identity.Tenant, resource)
		if errors.Is(err, identity.ErrNoToken) {
			w.Header().Set("WWW-Authenticate", challenge)
			return nil, failure(http.StatusUnauthorized, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
		}
		w.Header().Set("WWW-Authenticate", challenge+`, error="invalid_token"`)
		return nil, failure(http.StatusUnauthorized, "Unauthorized", "AKV10022: Invalid token: %v", err)
	}
	if !v.Firewall.Permits(r) {
		e := failure(http.StatusForbidden, "Forbidden", "Client address is not authorized and caller is not a trusted service.\r\nClient address: %s\r\nVault: %s;location=%s", r.RemoteAddr, name, v.Location)
		e.inner = "ForbiddenByFirewall"
		return nil, e
	}
	if r.URL.Query().Get("api-version") == "" {
		return nil, failure(http.StatusBadRequest, "BadParameter", "AKV10042: api-version must be specified")
	}
	c := &call{Service: s, vault: v, url: "https://" + name + Suffix, name: name, principal: p, r: r}
	part := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	for len(part) < 4 {
		part = append(part, "")
	}
	method, kind, object, version, operation := r.Method, part[0], part[1], part[2], part[3]
	if len(part) == 4 && object != "" {
		switch {
		case kind == "keys" && method == http.MethodGet && operation == "":
			return c.getKey(object, version)
		case kind == "keys" && method == http.MethodPost && operation == "sign":
			return c.sign(object, version)
		case kind == "keys" && method == http.MethodPost && version == "sign" && operation == "":
			return c.sign(object, "") // the newest
		case kind == "secrets" && method == http.MethodPut && version == "":
			return c.setSecret(object)
		case kind == "secrets" && method == http.MethodGet && operation == "":
			return c.getSecret(object, version)
		case kind == "secrets" && method == http.MethodDelete && version == "":
			return c.deleteSecret(object)
		case kind == "deletedsecrets" && method == http.MethodGet && version == "":
			return c.getDeletedSecret(object)
		case kind == "deletedsecrets" && method == http.MethodPost && version == "recover":
			return c.recoverSecret(object)
		case kind == "deletedsecrets" && method == http.MethodDelete && version == "":
			w.Header().Del("Content-Type")
			return c.purgeSecret(object)
		}
	}
	return nil, failure(http.StatusMethodNotAllowed, "BadParameter", "the twin has no %s %s", method, r.URL.Path)
}

// authorize asks for a role that has the action on an object of the vault.
func (c *call) authorize(action, object string) error {
	action, scope := "Microsoft.KeyVault/vaults/"+action, c.vault.ID+"/"+object
	err := c.opt.Authorize(c.principal.ObjectID, action, scope)
	if err == nil {
		return nil
	}
	p := failure(http.StatusForbidden, "Forbidden", "Caller is not authorized to perform action on resource.\r\n"+
		"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n"+
		"Caller: appid=%s;oid=%s\r\nAction: '%s'\r\nResource: '%s'\r\nAssignment: (not found)\r\nDecisionReason: %v\r\nVault: %s;location=%s\r\n",
		c.principal.ClientID, c.principal.ObjectID, action, scope, err, c.name, c.vault.Location)
	p.inner = "ForbiddenByRbac"
	return p
}

func (c *call) body(into any) error {
	data, err := io.ReadAll(io.LimitReader(c.r.Body, maxBody+1))
	if err != nil {
		return err
	}
	if len(data) > maxBody || json.Unmarshal(data, into) != nil {
		return failure(http.StatusBadRequest, "BadParameter", "the request's body is not what it should be")
	}
	return nil
}

var b64 = base64.RawURLEncoding

// Version is a new one of a key or secret: 32 hexadecimal digits.
func Version() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x", b)
}
