package arm

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
)

// State is all that the file holds.
type State struct {
	Settings  Settings             `json:"settings"`
	Resources map[string]*Resource `json:"resources"`
	// Deleted are what Azure keeps after a deletion: vaults and Foundry accounts.
	Deleted map[string]*Resource `json:"deleted,omitempty"`
	Faults  []*Fault             `json:"faults,omitempty"`
	// Operations are those under way and those that have ended, by where they are asked about.
	Operations map[string]*Operation `json:"operations,omitempty"`
	// Lingering are service association links that outlive their account, by subnet, each with
	// the number of questions about the subnet until Azure has let go of it.
	Lingering map[string]int `json:"lingering,omitempty"`
	// Made counts what was ever made, so that a resource of the same id is told from the one
	// before.
	Made int `json:"made"`
	// Log are the operations that were done, and those that a fault stopped, oldest first.
	Log []string `json:"log,omitempty"`
}

// Settings are what a subscription has before anything is made in it.
type Settings struct {
	Subscription string `json:"subscription"`
	Tenant       string `json:"tenant"`
	// Deployer is the principal that Pulumi runs as. It owns the subscription, which is no right
	// to any data.
	Deployer Principal `json:"deployer"`
	// Principals are the others in the directory. Managed identities come and go with their
	// resources and are not listed.
	Principals []Principal `json:"principals,omitempty"`
	// BlobSuffix and VaultSuffix follow an account's or vault's name in its host name.
	BlobSuffix  string `json:"blobSuffix"`
	VaultSuffix string `json:"vaultSuffix"`
	// RoleDelay is for how many questions a new role assignment is not heard of yet.
	RoleDelay int `json:"roleDelay,omitempty"`
	// DirectoryDelay is for how many role assignments a new managed identity is not in the
	// directory yet. One that says which type its principal has is not looked up.
	DirectoryDelay int `json:"directoryDelay,omitempty"`
	// LinkDelay is for how many questions a subnet still has the service association link of a
	// Foundry account that was purged.
	LinkDelay int `json:"linkDelay,omitempty"`
	// TakenNames are global names of other tenants' accounts and vaults.
	TakenNames []string `json:"takenNames,omitempty"`
	// Unregistered are resource providers that the subscription has not registered.
	Unregistered []string `json:"unregistered,omitempty"`
}

// Principal is somebody in the directory.
type Principal struct {
	ObjectID string `json:"objectId"`
	ClientID string `json:"clientId,omitempty"`
	Type     string `json:"type"` // User, Group or ServicePrincipal
}

// DefaultSettings name the tenant and the deployer as the twin's data planes do.
func DefaultSettings() Settings {
	return Settings{
		Subscription: "00000000-0000-4000-8000-000000000005",
		Tenant:       identity.Tenant,
		Deployer:     Principal{ObjectID: "de910bed-0000-4000-8000-000000000001", ClientID: "de910bed-0000-4000-8000-00000000000c", Type: "ServicePrincipal"},
		BlobSuffix:   "blob.core.windows.net",
		VaultSuffix:  "vault.azure.net",
	}
}

// Resource is one in the file. Parts that Azure shows within another resource, such as a
// network's subnets, are resources of their own here and are put in on reading.
type Resource struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Made int    `json:"made"`
	Body Object `json:"body"`
	// Unseen counts down what a delay of Settings still hides of it.
	Unseen int `json:"unseen,omitempty"`
	// Hidden is what Azure takes and does not show again: a machine's user data and custom data.
	Hidden map[string]string `json:"hidden,omitempty"`
}

func (s *State) get(id string) *Resource { return s.Resources[key(id)] }

// under are the resources whose id is below one, sorted by id.
func (s *State) under(id string) []*Resource {
	prefix := key(id) + "/"
	return s.where(func(r *Resource) bool { return strings.HasPrefix(key(r.ID), prefix) })
}

// ofType are the resources of a type, sorted by id.
func (s *State) ofType(kind string) []*Resource {
	return s.where(func(r *Resource) bool { return same(r.Type, kind) })
}

func (s *State) where(want func(*Resource) bool) []*Resource {
	var all []*Resource
	for _, r := range s.Resources {
		if want(r) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *Resource) int { return strings.Compare(key(a.ID), key(b.ID)) })
	return all
}

// users are the resources outside of one that name it or a part of it.
func (s *State) users(id string) []*Resource {
	own := key(id)
	return s.where(func(r *Resource) bool {
		if k := key(r.ID); k == own || strings.HasPrefix(k, own+"/") || same(r.Type, typeRoleAssignment) {
			return false
		}
		return slices.ContainsFunc(mentions(map[string]any(r.Body)), func(m string) bool {
			return key(m) == own || strings.HasPrefix(key(m), own+"/")
		})
	})
}

// mentions are the ARM ids in a body.
func mentions(v any) []string {
	var all []string
	add := func(s string) {
		if strings.HasPrefix(s, "/subscriptions/") {
			all = append(all, s)
		}
	}
	switch v := v.(type) {
	case Object:
		return mentions(map[string]any(v))
	case map[string]any:
		for _, k := range Object(v).keys() {
			add(k) // identities are keys
			all = append(all, mentions(v[k])...)
		}
	case []any:
		for _, x := range v {
			all = append(all, mentions(x)...)
		}
	case string:
		add(v)
	}
	return all
}

// uuid is one that a seed always gives.
func uuid(seed string) string {
	h := sha256.Sum256([]byte(seed))
	h[6], h[8] = h[6]&0x0f|0x40, h[8]&0x3f|0x80 // version 4, RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// Control is the control plane over one file.
type Control struct {
	path string
	// Run, if it is set, runs the execution of a started job to its end, which it tells by [Control.End].
	Run func(execution string, job Object)
}

// Open takes a file, or begins one with [DefaultSettings].
func Open(path string) (*Control, error) {
	c := &Control{path: path}
	return c, c.change(func(*State) error { return nil })
}

// Path is the file.
func (c *Control) Path() string { return c.path }

// Edit changes the state past every rule: what an administrator, another program or Azure
// itself did meanwhile. If f fails, nothing is changed.
func (c *Control) Edit(f func(*State) error) error { return c.change(f) }

// State reads all of it.
func (c *Control) State() (State, error) {
	var s State
	err := c.locked(syscall.LOCK_SH, func() (err error) { s, _, err = c.read(); return err })
	return s, err
}

func (c *Control) look(f func(*State) error) error {
	s, err := c.State()
	if err != nil {
		return err
	}
	return f(&s)
}

func (c *Control) change(f func(*State) error) error {
	return c.locked(syscall.LOCK_EX, func() error {
		s, before, err := c.read()
		if err != nil {
			return err
		}
		if err := f(&s); err != nil {
			return err
		}
		after, err := json.MarshalIndent(s, "", " ")
		if err != nil || bytes.Equal(before, after) {
			return err
		}
		return c.write(after)
	})
}

// locked holds the lock of a file beside the state: the state's own inode changes with every
// write.
func (c *Control) locked(how int, f func() error) error {
	lock, err := os.OpenFile(c.path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	for {
		if err = syscall.Flock(int(lock.Fd()), how); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return err
	}
	return f()
}

func (c *Control) read() (s State, data []byte, err error) {
	s.Settings = DefaultSettings()
	data, err = os.ReadFile(c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err == nil:
		if err = json.Unmarshal(data, &s); err != nil {
			err = fmt.Errorf("%s: %w", c.path, err)
		}
	}
	if s.Resources == nil {
		s.Resources = map[string]*Resource{}
	}
	if s.Deleted == nil {
		s.Deleted = map[string]*Resource{}
	}
	return s, data, err
}

// write replaces the file at once, so that nobody reads half of it.
func (c *Control) write(data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(c.path), filepath.Base(c.path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(data); err == nil {
		err = f.Close()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return os.Rename(f.Name(), c.path)
}
