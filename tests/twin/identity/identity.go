// Package identity gives the twin's processes who they are: the endpoints from which Azure's
// managed identities take their tokens, spoken to by the official azidentity.
//
// [Service.Start] serves App Service's protocol (IDENTITY_ENDPOINT and IDENTITY_HEADER), which
// DefaultAzureCredential takes from the environment; [Service.IMDS] serves that of virtual
// machines (169.254.169.254), for a laboratory's gateway. A principal can have tokens for
// itself alone. The data planes ask [Service.Verify], which checks the signature: a token
// that was made up is refused, as by Azure.
//
// It proves that a program asks for the right audience as the right principal. It does not
// prove that Entra would grant a token, nor anything about conditional access.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Tenant is the directory of every principal.
const Tenant = "72f5a2a0-0000-4000-8000-00000000b01d"

const (
	issuer   = "https://sts.windows.net/" + Tenant + "/"
	lifetime = time.Hour
)

// Principal is who asks.
type Principal struct {
	Name     string // for people
	ObjectID string // what roles are assigned to
	ClientID string // what a user-assigned identity is asked for by
}

// Service issues and checks tokens.
type Service struct {
	key      *ecdsa.PrivateKey
	server   *http.Server
	endpoint string

	mu      sync.Mutex
	secrets map[string]Principal // by the header that proves who asks
}

// New makes a service that nobody can ask over a network yet.
func New() (*Service, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Service{key: key, secrets: map[string]Principal{}}, nil
}

// Start makes one that serves App Service's protocol on loopback.
func Start() (*Service, error) {
	s, err := New()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.endpoint = "http://" + l.Addr().String() + "/msi/token"
	s.server = &http.Server{Handler: http.HandlerFunc(s.appService), ReadHeaderTimeout: 10 * time.Second}
	go s.server.Serve(l)
	return s, nil
}

// Close stops serving.
func (s *Service) Close() error {
	if s.server == nil {
		return nil
	}
	return s.server.Close()
}

// Environment makes a process the principal.
func (s *Service) Environment(p Principal) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret := ""
	for have, who := range s.secrets {
		if who == p {
			secret = have
		}
	}
	if secret == "" {
		secret = rand.Text()
		s.secrets[secret] = p
	}
	return []string{"IDENTITY_ENDPOINT=" + s.endpoint, "IDENTITY_HEADER=" + secret}
}

// claims are those of an access token that resources look at
// (https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference).
type claims struct {
	jwt.RegisteredClaims
	Audience string `json:"aud"` // one, and no list
	ObjectID string `json:"oid"`
	AppID    string `json:"appid"`
	TenantID string `json:"tid"`
	Version  string `json:"ver"`
}

// Token is one for a principal and a resource, such as https://vault.azure.net.
func (s *Service) Token(p Principal, resource string) (string, error) {
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodES256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Subject: p.ObjectID,
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-time.Minute)), ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
		},
		Audience: resource, ObjectID: p.ObjectID, AppID: p.ClientID, TenantID: Tenant, Version: "1.0",
	})
	return t.SignedString(s.key)
}

// ErrNoToken is for a request without a bearer token.
var ErrNoToken = errors.New("no bearer token")

// Verify says who sent a request whose token must be for one of the audiences. A slash at the
// end of one means nothing.
func (s *Service) Verify(r *http.Request, audiences ...string) (Principal, error) {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return Principal{}, ErrNoToken
	}
	var c claims
	_, err := jwt.ParseWithClaims(bearer, &c, func(*jwt.Token) (any, error) { return s.key.Public(), nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer), jwt.WithExpirationRequired())
	if err != nil {
		return Principal{}, err
	}
	if !slices.Contains(audiences, strings.TrimSuffix(c.Audience, "/")) {
		return Principal{}, fmt.Errorf("a token for %q, not for %q", c.Audience, audiences)
	}
	return Principal{ObjectID: c.ObjectID, ClientID: c.AppID}, nil
}

// appService is the endpoint of App Service, in its version of 2019-08-01
// (https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference).
func (s *Service) appService(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	p, ok := s.secrets[r.Header.Get("X-Identity-Header")]
	s.mu.Unlock()
	switch {
	case r.Method != http.MethodGet || r.URL.Path != "/msi/token" || r.URL.Query().Get("api-version") != "2019-08-01":
		refuse(w, http.StatusBadRequest, "not a request for a token, api-version 2019-08-01")
	case !ok:
		refuse(w, http.StatusUnauthorized, "the identity header is nobody's")
	default:
		s.issue(w, r, p)
	}
}

// IMDS is the endpoint that the principal's virtual machine has at 169.254.169.254
// (https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token).
func (s *Service) IMDS(p Principal) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/metadata/identity/oauth2/token" || r.Header.Get("Metadata") != "true" || r.URL.Query().Get("api-version") == "" {
			refuse(w, http.StatusBadRequest, "not a request for a token with the header Metadata: true")
			return
		}
		s.issue(w, r, p)
	})
}

func (s *Service) issue(w http.ResponseWriter, r *http.Request, p Principal) {
	q := r.URL.Query()
	resource := q.Get("resource")
	if id := q.Get("client_id"); id != "" && id != p.ClientID {
		refuse(w, http.StatusBadRequest, "Identity not found")
		return
	}
	if !strings.HasPrefix(resource, "https://") {
		refuse(w, http.StatusBadRequest, "no such resource: "+resource)
		return
	}
	token, err := s.Token(p, resource)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{
		"access_token": token, "token_type": "Bearer", "resource": resource, "client_id": p.ClientID,
		"expires_on": strconv.FormatInt(time.Now().Add(lifetime).Unix(), 10), "expires_in": strconv.Itoa(int(lifetime.Seconds())),
	})
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"statusCode": status, "message": message, "error": "invalid_request", "error_description": message})
}
