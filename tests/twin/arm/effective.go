package arm

import (
	"net/netip"
	"strings"

	"github.com/bulkhead-dev/bulkhead/components/preflight/routes"
)

// EffectiveRoutes computes the routes of a subnet, or of an interface, as they follow from what is
// there. How is the business of package routes: here its surroundings are gathered. Service
// endpoints and service tags have the prefixes that tags gives; nil: none.
func (c *Control) EffectiveRoutes(id string, tags func(tag string) []netip.Prefix) (*routes.Table, error) {
	var table *routes.Table
	err := c.look(func(s *State) error {
		r := s.get(id)
		if r != nil && same(r.Type, typeNIC) {
			r = s.get(r.Body.List("properties", "ipConfigurations")[0].Text("properties", "subnet", "id"))
		}
		if r == nil || !same(r.Type, typeSubnet) {
			return failure(404, "ResourceNotFound", "%s is no subnet and no interface.", id)
		}
		if tags == nil {
			tags = func(string) []netip.Prefix { return nil }
		}
		subnet, err := s.surroundings(r, tags)
		if err != nil {
			return err
		}
		table = routes.Effective(subnet)
		return nil
	})
	return table, err
}

func (s *State) surroundings(r *Resource, tags func(string) []netip.Prefix) (out routes.Subnet, err error) {
	vnet := s.get(up(r.ID))
	if out.Network, err = vnetPrefixes(vnet.Body); err != nil {
		return out, err
	}
	own, err := subnetPrefixes(r.Body)
	if err != nil {
		return out, err
	}
	for _, p := range own {
		out.IPv6 = out.IPv6 || p.Addr().Is6()
	}
	near := map[string]bool{key(vnet.ID): true}
	for _, p := range s.parts(vnet.ID, typePeering) {
		remote := p.Body.Text("properties", "remoteVirtualNetwork", "id")
		if p.Body.Text("properties", "peeringState") != "Connected" {
			continue
		}
		far, err := vnetPrefixes(s.get(remote).Body)
		if err != nil {
			return out, err
		}
		near[key(remote)] = true
		out.Peerings = append(out.Peerings, routes.Peering{Name: last(p.ID), Prefixes: far})
	}
	for _, e := range s.ofType(typeEndpoint) {
		subnet := s.get(e.Body.Text("properties", "subnet", "id"))
		if !near[key(up(subnet.ID))] {
			continue
		}
		network, err := vnetPrefixes(s.get(up(subnet.ID)).Body)
		if err != nil {
			return out, err
		}
		policies := subnet.Body.Text("properties", "privateEndpointNetworkPolicies")
		for _, dns := range e.Body.List("properties", "customDnsConfigs") {
			for _, a := range dns.Texts("ipAddresses") {
				address, err := netip.ParseAddr(a)
				if err != nil {
					return out, err
				}
				out.Endpoints = append(out.Endpoints, routes.Endpoint{Name: last(e.ID), Address: address, Network: network, RoutePolicy: policies == "Enabled" || policies == "RouteTableEnabled"})
			}
		}
	}
	for _, e := range r.Body.List("properties", "serviceEndpoints") {
		name := e.Text("service")
		out.Services = append(out.Services, routes.Service{Name: name, Prefixes: tags(strings.TrimPrefix(name, "Microsoft."))})
	}
	out.Propagation = true
	if table := s.get(r.Body.Text("properties", "routeTable", "id")); table != nil {
		out.Propagation = !table.Body.True("properties", "disableBgpRoutePropagation")
		for _, route := range s.parts(table.ID, typeRoute) {
			p := route.Body.Object("properties")
			u := routes.UserRoute{Name: last(route.ID), Hop: routes.Hop(p.Text("nextHopType"))}
			if prefix, err := netip.ParsePrefix(p.Text("addressPrefix")); err == nil {
				u.Prefixes = []netip.Prefix{prefix}
			} else {
				u.Tag, u.Prefixes = p.Text("addressPrefix"), tags(p.Text("addressPrefix"))
			}
			u.Address, _ = netip.ParseAddr(p.Text("nextHopIpAddress"))
			out.Table = append(out.Table, u)
		}
	}
	return out, nil
}
