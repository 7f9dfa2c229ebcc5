package twin

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/components/preflight/routes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

const delegation = "Microsoft.App/environments"

// wholesome holds that agents have their subnet, and no way out of it but the gateway.
func (s *spoke) wholesome(t *testing.T) {
	t.Helper()
	if n := s.contained(t); n != 1 {
		t.Errorf("%d subnets are delegated to agents, want 1", n)
	}
}

// contained holds whatever subnet of agents there is to what it must never be without, in the
// state that Azure is left in, finished or not. It returns how many there are.
func (s *spoke) contained(t *testing.T) (n int) {
	t.Helper()
	networks, err := s.on.Control.List("Microsoft.Network/virtualNetworks", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range networks {
		subnets, err := s.on.Control.List("Microsoft.Network/virtualNetworks/subnets", network.Text("id"))
		if err != nil {
			t.Fatal(err)
		}
		for _, subnet := range subnets {
			if !slices.ContainsFunc(subnet.List("properties", "delegations"), func(d arm.Object) bool {
				return strings.EqualFold(d.Text("properties", "serviceName"), delegation)
			}) {
				continue
			}
			n++
			s.holds(t, network, subnet)
		}
	}
	return n
}

// holds is what every agent subnet is held to at every moment of its life.
func (s *spoke) holds(t *testing.T, network, subnet arm.Object) {
	t.Helper()
	fault := func(format string, args ...any) {
		t.Helper()
		t.Errorf(subnet.Text("id")+": "+format, args...)
	}
	p := subnet.Object("properties")
	if d := p.List("delegations"); len(d) != 1 || d[0].Text("properties", "serviceName") != delegation {
		fault("delegated to %v", d)
	}
	if p.True("defaultOutboundAccess") || p.At("defaultOutboundAccess") == nil {
		fault("has Azure's default way out")
	}
	if p.Text("natGateway", "id") != "" {
		fault("has a NAT gateway")
	}
	if len(p.List("serviceEndpoints")) > 0 {
		fault("has service endpoints")
	}

	group, err := s.on.Control.Get(p.Text("networkSecurityGroup", "id"))
	if err != nil {
		fault("has no security group: %v", err)
	} else if !slices.ContainsFunc(group.List("properties", "securityRules"), func(r arm.Object) bool {
		r = r.Object("properties")
		return r.Text("direction") == "Outbound" && r.Text("access") == "Deny" && r.Text("destinationAddressPrefix") == "AzurePlatformDNS"
	}) {
		fault("may ask Azure's resolver")
	}

	table, err := s.on.Control.Get(p.Text("routeTable", "id"))
	if err != nil {
		fault("has no routes of its own: %v", err)
		return
	}
	if !table.True("properties", "disableBgpRoutePropagation") {
		fault("takes routes from elsewhere")
	}
	around := routes.Subnet{Propagation: !table.True("properties", "disableBgpRoutePropagation")}
	for _, prefix := range network.Texts("properties", "addressSpace", "addressPrefixes") {
		around.Network = append(around.Network, netip.MustParsePrefix(prefix))
	}
	var gateway netip.Addr
	var local []netip.Prefix
	for _, r := range table.List("properties", "routes") {
		u := routes.UserRoute{Name: r.Text("name"), Hop: routes.Hop(r.Text("properties", "nextHopType")), Prefixes: []netip.Prefix{netip.MustParsePrefix(r.Text("properties", "addressPrefix"))}}
		if at := r.Text("properties", "nextHopIpAddress"); at != "" {
			u.Address = netip.MustParseAddr(at)
			gateway = u.Address
		}
		if u.Hop == routes.Local { // private endpoints, by design
			local = append(local, u.Prefixes...)
		}
		around.Table = append(around.Table, u)
	}
	if len(local) > 1 || len(local) == 1 && local[0] != netip.MustParsePrefix("10.20.2.0/24") {
		fault("reaches %v without the gateway", local)
	}
	// The platform's own addresses have no route; the security group closes the one that answers.
	declared := append(local, netip.MustParsePrefix("168.63.129.16/32"), netip.MustParsePrefix("169.254.169.254/32"))
	for _, way := range routes.Effective(around).Escapes(gateway, declared) {
		fault("a way past the gateway: %s", way)
	}
}
