package preflight

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Azure's built-in roles that matter here, by the GUID of their definition.
//
// Source: Azure RBAC documentation, built-in-roles.
const (
	roleCryptoUser       = "12338af0-0e69-4776-bea7-57ae8d297424"
	roleBlobReader       = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
	roleBlobContributor  = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
	intermediateLifetime = 25 * time.Hour // of a day, and an hour for clocks
)

// vaultRoles are roles that open more of a vault than one key's use.
var vaultRoles = map[string]string{
	"4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
	"b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
	"00482a5a-887f-4fb3-b363-3b7fe8e74483": "Key Vault Administrator",
	"14b46e9e-c2b7-41b4-b07b-48a6ebf60603": "Key Vault Crypto Officer",
	"a4417e6f-fecd-4de8-b567-7b0420556985": "Key Vault Certificates Officer",
	"db79e9a7-68ee-4b58-9aeb-b90e7c24fcba": "Key Vault Certificate User",
	"8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
	"b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
	"18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
	"f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator",
}

const (
	srcKeys      = "Azure Key Vault documentation, keys/about-keys-details and general/rbac-guide"
	srcSoftErase = "Azure Key Vault documentation, general/soft-delete-overview"
	srcRegistry  = "Azure Container Registry documentation, container-registry-dedicated-data-endpoints"
	srcStorage   = "Azure Storage documentation, common/shared-key-authorization-prevent"
)

var trustGuards = []Guard{{
	ID: "CA-01", Severity: Fail, When: Continuous, Needs: []Part{PartVaults, PartRoleAssignments, PartVMs, PartNICs, PartVNets, PartRouteTables, PartLoadBalancers},
	Condition: "the root's key cannot be exported, only signs, and is EC or RSA of 2048 bits or more; the gateway's identity has Crypto User on that key and nothing else of the vault",
	Why:       "Who has the key can pose as any host to every agent, and Secrets User reads the private keys of exportable certificates.",
	Source:    srcKeys,
	Fix:       "make the key with InspectionCA, and give the gateway's identity Key Vault Crypto User with the key as its scope",
	check:     rootKey,
}, {
	ID: "CA-02", Severity: Warn, When: Before, Needs: []Part{PartVaults, PartDeletedVaults, PartRoleAssignments, PartVMs, PartNICs, PartVNets, PartRouteTables, PartLoadBalancers},
	Condition: "the vault has soft delete and purge protection, and its name is not held by a deleted vault",
	Why:       "A purged key ends every decrypted flow at once, and a deleted vault keeps its name until it is purged.",
	Source:    srcSoftErase,
	Fix:       "turn purge protection on (it cannot be turned off), or choose another name",
	check:     vaultKept,
}, {
	ID: "CA-03", Severity: Warn, When: Continuous, Needs: []Part{PartRuleset, PartGatewayReports},
	Condition: "the intermediate that a gateway signs with is from the root, an authority of path length 0, of today, and held to the names that the ruleset decrypts",
	Why:       "A stolen gateway then poses only as those names, and only until tomorrow.",
	Source:    "RFC 5280, sections 4.2.1.9 and 4.2.1.10",
	Fix:       "restart the gateway; it makes a new intermediate from the ruleset in force",
	check:     intermediate,
}, {
	ID: "CA-04", Severity: Warn, When: Before, Needs: []Part{PartRuleset, PartCanaries},
	Condition: "where something is decrypted, a canary has proven that an agent's image trusts the root",
	Why:       "Software that brings its own roots refuses the gateway's certificate, and the agent fails only when it calls.",
	Source:    "docs/trust.md",
	Fix:       "build the root into the image (bulkhead ca bundle) and run the canary, or set the decrypting rule to monitor",
	check:     canary,
}, {
	ID: "CA-05", Severity: Fail, When: Before, Needs: []Part{PartDeployer, PartVNets, PartAccounts},
	Condition: "the deployer may sign with keys, store secrets, and read and write blobs, or the program grants it that",
	Why:       "Key Vault and Storage judge their data by roles of their own, which even an Owner does not have.",
	Source:    srcKeys,
	Fix:       "set deployerObjectId, or assign Key Vault Crypto User, Key Vault Secrets Officer and Storage Blob Data Contributor to the deployer",
	check:     deployerData,
}, {
	ID: "STO-01", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartStorage, PartRoleAssignments, PartVMs, PartNICs, PartRouteTables, PartLoadBalancers},
	Condition: "the storage account that the gateway reads its ruleset from takes no shared key and nobody unknown, and agents' subnet has no way in",
	Why:       "Who writes the ruleset's blob decides what agents may reach, and a shared key is a right without a name.",
	Source:    srcStorage,
	Fix:       "set allowSharedKeyAccess and allowBlobPublicAccess to false and the default action to Deny, with a rule for the gateway's subnet alone",
	check:     policyStore,
}, {
	ID: "ACR-01", Severity: Warn, When: Before, Needs: []Part{PartRegistries, PartPrivateEndpoints},
	Condition: "each registry that agents' images come from has dedicated data endpoints, or a private endpoint",
	Why:       "Otherwise its layers come from *.blob.core.windows.net, and a permit of that reaches every tenant's storage.",
	Source:    srcRegistry,
	Fix:       "use a Premium registry with dataEndpointEnabled, and permit its login server and REGISTRY.REGION.data.azurecr.io",
	check: func(v *view) {
		for _, r := range v.inv.Registries {
			reached := slices.ContainsFunc(v.inv.PrivateEndpoints, func(e PrivateEndpoint) bool { return same(e.Target, r.ID) && e.State == "Approved" })
			if !reached && !(r.SKU == "Premium" && r.DedicatedDataEndpoints) {
				v.found(r.ID, fmt.Sprintf("%s, whose layers come from *.blob.core.windows.net", r.SKU), "dedicated data endpoints, or a private endpoint")
			}
		}
	},
}}

// within reports whether an ARM id is a scope or lies in it.
func within(scope, id string) bool {
	scope, id = strings.ToLower(strings.TrimSuffix(scope, "/")), strings.ToLower(id)
	return scope == "" || id == scope || strings.HasPrefix(id, scope+"/")
}

// used are the vaults, or the storage accounts, that the gateway's identity has a role in,
// and the one that is planned.
func (v *view) used(id, planned string) bool {
	if planned != "" {
		return strings.EqualFold(path.Base(id), planned)
	}
	return slices.ContainsFunc(v.gatewayRoles(), func(a RoleAssignment) bool { return within(id, a.Scope) })
}

// identified says whether the gateway's identity is known, and otherwise why not.
func (v *view) identified() bool {
	switch {
	case len(v.gatewayPrincipals()) > 0:
		return true
	case v.agent == nil:
		v.notApplicable("the gateway does not exist yet")
	default:
		v.missing(fmt.Sprintf("the gateway's identity: no machine with %s is known", v.gatewayAddress()))
	}
	return false
}

func rootKey(v *view) {
	if !v.identified() {
		return
	}
	seen := false
	for _, vault := range v.inv.Vaults {
		if !v.used(vault.ID, v.plan.VaultName) {
			continue
		}
		seen = true
		var mine []Key
		for _, a := range v.gatewayRoles() {
			role := path.Base(a.Role)
			i := slices.IndexFunc(vault.Keys, func(k Key) bool { return same(k.ID, a.Scope) })
			switch {
			case i >= 0 && role == roleCryptoUser:
				mine = append(mine, vault.Keys[i])
			case role == roleCryptoUser && within(a.Scope, vault.ID):
				v.found(a.ID, "Key Vault Crypto User on "+a.Scope, "the one key as its scope")
			case vaultRoles[role] != "" && (within(a.Scope, vault.ID) || within(vault.ID, a.Scope)):
				v.found(a.ID, vaultRoles[role]+" on "+a.Scope, "Key Vault Crypto User on the one key")
			}
		}
		if len(mine) == 0 {
			v.found(vault.ID, "no key that the gateway may sign with", "Key Vault Crypto User on the root's key for the gateway's identity")
		}
		for _, k := range mine {
			v.keyFit(k)
		}
	}
	if !seen {
		v.notApplicable("the gateway's identity has no role in any vault: nothing is decrypted")
	}
}

func (v *view) keyFit(k Key) {
	if k.Exportable {
		v.found(k.ID, "an exportable key", "one that cannot leave the vault")
	}
	if !slices.Equal(k.Operations, []string{"sign"}) {
		v.found(k.ID, "operations "+strings.Join(k.Operations, ", "), "sign alone")
	}
	if strings.HasPrefix(k.Type, "RSA") && k.Size < 2048 || !strings.HasPrefix(k.Type, "RSA") && !strings.HasPrefix(k.Type, "EC") {
		v.found(k.ID, fmt.Sprintf("%s of %d bits", k.Type, k.Size), "EC, or RSA of 2048 bits or more")
	}
}

func vaultKept(v *view) {
	seen := false
	for _, vault := range v.inv.Vaults {
		if !v.used(vault.ID, v.plan.VaultName) {
			continue
		}
		seen = true
		if !vault.SoftDelete {
			v.found(vault.ID, "no soft delete", "enableSoftDelete: true")
		}
		if !vault.PurgeProtection {
			v.found(vault.ID, "no purge protection", "enablePurgeProtection: true")
		}
	}
	if seen || v.plan.VaultName == "" {
		return
	}
	for _, d := range v.inv.DeletedVaults {
		if strings.EqualFold(d.Name, v.plan.VaultName) {
			v.found("planned vault "+v.plan.VaultName, "a deleted vault of that name in "+d.Location, "a free name")
		}
	}
}

// decrypts lists the names that the planned ruleset decrypts.
func (v *view) decrypts() []string {
	if !v.ruled() {
		return nil
	}
	names := v.rules.compiled.DecryptNames()
	if len(names) == 0 {
		v.notApplicable("the ruleset decrypts nothing")
	}
	return names
}

func intermediate(v *view) {
	names := v.decrypts()
	if len(names) == 0 {
		return
	}
	if len(v.inv.GatewayReports) == 0 {
		v.notApplicable("no gateway has reported yet")
	}
	for _, r := range v.inv.GatewayReports {
		if r.Intermediate == "" {
			v.missing(r.Gateway + ": the report has no intermediate")
			continue
		}
		c, err := certificate(r.Intermediate)
		if err != nil {
			v.found(r.Gateway, "an intermediate that cannot be read: "+err.Error(), "a certificate in PEM")
			continue
		}
		if !c.IsCA || !c.MaxPathLenZero {
			v.found(r.Gateway, fmt.Sprintf("an intermediate with CA %t, path length %d", c.IsCA, c.MaxPathLen), "an authority of path length 0")
		}
		if life := c.NotAfter.Sub(c.NotBefore); life > intermediateLifetime {
			v.found(r.Gateway, "an intermediate for "+life.String(), "at most "+intermediateLifetime.String())
		}
		if !r.Time.Before(c.NotAfter) {
			v.found(r.Gateway, fmt.Sprintf("reported at %s, an intermediate that ended at %s", r.Time.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339)), "one that is replaced at half of its life")
		}
		if root, err := certificate(r.Root); err != nil {
			v.found(r.Gateway, "a root that cannot be read: "+err.Error(), "the root's certificate in PEM")
		} else if err := c.CheckSignatureFrom(root); err != nil {
			v.found(r.Gateway, fmt.Sprintf("an intermediate that the root (SHA-256 %x) did not sign: %v", sha256.Sum256(root.Raw), err), "one that is from the root that agents trust")
		}
		v.bounds(r.Gateway, c, names)
	}
}

func certificate(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// bounds compares an intermediate's name constraints with what is decrypted: each name lies
// in a permitted domain, and each permitted domain has such a name.
func (v *view) bounds(gateway string, c *x509.Certificate, names []string) {
	if slices.Contains(names, "*") {
		return
	}
	lies := func(name, domain string) bool {
		if i := strings.LastIndexByte(name, '*'); i >= 0 {
			_, name, _ = strings.Cut(name[i:], ".")
		}
		return name == domain || strings.HasSuffix(name, "."+domain)
	}
	for _, n := range names {
		if !slices.ContainsFunc(c.PermittedDNSDomains, func(d string) bool { return lies(n, d) }) {
			v.found(gateway, "an intermediate that may not sign for "+n+", which the ruleset decrypts", "a constraint that permits it")
		}
	}
	for _, d := range c.PermittedDNSDomains {
		if !slices.ContainsFunc(names, func(n string) bool { return lies(n, d) }) {
			v.found(gateway, "an intermediate that may sign for "+d+", which the ruleset does not decrypt", "constraints to the decrypted names")
		}
	}
	if len(c.PermittedDNSDomains) == 0 || !c.PermittedDNSDomainsCritical {
		v.found(gateway, "an intermediate without critical name constraints", "constraints to the decrypted names")
	}
}

func canary(v *view) {
	names := v.decrypts()
	if len(names) == 0 {
		return
	}
	i := slices.IndexFunc(v.inv.Canaries, func(c Canary) bool { return c.State == "Succeeded" })
	if i >= 0 {
		return
	}
	found := "no run of a canary"
	if len(v.inv.Canaries) > 0 {
		found = fmt.Sprintf("canary %s: %s", v.inv.Canaries[0].Name, v.inv.Canaries[0].State)
	}
	v.found("ruleset", fmt.Sprintf("%s is decrypted; %s", names[0], found), "a run of the canary that succeeded")
}

// needed are the data actions that publishing a spoke takes. To create the root's key is none of
// them: that is done by way of Azure's management.
var needed = []struct{ action, what string }{
	{"Microsoft.KeyVault/vaults/keys/read", "read the root's public key"},
	{"Microsoft.KeyVault/vaults/keys/sign/action", "sign the root"},
	{"Microsoft.KeyVault/vaults/secrets/getSecret/action", "look for the root's certificate"},
	{"Microsoft.KeyVault/vaults/secrets/setSecret/action", "store the root's certificate"},
	{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read", "read the gateway's report"},
	{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write", "publish the ruleset and the bundle"},
}

func deployerData(v *view) {
	switch {
	case v.plan.GrantsDeployer:
		v.notApplicable("the program assigns the roles (deployerObjectId)")
		return
	case v.bound():
		v.notApplicable("the spoke is in use; nothing of this is to be made")
		return
	}
	for _, n := range needed {
		if !slices.ContainsFunc(v.inv.Deployer.Permissions, func(p Permission) bool {
			return matchesAction(p.DataActions, n.action) && !matchesAction(p.NotDataActions, n.action)
		}) {
			v.found("deployer in "+v.inv.Scope.ResourceGroup, "no right to "+n.what, n.action)
		}
	}
}

// deployerMay reports whether the deployer's roles allow an action of the control plane.
func (v *view) deployerMay(action string) bool {
	return slices.ContainsFunc(v.inv.Deployer.Permissions, func(p Permission) bool {
		return matchesAction(p.Actions, action) && !matchesAction(p.NotActions, action)
	})
}

// matchesAction reports whether one of a role's patterns holds an action: `*` stands for any
// characters, and case does not count.
func matchesAction(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return glob(strings.ToLower(p), strings.ToLower(action)) })
}

func glob(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		if glob(rest, s) {
			return true
		}
		if s == "" {
			return false
		}
		s = s[1:]
	}
}

func policyStore(v *view) {
	if !v.identified() {
		return
	}
	seen := false
	for _, a := range v.inv.StorageAccounts {
		blobRole := slices.ContainsFunc(v.gatewayRoles(), func(r RoleAssignment) bool {
			role := path.Base(r.Role)
			return (role == roleBlobReader || role == roleBlobContributor) && within(a.ID, r.Scope)
		})
		if !blobRole {
			continue
		}
		seen = true
		if a.SharedKey {
			v.found(a.ID, "allowSharedKeyAccess: true", "false")
		}
		if a.AnonymousAccess {
			v.found(a.ID, "allowBlobPublicAccess: true", "false")
		}
		if a.PublicAccess && a.DefaultAction != "Deny" {
			v.found(a.ID, "open to every network", "defaultAction: Deny")
		}
		if v.agent != nil && slices.ContainsFunc(a.Subnets, func(id string) bool { return same(id, v.agent.ID) }) {
			v.found(a.ID, "a network rule for the agent subnet", "the gateway's subnet alone")
		}
	}
	if !seen {
		v.notApplicable("the gateway's identity reads no storage account yet")
	}
}
