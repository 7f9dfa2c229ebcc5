package azure

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	net "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

func (r *reader) networks(ctx context.Context) error {
	client, err := net.NewVirtualNetworksClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	own, err := client.Get(ctx, r.scope.ResourceGroup, r.scope.VNet, nil)
	if absent(err) {
		r.inv.VNets = []preflight.VNet{}
		return nil
	}
	if err != nil {
		return err
	}
	networks := []preflight.VNet{network(&own.VirtualNetwork)}
	for _, p := range networks[0].Peerings {
		id, err := parseID(p.Remote)
		if err != nil {
			r.partial("peered network "+p.Remote, err)
			continue
		}
		remote, err := net.NewVirtualNetworksClient(id.subscription, r.credential, r.scope.Options)
		if err != nil {
			return err
		}
		peer, err := remote.Get(ctx, id.group, id.name, nil)
		if err != nil {
			r.partial("peered network "+p.Remote, err)
			continue
		}
		networks = append(networks, network(&peer.VirtualNetwork))
	}
	r.inv.VNets = networks
	return nil
}

func network(n *net.VirtualNetwork) preflight.VNet {
	out := preflight.VNet{ID: val(n.ID), Location: val(n.Location), Prefixes: []netip.Prefix{}, DNSServers: []netip.Addr{},
		Subnets: []preflight.Subnet{}, Peerings: []preflight.Peering{}}
	p := n.Properties
	if p == nil {
		return out
	}
	if p.AddressSpace != nil {
		out.Prefixes = parsePrefixes(p.AddressSpace.AddressPrefixes)
	}
	if p.DhcpOptions != nil {
		out.DNSServers = parseAddrs(p.DhcpOptions.DNSServers)
	}
	out.PrivateEndpointPolicies = text(p.PrivateEndpointVNetPolicies)
	for _, s := range p.Subnets {
		out.Subnets = append(out.Subnets, subnet(s))
	}
	for _, peer := range p.VirtualNetworkPeerings {
		if peer.Properties == nil {
			continue
		}
		one := preflight.Peering{ID: val(peer.ID), State: text(peer.Properties.PeeringState), UsesRemoteGateway: val(peer.Properties.UseRemoteGateways), Prefixes: []netip.Prefix{}}
		if peer.Properties.RemoteVirtualNetwork != nil {
			one.Remote = val(peer.Properties.RemoteVirtualNetwork.ID)
		}
		// What is routed is what was last synchronised; the other is what it will be.
		for _, space := range []*net.AddressSpace{peer.Properties.RemoteAddressSpace, peer.Properties.RemoteVirtualNetworkAddressSpace} {
			if space == nil {
				continue
			}
			for _, prefix := range parsePrefixes(space.AddressPrefixes) {
				if !slices.Contains(one.Prefixes, prefix) {
					one.Prefixes = append(one.Prefixes, prefix)
				}
			}
		}
		out.Peerings = append(out.Peerings, one)
	}
	return out
}

func subnet(s *net.Subnet) preflight.Subnet {
	out := preflight.Subnet{ID: val(s.ID), Delegations: []string{}, ServiceEndpoints: []string{}, Associations: []preflight.Association{}}
	p := s.Properties
	if p == nil {
		return out
	}
	out.Prefixes = parsePrefixes(p.AddressPrefixes)
	if p.AddressPrefix != nil && len(out.Prefixes) == 0 {
		out.Prefixes = parsePrefixes([]*string{p.AddressPrefix})
	}
	for _, d := range p.Delegations {
		if d.Properties != nil {
			out.Delegations = append(out.Delegations, val(d.Properties.ServiceName))
		}
	}
	for _, e := range p.ServiceEndpoints {
		out.ServiceEndpoints = append(out.ServiceEndpoints, val(e.Service))
	}
	if p.RouteTable != nil {
		out.RouteTable = val(p.RouteTable.ID)
	}
	if p.NetworkSecurityGroup != nil {
		out.NSG = val(p.NetworkSecurityGroup.ID)
	}
	if p.NatGateway != nil {
		out.NATGateway = val(p.NatGateway.ID)
	}
	out.DefaultOutbound = p.DefaultOutboundAccess
	out.PrivateEndpointPolicies = text(p.PrivateEndpointNetworkPolicies)
	for _, l := range p.ServiceAssociationLinks {
		one := preflight.Association{Name: val(l.Name)}
		if l.Properties != nil {
			one.Type, one.Link = val(l.Properties.LinkedResourceType), val(l.Properties.Link)
		}
		out.Associations = append(out.Associations, one)
	}
	return out
}

// privateEndpoints reads those of every subscription that a network is in. A peered network
// whose endpoints may not be read is taken out again, so that no guard takes it for known.
func (r *reader) privateEndpoints(ctx context.Context) error {
	if err := r.needs(preflight.PartVNets); err != nil {
		return err
	}
	all := []preflight.PrivateEndpoint{}
	read := map[string]error{}
	for _, v := range r.inv.VNets {
		id, err := parseID(v.ID)
		if err != nil {
			return err
		}
		if _, done := read[id.subscription]; done {
			continue
		}
		some, err := r.endpointsOf(ctx, id.subscription)
		if read[id.subscription] = err; err != nil && id.subscription == r.scope.Subscription {
			return err
		}
		all = append(all, some...)
	}
	r.inv.VNets = slices.DeleteFunc(r.inv.VNets, func(v preflight.VNet) bool {
		id, _ := parseID(v.ID)
		err := read[id.subscription]
		if err != nil {
			r.partial("private endpoints of "+v.ID, err)
		}
		return err != nil
	})
	r.inv.PrivateEndpoints = all
	return nil
}

func (r *reader) endpointsOf(ctx context.Context, subscription string) ([]preflight.PrivateEndpoint, error) {
	client, err := net.NewPrivateEndpointsClient(subscription, r.credential, r.scope.Options)
	if err != nil {
		return nil, err
	}
	found, err := list(ctx, client.NewListBySubscriptionPager(nil), func(p net.PrivateEndpointsClientListBySubscriptionResponse) []*net.PrivateEndpoint { return p.Value })
	if err != nil {
		return nil, err
	}
	var out []preflight.PrivateEndpoint
	for _, e := range found {
		if e.Properties == nil || e.Properties.Subnet == nil {
			continue
		}
		one := preflight.PrivateEndpoint{ID: val(e.ID), Subnet: val(e.Properties.Subnet.ID), Addresses: []netip.Addr{}}
		for _, c := range slices.Concat(e.Properties.PrivateLinkServiceConnections, e.Properties.ManualPrivateLinkServiceConnections) {
			if c.Properties == nil {
				continue
			}
			one.Target = val(c.Properties.PrivateLinkServiceID)
			one.Group = strings.Join(texts(c.Properties.GroupIDs), ",")
			if c.Properties.PrivateLinkServiceConnectionState != nil {
				one.State = val(c.Properties.PrivateLinkServiceConnectionState.Status)
			}
		}
		for _, d := range e.Properties.CustomDNSConfigs {
			one.Addresses = append(one.Addresses, parseAddrs(d.IPAddresses)...)
		}
		for _, c := range e.Properties.IPConfigurations {
			if c.Properties != nil {
				one.Addresses = append(one.Addresses, parseAddrs([]*string{c.Properties.PrivateIPAddress})...)
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// interfaces reads those in the spoke's network, and gives the private endpoints theirs: with
// a zone group an endpoint tells its address only there.
func (r *reader) interfaces(ctx context.Context) error {
	if err := r.needs(preflight.PartVNets); err != nil {
		return err
	}
	client, err := net.NewInterfacesClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, client.NewListAllPager(nil), func(p net.InterfacesClientListAllResponse) []*net.Interface { return p.Value })
	if err != nil {
		return err
	}
	r.inv.NICs = []preflight.NIC{}
	for _, n := range found {
		r.addresses(n)
		if one, ok := nic(n); ok && r.inSpoke(one.Subnet) {
			r.inv.NICs = append(r.inv.NICs, one)
		}
	}
	return nil
}

func nic(n *net.Interface) (preflight.NIC, bool) {
	p := n.Properties
	if p == nil {
		return preflight.NIC{}, false
	}
	out := preflight.NIC{ID: val(n.ID), Location: val(n.Location), Forwarding: val(p.EnableIPForwarding), Accelerated: val(p.EnableAcceleratedNetworking)}
	if p.VirtualMachine != nil {
		out.VM = val(p.VirtualMachine.ID)
	}
	if p.NetworkSecurityGroup != nil {
		out.NSG = val(p.NetworkSecurityGroup.ID)
	}
	if p.PrivateEndpoint != nil {
		out.PrivateEndpoint = val(p.PrivateEndpoint.ID)
	}
	for _, c := range p.IPConfigurations {
		if c.Properties == nil || c.Properties.Subnet == nil || out.Subnet != "" && !val(c.Properties.Primary) {
			continue
		}
		out.Subnet, out.Address, out.Allocation = val(c.Properties.Subnet.ID), val(c.Properties.PrivateIPAddress), text(c.Properties.PrivateIPAllocationMethod)
		if c.Properties.PublicIPAddress != nil {
			out.PublicAddress = val(c.Properties.PublicIPAddress.ID)
		}
	}
	return out, out.Subnet != ""
}

// addresses gives a private endpoint all that its interface has: an account of Foundry has one
// for each of its zones, Cosmos DB one for each region and one for the account.
func (r *reader) addresses(n *net.Interface) {
	if n.Properties == nil || n.Properties.PrivateEndpoint == nil {
		return
	}
	i := slices.IndexFunc(r.inv.PrivateEndpoints, func(e preflight.PrivateEndpoint) bool {
		return same(e.ID, val(n.Properties.PrivateEndpoint.ID))
	})
	if i < 0 {
		return
	}
	e := &r.inv.PrivateEndpoints[i]
	for _, c := range n.Properties.IPConfigurations {
		if c.Properties == nil {
			continue
		}
		for _, a := range parseAddrs([]*string{c.Properties.PrivateIPAddress}) {
			if !slices.Contains(e.Addresses, a) {
				e.Addresses = append(e.Addresses, a)
			}
		}
	}
}

// each calls get for every distinct id that is not empty.
func each(ids []string, get func(resource) error) error {
	seen := map[string]bool{}
	for _, id := range ids {
		if key := strings.ToLower(id); id == "" || seen[key] {
			continue
		} else {
			seen[key] = true
		}
		where, err := parseID(id)
		if err != nil {
			return err
		}
		if err := get(where); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) routeTables(ctx context.Context) error {
	if err := r.needs(preflight.PartVNets); err != nil {
		return err
	}
	var ids []string
	if v := r.vnet(); v != nil {
		for _, s := range v.Subnets {
			ids = append(ids, s.RouteTable)
		}
	}
	all := []preflight.RouteTable{}
	err := each(ids, func(id resource) error {
		client, err := net.NewRouteTablesClient(id.subscription, r.credential, r.scope.Options)
		if err != nil {
			return err
		}
		t, err := client.Get(ctx, id.group, id.name, nil)
		if err != nil {
			return err
		}
		one := preflight.RouteTable{ID: val(t.ID), Routes: []preflight.Route{}}
		if t.Properties != nil {
			one.PropagateDisable = val(t.Properties.DisableBgpRoutePropagation)
			for _, u := range t.Properties.Routes {
				if u.Properties != nil {
					one.Routes = append(one.Routes, preflight.Route{Name: val(u.Name), Prefix: val(u.Properties.AddressPrefix),
						Hop: preflight.NextHop(text(u.Properties.NextHopType)), Address: val(u.Properties.NextHopIPAddress)})
				}
			}
		}
		all = append(all, one)
		return nil
	})
	if err == nil {
		r.inv.RouteTables = all
	}
	return err
}

func (r *reader) securityGroups(ctx context.Context) error {
	if err := r.needs(preflight.PartVNets, preflight.PartNICs); err != nil {
		return err
	}
	var ids []string
	if v := r.vnet(); v != nil {
		for _, s := range v.Subnets {
			ids = append(ids, s.NSG)
		}
	}
	for _, n := range r.inv.NICs {
		ids = append(ids, n.NSG)
	}
	all := []preflight.NSG{}
	err := each(ids, func(id resource) error {
		client, err := net.NewSecurityGroupsClient(id.subscription, r.credential, r.scope.Options)
		if err != nil {
			return err
		}
		g, err := client.Get(ctx, id.group, id.name, nil)
		if err != nil {
			return err
		}
		one := preflight.NSG{ID: val(g.ID), Rules: []preflight.NSGRule{}}
		if g.Properties != nil {
			for _, s := range g.Properties.SecurityRules {
				if s.Properties != nil {
					one.Rules = append(one.Rules, securityRule(val(s.Name), s.Properties))
				}
			}
		}
		all = append(all, one)
		return nil
	})
	if err == nil {
		r.inv.NSGs = all
	}
	return err
}

func securityRule(name string, p *net.SecurityRulePropertiesFormat) preflight.NSGRule {
	either := func(one *string, many []*string) []string {
		out := texts(many)
		if val(one) != "" {
			out = append(out, *one)
		}
		return out
	}
	return preflight.NSGRule{Name: name, Priority: int(val(p.Priority)), Direction: text(p.Direction), Access: text(p.Access), Protocol: text(p.Protocol),
		Sources: either(p.SourceAddressPrefix, p.SourceAddressPrefixes), Destinations: either(p.DestinationAddressPrefix, p.DestinationAddressPrefixes),
		Ports: either(p.DestinationPortRange, p.DestinationPortRanges)}
}

func (r *reader) loadBalancers(ctx context.Context) error {
	if err := r.needs(preflight.PartVNets); err != nil {
		return err
	}
	client, err := net.NewLoadBalancersClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, client.NewListAllPager(nil), func(p net.LoadBalancersClientListAllResponse) []*net.LoadBalancer { return p.Value })
	if err != nil {
		return err
	}
	r.inv.LoadBalancers = []preflight.LoadBalancer{}
	for _, l := range found {
		one := preflight.LoadBalancer{ID: val(l.ID), Frontends: []string{}, Backends: []string{}}
		if l.SKU != nil {
			one.SKU = text(l.SKU.Name)
		}
		if l.Properties == nil {
			continue
		}
		for _, f := range l.Properties.FrontendIPConfigurations {
			if f.Properties != nil && f.Properties.Subnet != nil && r.inSpoke(val(f.Properties.Subnet.ID)) {
				one.Frontends = append(one.Frontends, val(f.Properties.PrivateIPAddress))
			}
		}
		for _, rule := range l.Properties.LoadBalancingRules {
			if rule.Properties != nil && text(rule.Properties.Protocol) == "All" && val(rule.Properties.FrontendPort) == 0 {
				one.HAPorts = true
			}
		}
		for _, pool := range l.Properties.BackendAddressPools {
			if pool.Properties == nil {
				continue
			}
			for _, c := range pool.Properties.BackendIPConfigurations {
				if id, _, ok := strings.Cut(val(c.ID), "/ipConfigurations/"); ok {
					one.Backends = append(one.Backends, id)
				}
			}
		}
		if len(one.Frontends) > 0 {
			r.inv.LoadBalancers = append(r.inv.LoadBalancers, one)
		}
	}
	return nil
}
