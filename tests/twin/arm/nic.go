package arm

import (
	"net/netip"
	"slices"
	"strings"
)

// Azure keeps the first four addresses of a subnet and the last one.
func reserved(p netip.Prefix, a netip.Addr) bool {
	first := p.Addr()
	for range 4 {
		if a == first {
			return true
		}
		first = first.Next()
	}
	return a.Is4() && a == lastOf(p)
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// occupied are the addresses of a subnet that interfaces have, with the configuration that has
// each. The interface except is left out.
func occupied(s *State, subnet, except string) map[netip.Addr]string {
	all := map[netip.Addr]string{}
	for _, nic := range s.ofType(typeNIC) {
		if same(nic.ID, except) {
			continue
		}
		for _, ip := range nic.Body.List("properties", "ipConfigurations") {
			if a, err := netip.ParseAddr(ip.Text("properties", "privateIPAddress")); err == nil && same(ip.Text("properties", "subnet", "id"), subnet) {
				all[a] = ip.Text("id")
			}
		}
	}
	return all
}

// allocate is the first address of a subnet that is free, as Azure hands them out.
func allocate(s *State, subnet *Resource, except string, taken map[netip.Addr]bool) (netip.Addr, error) {
	all, err := subnetPrefixes(subnet.Body)
	if err != nil {
		return netip.Addr{}, err
	}
	busy := occupied(s, subnet.ID, except)
	for _, p := range all {
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			if busy[a] == "" && !reserved(p, a) && !taken[a] {
				return a, nil
			}
		}
	}
	return netip.Addr{}, failure(400, "SubnetIsFull", "Subnet %s with address prefix %s does not have enough capacity for 1 IP addresses.", last(subnet.ID), all[0])
}

func nicRules(o *operation) error {
	configs := o.body.List("properties", "ipConfigurations")
	if len(configs) == 0 {
		return failure(400, "NetworkInterfaceMustHaveAtLeastOneIPConfiguration", "Network interface %s must have at least one IP configuration.", o.id)
	}
	primary := 0
	taken := map[netip.Addr]bool{}
	var vnet string
	for _, ip := range configs {
		if ip.Text("name") == "" {
			return failure(400, "InvalidRequestFormat", "Cannot parse the request. Details: an IP configuration of %s has no name.", o.id)
		}
		ip.Set(o.id.Child("ipConfigurations", ip.Text("name")), "id")
		if ip.True("properties", "primary") {
			primary++
		}
		if err := o.configure(ip, taken); err != nil {
			return err
		}
		if v := up(ip.Text("properties", "subnet", "id")); vnet == "" {
			vnet = v
		} else if !same(v, vnet) {
			return failure(400, "AllIpConfigurationsMustBeInSameVnet", "All IP configurations of network interface %s must be in the same virtual network.", o.id)
		}
	}
	switch {
	case len(configs) == 1:
		configs[0].Set(true, "properties", "primary")
	case primary != 1:
		return failure(400, "NetworkInterfaceMustHaveOnePrimaryIPConfiguration", "Network interface %s must have one and only one IP configuration as the primary.", o.id)
	}
	if r := o.s.get(vnet); r.Body.Text("location") != o.body.Text("location") {
		return unknownReference(o.id, vnet)
	}
	if r := o.s.get(o.body.Text("properties", "networkSecurityGroup", "id")); r != nil && r.Body.Text("location") != o.body.Text("location") {
		return unknownReference(o.id, r.ID)
	}
	for _, server := range o.body.Texts("properties", "dnsSettings", "dnsServers") {
		if _, err := netip.ParseAddr(server); err != nil && server != "AzureProvidedDNS" {
			return failure(400, "InvalidDnsServerAddress", "DNS server %s of network interface %s is not an IP address.", server, o.id)
		}
	}
	if o.old != nil {
		if machine := o.s.get(o.old.Text("properties", "virtualMachine", "id")); machine != nil {
			if !accelerates(machine.Body.Text("properties", "hardwareProfile", "vmSize")) && o.body.True("properties", "enableAcceleratedNetworking") {
				return noAcceleration(machine.Body)
			}
		}
	}
	return nil
}

// configure settles one IP configuration.
func (o *operation) configure(ip Object, taken map[netip.Addr]bool) error {
	subnet := o.s.get(ip.Text("properties", "subnet", "id"))
	if subnet == nil {
		return failure(400, "SubnetNotSpecified", "IP configuration %s has no subnet.", ip.Text("id"))
	}
	if d := delegations(subnet.Body); len(d) > 0 {
		return failure(400, "SubnetDelegatedToOtherService", "Subnet %s is delegated to %s and cannot hold network interface %s. The virtual network resource provider only lets the delegated service place resources there.", subnet.ID, d[0], o.id)
	}
	all, err := subnetPrefixes(subnet.Body)
	if err != nil {
		return err
	}
	method, given := ip.Text("properties", "privateIPAllocationMethod"), ip.Text("properties", "privateIPAddress")
	switch {
	case same(method, "Static") && given == "":
		return failure(400, "StaticPrivateIPAddressNotSpecified", "IP configuration %s has the allocation method Static and no private IP address.", ip.Text("id"))
	case !same(method, "Static"):
		// A dynamic address stays while the interface stays in its subnet, and one that was
		// asked for is passed over.
		ip.Set("Dynamic", "properties", "privateIPAllocationMethod")
		ip.Remove("properties", "privateIPAddress")
		for _, before := range o.old.List("properties", "ipConfigurations") {
			if same(before.Text("name"), ip.Text("name")) && same(before.Text("properties", "subnet", "id"), subnet.ID) {
				ip.Set(before.Text("properties", "privateIPAddress"), "properties", "privateIPAddress")
			}
		}
		if ip.Text("properties", "privateIPAddress") == "" {
			a, err := allocate(o.s, subnet, o.id.text, taken)
			if err != nil {
				return err
			}
			ip.Set(a.String(), "properties", "privateIPAddress")
		}
	default:
		a, err := netip.ParseAddr(given)
		if err != nil {
			return failure(400, "InvalidIPAddress", "Private static IP address %s of IP configuration %s is not a valid IP address.", given, ip.Text("id"))
		}
		at := slices.IndexFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
		if at < 0 {
			return failure(400, "PrivateIPAddressNotInSubnet", "Private static IP address %s does not belong to the range of subnet prefix %s.", a, all[0])
		}
		if reserved(all[at], a) {
			return failure(400, "PrivateIPAddressInReservedRange", "Private static IP address %s falls within reserved IP range of subnet prefix %s.", a, all[at])
		}
		if by := occupied(o.s, subnet.ID, o.id.text)[a]; by != "" || taken[a] {
			return failure(400, "PrivateIPAddressInUse", "IP configuration %s is using the private IP address %s which is already allocated to resource %s.", ip.Text("id"), a, by)
		}
	}
	if a, err := netip.ParseAddr(ip.Text("properties", "privateIPAddress")); err == nil {
		taken[a] = true
	}
	ip.Default("IPv4", "properties", "privateIPAddressVersion")
	ip.Set("Succeeded", "properties", "provisioningState")
	ip.Set("Microsoft.Network/networkInterfaces/ipConfigurations", "type")
	return o.attach(ip)
}

// attach checks an IP configuration's public address.
func (o *operation) attach(ip Object) error {
	public := o.s.get(ip.Text("properties", "publicIPAddress", "id"))
	if public == nil {
		return nil
	}
	if public.Body.Text("location") != o.body.Text("location") {
		return unknownReference(o.id, public.ID)
	}
	for _, u := range o.s.users(public.ID) {
		if !same(u.ID, o.id.text) {
			return failure(400, "PublicIPAddressInUse", "Resource %s is referencing public IP address %s that is already allocated to resource %s.", ip.Text("id"), public.ID, u.ID)
		}
	}
	return nil
}

func nicFill(o *operation, r *Resource) {
	for _, k := range []string{"enableAcceleratedNetworking", "enableIPForwarding", "vnetEncryptionSupported", "disableTcpStateTracking"} {
		o.body.Default(false, "properties", k)
	}
	o.body.Default([]any{}, "properties", "dnsSettings", "dnsServers")
	o.body.Default("Standard", "properties", "nicType")
	o.body.Default("None", "properties", "auxiliaryMode")
	o.body.Set("00-0D-3A-"+strings.ToUpper(strings.Join([]string{uuid(r.ID)[:2], uuid(r.ID)[2:4], uuid(r.ID)[4:6]}, "-")), "properties", "macAddress")
	if machine := o.old.Text("properties", "virtualMachine", "id"); machine != "" {
		o.body.Set(machine, "properties", "virtualMachine", "id")
		o.body.Set(true, "properties", "primary")
	}
}

func nicRemovable(o *operation) error {
	for _, u := range o.s.users(o.id.text) {
		if same(u.Type, typeVM) {
			return failure(400, "NicInUse", "Network Interface %s is used by existing resource %s. In order to delete the network interface, it must be dissociated from the resource. To learn more, see aka.ms/deletenic.", o.id, u.ID)
		}
	}
	if e := o.old.Text("properties", "privateEndpoint", "id"); e != "" && o.s.get(e) != nil {
		return failure(400, "NicInUseWithPrivateEndpoint", "Network Interface %s is used by existing resource %s. In order to delete the network interface, it must be dissociated from the resource.", o.id, e)
	}
	return nil
}

func publicIPRules(o *operation) error {
	sku := o.body.Text("sku", "name")
	switch method := o.body.Text("properties", "publicIPAllocationMethod"); {
	case sku == "Basic":
		return failure(400, "BasicSkuPublicIPRetired", "Basic SKU public IP addresses are retired; %s must be Standard.", o.id)
	case sku == "":
		// What no SKU means has changed with API versions; name it.
		return failure(400, "PublicIPAddressSkuMissing", "Public IP address %s has no SKU.", o.id)
	case !same(method, "Static"):
		return failure(400, "PublicIPAddressWithStandardSkuMustBeStatic", "Standard sku publicIp %s must have AllocationMethod set to Static.", o.id)
	}
	if o.old != nil {
		if o.old.Text("sku", "name") != sku {
			return failure(400, "PublicIPAddressSkuCannotBeChanged", "The SKU of public IP address %s cannot be changed.", o.id)
		}
		if !slices.Equal(o.old.Texts("zones"), o.body.Texts("zones")) {
			return failure(400, "ResourceAvailabilityZonesCannotBeModified", "Resource %s has an existing availability zone constraint %s and the request has availability zone constraint %s, which do not match. Zones cannot be added/updated/removed once the resource is created.", o.id, strings.Join(o.old.Texts("zones"), ", "), strings.Join(o.body.Texts("zones"), ", "))
		}
	}
	return zones(o, 3)
}

func publicIPFill(o *operation, r *Resource) {
	o.body.Default("IPv4", "properties", "publicIPAddressVersion")
	o.body.Default(4.0, "properties", "idleTimeoutInMinutes")
	o.body.Default("Regional", "sku", "tier")
	if have := o.old.Text("properties", "ipAddress"); have != "" {
		o.body.Set(have, "properties", "ipAddress")
		return
	}
	// TEST-NET-2 of RFC 5737, in the order in which they are asked for.
	taken := map[string]bool{}
	for _, other := range o.s.ofType(typePublicIP) {
		taken[other.Body.Text("properties", "ipAddress")] = true
	}
	a := netip.MustParseAddr("198.51.100.1")
	for taken[a.String()] {
		a = a.Next()
	}
	o.body.Set(a.String(), "properties", "ipAddress")
}

// zones checks availability zones: 1 to 3, and at most so many.
func zones(o *operation, most int) error {
	all := o.body.Texts("zones")
	for _, z := range all {
		if z != "1" && z != "2" && z != "3" {
			return failure(400, "InvalidAvailabilityZone", "The zone(s) '%s' for resource '%s' is not supported. The supported zones for location '%s' are '1,2,3'.", z, nested(o.id), o.body.Text("location"))
		}
	}
	if len(all) > most {
		return failure(400, "TooManyZones", "The resource '%s' has too many zones specified: %s. At most %d can be.", nested(o.id), strings.Join(all, ", "), most)
	}
	return nil
}

func natRules(o *operation) error {
	if sku := o.body.Text("sku", "name"); !strings.HasPrefix(sku, "Standard") {
		return failure(400, "NatGatewaySkuMissing", "NAT gateway %s must have the SKU Standard.", o.id)
	}
	for _, ref := range o.body.List("properties", "publicIpAddresses") {
		public := o.s.get(ref.Text("id"))
		if public == nil {
			continue
		}
		if public.Body.Text("location") != o.body.Text("location") {
			return unknownReference(o.id, public.ID)
		}
		for _, u := range o.s.users(public.ID) {
			if !same(u.ID, o.id.text) {
				return failure(400, "PublicIPAddressInUse", "Resource %s is referencing public IP address %s that is already allocated to resource %s.", o.id, public.ID, u.ID)
			}
		}
	}
	if o.old != nil && !slices.Equal(o.old.Texts("zones"), o.body.Texts("zones")) {
		return failure(400, "ResourceAvailabilityZonesCannotBeModified", "Resource %s has an existing availability zone constraint. Zones cannot be added/updated/removed once the resource is created.", o.id)
	}
	return zones(o, 1)
}
