package azure

import (
	"context"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	net "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

// maxGateways bounds the interfaces whose effective routes are asked for, half a minute each.
const maxGateways = 4

// gateways are the machines' interfaces in the spoke that forward.
func (r *reader) gateways() []preflight.NIC {
	var out []preflight.NIC
	for _, n := range r.inv.NICs {
		if n.Forwarding && n.VM != "" && len(out) < maxGateways {
			out = append(out, n)
		}
	}
	return out
}

func (r *reader) machines(ctx context.Context) error {
	if err := r.needs(preflight.PartNICs); err != nil {
		return err
	}
	var ids []string
	for _, n := range r.inv.NICs {
		if n.Forwarding || n.Address != "" && slices.ContainsFunc(r.inv.RouteTables, func(t preflight.RouteTable) bool {
			return slices.ContainsFunc(t.Routes, func(u preflight.Route) bool { return u.Address == n.Address })
		}) {
			ids = append(ids, n.VM)
		}
	}
	all := []preflight.VM{}
	err := each(ids, func(id resource) error {
		client, err := armcompute.NewVirtualMachinesClient(id.subscription, r.credential, r.scope.Options)
		if err != nil {
			return err
		}
		m, err := client.Get(ctx, id.group, id.name, nil)
		if err != nil {
			return err
		}
		one := preflight.VM{ID: val(m.ID), Location: val(m.Location), Identities: []string{}}
		if m.Properties != nil && m.Properties.HardwareProfile != nil {
			one.Size = text(m.Properties.HardwareProfile.VMSize)
		}
		if m.Identity != nil {
			if p := val(m.Identity.PrincipalID); p != "" {
				one.Identities = append(one.Identities, p)
			}
			for _, u := range m.Identity.UserAssignedIdentities {
				if u != nil {
					one.Identities = append(one.Identities, val(u.PrincipalID))
				}
			}
			slices.Sort(one.Identities)
		}
		all = append(all, one)
		return nil
	})
	if err == nil {
		r.inv.VMs = all
	}
	return err
}

func (r *reader) effectiveRoutes(ctx context.Context) error {
	if err := r.needs(preflight.PartNICs); err != nil {
		return err
	}
	all := []preflight.EffectiveRoutes{}
	for _, n := range r.gateways() {
		id, err := parseID(n.ID)
		if err != nil {
			return err
		}
		client, err := net.NewInterfacesClient(id.subscription, r.credential, r.scope.Options)
		if err != nil {
			return err
		}
		poller, err := client.BeginGetEffectiveRouteTable(ctx, id.group, id.name, nil)
		if err != nil {
			return err
		}
		result, err := poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: pollEvery})
		if err != nil {
			return err
		}
		one := preflight.EffectiveRoutes{NIC: n.ID, Routes: []preflight.EffectiveRoute{}}
		for _, e := range result.Value {
			one.Routes = append(one.Routes, preflight.EffectiveRoute{Source: text(e.Source), State: text(e.State), Prefixes: texts(e.AddressPrefix),
				Hop: text(e.NextHopType), Address: texts(e.NextHopIPAddress)})
		}
		all = append(all, one)
	}
	r.inv.EffectiveRoutes = all
	return nil
}
