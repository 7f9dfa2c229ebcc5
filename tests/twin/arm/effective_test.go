package arm

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/bulkhead-dev/bulkhead/components/preflight/routes"
)

// TestEffectiveRoutes: what package routes computes from what is there, and that a change shows.
func TestEffectiveRoutes(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.make("vnets/w", vnetBody("10.1.0.0/16"))
	w.make("vnets/v/virtualNetworkPeerings/w", `{"properties":{"remoteVirtualNetwork":{"id":"<vnets/w>"}}}`)
	w.make("vnets/w/virtualNetworkPeerings/v", `{"properties":{"remoteVirtualNetwork":{"id":"<vnets/v>"}}}`)
	w.make("storage/account1", storageBody)
	w.make("endpoints/e", endpointBody("vnets/v/subnets/b", "blob"))
	route := func(name, prefix string) string {
		return `{"name":"` + name + `","properties":{"addressPrefix":"` + prefix + `","nextHopType":"VirtualAppliance","nextHopIpAddress":"10.0.0.4"}}`
	}
	table := func(all string) string {
		return `{"location":"eastus2","properties":{"disableBgpRoutePropagation":true,"routes":[` + all + `]}}`
	}
	gateway := netip.MustParseAddr("10.0.0.4")
	w.make("tables/t", table(route("default", "0.0.0.0/0")))
	w.make("vnets/v/subnets/agents", subnetBody("10.0.2.0/24", delegated, `"routeTable":{"id":"<tables/t>"}`))
	ways := func() []routes.Hop {
		t.Helper()
		table, err := w.EffectiveRoutes(w.id("vnets/v/subnets/agents"), nil)
		if err != nil {
			t.Fatal(err)
		}
		var hops []routes.Hop
		for _, way := range table.Ways(gateway) {
			hops = append(hops, way.Route.Hop)
		}
		slices.Sort(hops)
		return slices.Compact(hops)
	}
	if got, want := ways(), []routes.Hop{routes.PrivateEndpoint, routes.Platform, routes.VNetPeering, routes.Local}; !slices.Equal(got, want) {
		t.Errorf("with a default route alone: %v, want %v", got, want)
	}
	w.make("tables/t", table(route("default", "0.0.0.0/0")+","+route("own", "10.0.0.0/16")+","+route("peer", "10.1.0.0/16")))
	if got, want := ways(), []routes.Hop{routes.PrivateEndpoint, routes.Platform}; !slices.Equal(got, want) {
		t.Errorf("with every prefix routed: %v, want %v", got, want)
	}
	w.make("vnets/v/subnets/agents", subnetBody("10.0.2.0/24", delegated))
	if got := ways(); !slices.Contains(got, routes.Internet) {
		t.Errorf("without a table: %v", got)
	}
}
