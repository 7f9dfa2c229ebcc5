package arm

import (
	"slices"
	"strings"
)

func vaultRules(o *operation) error {
	p := o.body.Object("properties")
	deleted, gone := o.s.Deleted[o.id.Key()]
	recover := p.Text("createMode") == "recover"
	switch {
	case taken(o.s, typeVault, o.id.Name(), o.id.text):
		return vaultExists(o.id.Name())
	case gone && !recover && same(deleted.ID, o.id.text):
		return failure(409, "ConflictError", "A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.")
	case gone && !recover:
		return vaultExists(o.id.Name())
	}
	for _, r := range o.s.Deleted {
		if same(r.Type, typeVault) && same(last(r.ID), o.id.Name()) && !same(r.ID, o.id.text) {
			return vaultExists(o.id.Name())
		}
	}
	if gone && o.old == nil {
		o.s.move(o.s.Deleted, o.s.Resources, o.id.text)
		o.body.Remove("properties", "createMode")
		o.old = o.s.view(deleted)
	}
	if !same(p.Text("tenantId"), o.s.Settings.Tenant) {
		return failure(400, "BadRequest", "Invalid value found at properties.tenantId: %s is not the tenant of the subscription.", p.Text("tenantId"))
	}
	if p.Text("sku", "name") == "" || p.Text("sku", "family") != "A" {
		return failure(400, "BadRequest", "The parameter sku is not specified or invalid: family A and name standard or premium.")
	}
	if v, given := p.At("enableSoftDelete").(bool); given && !v {
		return failure(400, "BadRequest", "The property \"enableSoftDelete\" can be set to false only for creating new vault in older API versions. Enabling it is irreversible.")
	}
	if v, given := p.At("enablePurgeProtection").(bool); given && !v {
		return failure(400, "BadRequest", "The property \"enablePurgeProtection\" cannot be set to false. Enabling the purge protection for a vault is an irreversible action.")
	}
	if days := p.At("softDeleteRetentionInDays"); days != nil {
		if n := p.Number("softDeleteRetentionInDays"); n < 7 || n > 90 {
			return failure(400, "BadRequest", "The property \"softDeleteRetentionInDays\" must be between 7 and 90.")
		}
		if was := o.old.At("properties", "softDeleteRetentionInDays"); was != nil && was != days {
			return failure(400, "BadRequest", "The property \"softDeleteRetentionInDays\" has been set already and it can't be modified.")
		}
	}
	if o.old.True("properties", "enablePurgeProtection") {
		p.Set(true, "enablePurgeProtection")
	}
	if !p.True("enableRbacAuthorization") && p.At("accessPolicies") == nil {
		return failure(400, "BadRequest", "The parameter accessPolicies is not specified.")
	}
	return o.vaultNetwork(p.Object("networkAcls"))
}

func vaultExists(name string) error {
	return failure(409, "VaultAlreadyExists", "The vault name '%s' is already in use. Vault names are globally unique so it is possible that the name is already taken. If you are sure that the vault name was not taken then it is possible that a vault with the same name was recently deleted but not purged after being placed in a recoverable state. If the vault is in a recoverable state then the vault will need to be purged before reusing the name. For more information about VaultAlreadyExists, soft delete and purging a vault follow this link https://go.microsoft.com/fwlink/?linkid=2147740.", name)
}

func (o *operation) vaultNetwork(acls Object) error {
	for _, r := range acls.List("ipRules") {
		if err := publicRange(r.Text("value"), 32); err != nil {
			return failure(400, "BadRequest", "Invalid value found at properties.networkAcls.ipRules: %s. IP address must be a public IPv4 address or range.", r.Text("value"))
		}
	}
	for _, r := range acls.List("virtualNetworkRules") {
		if r.True("ignoreMissingVnetServiceEndpoint") {
			continue
		}
		if err := o.serviceEndpoint(r.Text("id"), "Microsoft.KeyVault", "VirtualNetworkNotValid", "The vault cannot be reached from subnet %[1]s of %[2]s: it does not have a service endpoint for %[3]s."); err != nil {
			return err
		}
	}
	return nil
}

func vaultFill(o *operation, r *Resource) {
	p := o.body.Object("properties")
	p.Set("https://"+last(r.ID)+"."+o.s.Settings.VaultSuffix+"/", "vaultUri")
	p.Set(true, "enableSoftDelete")
	p.Default(90.0, "softDeleteRetentionInDays")
	p.Default(false, "enableRbacAuthorization")
	p.Default([]any{}, "accessPolicies")
	p.Default("Enabled", "publicNetworkAccess")
	p.Default(false, "enabledForDeployment")
	if p.Object("networkAcls") != nil {
		p.Default([]any{}, "networkAcls", "ipRules")
		p.Default([]any{}, "networkAcls", "virtualNetworkRules")
		p.Default("AzureServices", "networkAcls", "bypass")
	}
	o.body.Remove("properties", "createMode")
}

// move brings a resource with its parts from what is there to what is deleted, or back.
func (s *State) move(from, to map[string]*Resource, id string) {
	for k, r := range from {
		if k == key(id) || strings.HasPrefix(k, key(id)+"/") {
			delete(from, k)
			to[k] = r
		}
	}
}

// Purge removes for good what was deleted.
func (c *Control) Purge(id string) error {
	return c.change(func(s *State) error {
		r, ok := s.Deleted[key(id)]
		if !ok {
			parsed, err := ParseID(id)
			if err != nil {
				return err
			}
			return notFound(parsed)
		}
		if r.Body.True("properties", "enablePurgeProtection") {
			return failure(403, "MethodNotAllowed", "Operation 'DeletedVaultPurge' is not allowed: the vault '%s' has purge protection.", last(r.ID))
		}
		if same(r.Type, typeAccount) {
			linger(s, r)
		}
		s.move(s.Deleted, map[string]*Resource{}, id)
		return nil
	})
}

// keyPrepare: a key that exists is not changed by a PUT but given back.
func keyPrepare(o *operation) error {
	if o.old != nil {
		o.body = o.old.Clone()
	}
	return nil
}

func keyRules(o *operation) error {
	p := o.body.Object("properties")
	kty, curve, size := p.Text("kty"), p.Text("curveName"), p.Number("keySize")
	hsm := kty == "EC-HSM" || kty == "RSA-HSM"
	vault := o.s.get(o.id.Parent())
	switch {
	case kty == "":
		return failure(400, "BadRequest", "Invalid value found at properties.kty.")
	case hsm && vault.Body.Text("properties", "sku", "name") != "premium":
		return failure(400, "BadRequest", "A key of the type %s needs a vault of the SKU premium.", kty)
	case (kty == "EC" || kty == "EC-HSM") && size != 0, (kty == "RSA" || kty == "RSA-HSM") && curve != "":
		return failure(400, "BadRequest", "A key of the type %s has no such parameter (curveName, keySize).", kty)
	case (kty == "RSA" || kty == "RSA-HSM") && !slices.Contains([]float64{0, 2048, 3072, 4096}, size):
		return failure(400, "BadRequest", "Invalid value found at properties.keySize: %v.", size)
	case p.True("attributes", "exportable") && p.Object("release_policy") == nil:
		return failure(400, "BadRequest", "An exportable key needs a release policy.")
	}
	for _, op := range p.Texts("keyOps") {
		if (kty == "EC" || kty == "EC-HSM") && !slices.Contains([]string{"sign", "verify", "release"}, op) {
			return failure(400, "BadRequest", "Invalid value found at properties.keyOps: %s is not for a key of the type %s.", op, kty)
		}
	}
	return nil
}

func keyFill(o *operation, r *Resource) {
	if o.old != nil {
		return
	}
	p := o.body.Object("properties")
	vault := o.s.get(up(r.ID))
	o.body.Set(vault.Body.Text("location"), "location")
	if kty := p.Text("kty"); kty == "RSA" || kty == "RSA-HSM" {
		p.Default(2048.0, "keySize")
		p.Default([]any{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}, "keyOps")
	} else {
		p.Default("P-256", "curveName")
		p.Default([]any{"sign", "verify"}, "keyOps")
	}
	p.Default(true, "attributes", "enabled")
	p.Default(false, "attributes", "exportable")
	p.Set("Recoverable", "attributes", "recoveryLevel")
	version := strings.ReplaceAll(uuid("key "+r.ID+text(r.Made)), "-", "")
	uri := vault.Body.Text("properties", "vaultUri") + "keys/" + last(r.ID)
	p.Set(uri, "keyUri")
	p.Set(uri+"/"+version, "keyUriWithVersion")
}

// DeleteKey deletes a key by the vault's own interface: the control plane has no way to. So it
// takes a data-plane role, and an address that the vault's firewall admits.
func (c *Control) DeleteKey(principal, id string) error {
	parsed, err := ParseID(id)
	if err != nil {
		return err
	}
	if err := c.Authorized(principal, "Microsoft.KeyVault/vaults/keys/delete", id); err != nil {
		return failure(403, "Forbidden", "Caller is not authorized to perform action on resource. Caller: oid=%s. Action: 'Microsoft.KeyVault/vaults/keys/delete'. Resource: '%s'. %v", principal, id, err)
	}
	return c.change(func(s *State) error {
		s.log("delete", parsed, nil)
		delete(s.Resources, parsed.Key())
		return nil
	})
}
