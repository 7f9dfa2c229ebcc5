package arm

import (
	"strings"
)

// cosmosRules. Names are in the DNS of all the world, and a region is written to first by
// priority (learn.microsoft.com/rest/api/cosmos-db-resource-provider/database-accounts).
func cosmosRules(o *operation) error {
	if taken(o.s, typeCosmos, o.id.Name(), o.id.text) {
		return failure(400, "BadRequest", "Dns record for %s under zone Document is already taken.", o.id.Name())
	}
	p := o.body.Object("properties")
	if p.Text("databaseAccountOfferType") != "Standard" {
		return failure(400, "BadRequest", "Invalid databaseAccountOfferType '%s'. The only offer type is 'Standard'.", p.Text("databaseAccountOfferType"))
	}
	locations := p.List("locations")
	if len(locations) == 0 {
		return failure(400, "BadRequest", "Database account %s has no locations.", o.id.Name())
	}
	seen, regions := map[float64]bool{}, map[string]bool{}
	for _, l := range locations {
		n := l.Number("failoverPriority")
		if seen[n] || n < 0 || n >= float64(len(locations)) {
			return failure(400, "BadRequest", "The failover priorities of account %s must be unique, and count from 0.", o.id.Name())
		}
		seen[n] = true
		if at := region(l.Text("locationName")); at == "" || regions[at] {
			return failure(400, "BadRequest", "Database account %s has the location '%s' twice, or one without a name.", o.id.Name(), at)
		} else {
			regions[at] = true
		}
	}
	for _, rule := range p.List("virtualNetworkRules") {
		if rule.True("ignoreMissingVNetServiceEndpoint") {
			continue
		}
		if err := o.serviceEndpoint(rule.Text("id"), "Microsoft.AzureCosmosDB", "BadRequest", "Subnet %[1]s of virtual network %[2]s does not have the service endpoint %[3]s."); err != nil {
			return err
		}
	}
	if o.old != nil {
		if now := o.body.Text("kind"); now != "" && now != o.old.Text("kind") {
			return failure(400, "BadRequest", "The kind of database account %s cannot be changed.", o.id.Name())
		}
	}
	return nil
}

func cosmosFill(o *operation, r *Resource) {
	p, name := o.body.Object("properties"), last(r.ID)
	o.body.Default("GlobalDocumentDB", "kind")
	p.Set("https://"+name+".documents.azure.com:443/", "documentEndpoint")
	p.Set(uuid(r.ID+text(r.Made)), "instanceId")
	p.Default("Enabled", "publicNetworkAccess")
	p.Default("Session", "consistencyPolicy", "defaultConsistencyLevel")
	for _, l := range p.List("locations") {
		at := region(l.Text("locationName"))
		l.Set(name+"-"+at, "id")
		l.Set("https://"+name+"-"+at+".documents.azure.com:443/", "documentEndpoint")
		l.Set("Succeeded", "provisioningState")
	}
	for _, list := range []string{"readLocations", "writeLocations"} {
		p.Set(clone(p.At("locations")), list)
	}
	identities(o, r)
}

// cosmosRoles are the roles that every account has for its data
// (learn.microsoft.com/azure/cosmos-db/reference-data-plane-security).
var cosmosRoles = []string{"00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"}

// cosmosRoleRules: a database account keeps roles for its data itself. It looks whether what they
// are for is there.
func cosmosRoleRules(o *operation) error {
	if !guid.MatchString(o.id.Name()) {
		return failure(400, "BadRequest", "The role assignment ID '%s' is not valid. It must be a GUID.", o.id.Name())
	}
	p, account := o.body.Object("properties"), o.id.Parent()
	definition, principal := p.Text("roleDefinitionId"), p.Text("principalId")
	known := false
	for _, id := range cosmosRoles {
		known = known || same(definition, account+"/sqlRoleDefinitions/"+id)
	}
	if !known {
		return failure(404, "NotFound", "The SQL role definition '%s' could not be found in database account %s.", definition, last(account))
	}
	rest, ok := strings.CutPrefix(key(p.Text("scope")), key(account))
	parts := strings.Split(strings.TrimPrefix(rest, "/"), "/")
	switch {
	case !ok || rest != "" && (parts[0] != "dbs" || len(parts) != 2 && (len(parts) != 4 || parts[2] != "colls")):
		return failure(400, "BadRequest", "The scope '%s' is not database account %s, a database (/dbs/...) or a container (/dbs/.../colls/...) of it.", p.Text("scope"), last(account))
	case rest != "" && o.s.get(account+"/sqlDatabases/"+parts[1]) == nil:
		return failure(400, "BadRequest", "The database '%s' of scope '%s' could not be found.", parts[1], p.Text("scope"))
	}
	if _, err := o.lookUp(principal, "ServicePrincipal"); Code(err) == "PrincipalNotFound" {
		return failure(400, "BadRequest", "The provided principal ID ['%s'] was not found in the AAD tenant(s) [%s] which are associated with the customer's subscription.", principal, o.s.Settings.Tenant)
	}
	for _, r := range o.s.parts(account, typeCosmosRole) {
		q := r.Body.Object("properties")
		if !same(r.ID, o.id.text) && same(q.Text("principalId"), principal) && same(q.Text("scope"), p.Text("scope")) && same(q.Text("roleDefinitionId"), definition) {
			return failure(409, "Conflict", "The role assignment already exists: %s.", r.ID)
		}
	}
	if o.old != nil && !same(o.old.Text("properties", "principalId"), principal) {
		return failure(400, "BadRequest", "The principal of role assignment %s cannot be changed.", o.id.Name())
	}
	return nil
}
