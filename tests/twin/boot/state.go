package boot

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/privatedns/armprivatedns"
)

// State is what a resource manager holds: bodies of resources as a GET returns them, by ARM id.
type State map[string]json.RawMessage

// resources are the part of a state that makes a network, by id in lower case: Azure
// compares ids without regard to case.
type resources struct {
	vnets     map[string]*armnetwork.VirtualNetwork
	subnets   map[string]*armnetwork.Subnet
	tables    map[string]*armnetwork.RouteTable
	groups    map[string]*armnetwork.SecurityGroup
	nics      map[string]*armnetwork.Interface
	endpoints map[string]*armnetwork.PrivateEndpoint
	machines  map[string]*armcompute.VirtualMachine
	zones     map[string]*armprivatedns.VirtualNetworkLink // by link
	records   map[string]*armprivatedns.RecordSet
}

// read takes a state apart. Children that are resources of their own (subnets, routes, rules,
// peerings) come to their parents.
func (s State) read() (*resources, error) {
	r := &resources{vnets: map[string]*armnetwork.VirtualNetwork{}, subnets: map[string]*armnetwork.Subnet{}, tables: map[string]*armnetwork.RouteTable{},
		groups: map[string]*armnetwork.SecurityGroup{}, nics: map[string]*armnetwork.Interface{}, endpoints: map[string]*armnetwork.PrivateEndpoint{},
		machines: map[string]*armcompute.VirtualMachine{}, zones: map[string]*armprivatedns.VirtualNetworkLink{}, records: map[string]*armprivatedns.RecordSet{}}
	for _, id := range slices.Sorted(maps.Keys(s)) { // parents before children
		if err := r.add(strings.ToLower(id), s[id]); err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
	}
	return r, nil
}

func (r *resources) add(id string, body []byte) (err error) {
	parent := ""
	if i := strings.LastIndex(id[:max(0, strings.LastIndex(id, "/"))], "/"); i > 0 {
		parent = id[:i]
	}
	switch kind(id) {
	case "microsoft.network/virtualnetworks":
		vnet, err := keep(r.vnets, id, body)
		if err != nil || vnet.Properties == nil {
			return err
		}
		for _, sub := range vnet.Properties.Subnets {
			r.subnets[id+"/subnets/"+strings.ToLower(deref(sub.Name))] = sub
		}
	case "microsoft.network/virtualnetworks/subnets":
		_, err = keep(r.subnets, id, body)
	case "microsoft.network/virtualnetworks/virtualnetworkpeerings":
		err = child(r.vnets, parent, body, func(v *armnetwork.VirtualNetwork, p *armnetwork.VirtualNetworkPeering) {
			same := func(q *armnetwork.VirtualNetworkPeering) bool { return strings.EqualFold(deref(q.Name), deref(p.Name)) }
			v.Properties.VirtualNetworkPeerings = append(slices.DeleteFunc(v.Properties.VirtualNetworkPeerings, same), p)
		})
	case "microsoft.network/routetables":
		_, err = keep(r.tables, id, body)
	case "microsoft.network/routetables/routes":
		err = child(r.tables, parent, body, func(t *armnetwork.RouteTable, c *armnetwork.Route) {
			same := func(q *armnetwork.Route) bool { return strings.EqualFold(deref(q.Name), deref(c.Name)) }
			t.Properties.Routes = append(slices.DeleteFunc(t.Properties.Routes, same), c)
		})
	case "microsoft.network/networksecuritygroups":
		_, err = keep(r.groups, id, body)
	case "microsoft.network/networksecuritygroups/securityrules":
		err = child(r.groups, parent, body, func(g *armnetwork.SecurityGroup, c *armnetwork.SecurityRule) {
			same := func(q *armnetwork.SecurityRule) bool { return strings.EqualFold(deref(q.Name), deref(c.Name)) }
			g.Properties.SecurityRules = append(slices.DeleteFunc(g.Properties.SecurityRules, same), c)
		})
	case "microsoft.network/networkinterfaces":
		_, err = keep(r.nics, id, body)
	case "microsoft.network/privateendpoints":
		_, err = keep(r.endpoints, id, body)
	case "microsoft.network/privatednszones/virtualnetworklinks":
		_, err = keep(r.zones, id, body)
	case "microsoft.network/privatednszones/a":
		_, err = keep(r.records, id, body)
	case "microsoft.compute/virtualmachines":
		_, err = keep(r.machines, id, body)
	case "microsoft.network/publicipaddresses", "microsoft.network/natgateways", "microsoft.network/privatednszones", "microsoft.network/privateendpoints/privatednszonegroups":
		// Whoever refers to them says what they do.
	default:
		if strings.HasPrefix(kind(id), "microsoft.network/") {
			err = errors.New("the lab does not know what such a resource does to packets")
		}
	}
	return err
}

// kind is the type in an id: the segments behind the last provider, without names.
func kind(id string) string {
	_, rest, found := strings.Cut(id[max(0, strings.LastIndex(id, "/providers/")):], "/providers/")
	if !found {
		return ""
	}
	parts := strings.Split(rest, "/")
	out := parts[0]
	for i := 1; i < len(parts); i += 2 {
		out += "/" + parts[i]
	}
	return out
}

func decode[T any](body []byte) (*T, error) {
	v := new(T)
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	return v, dec.Decode(v)
}

func keep[T any](to map[string]*T, id string, body []byte) (*T, error) {
	v, err := decode[T](body)
	if err == nil {
		to[id] = v
	}
	return v, err
}

// child decodes a resource and gives it to its parent.
func child[P, C any](parents map[string]*P, parent string, body []byte, give func(*P, *C)) error {
	p, ok := parents[parent]
	if !ok {
		return fmt.Errorf("its parent is not in the state")
	}
	c, err := decode[C](body)
	if err == nil {
		give(p, c)
	}
	return err
}

// vnetOf is the id of a subnet's network.
func vnetOf(subnet string) string {
	before, _, _ := strings.Cut(subnet, "/subnets/")
	return before
}

// name is the last segment of an id.
func name(id string) string { return id[strings.LastIndex(id, "/")+1:] }

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// id is a reference's, in lower case; empty without one.
func id(p *string) string { return strings.ToLower(deref(p)) }

// prefixes parses what Azure has as one string or as a list of them.
func prefixes(one *string, many []*string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range append([]*string{one}, many...) {
		if text == nil || *text == "" {
			continue
		}
		p, err := netip.ParsePrefix(*text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// space is a network's address space.
func space(v *armnetwork.VirtualNetwork) ([]netip.Prefix, error) {
	if v == nil || v.Properties == nil || v.Properties.AddressSpace == nil {
		return nil, nil
	}
	return prefixes(nil, v.Properties.AddressSpace.AddressPrefixes)
}

// sorted are a map's values in the order of their keys.
func sorted[V any](m map[string]V) []V {
	var out []V
	for _, k := range slices.SortedFunc(maps.Keys(m), cmp.Compare[string]) {
		out = append(out, m[k])
	}
	return out
}
