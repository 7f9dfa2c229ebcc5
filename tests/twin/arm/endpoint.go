package arm

import (
	"fmt"
	"slices"
	"strings"
)

// groupIDs are the sub-resources that a private endpoint can be for, and the zones that their
// names are in (learn.microsoft.com/azure/private-link/private-endpoint-dns).
var groupIDs = map[string]map[string][]string{
	key(typeStorage): {"blob": {"privatelink.blob.core.windows.net"}, "file": {"privatelink.file.core.windows.net"}, "dfs": {"privatelink.dfs.core.windows.net"}, "queue": {"privatelink.queue.core.windows.net"}, "table": {"privatelink.table.core.windows.net"}},
	key(typeVault):   {"vault": {"privatelink.vaultcore.azure.net"}},
	key(typeAccount): {"account": {"privatelink.cognitiveservices.azure.com", "privatelink.openai.azure.com", "privatelink.services.ai.azure.com"}},
	key(typeCosmos):  {"Sql": {"privatelink.documents.azure.com"}},
	key(typeSearch):  {"searchService": {"privatelink.search.windows.net"}},
}

func connections(body Object) []Object {
	return append(body.List("properties", "privateLinkServiceConnections"), body.List("properties", "manualPrivateLinkServiceConnections")...)
}

func endpointRules(o *operation) error {
	subnet := o.s.get(o.body.Text("properties", "subnet", "id"))
	if subnet == nil {
		return failure(400, "SubnetNotSpecified", "Private endpoint %s has no subnet.", o.id)
	}
	if o.old != nil && !same(o.old.Text("properties", "subnet", "id"), subnet.ID) {
		return failure(400, "PrivateEndpointCannotChangeSubnet", "The subnet of private endpoint %s cannot be changed.", o.id)
	}
	if d := delegations(subnet.Body); len(d) > 0 {
		return failure(400, "PrivateEndpointCannotBeCreatedInSubnetThatHasDelegation", "Private endpoint %s cannot be created in a subnet %s since it is delegated to %s.", o.id, subnet.ID, d[0])
	}
	if vnet := o.s.get(up(subnet.ID)); vnet.Body.Text("location") != o.body.Text("location") {
		return unknownReference(o.id, vnet.ID)
	}
	all := connections(o.body)
	if len(all) != 1 {
		return failure(400, "PrivateEndpointMustHaveOneConnection", "Private endpoint %s must have exactly one private link service connection.", o.id)
	}
	target, err := ParseID(all[0].Text("properties", "privateLinkServiceId"))
	if err != nil {
		return err
	}
	groups := all[0].Texts("properties", "groupIds")
	if known, ok := groupIDs[key(target.Type)]; ok && (len(groups) != 1 || known[groups[0]] == nil) {
		return failure(400, "InvalidPrivateLinkServiceGroupId", "Call to %s failed: group id %q is not valid for private link service %s.", target.Type, groups, target)
	}
	if r := o.s.get(target.text); r != nil && !settled(r) {
		name := target.Type[strings.LastIndex(target.Type, "/")+1:]
		return failure(400, strings.ToUpper(name[:1])+strings.TrimSuffix(name[1:], "s")+"ProvisioningStateInvalid", "Call to %s failed. Error message: %s %s in state %s.", target.Type, strings.TrimSuffix(name, "s"), target, r.Body.Text("properties", "provisioningState"))
	}
	return nil
}

// settled says whether nothing is under way with a resource, and nothing went wrong.
func settled(r *Resource) bool {
	state := r.Body.Text("properties", "provisioningState")
	return state == "" || same(state, "Succeeded")
}

// endpointAfter makes the interface that a private endpoint has, with an address for each name.
func endpointAfter(o *operation, r *Resource) error {
	for _, c := range connections(o.body) {
		c.Set(fmt.Sprintf("%s/privateLinkServiceConnections/%s", r.ID, c.Text("name")), "id")
		c.Set("Succeeded", "properties", "provisioningState")
		c.Default(map[string]any{"status": "Approved", "description": "Auto-Approved", "actionsRequired": "None"}, "properties", "privateLinkServiceConnectionState")
	}
	names := publicNames(o.s, connections(r.Body)[0])
	nic := r.Body.List("properties", "networkInterfaces")
	if len(nic) == 0 && o.old != nil {
		nic = o.old.List("properties", "networkInterfaces")
	}
	if len(nic) == 0 {
		name := fmt.Sprintf("%s.nic.%s", last(r.ID), uuid(r.ID+text(r.Made)))
		id := o.id.groupID() + "/providers/" + typeNIC + "/" + name
		var configs []any
		static := r.Body.List("properties", "ipConfigurations") // addresses that were asked for
		for i := range names {
			config := Object{"name": fmt.Sprintf("privateEndpointIpConfig.%d", i), "properties": map[string]any{"primary": i == 0, "subnet": map[string]any{"id": r.Body.Text("properties", "subnet", "id")}}}
			if i < len(static) {
				config.Set(static[i].Text("properties", "privateIPAddress"), "properties", "privateIPAddress")
				config.Set("Static", "properties", "privateIPAllocationMethod")
			}
			configs = append(configs, map[string]any(config))
		}
		parsed, err := ParseID(id)
		if err != nil {
			return err
		}
		if err := o.s.put(parsed, Object{"location": r.Body.Text("location"), "properties": map[string]any{"ipConfigurations": configs, "privateEndpoint": map[string]any{"id": r.ID}}}); err != nil {
			return err
		}
		nic = []Object{{"id": id}}
	}
	r.Body.Set([]any{map[string]any(nic[0])}, "properties", "networkInterfaces")
	var dns []any
	for i, config := range o.s.get(nic[0].Text("id")).Body.List("properties", "ipConfigurations") {
		dns = append(dns, map[string]any{"fqdn": names[i], "ipAddresses": []any{config.Text("properties", "privateIPAddress")}})
	}
	r.Body.Set(dns, "properties", "customDnsConfigs")
	return nil
}

// publicNames are the names that a private endpoint's target is asked for by. A database account
// has one for itself and one for each region; an account of Foundry's has three services.
func publicNames(s *State, connection Object) []string {
	id, _ := ParseID(connection.Text("properties", "privateLinkServiceId"))
	switch name := id.Name(); {
	case same(id.Type, typeStorage):
		return []string{name + "." + connection.Texts("properties", "groupIds")[0] + strings.TrimPrefix(s.Settings.BlobSuffix, "blob")}
	case same(id.Type, typeVault):
		return []string{name + "." + s.Settings.VaultSuffix}
	case same(id.Type, typeSearch):
		return []string{name + ".search.windows.net"}
	case same(id.Type, typeCosmos):
		all := []string{name + ".documents.azure.com"}
		for _, l := range s.get(id.text).Body.List("properties", "locations") {
			all = append(all, name+"-"+region(l.Text("locationName"))+".documents.azure.com")
		}
		return all
	}
	name := id.Name()
	if r := s.get(id.text); r != nil {
		name = or(r.Body.Text("properties", "customSubDomainName"), name)
	}
	return []string{name + ".cognitiveservices.azure.com", name + ".openai.azure.com", name + ".services.ai.azure.com"}
}

func endpointRemoved(o *operation, r *Resource) {
	for _, nic := range r.Body.List("properties", "networkInterfaces") {
		delete(o.s.Resources, key(nic.Text("id")))
	}
	for _, record := range o.s.ofType(typeZoneA) {
		if strings.HasPrefix(key(record.Body.Text("properties", "metadata", "group")), key(r.ID)+"/") {
			delete(o.s.Resources, key(record.ID))
		}
	}
}

func zoneGroupRules(o *operation) error {
	for _, c := range o.body.List("properties", "privateDnsZoneConfigs") {
		if o.s.get(c.Text("properties", "privateDnsZoneId")) == nil {
			return unknownReference(o.id, c.Text("properties", "privateDnsZoneId"))
		}
	}
	if others := o.s.parts(o.id.Parent(), typeZoneGroup); len(others) > 0 && !same(others[0].ID, o.id.text) {
		return failure(400, "MultiplePrivateDnsZoneGroupsNotSupported", "Private endpoint %s already has the DNS zone group %s.", o.id.Parent(), last(others[0].ID))
	}
	return nil
}

// zoneGroupAfter registers the endpoint's names in the zones that are for them.
func zoneGroupAfter(o *operation, r *Resource) error {
	zoneGroupRemoved(o, r)
	endpoint := o.s.get(up(r.ID))
	for _, c := range r.Body.List("properties", "privateDnsZoneConfigs") {
		zone := o.s.get(c.Text("properties", "privateDnsZoneId"))
		for _, dns := range endpoint.Body.List("properties", "customDnsConfigs") {
			label, ok := strings.CutSuffix(dns.Text("fqdn"), "."+strings.TrimPrefix(last(zone.ID), "privatelink."))
			if !ok {
				continue
			}
			id, err := ParseID(zone.ID + "/A/" + label)
			if err != nil {
				return err
			}
			var records []any
			for _, a := range dns.Texts("ipAddresses") {
				records = append(records, map[string]any{"ipv4Address": a})
			}
			err = o.s.put(id, Object{"properties": map[string]any{"ttl": 10.0, "aRecords": records, "metadata": map[string]any{"creator": "created by private endpoint " + last(endpoint.ID), "group": r.ID}}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func zoneGroupRemoved(o *operation, r *Resource) {
	for _, record := range o.s.ofType(typeZoneA) {
		if same(record.Body.Text("properties", "metadata", "group"), r.ID) {
			delete(o.s.Resources, key(record.ID))
		}
	}
}

func recordRules(o *operation) error {
	if len(o.body.List("properties", "aRecords")) == 0 {
		return failure(400, "BadRequest", "The record set %s has no records.", o.id)
	}
	return nil
}

// zoneLinkRules: a network hears of one zone for a name.
func zoneLinkRules(o *operation) error {
	network := o.body.Text("properties", "virtualNetwork", "id")
	if network == "" {
		return failure(400, "BadRequest", "The virtual network link %s names no virtual network.", o.id)
	}
	if o.old != nil && !same(o.old.Text("properties", "virtualNetwork", "id"), network) {
		return failure(400, "BadRequest", "The virtual network of link %s cannot be changed.", o.id)
	}
	zone := last(o.id.Parent())
	for _, other := range o.s.ofType(typeZoneLink) {
		if !same(other.ID, o.id.text) && same(last(up(other.ID)), zone) && same(other.Body.Text("properties", "virtualNetwork", "id"), network) {
			return failure(409, "Conflict", "A virtual network cannot be linked to multiple zones with overlapping namespaces. You tried to link virtual network with '%s' and '%s' zones.", zone, last(up(other.ID)))
		}
	}
	return nil
}

func zoneLinkFill(o *operation, _ *Resource) {
	o.body.Default(false, "properties", "registrationEnabled")
	o.body.Default("Default", "properties", "resolutionPolicy")
	o.body.Set("Completed", "properties", "virtualNetworkLinkState")
}

func zoneRemovable(o *operation) error {
	if links := o.s.parts(o.id.text, typeZoneLink); len(links) > 0 {
		return failure(409, "CannotDeleteResource", "Can not delete resource before nested resources are deleted: %s.", links[0].ID)
	}
	return nil
}

func dnsPolicyFill(o *operation, r *Resource) {
	o.body.Set(uuid(r.ID+text(r.Made)), "properties", "resourceGuid")
}

func dnsPolicyRemovable(o *operation) error {
	for _, kind := range []string{typeDNSLink, typeDNSRule} {
		if parts := o.s.parts(o.id.text, kind); len(parts) > 0 {
			return failure(409, "CannotDeleteResource", "Can not delete resource before nested resources are deleted: %s.", parts[0].ID)
		}
	}
	return nil
}

// sameRegion holds a part to its parent's location.
func (o *operation) sameRegion(other *Resource) error {
	if other.Body.Text("location") != o.body.Text("location") {
		return failure(400, "InvalidResourceLocation", "The resource %s must be in the location of %s, which is %s.", o.id, other.ID, other.Body.Text("location"))
	}
	return nil
}

func dnsRuleRules(o *operation) error {
	n := o.body.Number("properties", "priority")
	if n < 100 || n > 65000 {
		return failure(400, "InvalidRequestContent", "The priority of DNS security rule %s is %v, not between 100 and 65000.", o.id, n)
	}
	if o.body.Text("properties", "action", "actionType") == "" || len(o.body.List("properties", "dnsResolverDomainLists")) == 0 {
		return failure(400, "InvalidRequestContent", "DNS security rule %s needs an action and a domain list.", o.id)
	}
	for _, other := range o.s.parts(o.id.Parent(), typeDNSRule) {
		if !same(other.ID, o.id.text) && other.Body.Number("properties", "priority") == n {
			return failure(409, "Conflict", "DNS security rule %s already has the priority %v.", other.ID, n)
		}
	}
	for _, ref := range o.body.List("properties", "dnsResolverDomainLists") {
		if err := o.sameRegion(o.s.get(ref.Text("id"))); err != nil {
			return err
		}
	}
	o.body.Default("Enabled", "properties", "dnsSecurityRuleState")
	return o.sameRegion(o.s.get(o.id.Parent()))
}

func dnsLinkRules(o *operation) error {
	network := o.s.get(o.body.Text("properties", "virtualNetwork", "id"))
	if network == nil {
		return failure(400, "InvalidRequestContent", "The virtual network link %s names no virtual network.", o.id)
	}
	for _, other := range o.s.ofType(typeDNSLink) {
		if !same(other.ID, o.id.text) && same(other.Body.Text("properties", "virtualNetwork", "id"), network.ID) {
			return failure(409, "Conflict", "Virtual network %s already has the DNS resolver policy link %s: it can have one.", network.ID, other.ID)
		}
	}
	if err := o.sameRegion(network); err != nil {
		return err
	}
	return o.sameRegion(o.s.get(o.id.Parent()))
}

func domainListRules(o *operation) error {
	all := o.body.Texts("properties", "domains")
	if len(all) == 0 {
		return failure(400, "InvalidRequestContent", "DNS resolver domain list %s has no domains.", o.id)
	}
	if i := slices.IndexFunc(all, func(s string) bool { return !strings.HasSuffix(s, ".") || strings.Contains(s, "*") }); i >= 0 {
		return failure(400, "InvalidRequestContent", "Domain '%s' of list %s is invalid: a domain ends with a dot and has no wildcard; it covers the names below it.", all[i], o.id)
	}
	if len(all) > 1000 {
		return failure(400, "InvalidRequestContent", "DNS resolver domain list %s has %d domains, more than 1000.", o.id, len(all))
	}
	return nil
}
