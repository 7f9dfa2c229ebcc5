package arm

import (
	"regexp"
	"slices"
	"strings"
)

// accountRules. What network injection asks of a subnet is Container Apps' list and Foundry's
// own (learn.microsoft.com/azure/foundry/agents/how-to/virtual-networks).
func accountRules(o *operation) error {
	p := o.body.Object("properties")
	domain := p.Text("customSubDomainName")
	if _, gone := o.s.Deleted[o.id.Key()]; gone && o.old == nil {
		if !p.True("restore") {
			return failure(409, "FlagMustBeSetForRestore", "An existing resource with ID '%s' has been soft-deleted. To restore the resource, you must specify 'restore' to be 'true' in the property. If you don't want to restore existing resource, please purge it first.", o.id)
		}
		o.s.move(o.s.Deleted, o.s.Resources, o.id.text)
		o.old = o.s.view(o.s.get(o.id.text))
	}
	if o.body.Text("kind") == "" || o.body.Text("sku", "name") == "" {
		return failure(400, "InvalidRequestContent", "An account needs a kind and a SKU.")
	}
	if domain != "" && !subdomain.MatchString(domain) {
		return failure(400, "InvalidCustomSubDomainName", "The custom subdomain name '%s' is invalid: 2 to 64 letters, digits and hyphens, which begins and ends with a letter or digit.", domain)
	}
	if domain != "" {
		owns := func(r *Resource) bool {
			return same(r.Type, typeAccount) && !same(r.ID, o.id.text) && same(r.Body.Text("properties", "customSubDomainName"), domain)
		}
		if len(o.s.where(owns)) > 0 || slices.ContainsFunc(deletedOf(o.s), owns) || slices.Contains(o.s.Settings.TakenNames, domain) {
			return failure(409, "CustomDomainInUse", "Please pick a different name. The subdomain name '%s' is not available as it's already used by a resource.", domain)
		}
	}
	injections := p.List("networkInjections")
	if o.old != nil {
		q := o.old.Object("properties")
		if !injected(q.List("networkInjections"), injections) {
			return failure(400, "NetworkInjectionsCannotBeChanged", "The property networkInjections of account %s can only be set when the account is created.", o.id.Name())
		}
		if was := q.Text("customSubDomainName"); was != "" && was != domain {
			return failure(400, "CustomSubDomainNameCannotBeChanged", "The custom subdomain name of account %s cannot be changed.", o.id.Name())
		}
		if p.At("allowProjectManagement") != nil && q.True("allowProjectManagement") != p.True("allowProjectManagement") {
			return failure(400, "AllowProjectManagementCannotBeChanged", "The property allowProjectManagement of account %s can only be set when the account is created.", o.id.Name())
		}
		return nil
	}
	if len(injections) > 1 {
		return failure(400, "InvalidNetworkInjections", "Account %s has more than one network injection.", o.id.Name())
	}
	for _, i := range injections {
		if !same(o.body.Text("kind"), "AIServices") || domain == "" || !p.True("allowProjectManagement") {
			return failure(400, "InvalidNetworkInjections", "Network injection needs an account of the kind AIServices with a custom subdomain name and allowProjectManagement.")
		}
		if err := o.inject(i); err != nil {
			return err
		}
	}
	return nil
}

// subdomain is a label of the DNS.
var subdomain = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,62}[a-zA-Z0-9]$`)

func deletedOf(s *State) []*Resource {
	var all []*Resource
	for _, r := range s.Deleted {
		all = append(all, r)
	}
	return all
}

func injected(a, b []Object) bool {
	return slices.EqualFunc(a, b, func(x, y Object) bool {
		return x.Text("scenario") == y.Text("scenario") && same(x.Text("subnetArmId"), y.Text("subnetArmId")) && x.True("useMicrosoftManagedNetwork") == y.True("useMicrosoftManagedNetwork")
	})
}

// inject checks the subnet of a network injection.
func (o *operation) inject(i Object) error {
	if i.Text("scenario") != "agent" {
		return failure(400, "InvalidNetworkInjections", "The scenario of a network injection is 'agent', not '%s'.", i.Text("scenario"))
	}
	subnet := o.s.get(i.Text("subnetArmId"))
	if i.True("useMicrosoftManagedNetwork") {
		if subnet != nil {
			return failure(400, "InvalidNetworkInjections", "A network injection into a network of Microsoft's names no subnet.")
		}
		return nil
	}
	if subnet == nil || !same(subnet.Type, typeSubnet) {
		return unknownReference(o.id, i.Text("subnetArmId"))
	}
	if vnet := o.s.get(up(subnet.ID)); vnet.Body.Text("location") != o.body.Text("location") {
		return failure(400, "InvalidNetworkInjections", "Account %s must be in the location of its virtual network, %s.", o.id.Name(), vnet.Body.Text("location"))
	}
	d := delegations(subnet.Body)
	if len(d) != 1 || !same(d[0], delegation) {
		return failure(400, "SubnetNotDelegated", "The subnet %s must be delegated to '%s'.", subnet.ID, delegation)
	}
	if users := residents(o.s, subnet.ID); len(users) > 0 {
		return failure(400, "SubnetAlreadyInUse", "Subnet already in use: %s is used by %s.", subnet.ID, strings.Join(users, ", "))
	}
	return o.settle(subnet, 27)
}

func accountFill(o *operation, r *Resource) {
	p := o.body.Object("properties")
	if p == nil {
		p = Object{}
		o.body["properties"] = map[string]any(p)
	}
	domain := p.Text("customSubDomainName")
	if domain == "" {
		p.Set("https://"+o.body.Text("location")+".api.cognitive.microsoft.com/", "endpoint")
	} else {
		p.Set("https://"+domain+".cognitiveservices.azure.com/", "endpoint")
		p.Set(map[string]any{"AI Foundry API": "https://" + domain + ".services.ai.azure.com/", "OpenAI Language Model Instance API": "https://" + domain + ".openai.azure.com/"}, "endpoints")
	}
	p.Default("Enabled", "publicNetworkAccess")
	p.Remove("restore")
	identities(o, r)
}

// accountFinish: with network injection Azure makes the account's capability host itself. If the
// delegation is spelled in another case, that fails, long after the account was made.
func accountFinish(s *State, r *Resource) error {
	injections := r.Body.List("properties", "networkInjections")
	if len(s.parts(r.ID, typeAccountHost)) > 0 || len(injections) == 0 || injections[0].True("useMicrosoftManagedNetwork") {
		return nil
	}
	id, err := ParseID(r.ID + "/capabilityHosts/" + last(r.ID) + "@aml_aiagentservice")
	if err != nil {
		return err
	}
	err = s.put(id, Object{"properties": map[string]any{"capabilityHostKind": "Agents", "customerSubnet": injections[0].Text("subnetArmId")}})
	if Code(err) == codeWrongCase {
		host := s.get(id.text)
		host.Body.Set("Failed", "properties", "provisioningState")
		return nil
	}
	return err
}

const codeWrongCase = "CapabilityHostProvisioningFailed"

func accountHostRules(o *operation) error {
	if err := o.host(); err != nil {
		return err
	}
	id := o.body.Text("properties", "customerSubnet")
	injections := o.s.get(o.id.Parent()).Body.List("properties", "networkInjections")
	if id == "" {
		return nil
	}
	if len(injections) == 0 || !same(injections[0].Text("subnetArmId"), id) {
		return failure(400, "InvalidCustomerSubnet", "The customer subnet %s of capability host %s is not the one of the account's network injection.", id, o.id.Name())
	}
	if d := delegations(o.s.get(id).Body); len(d) != 1 || d[0] != delegation {
		o.accepted = failure(400, codeWrongCase, "Invalid vnet resource ID provided, or the virtual network could not be found.")
	}
	return nil
}

// host holds the rules of every capability host: one to a scope, and no update
// (learn.microsoft.com/azure/foundry/agents/concepts/capability-hosts).
func (o *operation) host() error {
	for _, other := range o.s.parts(o.id.Parent(), o.kind.name) {
		if !same(other.ID, o.id.text) {
			return failure(409, "Conflict", "There is an existing Capability Host with name: %s, provisioning state: %s for workspace: %s, cannot create a new Capability Host with name: %s for the same ClientId.", last(other.ID), other.Body.Text("properties", "provisioningState"), o.id.Parent(), o.id.Name())
		}
		if state := other.Body.Text("properties", "provisioningState"); state != "Succeeded" && state != "Failed" {
			return failure(409, "Conflict", "Create: Capability Host %s is currently in non creating, retry after its complete: %s", o.id.Name(), o.id.Parent())
		}
	}
	if o.old == nil {
		return nil
	}
	for _, k := range []string{"capabilityHostKind", "customerSubnet", "vectorStoreConnections", "storageConnections", "threadStorageConnections", "aiServicesConnections"} {
		if text(o.old.At("properties", k)) != text(o.body.At("properties", k)) && !(k == "customerSubnet" && o.body.At("properties", k) == nil) {
			return failure(400, "BadRequest", "Capability Host %s cannot be updated: %s. Delete it and create it anew.", o.id.Name(), k)
		}
	}
	if o.body.Text("properties", "customerSubnet") == "" && o.old.Text("properties", "customerSubnet") != "" {
		o.body.Set(o.old.Text("properties", "customerSubnet"), "properties", "customerSubnet")
	}
	return nil
}

func projectHostRules(o *operation) error {
	if err := o.host(); err != nil {
		return err
	}
	account := up(o.id.Parent())
	ready := false
	for _, h := range o.s.parts(account, typeAccountHost) {
		ready = ready || h.Body.Text("properties", "provisioningState") == "Succeeded"
	}
	if !ready {
		return failure(400, "BadRequest", "The account %s has no capability host that succeeded; the project's comes after it.", account)
	}
	given := 0
	for _, store := range stores {
		all := o.body.Texts("properties", store.list)
		if len(all) > 0 {
			given++
		}
		for _, name := range all {
			if len(all) != 1 || name == "" {
				return failure(400, "BadRequest", "%s must have exactly one connection.", store.list)
			}
			c := o.s.connection(o.id.Parent(), name)
			if c == nil {
				return failure(400, "BadRequest", "Connection %s of %s was not found.", name, store.list)
			}
			if !same(c.Body.Text("properties", "category"), store.category) {
				return failure(400, "BadRequest", "Connection %s of %s is of the category %s, not %s.", name, store.list, c.Body.Text("properties", "category"), store.category)
			}
		}
	}
	if given != 0 && given != 3 {
		return failure(400, "BadRequest", "A capability host needs vectorStoreConnections, storageConnections and threadStorageConnections, or none of them.")
	}
	return nil
}

// stores are what a capability host keeps an agent's data in: where it is named, as what it is
// connected, and what the project's identity does there when the host is made
// (learn.microsoft.com/azure/foundry/agents/concepts/standard-agent-setup).
var stores = []struct {
	list, category, kind string
	actions              []string
}{
	{"threadStorageConnections", "CosmosDB", typeCosmos, []string{"Microsoft.DocumentDB/databaseAccounts/sqlDatabases/write"}},
	{"storageConnections", "AzureStorageAccount", typeStorage, []string{"Microsoft.Storage/storageAccounts/blobServices/containers/write", blobActions + "write"}},
	{"vectorStoreConnections", "CognitiveSearch", typeSearch, []string{"Microsoft.Search/searchServices/read", documentActions + "write"}},
}

// connection is one of a project's, or of its account's.
func (s *State) connection(project, name string) *Resource {
	if c := s.get(project + "/connections/" + name); c != nil {
		return c
	}
	return s.get(up(project) + "/connections/" + name)
}

// projectHostFinish is what shows only when the host goes to work: it reaches the stores over
// their private endpoints, as the project's identity, and makes the database of its threads. A
// role that was given a moment ago is not heard of everywhere yet.
func projectHostFinish(s *State, r *Resource) error {
	broken := func(format string, args ...any) error {
		return failure(400, "CapabilityHostProvisioningFailed", "Capability Host %s could not be provisioned: %s", last(r.ID), failure(0, "", format, args...).Message)
	}
	project := s.get(up(r.ID))
	var forbidden error
	database := ""
	for _, store := range stores {
		for _, name := range r.Body.Texts("properties", store.list) {
			to := s.connection(project.ID, name)
			if to == nil {
				return broken("connection %s was deleted.", name)
			}
			target := s.get(to.Body.Text("properties", "metadata", "ResourceId"))
			if target == nil || !same(target.Type, store.kind) {
				return broken("connection %s does not name a resource of the type %s.", name, store.kind)
			}
			if same(target.Body.Text("properties", "publicNetworkAccess"), "Disabled") && !s.reaches(up(project.ID), target.ID) {
				return broken("%s admits nobody from public networks, and has no private endpoint with a name in the account's virtual network.", target.ID)
			}
			for _, action := range store.actions {
				if err := s.authorized(project.Body.Text("identity", "principalId"), action, target.ID); err != nil && forbidden == nil {
					forbidden = broken("Forbidden: %v", err)
				}
			}
			if store.kind == typeCosmos {
				database = target.ID + "/sqlDatabases/enterprise_memory"
			}
		}
	}
	if forbidden != nil || database == "" {
		return forbidden
	}
	id, err := ParseID(database)
	if err != nil {
		return err
	}
	return s.put(id, Object{"properties": map[string]any{"resource": map[string]any{"id": "enterprise_memory"}}})
}

// reaches says whether the agents of an account find a resource by a private endpoint: one in
// their virtual network whose name is in a zone that the network is linked to.
func (s *State) reaches(account, target string) bool {
	injections := s.get(account).Body.List("properties", "networkInjections")
	if len(injections) == 0 {
		return true // it is not in a network of ours
	}
	network := up(injections[0].Text("subnetArmId"))
	for _, e := range s.ofType(typeEndpoint) {
		if !same(up(e.Body.Text("properties", "subnet", "id")), network) || !settled(e) || !same(connections(e.Body)[0].Text("properties", "privateLinkServiceId"), target) {
			continue
		}
		for _, record := range s.ofType(typeZoneA) {
			if !strings.HasPrefix(key(record.Body.Text("properties", "metadata", "group")), key(e.ID)+"/") {
				continue
			}
			for _, link := range s.parts(up(record.ID), typeZoneLink) {
				if same(link.Body.Text("properties", "virtualNetwork", "id"), network) {
					return true
				}
			}
		}
	}
	return false
}

// connectionRemovable: a capability host works with its connections.
func connectionRemovable(o *operation) error {
	for _, host := range o.s.parts(o.id.Parent(), typeProjectHost) {
		for _, store := range stores {
			if slices.ContainsFunc(host.Body.Texts("properties", store.list), func(name string) bool { return same(name, o.id.Name()) }) {
				return failure(409, "Conflict", "Connection %s is in use by capability host %s.", o.id.Name(), last(host.ID))
			}
		}
	}
	return nil
}

func accountHostRemovable(o *operation) error {
	for _, host := range o.s.ofType(typeProjectHost) {
		if strings.HasPrefix(key(host.ID), key(o.id.Parent())+"/") {
			return failure(409, "Conflict", "Capability Host %s cannot be deleted before the project's, %s.", o.id.Name(), host.ID)
		}
	}
	return nil
}

func connectionRules(o *operation) error {
	if o.body.Text("properties", "category") == "" || o.body.Text("properties", "authType") == "" {
		return failure(400, "InvalidRequestContent", "Connection %s needs a category and an authType.", o.id.Name())
	}
	return nil
}

func projectRules(o *operation) error {
	account := o.s.get(o.id.Parent())
	if !account.Body.True("properties", "allowProjectManagement") {
		return failure(400, "ProjectManagementNotAllowed", "Account %s does not allow projects.", last(account.ID))
	}
	if !settled(account) {
		return failure(409, "RequestConflict", "Cannot modify resource with id '%s' because the resource entity provisioning state is not terminal. Please wait for the provisioning state to become terminal and then retry the request.", o.id)
	}
	if !strings.Contains(o.body.Text("identity", "type"), "Assigned") {
		return failure(400, "InvalidRequestContent", "Project %s needs an identity.", o.id.Name())
	}
	return o.sameRegion(account)
}

func projectFill(o *operation, r *Resource) {
	account := o.s.get(up(r.ID))
	o.body.Set(map[string]any{"AI Foundry API": "https://" + account.Body.Text("properties", "customSubDomainName") + ".services.ai.azure.com/api/projects/" + last(r.ID)}, "properties", "endpoints")
	o.body.Set(len(o.s.parts(account.ID, typeProject)) == 0, "properties", "isDefault")
	identities(o, r)
}

func projectRemovable(o *operation) error {
	if hosts := o.s.parts(o.id.text, typeProjectHost); len(hosts) > 0 {
		return failure(409, "Conflict", "Project %s cannot be deleted before its capability host %s.", o.id.Name(), last(hosts[0].ID))
	}
	return nil
}

// linger is what a purge leaves behind. The account's capability host goes with it, and with that,
// some time later, the service association link: at once only if somebody deleted the host before
// the account.
func linger(s *State, account *Resource) {
	hosted := false
	for _, r := range s.Deleted {
		hosted = hosted || same(r.Type, typeAccountHost) && same(up(r.ID), account.ID)
	}
	if !hosted || s.Settings.LinkDelay == 0 {
		return
	}
	for _, injection := range account.Body.List("properties", "networkInjections") {
		if s.Lingering == nil {
			s.Lingering = map[string]int{}
		}
		s.Lingering[key(injection.Text("subnetArmId"))] = s.Settings.LinkDelay
	}
}

// unlink is one question about a subnet whose link has outlived its account.
func (s *State) unlink(subnet string) {
	if s.Lingering[key(subnet)]--; s.Lingering[key(subnet)] <= 0 {
		delete(s.Lingering, key(subnet))
	}
}

// accountRemovable: Azure refuses an account with projects.
func accountRemovable(o *operation) error {
	if projects := o.s.parts(o.id.text, typeProject); len(projects) > 0 {
		return failure(409, "CannotDeleteResource", "Cannot delete resource while nested resources exist. Some existing nested resource IDs include: '%s'. Please delete all nested resources before deleting this resource.", projects[0].ID)
	}
	return nil
}
