package arm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// role is one of Azure's built-in roles: learn.microsoft.com/azure/role-based-access-control/built-in-roles.
// Only the actions that somebody asks the twin about are told apart.
type role struct {
	name              string
	actions           []string // of the control plane
	dataActions, nots []string
}

const (
	blobActions = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
	keyActions  = "Microsoft.KeyVault/vaults/keys/"

	pullAction = "Microsoft.ContainerRegistry/registries/pull/read"

	documentActions = "Microsoft.Search/searchServices/indexes/documents/"
)

var roles = map[string]role{
	"8e3af657-a8ff-443c-a75c-2fe8c4bcb635": {name: "Owner", actions: []string{"*"}},
	"b24988ac-6180-42a0-ab88-20f7382dd24c": {name: "Contributor", actions: []string{"*"}, nots: []string{"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write"}},
	"acdd72a7-3385-48ef-bd42-f606fba81ae7": {name: "Reader", actions: []string{"*/read"}},
	"f58310d9-a9f6-439a-9e8d-f62e7b41a168": {name: "Role Based Access Control Administrator", actions: []string{"Microsoft.Authorization/roleAssignments/write", "Microsoft.Authorization/roleAssignments/delete", "*/read"}},
	"18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": {name: "User Access Administrator", actions: []string{"*/read", "Microsoft.Authorization/*"}},
	"4d97b98b-1d4f-4787-a291-c67834d212e7": {name: "Network Contributor", actions: []string{"Microsoft.Network/*"}},
	"2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": {name: "Storage Blob Data Reader", actions: []string{"Microsoft.Storage/storageAccounts/blobServices/containers/read"}, dataActions: []string{blobActions + "read"}},
	"ba92f5b4-2d11-453d-a403-e96b0029c9fe": {name: "Storage Blob Data Contributor", actions: []string{"Microsoft.Storage/storageAccounts/blobServices/containers/*"},
		dataActions: []string{blobActions + "read", blobActions + "write", blobActions + "delete", blobActions + "add/action", blobActions + "move/action"}},
	"b7e6dc6d-f1e8-4753-8033-0f276bb0955b": {name: "Storage Blob Data Owner", actions: []string{"Microsoft.Storage/storageAccounts/blobServices/containers/*"}, dataActions: []string{blobActions + "*"}},
	"12338af0-0e69-4776-bea7-57ae8d297424": {name: "Key Vault Crypto User", dataActions: []string{keyActions + "read", keyActions + "update/action", keyActions + "backup/action", keyActions + "encrypt/action",
		keyActions + "decrypt/action", keyActions + "wrap/action", keyActions + "unwrap/action", keyActions + "sign/action", keyActions + "verify/action"}},
	"14b46e9e-c2b7-41b4-b07b-48a6ebf60603": {name: "Key Vault Crypto Officer", dataActions: []string{keyActions + "*", "Microsoft.KeyVault/vaults/keyrotationpolicies/*"}},
	"b86a8fe4-44ce-4948-aee5-eccb2c155cd7": {name: "Key Vault Secrets Officer", dataActions: []string{"Microsoft.KeyVault/vaults/secrets/*"}},
	"4633458b-17de-408a-b874-0445c86b69e6": {name: "Key Vault Secrets User", dataActions: []string{"Microsoft.KeyVault/vaults/secrets/getSecret/action", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"}},
	"a4417e6f-fecd-4de8-b567-7b0420556985": {name: "Key Vault Certificates Officer", dataActions: []string{"Microsoft.KeyVault/vaults/certificatecas/*", "Microsoft.KeyVault/vaults/certificates/*"}},
	"00482a5a-887f-4fb3-b363-3b7fe8e74483": {name: "Key Vault Administrator", dataActions: []string{"Microsoft.KeyVault/vaults/*"}},
	"21090545-7ca7-4776-b22c-e363652d74d2": {name: "Key Vault Reader", actions: []string{"Microsoft.KeyVault/*/read"}, dataActions: []string{"Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"}},
	"8ebe5a00-799e-43f5-93ac-243d3dce84a7": {name: "Search Index Data Contributor", dataActions: []string{documentActions + "*"}},
	"7ca78c08-252a-4471-8644-bb5ff32d4ba0": {name: "Search Service Contributor", actions: []string{"Microsoft.Search/searchServices/*"}},
	"230815da-be43-4aae-9cb4-875f7bd000aa": {name: "Cosmos DB Operator", actions: []string{"Microsoft.DocumentDB/databaseAccounts/*"},
		nots: []string{"Microsoft.DocumentDB/databaseAccounts/readonlyKeys/*", "Microsoft.DocumentDB/databaseAccounts/listKeys/*", "Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments/write"}},
	"7f951dda-4ed3-4680-a7ca-43fe172d538d": {name: "AcrPull", actions: []string{pullAction}},
	"53ca6127-db72-4b80-b1b0-d745d6d5456d": {name: "Azure AI User"},
}

// role is a built-in role, or one that somebody made.
func (s *State) role(definition string) (role, bool) {
	if r, ok := roles[roleID(definition)]; ok {
		return r, true
	}
	for _, r := range s.ofType(typeRoleDefinition) {
		if roleID(r.ID) != roleID(definition) {
			continue
		}
		p := r.Body.Object("properties")
		custom := role{name: p.Text("roleName")}
		for _, of := range p.List("permissions") {
			custom.actions = append(custom.actions, of.Texts("actions")...)
			custom.nots = append(custom.nots, of.Texts("notActions")...)
			custom.dataActions = append(custom.dataActions, of.Texts("dataActions")...)
		}
		return custom, true
	}
	return role{}, false
}

// definitionRules are those of custom roles
// (learn.microsoft.com/azure/role-based-access-control/custom-roles).
func definitionRules(o *operation) error {
	p := o.body.Object("properties")
	switch {
	case !guid.MatchString(o.id.Name()):
		return failure(400, "InvalidRoleDefinitionId", "The role definition ID '%s' is not valid. The role definition ID must be a GUID.", o.id.Name())
	case p.Text("roleName") == "" || len(p.Text("roleName")) > 512:
		return failure(400, "InvalidRoleDefinitionName", "The role definition name must have 1 to 512 characters.")
	case p.Text("type") != "" && p.Text("type") != "CustomRole":
		return failure(400, "RoleDefinitionTypeInvalid", "The role definition type '%s' is not CustomRole.", p.Text("type"))
	case !slices.ContainsFunc(p.Texts("assignableScopes"), func(scope string) bool { return same(scope, o.id.scope) }):
		return failure(400, "InvalidAssignableScope", "The scope '%s' is not among the assignable scopes of the role definition.", o.id.scope)
	}
	for _, scope := range p.Texts("assignableScopes") {
		if _, err := ParseID(scope); err != nil {
			return failure(400, "LinkedInvalidPropertyId", "Property id '%s' at path 'properties.assignableScopes' is invalid.", scope)
		}
	}
	for _, of := range p.List("permissions") {
		for _, action := range append(of.Texts("actions"), of.Texts("dataActions")...) {
			if !strings.Contains(action, "/") {
				return failure(400, "InvalidActionOrNotAction", "'%s' does not match any of the actions supported by the providers.", action)
			}
		}
	}
	for _, r := range o.s.ofType(typeRoleDefinition) {
		if !same(r.ID, o.id.text) && same(r.Body.Text("properties", "roleName"), p.Text("roleName")) {
			return failure(409, "RoleDefinitionWithSameNameExists", "A custom role with the same name already exists in this directory. Use a different name.")
		}
	}
	return nil
}

func definitionFill(o *operation, _ *Resource) {
	o.body.Default("CustomRole", "properties", "type")
	o.body.Set(o.s.Settings.Deployer.ObjectID, "properties", "createdBy")
	o.body.Set(o.s.Settings.Deployer.ObjectID, "properties", "updatedBy")
}

func definitionRemovable(o *operation) error {
	for _, r := range o.s.ofType(typeRoleAssignment) {
		if roleID(r.Body.Text("properties", "roleDefinitionId")) == roleID(o.id.text) {
			return failure(400, "RoleDefinitionHasAssignments", "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments).")
		}
	}
	return nil
}

func roleID(definition string) string { return key(last(definition)) }

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func roleRules(o *operation) error {
	p := o.body.Object("properties")
	principal, definition := p.Text("principalId"), p.Text("roleDefinitionId")
	scope := o.id.scope
	if !guid.MatchString(o.id.Name()) {
		return failure(400, "InvalidRoleAssignmentId", "The role assignment ID '%s' is not valid. The role assignment ID must be a GUID.", o.id.Name())
	}
	if in, err := ParseID(scope); err != nil || in.Type != typeSubscription && kinds[key(in.Type)] == nil {
		return failure(404, "ResourceNotFound", "The scope '%s' is not known.", scope)
	} else if in.Type != typeSubscription && o.s.get(scope) == nil {
		return missing(o.s, in)
	}
	if !guid.MatchString(principal) {
		return failure(400, "InvalidPrincipalId", "A valid principal ID must be provided for role assignment.")
	}
	if _, ok := o.s.role(definition); !ok || !strings.Contains(key(definition), "/providers/microsoft.authorization/roledefinitions/") {
		return failure(404, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", last(definition))
	}
	if o.old != nil {
		if !same(o.old.Text("properties", "principalId"), principal) || roleID(o.old.Text("properties", "roleDefinitionId")) != roleID(definition) {
			return failure(400, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
		}
		return nil
	}
	for _, r := range o.s.ofType(typeRoleAssignment) {
		q := r.Body.Object("properties")
		if same(q.Text("principalId"), principal) && same(q.Text("scope"), scope) && roleID(q.Text("roleDefinitionId")) == roleID(definition) {
			return failure(409, "RoleAssignmentExists", "The role assignment already exists. The ID of the existing role assignment is %s.", strings.ReplaceAll(last(r.ID), "-", ""))
		}
	}
	kind, err := o.lookUp(principal, p.Text("principalType"))
	if err != nil {
		return err
	}
	p.Default(kind, "principalType")
	o.unseen = o.s.Settings.RoleDelay
	return nil
}

// lookUp finds a principal in the directory. A managed identity arrives there a while after it
// was made; whoever says what type it has does not wait for that
// (learn.microsoft.com/azure/role-based-access-control/troubleshooting).
func (o *operation) lookUp(principal, said string) (string, error) {
	unknown := failure(400, "PrincipalNotFound", "Principal %s does not exist in the directory %s. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype",
		strings.ReplaceAll(principal, "-", ""), o.s.Settings.Tenant)
	found := ""
	for _, p := range append([]Principal{o.s.Settings.Deployer}, o.s.Settings.Principals...) {
		if same(p.ObjectID, principal) {
			found = p.Type
		}
	}
	for _, r := range o.s.Resources {
		if same(r.Body.Text("properties", "principalId"), principal) && same(r.Type, typeIdentity) || same(r.Body.Text("identity", "principalId"), principal) {
			found = "ServicePrincipal"
			if r.Unseen > 0 && said == "" {
				return "", unknown
			}
		}
	}
	switch {
	case found == "":
		return "", unknown
	case said != "" && said != found:
		return "", failure(400, "UnmatchedPrincipalType", "The PrincipalId '%s' has type '%s' , which is different from specified PrinciaplType '%s'.", principal, found, said)
	}
	return found, nil
}

func roleFill(o *operation, r *Resource) {
	p := o.body.Object("properties")
	p.Set(o.id.scope, "scope")
	// Azure gives the definition back with the subscription, whatever it was given.
	p.Set("/subscriptions/"+o.s.Settings.Subscription+"/providers/Microsoft.Authorization/roleDefinitions/"+roleID(p.Text("roleDefinitionId")), "roleDefinitionId")
	p.Set(o.s.Settings.Deployer.ObjectID, "createdBy")
	p.Set(o.s.Settings.Deployer.ObjectID, "updatedBy")
}

// Authorized says why a principal may not do an action at a scope, or nil. An assignment that is
// not heard of yet (Settings.RoleDelay) has been asked for once more.
func (c *Control) Authorized(principal, action, scope string) error {
	var refused error
	err := c.change(func(s *State) error {
		refused = s.authorized(principal, action, scope)
		return nil
	})
	if err != nil {
		return err
	}
	return refused
}

func (s *State) authorized(principal, action, scope string) error {
	if same(principal, s.Settings.Deployer.ObjectID) && !dataPlane(action) {
		return nil
	}
	why := "no role assignment"
	for _, r := range s.ofType(typeRoleAssignment) {
		p := r.Body.Object("properties")
		at := key(p.Text("scope"))
		if !same(p.Text("principalId"), principal) || key(scope) != at && !strings.HasPrefix(key(scope), at+"/") {
			continue
		}
		role, _ := s.role(p.Text("roleDefinitionId"))
		if !role.permits(action) {
			why = fmt.Sprintf("role %q does not have it", role.name)
			continue
		}
		if r.Unseen == 0 {
			return nil
		}
		r.Unseen--
		why = fmt.Sprintf("role %q was assigned a moment ago", role.name)
	}
	return fmt.Errorf("%s may not %s at %s: %s", principal, action, scope, why)
}

func (r role) permits(action string) bool {
	has := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return wildcard(p, action) })
	}
	// Which of the two an action is, is told by where it stands; no pattern here is in both.
	return has(r.dataActions) || has(r.actions) && !has(r.nots) && !dataPlane(action)
}

// dataPlane tells the data actions, which "*" of Owner does not have.
func dataPlane(action string) bool {
	a := key(action)
	return strings.HasPrefix(a, key(blobActions)) || strings.HasPrefix(a, key(documentActions)) || strings.HasPrefix(a, "microsoft.keyvault/vaults/keys/") || strings.HasPrefix(a, "microsoft.keyvault/vaults/secrets/")
}

func wildcard(pattern, s string) bool {
	parts := strings.Split(key(pattern), "*")
	s = key(s)
	if len(parts) == 1 {
		return s == parts[0]
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}
