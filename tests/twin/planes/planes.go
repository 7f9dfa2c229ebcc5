// Package planes starts the twin's data planes together, as a test needs them: tokens, vaults,
// blobs and what can be read of the resource manager, behind one front.
//
// A test whose own process asks them calls [Planes.Setenv] before its first request, in
// TestMain: Go reads a process's proxy and roots once. Another process is given
// [Planes.Environment].
package planes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/bulkhead-dev/bulkhead/tests/twin/blobs"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
	"github.com/bulkhead-dev/bulkhead/tests/twin/manager"
	"github.com/bulkhead-dev/bulkhead/tests/twin/vault"
)

// Deployer is the principal that runs Pulumi in the twin.
var Deployer = identity.Principal{Name: "deployer", ObjectID: "de910bed-0000-4000-8000-000000000001", ClientID: "de910bed-0000-4000-8000-00000000000c"}

// DeployerAddress is the public address that it comes from (RFC 5737).
var DeployerAddress = netip.MustParseAddr("203.0.113.10")

// Control is the resource manager, as the data planes see it. What is nil knows nothing, starts
// nothing, and permits everything.
type Control struct {
	Vaults    func(name string) (vault.Vault, bool)
	Accounts  func(name string) (blobs.Account, bool)
	Resources func(id string) (json.RawMessage, bool)
	Start     func(job string) (execution string, err error)
	Authorize func(principal, action, scope string) error
}

// Planes are the running data planes.
type Planes struct {
	Front    *front.Front
	Identity *identity.Service
	dir      string
	blobs    *blobs.Service
}

// Start runs them until Close. Azurite runs if there are accounts.
func Start(c Control) (_ *Planes, err error) {
	p := &Planes{}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.dir, err = os.MkdirTemp("", "bulkhead-twin-"); err != nil {
		return nil, err
	}
	if p.Front, err = front.Start(p.dir, front.Options{Client: DeployerAddress}); err != nil {
		return nil, err
	}
	if p.Identity, err = identity.Start(); err != nil {
		return nil, err
	}
	if c.Authorize == nil {
		c.Authorize = func(string, string, string) error { return nil }
	}
	if c.Vaults != nil {
		p.Front.Handle(vault.Suffix, vault.New(vault.Options{Identity: p.Identity, Vaults: c.Vaults, Authorize: c.Authorize}))
	}
	p.Front.Handle(manager.Host, &manager.Service{Identity: p.Identity, Resource: c.Resources, Start: c.Start, Authorize: c.Authorize})
	if c.Accounts != nil {
		if p.blobs, err = blobs.Start(p.Front, p.dir, blobs.Options{Identity: p.Identity, Accounts: c.Accounts, Authorize: c.Authorize}); err != nil {
			return nil, err
		}
		p.Front.Handle(blobs.Suffix, p.blobs)
	}
	return p, nil
}

// Close ends them; what they kept is gone.
func (p *Planes) Close() error {
	var errs []error
	if p.Front != nil {
		errs = append(errs, p.Front.Close())
	}
	if p.blobs != nil {
		errs = append(errs, p.blobs.Close())
	}
	if p.Identity != nil {
		errs = append(errs, p.Identity.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}

// Environment makes a process the principal, and leads it to the planes.
func (p *Planes) Environment(who identity.Principal) []string {
	return append(p.Front.Environment(), p.Identity.Environment(who)...)
}

// Setenv does so with this process.
func (p *Planes) Setenv(who identity.Principal) error {
	for _, kv := range p.Environment(who) {
		name, value, _ := strings.Cut(kv, "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("planes: %w", err)
		}
	}
	return nil
}

// Roles are what an Authorize can be for tests that run no resource manager: everything is
// permitted that was not revoked. The zero value is ready.
type Roles struct {
	mu      sync.Mutex
	refused map[string]int
}

// Refuse has an action, such as Microsoft.KeyVault/vaults/keys/read, refused so many times, as
// while a role assignment makes its way; -1: until it is said anew, with 0 to permit it.
func (r *Roles) Refuse(action string, times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused == nil {
		r.refused = map[string]int{}
	}
	r.refused[action] = times
}

// Authorize is for [Control].
func (r *Roles) Authorize(_, action, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch n := r.refused[action]; {
	case n == 0:
		return nil
	case n > 0:
		r.refused[action] = n - 1
	}
	return errors.New("no role assignment yet")
}
