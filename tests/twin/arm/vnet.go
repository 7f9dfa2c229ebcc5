package arm

import (
	"net/netip"
	"slices"
	"strings"
)

// prefixes reads the prefixes of a body at a path, one or several.
func prefixes(body Object, paths ...string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	var texts []string
	for _, p := range paths {
		path := strings.Split(p, ".")
		if s := body.Text(path...); s != "" {
			texts = append(texts, s)
		}
		texts = append(texts, body.Texts(path...)...)
	}
	for _, s := range texts {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, failure(400, "InvalidAddressPrefixFormat", "Address prefix %s of resource %s is not formatted correctly. It should follow CIDR notation, for example 10.0.0.0/24.", s, body.Text("id"))
		}
		if p != p.Masked() {
			return nil, failure(400, "InvalidCIDRNotation", "The address prefix %s of resource %s has an invalid CIDR notation. For the given prefix length, the address prefix should be %s.", s, body.Text("id"), p.Masked())
		}
		all = append(all, p)
	}
	return all, nil
}

func subnetPrefixes(body Object) ([]netip.Prefix, error) {
	all, err := prefixes(body, "properties.addressPrefix", "properties.addressPrefixes")
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all), err
}

func vnetPrefixes(body Object) ([]netip.Prefix, error) {
	return prefixes(body, "properties.addressSpace.addressPrefixes")
}

func overlapping(a, b []netip.Prefix) (netip.Prefix, netip.Prefix, bool) {
	for _, x := range a {
		for _, y := range b {
			if x.Overlaps(y) {
				return x, y, true
			}
		}
	}
	return netip.Prefix{}, netip.Prefix{}, false
}

func inside(p netip.Prefix, space []netip.Prefix) bool {
	return slices.ContainsFunc(space, func(s netip.Prefix) bool { return s.Bits() <= p.Bits() && s.Contains(p.Addr()) })
}

// vnetRules: an address space that does not overlap itself, what is peered, or leave a subnet out.
func vnetRules(o *operation) error {
	space, err := vnetPrefixes(o.body)
	if err != nil {
		return err
	}
	if len(space) == 0 {
		return failure(400, "InvalidRequestFormat", "Virtual network %s has no address space.", o.id.Name())
	}
	for i, p := range space {
		if _, other, ok := overlapping([]netip.Prefix{p}, space[:i]); ok {
			return failure(400, "VnetAddressSpaceOverlapsWithItself", "Address prefixes %s and %s of virtual network %s overlap.", p, other, o.id.Name())
		}
		if p.Addr().Is4() && (p.Bits() < 2 || p.Bits() > 29) {
			return failure(400, "InvalidAddressPrefixLength", "Address prefix %s of virtual network %s is invalid: /2 to /29.", p, o.id.Name())
		}
	}
	for _, server := range o.body.Texts("properties", "dhcpOptions", "dnsServers") {
		if _, err := netip.ParseAddr(server); err != nil {
			return failure(400, "InvalidDnsServerAddress", "DNS server %s of virtual network %s is not an IP address.", server, o.id.Name())
		}
	}
	for _, peering := range o.s.ofType(typePeering) {
		var far Object
		switch remote := peering.Body.Text("properties", "remoteVirtualNetwork", "id"); {
		case same(up(peering.ID), o.id.text):
			if r := o.s.get(remote); r != nil {
				far = r.Body
			}
		case same(remote, o.id.text):
			if r := o.s.get(up(peering.ID)); r != nil {
				far = r.Body
			}
		}
		other, err := vnetPrefixes(far)
		if err != nil {
			return err
		}
		if a, b, ok := overlapping(space, other); ok {
			return failure(400, "VnetAddressSpaceOverlapsWithRemoteVnet", "Address prefix %s of virtual network %s overlaps with %s of %s, which it is peered with.", a, o.id, b, far.Text("id"))
		}
	}
	return nil
}

func vnetFill(o *operation, r *Resource) {
	o.body.Default(false, "properties", "enableDdosProtection")
	o.body.Default("Disabled", "properties", "privateEndpointVNetPolicies")
	o.body.Default(uuid(r.ID+text(r.Made)), "properties", "resourceGuid")
}

// vnetAfter holds the subnets to the address space, which may have changed.
func vnetAfter(o *operation, r *Resource) error {
	space, err := vnetPrefixes(o.body)
	if err != nil {
		return err
	}
	for _, subnet := range o.s.parts(r.ID, typeSubnet) {
		own, err := subnetPrefixes(subnet.Body)
		if err != nil {
			return err
		}
		for _, p := range own {
			if !inside(p, space) {
				return failure(400, "NetcfgSubnetRangeOutsideVnet", "Subnet '%s' is not valid because its IP address range is outside the IP address range of virtual network '%s'.", last(subnet.ID), last(r.ID))
			}
		}
	}
	return nil
}

// vnetRemovable: nothing in a subnet, and no peering. Azure may take the peerings along where
// the twin wants them gone first; a program that passes here passes there.
func vnetRemovable(o *operation) error {
	for _, subnet := range o.s.parts(o.id.text, typeSubnet) {
		id, err := ParseID(subnet.ID)
		if err != nil {
			return err
		}
		if err := subnetRemovable(&operation{s: o.s, id: id, old: subnet.Body}); err != nil {
			return err
		}
	}
	if peerings := o.s.parts(o.id.text, typePeering); len(peerings) > 0 {
		return failure(400, "InUseVirtualNetworkCannotBeDeleted", "Virtual network %s has the peering %s and cannot be deleted.", o.id.Name(), last(peerings[0].ID))
	}
	return inUse("InUseVirtualNetworkCannotBeDeleted", "Virtual network %[1]s is in use by %[2]s and cannot be deleted.")(o)
}

// delegations are the service names, byte for byte as they were given.
func delegations(subnet Object) []string {
	var all []string
	for _, d := range subnet.List("properties", "delegations") {
		all = append(all, d.Text("properties", "serviceName"))
	}
	return all
}

// delegable are services that a subnet may be delegated to. Azure takes any case here, and
// Container Apps compares byte for byte, three quarters of an hour later.
var delegable = []string{"Microsoft.App/environments", "Microsoft.Web/serverFarms", "Microsoft.ContainerInstance/containerGroups",
	"Microsoft.DBforPostgreSQL/flexibleServers", "Microsoft.Sql/managedInstances", "Microsoft.Network/dnsResolvers", "Microsoft.Netapp/volumes"}

// subnetRules: within the network, beside the other subnets, and nothing taken from under what
// lives in it.
func subnetRules(o *operation) error {
	vnet := o.s.get(o.id.Parent())
	own, err := subnetPrefixes(o.body)
	if err != nil {
		return err
	}
	space, err := vnetPrefixes(vnet.Body)
	if err != nil {
		return err
	}
	if len(own) == 0 {
		return failure(400, "SubnetAddressPrefixMissing", "Subnet '%s' has no address prefix.", o.id.Name())
	}
	for _, p := range own {
		if !inside(p, space) {
			return failure(400, "NetcfgSubnetRangeOutsideVnet", "Subnet '%s' is not valid because its IP address range is outside the IP address range of virtual network '%s'.", o.id.Name(), last(vnet.ID))
		}
		if p.Addr().Is4() && p.Bits() > 29 {
			return failure(400, "NetcfgInvalidSubnet", "Subnet '%s' is not valid in virtual network '%s'.", o.id.Name(), last(vnet.ID))
		}
	}
	for _, other := range o.s.parts(vnet.ID, typeSubnet) {
		theirs, err := subnetPrefixes(other.Body)
		if err != nil {
			return err
		}
		if _, _, ok := overlapping(own, theirs); ok && !same(other.ID, o.id.text) {
			return failure(400, "NetcfgSubnetRangesOverlap", "Subnet '%s' is not valid because its IP address range overlaps with that of an existing subnet in virtual network '%s'.", o.id.Name(), last(vnet.ID))
		}
	}
	for _, name := range delegations(o.body) {
		if !slices.ContainsFunc(delegable, func(s string) bool { return same(s, name) }) {
			return failure(400, "InvalidServiceNameOnDelegation", "Service name %s on the delegation of subnet %s is not valid.", name, o.id)
		}
	}
	if len(delegations(o.body)) > 1 {
		return failure(400, "SubnetHasMultipleDelegations", "Subnet %s cannot have more than one delegation.", o.id)
	}
	for _, id := range []string{o.body.Text("properties", "networkSecurityGroup", "id"), o.body.Text("properties", "routeTable", "id"), o.body.Text("properties", "natGateway", "id")} {
		if r := o.s.get(id); r != nil && r.Body.Text("location") != vnet.Body.Text("location") {
			return unknownReference(o.id, id)
		}
	}
	if len(own) > 0 && own[0].Addr().Is6() && o.body.Object("properties", "natGateway") != nil {
		return failure(400, "NatGatewayCannotBeAttachedToIpv6Subnet", "NAT gateway cannot be attached to subnet %s, which has no IPv4 prefix.", o.id)
	}
	if o.old == nil {
		return nil
	}
	return o.subnetChange(own)
}

// subnetChange is about what cannot change while somebody lives there.
func (o *operation) subnetChange(own []netip.Prefix) error {
	if old, _ := o.old.At("properties", "defaultOutboundAccess").(bool); o.old.At("properties", "defaultOutboundAccess") != nil && o.body.At("properties", "defaultOutboundAccess") != nil && old != o.body.True("properties", "defaultOutboundAccess") {
		if len(residents(o.s, o.id.text)) > 0 {
			return failure(400, "DefaultOutboundAccessCannotBeChanged", "Property defaultOutboundAccess of subnet %s cannot be changed while the subnet is in use.", o.id)
		}
	}
	users := residents(o.s, o.id.text)
	if len(users) == 0 {
		return nil
	}
	before, err := subnetPrefixes(o.old)
	if err != nil {
		return err
	}
	if !slices.Equal(before, own) {
		return failure(400, "InUsePrefixCannotBeDeleted", "IpPrefix %s on Subnet %s has active allocations and cannot be deleted. See aka.ms/deletesubnet. In use by %s.", before[0], o.id.Name(), strings.Join(users, ", "))
	}
	if !slices.Equal(delegations(o.old), delegations(o.body)) {
		return failure(400, "SubnetMissingRequiredDelegation", "Subnet %s requires any of the following delegation(s) [%s] to reference service association link %s. The delegation cannot be changed while the subnet is in use.", o.id, strings.Join(delegations(o.old), ", "), strings.Join(users, ", "))
	}
	return nil
}

// residents are what keeps a subnet from being deleted: IP configurations and service
// association links.
func residents(s *State, subnet string) []string {
	var all []string
	for _, nic := range s.ofType(typeNIC) {
		for _, ip := range nic.Body.List("properties", "ipConfigurations") {
			if same(ip.Text("properties", "subnet", "id"), subnet) {
				all = append(all, ip.Text("id"))
			}
		}
	}
	return append(all, links(s, subnet)...)
}

// links are a subnet's service association links. The one of a Foundry account stays until the
// account is purged and Azure has let go of the subnet, whatever the portal says of it.
func links(s *State, subnet string) []string {
	var all []string
	link := subnet + "/serviceAssociationLinks/legionservicelink"
	for _, e := range s.ofType(typeEnvironment) {
		if same(e.Body.Text("properties", "vnetConfiguration", "infrastructureSubnetId"), subnet) {
			all = append(all, link)
		}
	}
	if s.Lingering[key(subnet)] > 0 {
		all = append(all, link)
	}
	accounts := s.ofType(typeAccount)
	for _, r := range s.Deleted {
		if same(r.Type, typeAccount) {
			accounts = append(accounts, r)
		}
	}
	for _, a := range accounts {
		for _, injection := range a.Body.List("properties", "networkInjections") {
			if same(injection.Text("subnetArmId"), subnet) {
				all = append(all, link)
			}
		}
	}
	return all
}

func subnetFill(o *operation, _ *Resource) {
	o.body.Default("Disabled", "properties", "privateEndpointNetworkPolicies")
	o.body.Default("Enabled", "properties", "privateLinkServiceNetworkPolicies")
	o.body.Default([]any{}, "properties", "delegations")
	for _, d := range o.body.List("properties", "delegations") {
		d.Set(o.id.Child("delegations", d.Text("name")), "id")
		d.Set("Succeeded", "properties", "provisioningState")
		d.Set(typeSubnet+"/delegations", "type")
	}
	for _, e := range o.body.List("properties", "serviceEndpoints") {
		e.Set("Succeeded", "provisioningState")
		if o.s.get(o.id.Parent()) != nil && e.At("locations") == nil {
			e.Set([]any{"*"}, "locations")
		}
	}
}

func subnetShow(s *State, r *Resource, body Object) {
	if all := links(s, r.ID); len(all) > 0 {
		service := "Microsoft.App/environments"
		body.Set([]any{map[string]any{"id": all[0], "name": last(all[0]), "type": typeSubnet + "/serviceAssociationLinks", "properties": map[string]any{
			"allowDelete": false, "linkedResourceType": service, "link": "", "provisioningState": "Succeeded"}}}, "properties", "serviceAssociationLinks")
	}
}

func subnetRemovable(o *operation) error {
	if users := residents(o.s, o.id.text); len(users) > 0 {
		return failure(400, "InUseSubnetCannotBeDeleted", "Subnet %s is in use by %s and cannot be deleted. In order to delete the subnet, delete all the resources within the subnet. See aka.ms/deletesubnet.", o.id.Name(), strings.Join(users, ", "))
	}
	for _, u := range o.s.users(o.id.text) {
		if same(u.Type, typeEndpoint) { // its interface says so already; it may be on its way
			return failure(400, "InUseSubnetCannotBeDeleted", "Subnet %s is in use by %s and cannot be deleted. In order to delete the subnet, delete all the resources within the subnet. See aka.ms/deletesubnet.", o.id.Name(), u.ID)
		}
	}
	return nil
}

func peeringRules(o *operation) error {
	remote := o.body.Text("properties", "remoteVirtualNetwork", "id")
	far := o.s.get(remote)
	near := o.s.get(o.id.Parent())
	switch {
	case remote == "":
		return failure(400, "RemoteVirtualNetworkMissing", "Peering %s names no remote virtual network.", o.id)
	case far == nil:
		return unknownReference(o.id, remote)
	case same(far.ID, near.ID):
		return failure(400, "RemoteVnetSameAsLocal", "Peering %s: a virtual network cannot be peered with itself.", o.id)
	case o.old != nil && !same(o.old.Text("properties", "remoteVirtualNetwork", "id"), remote):
		return failure(400, "ChangingRemoteVirtualNetworkNotAllowed", "Changing the remote virtual network of peering %s is not allowed.", o.id)
	}
	for _, p := range o.s.parts(near.ID, typePeering) {
		if !same(p.ID, o.id.text) && same(p.Body.Text("properties", "remoteVirtualNetwork", "id"), remote) {
			return failure(400, "PeeringToSameRemoteVnetAlreadyExists", "Virtual network %s already has the peering %s to %s.", near.ID, last(p.ID), remote)
		}
	}
	a, err := vnetPrefixes(near.Body)
	if err != nil {
		return err
	}
	b, err := vnetPrefixes(far.Body)
	if err != nil {
		return err
	}
	if x, y, ok := overlapping(a, b); ok {
		return failure(400, "VnetAddressSpacesOverlap", "Cannot create or update peering %s. Virtual networks %s and %s cannot be peered because their address spaces overlap. Overlapping address prefixes: %s, %s", o.id, near.ID, far.ID, x, y)
	}
	if o.body.True("properties", "useRemoteGateways") && o.body.True("properties", "allowGatewayTransit") {
		return failure(400, "PeeringGatewayTransitAndUseRemoteGateways", "Peering %s cannot both use the remote gateway and allow transit through its own.", o.id)
	}
	return nil
}

func peeringFill(o *operation, r *Resource) {
	far := o.s.get(o.body.Text("properties", "remoteVirtualNetwork", "id"))
	o.body.Default(true, "properties", "allowVirtualNetworkAccess")
	for _, k := range []string{"allowForwardedTraffic", "allowGatewayTransit", "useRemoteGateways"} {
		o.body.Default(false, "properties", k)
	}
	space := far.Body.Clone().At("properties", "addressSpace")
	o.body.Set(space, "properties", "remoteAddressSpace")
	o.body.Set(clone(space), "properties", "remoteVirtualNetworkAddressSpace")
	o.body.Set("FullyInSync", "properties", "peeringSyncLevel")
	o.body.Set("Initiated", "properties", "peeringState")
}

// back is the other side's peering.
func back(s *State, near string, body Object) *Resource {
	for _, p := range s.parts(body.Text("properties", "remoteVirtualNetwork", "id"), typePeering) {
		if same(p.Body.Text("properties", "remoteVirtualNetwork", "id"), near) {
			return p
		}
	}
	return nil
}

// peeringAfter: a peering is connected once both sides have one.
func peeringAfter(o *operation, r *Resource) error {
	if other := back(o.s, up(r.ID), o.body); other != nil {
		r.Body.Set("Connected", "properties", "peeringState")
		other.Body.Set("Connected", "properties", "peeringState")
	}
	return nil
}

func peeringRemoved(o *operation, r *Resource) {
	if other := back(o.s, up(r.ID), r.Body); other != nil {
		other.Body.Set("Disconnected", "properties", "peeringState")
	}
}
