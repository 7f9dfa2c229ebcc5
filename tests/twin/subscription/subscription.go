// Package subscription is the twin as one thing: a control plane in a file (tests/twin/arm), and
// the data planes of what is in it (tests/twin/planes). A vault or a storage account exists for the
// official clients as soon as the control plane has it, with its firewall, its keys and its roles,
// and no longer.
//
// It proves what the parts prove, and that they agree with each other; see there for what they do not.
package subscription

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
	"github.com/bulkhead-dev/bulkhead/tests/twin/blobs"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
	"github.com/bulkhead-dev/bulkhead/tests/twin/manager"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/vault"
)

// stateVariable leads tests/twin/azurenative to the control plane's file. Its package is not asked
// for the name, because it compiles the whole Azure SDK for Pulumi.
const stateVariable = "BULKHEAD_TWIN_ARM"

// Subscription is a running one.
type Subscription struct {
	*planes.Planes
	Control *arm.Control
}

// Start begins a subscription, or goes on with the one whose file is in dir. Close ends it.
func Start(dir string) (*Subscription, error) {
	control, err := arm.Open(filepath.Join(dir, "subscription.json"))
	if err != nil {
		return nil, err
	}
	s := &Subscription{Control: control}
	s.Planes, err = planes.Start(planes.Control{Vaults: s.vault, Accounts: s.account, Resources: s.resource, Start: s.start, Authorize: control.Authorized})
	return s, err
}

// RunJobs has run do what started jobs say, from now on, and tell how that ended: an execution's status and its
// times. Without it a started job has ended at once, and no container runs.
func (s *Subscription) RunJobs(run func(job json.RawMessage) (status string, began, ended time.Time)) {
	s.Control.Run = func(execution string, job arm.Object) {
		status, began, ended := "Failed", time.Now(), time.Now()
		if body, err := json.Marshal(job); err == nil {
			status, began, ended = run(body)
		}
		// Whoever started it waits in vain if this fails, and says so.
		_ = s.Control.End(execution, status, began, ended)
	}
}

// Registry makes a container registry in a resource group of its own, as a company has one before it has a spoke.
func (s *Subscription) Registry(name string) (id string, err error) {
	state, err := s.Control.State()
	if err != nil {
		return "", err
	}
	group := "/subscriptions/" + state.Settings.Subscription + "/resourceGroups/shared"
	if _, err := s.Control.Put(group, arm.Object{"location": "eastus2"}); err != nil {
		return "", err
	}
	id = group + "/providers/Microsoft.ContainerRegistry/registries/" + name
	_, err = s.Control.Put(id, arm.Object{"location": "eastus2", "sku": map[string]any{"name": "Premium"}})
	return id, err
}

// Environment makes a process the principal, and leads it and the stand-in provider that it starts
// to this subscription.
func (s *Subscription) Environment(who identity.Principal) []string {
	return append(s.Planes.Environment(who), stateVariable+"="+s.Control.Path())
}

// Resources are all bodies by id, with what Azure takes and shows nobody: for whoever boots them.
func (s *Subscription) Resources() (map[string]json.RawMessage, error) {
	state, err := s.Control.State()
	if err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	for _, r := range state.Resources {
		body := r.Body.Clone()
		if data := r.Hidden["userData"]; data != "" {
			body.Set(data, "properties", "userData")
		}
		if out[r.ID], err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Tokens is the metadata service of a machine, for its user-assigned identity.
func (s *Subscription) Tokens(machine string) (http.Handler, error) {
	body, err := s.Control.Get(machine)
	if err != nil {
		return nil, err
	}
	of := body.Object("identity", "userAssignedIdentities")
	if len(of) != 1 {
		return nil, fmt.Errorf("%s has %d identities: the twin's metadata service has tokens for one", machine, len(of))
	}
	for id := range of {
		if body, err = s.Control.Get(id); err != nil {
			return nil, err
		}
	}
	return s.Identity.IMDS(identity.Principal{Name: body.Text("name"), ObjectID: body.Text("properties", "principalId"),
		ClientID: body.Text("properties", "clientId")}), nil
}

// resource is for the reading side of the resource manager.
func (s *Subscription) resource(id string) (json.RawMessage, bool) {
	body, err := s.Control.Get(id)
	if err != nil {
		return nil, false
	}
	text, err := json.Marshal(body)
	return text, err == nil
}

// start is for the one thing that the resource manager does itself.
func (s *Subscription) start(job string) (string, error) {
	execution, err := s.Control.Start(job)
	var refused *arm.Error
	if errors.As(err, &refused) && refused.Status > 0 { // ErrLost has none
		return "", &manager.Refusal{Status: refused.Status, Code: refused.Code, Message: refused.Message}
	}
	return execution, err
}

// find is a resource of a type by its name, which is unique in all of Azure for those that are asked for.
func (s *Subscription) find(kind, name string) (*arm.State, *arm.Resource) {
	state, err := s.Control.State()
	if err != nil {
		return nil, nil
	}
	for _, r := range state.Resources {
		if strings.EqualFold(r.Type, kind) && strings.EqualFold(r.Body.Text("name"), name) {
			return &state, r
		}
	}
	return nil, nil
}

func (s *Subscription) account(name string) (blobs.Account, bool) {
	state, r := s.find("Microsoft.Storage/storageAccounts", name)
	if r == nil {
		return blobs.Account{}, false
	}
	a := blobs.Account{ID: r.ID, Made: fmt.Sprint(r.Made), Firewall: firewall(state, r)}
	for _, c := range state.Resources {
		if strings.EqualFold(c.Type, "Microsoft.Storage/storageAccounts/blobServices/containers") && below(c.ID, r.ID) {
			a.Containers = append(a.Containers, c.Body.Text("name"))
		}
	}
	return a, true
}

func (s *Subscription) vault(name string) (vault.Vault, bool) {
	state, r := s.find("Microsoft.KeyVault/vaults", name)
	if r == nil {
		return vault.Vault{}, false
	}
	v := vault.Vault{ID: r.ID, Made: fmt.Sprint(r.Made), Location: r.Body.Text("location"), Firewall: firewall(state, r),
		PurgeProtection: r.Body.True("properties", "enablePurgeProtection"), Keys: map[string]vault.Key{}}
	for _, k := range state.Resources {
		if !strings.EqualFold(k.Type, "Microsoft.KeyVault/vaults/keys") || !below(k.ID, r.ID) {
			continue
		}
		p := k.Body.Object("properties")
		uri := p.Text("keyUriWithVersion")
		v.Keys[k.Body.Text("name")] = vault.Key{Type: p.Text("kty"), Curve: p.Text("curveName"), Size: int(p.Number("keySize")),
			Operations: p.Texts("keyOps"), Versions: []string{uri[strings.LastIndex(uri, "/")+1:]}, Disabled: !p.True("attributes", "enabled")}
	}
	return v, true
}

func below(id, parent string) bool {
	return strings.HasPrefix(strings.ToLower(id), strings.ToLower(parent)+"/")
}

// firewall reads an account's or a vault's network ACLs. A subnet in them stands for its
// prefixes, from which its machines come by way of the service endpoint.
func firewall(state *arm.State, r *arm.Resource) front.Firewall {
	p := r.Body.Object("properties")
	acls := p.Object("networkAcls")
	f := front.Firewall{Deny: acls.Text("defaultAction") == "Deny"}
	if strings.EqualFold(p.Text("publicNetworkAccess"), "Disabled") {
		return front.Firewall{Deny: true}
	}
	for _, rule := range acls.List("ipRules") {
		if prefix, err := parse(rule.Text("value")); err == nil {
			f.Allow = append(f.Allow, prefix)
		}
	}
	for _, rule := range acls.List("virtualNetworkRules") {
		subnet := state.Resources[strings.ToLower(rule.Text("id"))]
		if subnet == nil {
			continue
		}
		for _, text := range append(subnet.Body.Texts("properties", "addressPrefixes"), subnet.Body.Text("properties", "addressPrefix")) {
			if prefix, err := parse(text); err == nil {
				f.Allow = append(f.Allow, prefix)
			}
		}
	}
	return f
}

func parse(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// Left are the ids of the resources that are still there, for a test that everything went.
func (s *Subscription) Left() ([]string, error) {
	state, err := s.Control.State()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, r := range state.Resources {
		ids = append(ids, r.ID)
	}
	return ids, nil
}
