// Package cloud is the whole of the twin's Azure for tests of programs: the control plane's
// state in a file, the data planes over the same state, and a stand-in for what runs on a
// gateway's machine.
//
// [Cloud.Environment] leads a process to it as the deployer. Vaults, accounts, their firewalls,
// keys and roles are those that the program made by azure-native: a role that was not assigned
// is a 403 of the data plane, as in Azure.
package cloud

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
	"github.com/bulkhead-dev/bulkhead/tests/twin/azurenative"
	"github.com/bulkhead-dev/bulkhead/tests/twin/blobs"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/vault"
)

// Cloud is one subscription with its data planes.
type Cloud struct {
	Control *arm.Control
	Planes  *planes.Planes
	t       testing.TB
	dir     string
}

// owner is the deployer's role: everything of the control plane, nothing of the data planes.
const owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"

// New begins with an empty subscription, which the deployer owns.
func New(t testing.TB) *Cloud {
	t.Helper()
	c := &Cloud{t: t, dir: t.TempDir()}
	var err error
	if c.Control, err = arm.Open(filepath.Join(c.dir, "arm.json")); err != nil {
		t.Fatal(err)
	}
	c.Planes, err = planes.Start(planes.Control{Vaults: c.vault, Accounts: c.account, Resources: c.resource, Authorize: c.authorize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Planes.Close() })
	return c
}

// Environment is for a process that deploys.
func (c *Cloud) Environment() []string {
	return append(c.Planes.Environment(planes.Deployer), azurenative.StateVariable+"="+c.Control.Path())
}

// State is what is there now.
func (c *Cloud) State() arm.State {
	c.t.Helper()
	s, err := c.Control.State()
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// All are the resources of a type.
func (c *Cloud) All(kind string) []*arm.Resource {
	c.t.Helper()
	var all []*arm.Resource
	for _, r := range c.State().Resources {
		if strings.EqualFold(r.Type, kind) {
			all = append(all, r)
		}
	}
	return all
}

// find is the resource of a type with a name that is global.
func (c *Cloud) find(kind, name string) (*arm.Resource, arm.State, bool) {
	s, err := c.Control.State()
	if err != nil {
		return nil, s, false
	}
	for _, r := range s.Resources {
		if strings.EqualFold(r.Type, kind) && strings.EqualFold(last(r.ID), name) {
			return r, s, true
		}
	}
	return nil, s, false
}

func (c *Cloud) vault(name string) (vault.Vault, bool) {
	r, s, ok := c.find("Microsoft.KeyVault/vaults", name)
	if !ok {
		return vault.Vault{}, false
	}
	p := r.Body.Object("properties")
	v := vault.Vault{ID: r.ID, Made: fmt.Sprint(r.Made), Location: r.Body.Text("location"),
		PurgeProtection: p.True("enablePurgeProtection"), Firewall: firewall(s, p.Object("networkAcls")), Keys: map[string]vault.Key{}}
	for _, k := range s.Resources {
		if strings.EqualFold(k.Type, "Microsoft.KeyVault/vaults/keys") && strings.EqualFold(parent(k.ID), r.ID) {
			p := k.Body.Object("properties")
			v.Keys[last(k.ID)] = vault.Key{Type: p.Text("kty"), Curve: p.Text("curveName"), Size: int(p.Number("keySize")), Operations: p.Texts("keyOps"),
				Versions: []string{last(p.Text("keyUriWithVersion"))}, Disabled: !p.True("attributes", "enabled")}
		}
	}
	return v, true
}

func (c *Cloud) account(name string) (blobs.Account, bool) {
	r, s, ok := c.find("Microsoft.Storage/storageAccounts", name)
	if !ok {
		return blobs.Account{}, false
	}
	a := blobs.Account{ID: r.ID, Made: fmt.Sprint(r.Made), Firewall: firewall(s, r.Body.Object("properties", "networkAcls"))}
	for _, k := range s.Resources {
		if strings.EqualFold(k.Type, "Microsoft.Storage/storageAccounts/blobServices/containers") && strings.EqualFold(parent(parent(k.ID)), r.ID) {
			a.Containers = append(a.Containers, last(k.ID))
		}
	}
	return a, true
}

// firewall lets in public ranges, and the prefixes of subnets: a service endpoint gives a
// subnet's own addresses to the service.
func firewall(s arm.State, acls arm.Object) front.Firewall {
	w := front.Firewall{Deny: acls.Text("defaultAction") == "Deny"}
	for _, rule := range acls.List("ipRules") {
		if p, err := netip.ParsePrefix(rule.Text("value")); err == nil {
			w.Allow = append(w.Allow, p)
		} else if a, err := netip.ParseAddr(rule.Text("value")); err == nil {
			w.Allow = append(w.Allow, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, rule := range acls.List("virtualNetworkRules") {
		if subnet := s.Resources[strings.ToLower(rule.Text("id"))]; subnet != nil {
			if p, err := netip.ParsePrefix(subnet.Body.Text("properties", "addressPrefix")); err == nil {
				w.Allow = append(w.Allow, p)
			}
		}
	}
	return w
}

func (c *Cloud) resource(id string) (json.RawMessage, bool) {
	body, err := c.Control.Get(id)
	if err != nil {
		return nil, false
	}
	data, err := json.Marshal(body)
	return data, err == nil
}

// authorize lets the deployer read what it owns, and asks the assignments for all else.
func (c *Cloud) authorize(principal, action, scope string) error {
	err := c.Control.Authorized(principal, action, scope)
	if err != nil && principal == planes.Deployer.ObjectID && strings.HasSuffix(action, "/read") && !strings.Contains(action, "/blobs/") && !strings.Contains(action, "/keys/") && !strings.Contains(action, "/secrets/") {
		return nil
	}
	return err
}

func last(id string) string   { return id[strings.LastIndexByte(id, '/')+1:] }
func parent(id string) string { return up(up(id)) }
func up(id string) string     { return id[:strings.LastIndexByte(id, '/')] }
