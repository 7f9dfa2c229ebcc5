package boot

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"

	"github.com/bulkhead-dev/bulkhead/components/preflight/routes"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// FeedsName is a publisher of threat feeds on the Internet; the front has it, or it does not answer.
const FeedsName = "feeds.contoso.com"

// FeedsAddr is where that publisher is.
var FeedsAddr = netip.MustParseAddr("45.79.14.30")

// Azure is the host of the storage accounts, vaults and the resource manager that machines reach, and of that publisher.
const Azure = "azure"

// Canary is a machine in another delegated subnet than the agents'.
const Canary = "canary"

// Delegation marks the subnets that agents run in.
const delegation = "Microsoft.App/environments"

// Where the data planes are in the lab. The tags and service endpoints of their services
// stand for these prefixes.
var (
	storageAddr = netip.MustParseAddr("20.60.8.1")
	vaultAddr   = netip.MustParseAddr("20.62.8.1")
	managerAddr = netip.MustParseAddr("20.64.8.1")
	serviceTags = map[string][]netip.Prefix{
		"Storage":              {netip.MustParsePrefix("20.60.0.0/16")},
		"AzureKeyVault":        {netip.MustParsePrefix("20.62.0.0/16")},
		"AzureActiveDirectory": {netip.MustParsePrefix("20.190.128.0/18")},
	}
	endpointTags = map[string]string{"Microsoft.Storage": "Storage", "Microsoft.KeyVault": "AzureKeyVault"}
)

// ErrNoGateway says that a state has no machine to boot, yet or any more.
var ErrNoGateway = errors.New("no machine has user data: there is no gateway to boot")

// plan is a network to build, and which machine boots.
type plan struct {
	network *lab.Network
	gateway string   // the machine's id
	records []string // that Azure's resolver has beside the lab's own
}

// plan makes the lab's description out of a state.
func (r *resources) plan() (*plan, error) {
	p := &plan{network: &lab.Network{}}
	for _, v := range sorted(r.vnets) {
		s, err := space(v)
		if err != nil {
			return nil, err
		}
		p.network.Space = append(p.network.Space, s...)
	}
	agents := r.agentSubnet()
	for _, id := range r.subnetIDs() {
		s, err := r.members(id, agents, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		if len(s.Machines) == 0 {
			continue
		}
		if s.Dev == "" {
			s.Dev = fmt.Sprintf("s-%.12s", name(id)) // an interface's name is short
		}
		if p.network.Subnet(s.Dev) != nil {
			return nil, fmt.Errorf("%s: the lab has a subnet of that name", id)
		}
		if err := r.govern(id, s); err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		p.network.Subnets = append(p.network.Subnets, *s)
	}
	if p.gateway == "" {
		return nil, ErrNoGateway
	}
	p.neighbours(r)
	p.names(r)
	p.network.Subnets = append(p.network.Subnets, lab.World()...)
	gate := netip.MustParsePrefix("10.255.4.1/24")
	p.network.Subnets = append(p.network.Subnets, lab.Subnet{Dev: "to-azure", Gate: gate,
		Machines: []lab.Machine{{Name: Azure, Addrs: []netip.Addr{netip.MustParseAddr("10.255.4.2"), storageAddr, vaultAddr, managerAddr, FeedsAddr}}}})
	return p, nil
}

func (r *resources) subnetIDs() (ids []string) {
	for id := range r.subnets {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func delegated(s *armnetwork.Subnet) bool {
	return s.Properties != nil && slices.ContainsFunc(s.Properties.Delegations, func(d *armnetwork.Delegation) bool {
		return d.Properties != nil && deref(d.Properties.ServiceName) == delegation
	})
}

// agentSubnet is the largest of those that are delegated; a canary's is the smallest that
// Azure takes.
func (r *resources) agentSubnet() string {
	best, bits := "", 33
	for _, id := range r.subnetIDs() {
		p, err := prefixes(r.subnets[id].Properties.AddressPrefix, r.subnets[id].Properties.AddressPrefixes)
		if delegated(r.subnets[id]) && err == nil && len(p) > 0 && p[0].Bits() < bits {
			best, bits = id, p[0].Bits()
		}
	}
	return best
}

// members lists who is in a subnet. A container service's own interfaces are no resources, so
// the agents are the lab's.
func (r *resources) members(subnet, agents string, p *plan) (*lab.Subnet, error) {
	props := r.subnets[subnet].Properties
	of, err := prefixes(props.AddressPrefix, props.AddressPrefixes)
	if err != nil || len(of) != 1 || !of[0].Addr().Is4() {
		return nil, fmt.Errorf("the lab has subnets with one IPv4 prefix, not %v (%v)", of, err)
	}
	s := &lab.Subnet{Gate: netip.PrefixFrom(of[0].Addr().Next(), of[0].Bits()), Isolated: true}
	resolver, err := r.resolver(subnet, nil)
	if err != nil {
		return nil, err
	}
	switch {
	case subnet == agents:
		s.Dev = "agents"
		for i, name := range []string{lab.InvoiceAgent, lab.ResearchAgent} {
			s.Machines = append(s.Machines, lab.Machine{Name: name, Addrs: []netip.Addr{nth(of[0], 20+i)}, Resolver: resolver})
		}
		return s, nil
	case delegated(r.subnets[subnet]):
		s.Machines = []lab.Machine{{Name: Canary, Addrs: []netip.Addr{nth(of[0], 20)}, Resolver: resolver}}
		return s, nil
	}
	var endpoints lab.Machine
	for _, nicID := range r.nicIDs() {
		nic := r.nics[nicID]
		addr, err := address(nic, subnet)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nicID, err)
		}
		if !addr.IsValid() {
			continue
		}
		if nic.Properties.PrivateEndpoint != nil {
			endpoints.Name = lab.PrivateEndpoints
			endpoints.Addrs = append(endpoints.Addrs, addr)
			continue
		}
		m := lab.Machine{Name: name(nicID), Addrs: []netip.Addr{addr}}
		if m.Resolver, err = r.resolver(subnet, nic); err != nil {
			return nil, err
		}
		if vm := r.machineOf(nic, nicID); vm != "" && r.machines[vm].Properties.UserData != nil {
			if p.gateway != "" {
				return nil, fmt.Errorf("%s and %s both have user data: the lab boots one gateway", name(p.gateway), name(vm))
			}
			p.gateway, m.Name, s.Dev = vm, lab.Gateway, "to-gateway"
		}
		s.Machines = append(s.Machines, m)
	}
	if endpoints.Name != "" {
		s.Machines = append(s.Machines, endpoints)
	}
	return s, nil
}

func (r *resources) nicIDs() (ids []string) {
	for id := range r.nics {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// nth is an address of a prefix, counted from its first.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}

// address is an interface's in a subnet.
func address(nic *armnetwork.Interface, subnet string) (netip.Addr, error) {
	if nic.Properties == nil {
		return netip.Addr{}, nil
	}
	for _, c := range nic.Properties.IPConfigurations {
		if c.Properties != nil && c.Properties.Subnet != nil && id(c.Properties.Subnet.ID) == subnet {
			return netip.ParseAddr(deref(c.Properties.PrivateIPAddress))
		}
	}
	return netip.Addr{}, nil
}

// machineOf finds the machine that has an interface: the one that names it, whatever the
// interface says.
func (r *resources) machineOf(_ *armnetwork.Interface, nicID string) string {
	for vmID, vm := range r.machines {
		if vm.Properties == nil || vm.Properties.NetworkProfile == nil {
			continue
		}
		for _, n := range vm.Properties.NetworkProfile.NetworkInterfaces {
			if id(n.ID) == nicID {
				return vmID
			}
		}
	}
	return ""
}

// resolver is what DHCP tells a machine: its interface's servers, or its network's, or Azure's.
func (r *resources) resolver(subnet string, nic *armnetwork.Interface) (netip.Addr, error) {
	var servers []*string
	if v := r.vnets[vnetOf(subnet)]; v != nil && v.Properties != nil && v.Properties.DhcpOptions != nil {
		servers = v.Properties.DhcpOptions.DNSServers
	}
	if nic != nil && nic.Properties.DNSSettings != nil && len(nic.Properties.DNSSettings.DNSServers) > 0 {
		servers = nic.Properties.DNSSettings.DNSServers
	}
	if len(servers) == 0 || deref(servers[0]) == "AzureProvidedDNS" {
		return lab.WireServer, nil
	}
	return netip.ParseAddr(deref(servers[0]))
}

// govern gives a subnet its effective routes and its security groups.
func (r *resources) govern(subnet string, s *lab.Subnet) error {
	props := r.subnets[subnet].Properties
	around, err := r.surroundings(subnet)
	if err != nil {
		return err
	}
	s.Table = r.table(subnet, *around)

	var user []netip.Prefix
	for _, u := range around.Table {
		user = append(user, u.Prefixes...)
	}
	known := slices.Clone(around.Network)
	for _, p := range around.Peerings {
		known = append(known, p.Prefixes...)
	}
	t := newTags(known, user, serviceTags)
	groups := []*armnetwork.SecurityGroup{props.NetworkSecurityGroup}
	for _, nicID := range r.nicIDs() {
		nic := r.nics[nicID]
		if addr, _ := address(nic, subnet); !addr.IsValid() || nic.Properties.NetworkSecurityGroup == nil {
			continue
		}
		if len(s.Machines) > 1 {
			return fmt.Errorf("%s has a security group of its own, and a neighbour: the lab's groups are subnets'", nicID)
		}
		groups = append(groups, nic.Properties.NetworkSecurityGroup)
	}
	for _, ref := range groups {
		if ref == nil {
			continue
		}
		g := r.groups[id(ref.ID)]
		if g == nil {
			return fmt.Errorf("security group %s is not in the state", deref(ref.ID))
		}
		out, err := t.filters(g, armnetwork.SecurityRuleDirectionOutbound)
		if err != nil {
			return err
		}
		in, err := t.filters(g, armnetwork.SecurityRuleDirectionInbound)
		if err != nil {
			return err
		}
		s.Outbound, s.Inbound = append(s.Outbound, out), append(s.Inbound, in)
	}
	return nil
}

// surroundings are what the effective routes of a subnet follow from.
func (r *resources) surroundings(subnet string) (*routes.Subnet, error) {
	props, vnet := r.subnets[subnet].Properties, r.vnets[vnetOf(subnet)]
	if vnet == nil {
		return nil, fmt.Errorf("its network is not in the state")
	}
	around := &routes.Subnet{Propagation: true}
	var err error
	if around.Network, err = space(vnet); err != nil {
		return nil, err
	}
	reachable := map[string]bool{vnetOf(subnet): true}
	for _, p := range vnet.Properties.VirtualNetworkPeerings {
		if deref(p.Properties.PeeringState) != armnetwork.VirtualNetworkPeeringStateConnected || p.Properties.RemoteVirtualNetwork == nil {
			continue
		}
		remote := id(p.Properties.RemoteVirtualNetwork.ID)
		peer := routes.Peering{Name: deref(p.Name)}
		if peer.Prefixes, err = space(r.vnets[remote]); err != nil {
			return nil, err
		}
		if a := p.Properties.RemoteAddressSpace; len(peer.Prefixes) == 0 && a != nil {
			if peer.Prefixes, err = prefixes(nil, a.AddressPrefixes); err != nil {
				return nil, err
			}
		}
		around.Peerings = append(around.Peerings, peer)
		reachable[remote] = true
	}
	for _, nicID := range r.nicIDs() {
		nic := r.nics[nicID]
		if nic.Properties == nil || nic.Properties.PrivateEndpoint == nil {
			continue
		}
		for _, c := range nic.Properties.IPConfigurations {
			in := id(c.Properties.Subnet.ID)
			if !reachable[vnetOf(in)] {
				continue
			}
			e := routes.Endpoint{Name: name(id(nic.Properties.PrivateEndpoint.ID))}
			if e.Address, err = netip.ParseAddr(deref(c.Properties.PrivateIPAddress)); err != nil {
				return nil, err
			}
			if e.Network, err = space(r.vnets[vnetOf(in)]); err != nil {
				return nil, err
			}
			if sub := r.subnets[in]; sub != nil {
				policies := string(deref(sub.Properties.PrivateEndpointNetworkPolicies))
				e.RoutePolicy = policies == "Enabled" || policies == "RouteTableEnabled"
			}
			around.Endpoints = append(around.Endpoints, e)
		}
	}
	for _, e := range props.ServiceEndpoints {
		tag, ok := endpointTags[deref(e.Service)]
		if !ok {
			return nil, fmt.Errorf("the lab has no service endpoint %s", deref(e.Service))
		}
		around.Services = append(around.Services, routes.Service{Name: deref(e.Service), Prefixes: serviceTags[tag]})
	}
	if props.RouteTable != nil {
		t := r.tables[id(props.RouteTable.ID)]
		if t == nil {
			return nil, fmt.Errorf("route table %s is not in the state", deref(props.RouteTable.ID))
		}
		if around.Table, err = userRoutes(t); err != nil {
			return nil, err
		}
		around.Propagation = !deref(t.Properties.DisableBgpRoutePropagation)
	}
	return around, nil
}

func userRoutes(t *armnetwork.RouteTable) (out []routes.UserRoute, err error) {
	for _, route := range t.Properties.Routes {
		u := routes.UserRoute{Name: deref(route.Name), Hop: routes.Hop(deref(route.Properties.NextHopType))}
		text := deref(route.Properties.AddressPrefix)
		if p, err := netip.ParsePrefix(text); err == nil {
			u.Prefixes = []netip.Prefix{p}
		} else if known, ok := serviceTags[text]; ok {
			u.Tag, u.Prefixes = text, known
		} else {
			return nil, fmt.Errorf("route %s: the lab has no service tag %q", u.Name, text)
		}
		if hop := deref(route.Properties.NextHopIPAddress); hop != "" {
			if u.Address, err = netip.ParseAddr(hop); err != nil {
				return nil, fmt.Errorf("route %s: %w", u.Name, err)
			}
		}
		out = append(out, u)
	}
	return out, nil
}

// table is what the fabric does with packets from a subnet.
func (r *resources) table(subnet string, around routes.Subnet) []lab.Route {
	out := []lab.Route{{Prefix: host, Way: lab.Pinned}, {Prefix: metadata, Way: lab.Pinned}}
	for _, e := range routes.Effective(around).Routes() {
		if !e.Active {
			continue
		}
		row := lab.Route{Prefix: e.Prefix, Way: lab.Direct}
		switch e.Hop {
		case routes.Internet:
			if !r.outbound(subnet) {
				row.Way = lab.Dropped
			}
		case routes.None, routes.Gateway:
			row.Way = lab.Dropped
		case routes.Appliance:
			if row.Way = lab.Dropped; r.forwards(e.Address) {
				row.Way, row.Via = lab.Via, e.Address
			}
		case routes.ServiceEndpoint:
			row.Way = lab.Pinned
		}
		out = append(out, row)
	}
	return out
}

// outbound says whether a subnet has a way to the internet: a NAT gateway, a public address, or
// Azure's default, which is on where nobody turned it off
// (learn.microsoft.com/azure/virtual-network/ip-services/default-outbound-access).
func (r *resources) outbound(subnet string) bool {
	props := r.subnets[subnet].Properties
	if props.NatGateway != nil || props.DefaultOutboundAccess == nil || *props.DefaultOutboundAccess {
		return true
	}
	for _, nic := range r.nics {
		if nic.Properties == nil {
			continue
		}
		for _, c := range nic.Properties.IPConfigurations {
			if c.Properties.Subnet != nil && id(c.Properties.Subnet.ID) == subnet && c.Properties.PublicIPAddress != nil {
				return true
			}
		}
	}
	return false
}

// forwards says whether an address is an interface's that may pass on what is not for it.
func (r *resources) forwards(a netip.Addr) bool {
	for _, nic := range r.nics {
		if nic.Properties == nil || !deref(nic.Properties.EnableIPForwarding) {
			continue
		}
		for _, c := range nic.Properties.IPConfigurations {
			if strings.EqualFold(deref(c.Properties.PrivateIPAddress), a.String()) {
				return true
			}
		}
	}
	return false
}

// names are the records of private zones that are linked to a network of the state.
func (p *plan) names(r *resources) {
	linked := map[string]bool{}
	for id, link := range r.zones {
		if link.Properties != nil && link.Properties.VirtualNetwork != nil && r.vnets[strings.ToLower(deref(link.Properties.VirtualNetwork.ID))] != nil {
			zone, _, _ := strings.Cut(id, "/virtualnetworklinks/")
			linked[zone] = true
		}
	}
	for id, set := range r.records {
		zone, _, _ := strings.Cut(id, "/a/")
		if !linked[zone] || set.Properties == nil {
			continue
		}
		for _, a := range set.Properties.ARecords {
			p.records = append(p.records, fmt.Sprintf("%s.%s. 300 IN A %s", name(id), name(zone), deref(a.IPv4Address)))
		}
	}
	slices.Sort(p.records)
}

// neighbours puts the lab's database into a peered network that has room for it.
func (p *plan) neighbours(r *resources) {
	for _, v := range r.vnets {
		for _, peer := range v.Properties.VirtualNetworkPeerings {
			if peer.Properties.RemoteAddressSpace == nil || p.network.Subnet("to-spoke") != nil {
				continue
			}
			remote, err := prefixes(nil, peer.Properties.RemoteAddressSpace.AddressPrefixes)
			if err == nil && slices.ContainsFunc(remote, func(q netip.Prefix) bool { return q.Contains(lab.DatabaseIP) }) {
				p.network.Space = append(p.network.Space, remote...)
				p.network.Subnets = append(p.network.Subnets, lab.Subnet{Dev: "to-spoke", Gate: netip.PrefixFrom(netip.MustParseAddr("10.30.4.1"), 24),
					Machines: []lab.Machine{{Name: lab.Database, Addrs: []netip.Addr{lab.DatabaseIP}}}})
			}
		}
	}
}
