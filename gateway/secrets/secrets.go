// Package secrets fetches what rules set headers to, so that an agent can use a credential that it
// never holds: from Azure Key Vault, as the machine's managed identity, or in a lab from a file.
//
// The identity needs the role Key Vault Secrets User on those secrets alone, never on the vault
// that holds the root of decryption.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

const (
	// fresh is how long a value is used before it is fetched again: a rotated secret is in use
	// that soon.
	fresh = 5 * time.Minute
	// stale is how long a value is used on while it cannot be fetched.
	stale = time.Hour
	// timeout bounds one fetch, the vault's Retry-After included.
	timeout = 10 * time.Second
	// maxSecrets bounds those kept, and maxSize one of them; rulesets name a handful.
	maxSecrets, maxSize = 1024, 16 << 10
)

// Store fetches secrets and keeps them in memory. Its methods may be called by any
// goroutine.
type Store struct {
	credential azcore.TokenCredential
	options    *azsecrets.ClientOptions
	now        func() time.Time

	mu      sync.Mutex
	clients map[string]*azsecrets.Client // by vault
	values  *lru.Cache[string, value]
	flights singleflight.Group
}

type value struct {
	text string
	at   time.Time
}

// New returns a Store that asks vaults with a credential.
func New(credential azcore.TokenCredential, options *azsecrets.ClientOptions, now func() time.Time) *Store {
	values, _ := lru.New[string, value](maxSecrets) // fails only for a size below 1
	return &Store{credential: credential, options: options, now: now, clients: map[string]*azsecrets.Client{}, values: values}
}

// Secret returns the value behind the identifier of a Key Vault secret, with or without a version,
// or behind a file URL. Its error says nothing of the value.
func (s *Store) Secret(ctx context.Context, id string) (string, error) {
	kept, ok := s.values.Get(id)
	age := s.now().Sub(kept.at)
	if ok && age >= 0 && age < fresh {
		return kept.text, nil
	}
	done := s.flights.DoChan(id, func() (any, error) {
		// Not the caller's context: others wait for the same value.
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		text, err := s.fetch(ctx, id)
		if err == nil {
			s.values.Add(id, value{text, s.now()})
		}
		return text, err
	})
	select {
	case r := <-done:
		if r.Err == nil {
			return r.Val.(string), nil
		}
		if ok && age >= 0 && age < stale {
			return kept.text, nil
		}
		return "", r.Err
	case <-ctx.Done():
		return "", fmt.Errorf("secrets: %w", ctx.Err())
	}
}

func (s *Store) fetch(ctx context.Context, id string) (string, error) {
	u, err := url.Parse(id)
	if err != nil {
		return "", errors.New("secrets: not an identifier of a secret")
	}
	var text string
	if u.Scheme == "file" {
		text, err = read(u.Path)
	} else {
		text, err = s.vault(ctx, u)
	}
	switch {
	case err != nil:
		return "", err
	case text == "", strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", errors.New("secrets: the secret is empty, or cannot stand in a header")
	case len(text) > maxSize:
		return "", fmt.Errorf("secrets: the secret is longer than %d bytes", maxSize)
	}
	return text, nil
}

// read reads a lab's secret, without the line feed that editors leave.
func read(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("secrets: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+2))
	if err != nil {
		return "", fmt.Errorf("secrets: %w", err)
	}
	return strings.TrimSuffix(string(data), "\n"), nil
}

func (s *Store) vault(ctx context.Context, u *url.URL) (string, error) {
	client, err := s.client("https://" + u.Host)
	if err != nil {
		return "", err
	}
	name, version, _ := strings.Cut(strings.TrimPrefix(u.Path, "/secrets/"), "/")
	got, err := client.GetSecret(ctx, name, version, nil)
	if err != nil {
		var resp *azcore.ResponseError
		if errors.As(err, &resp) { // its text holds the whole response
			err = fmt.Errorf("the vault answers %d %s", resp.StatusCode, resp.ErrorCode)
		}
		return "", fmt.Errorf("secrets: %s at %s: %w", name, u.Host, err)
	}
	if got.Value == nil {
		return "", fmt.Errorf("secrets: %s at %s has no value", name, u.Host)
	}
	return *got.Value, nil
}

func (s *Store) client(vault string) (*azsecrets.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[vault]
	if c == nil {
		var err error
		if c, err = azsecrets.NewClient(vault, s.credential, s.options); err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
		s.clients[vault] = c
	}
	return c, nil
}
