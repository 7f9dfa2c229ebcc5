package arm

import (
	"net/netip"
	"slices"
)

// taken says whether somebody in the world has a global name of a type.
func taken(s *State, kind, name, except string) bool {
	if slices.ContainsFunc(s.Settings.TakenNames, func(t string) bool { return same(t, name) }) {
		return true
	}
	return slices.ContainsFunc(s.ofType(kind), func(r *Resource) bool { return same(last(r.ID), name) && !same(r.ID, except) })
}

func storageRules(o *operation) error {
	if taken(o.s, typeStorage, o.id.Name(), o.id.text) {
		return failure(409, "StorageAccountAlreadyTaken", "The storage account named %s is already taken.", o.id.Name())
	}
	if o.body.Text("sku", "name") == "" || o.body.Text("kind") == "" {
		return failure(400, "InvalidRequestPropertyValue", "Values for request parameters are invalid: sku, kind.")
	}
	acls := o.body.Object("properties", "networkAcls")
	if acls != nil && acls.Text("defaultAction") == "" {
		return failure(400, "InvalidRequestPropertyValue", "Values for request parameters are invalid: networkAcls.defaultAction.")
	}
	for _, r := range acls.List("ipRules") {
		if err := publicRange(r.Text("value"), 30); err != nil {
			return failure(400, "InvalidValuesForRequestParameters", "Values for request parameters are invalid: networkAcls.ipRule[*].value (%s: %v).", r.Text("value"), err)
		}
	}
	for _, r := range acls.List("virtualNetworkRules") {
		if err := o.serviceEndpoint(r.Text("id"), "Microsoft.Storage", "NetworkAclsValidationFailure", "Validation of network acls failure: SubnetsHaveNoServiceEndpointsConfigured:Subnets %[1]s of virtual network %[2]s do not have ServiceEndpoints for %[3]s resources configured. Add %[3]s to subnet's ServiceEndpoints collection before trying to ACL %[3]s resources to these subnets."); err != nil {
			return err
		}
	}
	if o.old != nil {
		for _, path := range [][]string{{"kind"}, {"properties", "isHnsEnabled"}} {
			if now := o.body.At(path...); now != nil && o.old.At(path...) != nil && now != o.old.At(path...) {
				return failure(409, "PropertyImmutable", "The property '%s' of storage account %s cannot be changed.", path[len(path)-1], o.id.Name())
			}
		}
	}
	return nil
}

// publicRange is what the firewalls of accounts and vaults take: public IPv4 addresses, or
// ranges up to a length (learn.microsoft.com/azure/storage/common/storage-network-security).
func publicRange(s string, longest int) error {
	a, err := netip.ParseAddr(s)
	if err != nil {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return err
		}
		if p.Bits() > longest {
			return failure(400, "", "ranges of /%d are given as single addresses", p.Bits())
		}
		if p != p.Masked() {
			return failure(400, "", "bits beyond the prefix")
		}
		a = p.Addr()
	}
	if !a.Is4() || a.IsPrivate() || !a.IsGlobalUnicast() {
		return failure(400, "", "not a public IPv4 address")
	}
	return nil
}

// serviceEndpoint says whether a subnet has one; without it the rule would admit nobody.
func (o *operation) serviceEndpoint(subnet, service, code, format string) error {
	r := o.s.get(subnet)
	if r == nil || !same(r.Type, typeSubnet) {
		return unknownReference(o.id, subnet)
	}
	for _, e := range r.Body.List("properties", "serviceEndpoints") {
		if s := e.Text("service"); same(s, service) || same(s, service+".Global") {
			return nil
		}
	}
	return failure(400, code, format, last(r.ID), up(r.ID), service)
}

func storageFill(o *operation, r *Resource) {
	p := Object{}
	if have := o.body.Object("properties"); have != nil {
		p = have
	}
	o.body["properties"] = map[string]any(p)
	name := last(r.ID)
	suffix := o.s.Settings.BlobSuffix
	endpoints := map[string]any{"blob": "https://" + name + "." + suffix + "/"}
	for _, service := range []string{"dfs", "file", "queue", "table", "web"} {
		endpoints[service] = "https://" + name + "." + service + ".core.windows.net/"
	}
	p["primaryEndpoints"] = endpoints
	p["primaryLocation"], p["statusOfPrimary"], p["creationTime"] = o.body.Text("location"), "available", "2026-01-01T00:00:00.0000000Z"
	p.Default(true, "supportsHttpsTrafficOnly")
	p.Default("TLS1_0", "minimumTlsVersion")
	p.Default(true, "allowBlobPublicAccess")
	p.Default(map[string]any{"bypass": "AzureServices", "defaultAction": "Allow", "ipRules": []any{}, "virtualNetworkRules": []any{}}, "networkAcls")
	for _, list := range []string{"ipRules", "virtualNetworkRules"} {
		p.Default([]any{}, "networkAcls", list)
		for _, rule := range p.List("networkAcls", list) {
			rule.Default("Allow", "action")
			if list == "virtualNetworkRules" {
				rule.Set("Succeeded", "state")
			}
		}
	}
	p.Default("AzureServices", "networkAcls", "bypass")
	p.Default("Hot", "accessTier")
	o.body.Set("Standard", "sku", "tier")
	identities(o, r)
}

func blobServiceRules(o *operation) error {
	if o.id.Name() != "default" {
		return failure(400, "InvalidBlobServicesName", "The blob service of %s is named default, not %s.", o.id.Parent(), o.id.Name())
	}
	for _, k := range []string{"deleteRetentionPolicy", "containerDeleteRetentionPolicy"} {
		p := o.body.Object("properties", k)
		if p.True("enabled") && (p.Number("days") < 1 || p.Number("days") > 365) {
			return failure(400, "InvalidXmlNodeValue", "%s.days is %v, not between 1 and 365.", k, p.Number("days"))
		}
	}
	return nil
}

// lifecycleRules: learn.microsoft.com/azure/storage/blobs/lifecycle-management-policy-structure.
func lifecycleRules(o *operation) error {
	if o.id.Name() != "default" {
		return failure(400, "InvalidResourceName", "The management policy of %s is named default, not %s.", o.id.Parent(), o.id.Name())
	}
	all := o.body.List("properties", "policy", "rules")
	if len(all) == 0 {
		return failure(400, "InvalidRequestPropertyValue", "The management policy of %s has no rule.", o.id.Parent())
	}
	for _, rule := range all {
		actions := rule.Object("definition", "actions")
		if rule.Text("name") == "" || len(actions) == 0 {
			return failure(400, "InvalidRequestPropertyValue", "A rule of the management policy of %s has no name or no action.", o.id.Parent())
		}
		for what := range actions {
			for how := range actions.Object(what) {
				if at := actions.Object(what, how); what != "baseBlob" && at != nil && at.Number("daysAfterCreationGreaterThan") < 1 {
					return failure(400, "InvalidRequestPropertyValue", "Rule %s: %s.%s wants daysAfterCreationGreaterThan.", rule.Text("name"), what, how)
				}
			}
		}
		if len(rule.Object("definition").Texts("filters", "blobTypes")) == 0 {
			return failure(400, "InvalidRequestPropertyValue", "Rule %s has no filters.blobTypes.", rule.Text("name"))
		}
	}
	return nil
}

func containerRules(o *operation) error {
	account := o.s.get(up(up(o.id.text)))
	public := o.body.Text("properties", "publicAccess")
	if public != "" && public != "None" && !account.Body.True("properties", "allowBlobPublicAccess") {
		return failure(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
	}
	return nil
}

func containerFill(o *operation, r *Resource) {
	o.body.Default("None", "properties", "publicAccess")
	o.body.Default("$account-encryption-key", "properties", "defaultEncryptionScope")
	o.body.Default(false, "properties", "denyEncryptionScopeOverride")
	o.body.Set(false, "properties", "hasImmutabilityPolicy")
	o.body.Set(false, "properties", "hasLegalHold")
	o.body.Set("Unlocked", "properties", "leaseStatus")
	o.body.Set("Available", "properties", "leaseState")
}
