package azure

import (
	"context"
	"net/netip"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dnsresolver/armdnsresolver"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/privatedns/armprivatedns"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

func (r *reader) privateZones(ctx context.Context) error {
	zones, err := armprivatedns.NewPrivateZonesClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	links, err := armprivatedns.NewVirtualNetworkLinksClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	records, err := armprivatedns.NewRecordSetsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, zones.NewListPager(nil), func(p armprivatedns.PrivateZonesClientListResponse) []*armprivatedns.PrivateZone { return p.Value })
	if err != nil {
		return err
	}
	all := []preflight.PrivateZone{}
	for _, z := range found {
		id, err := parseID(val(z.ID))
		if err != nil {
			return err
		}
		one := preflight.PrivateZone{ID: val(z.ID), Name: val(z.Name), Links: []string{}, Records: []preflight.Name{}}
		linked, err := list(ctx, links.NewListPager(id.group, id.name, nil), func(p armprivatedns.VirtualNetworkLinksClientListResponse) []*armprivatedns.VirtualNetworkLink {
			return p.Value
		})
		if err != nil {
			return err
		}
		ours := false
		for _, l := range linked {
			if l.Properties != nil && l.Properties.VirtualNetwork != nil {
				one.Links = append(one.Links, val(l.Properties.VirtualNetwork.ID))
				ours = ours || r.vnet() != nil && same(val(l.Properties.VirtualNetwork.ID), r.vnet().ID)
			}
		}
		if ours { // other networks' records are nobody's business here
			sets, err := list(ctx, records.NewListByTypePager(id.group, id.name, armprivatedns.RecordTypeA, nil),
				func(p armprivatedns.RecordSetsClientListByTypeResponse) []*armprivatedns.RecordSet { return p.Value })
			if err != nil {
				return err
			}
			for _, s := range sets {
				one.Records = append(one.Records, record(s, one.Name))
			}
		}
		all = append(all, one)
	}
	r.inv.PrivateZones = all
	return nil
}

func record(s *armprivatedns.RecordSet, zone string) preflight.Name {
	out := preflight.Name{Name: val(s.Name) + "." + zone, Addresses: []netip.Addr{}}
	if val(s.Name) == "@" {
		out.Name = zone
	}
	if s.Properties != nil {
		for _, a := range s.Properties.ARecords {
			out.Addresses = append(out.Addresses, parseAddrs([]*string{a.IPv4Address})...)
		}
	}
	return out
}

func (r *reader) dnsPolicies(ctx context.Context) error {
	policies, err := armdnsresolver.NewPoliciesClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	rules, err := armdnsresolver.NewDNSSecurityRulesClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	links, err := armdnsresolver.NewPolicyVirtualNetworkLinksClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, policies.NewListPager(nil), func(p armdnsresolver.PoliciesClientListResponse) []*armdnsresolver.Policy { return p.Value })
	if err != nil {
		return err
	}
	all := []preflight.DNSPolicy{}
	for _, p := range found {
		id, err := parseID(val(p.ID))
		if err != nil {
			return err
		}
		one := preflight.DNSPolicy{ID: val(p.ID), Links: []string{}, Rules: []preflight.DNSPolicyRule{}}
		linked, err := list(ctx, links.NewListPager(id.group, id.name, nil), func(p armdnsresolver.PolicyVirtualNetworkLinksClientListResponse) []*armdnsresolver.PolicyVirtualNetworkLink {
			return p.Value
		})
		if err != nil {
			return err
		}
		for _, l := range linked {
			if l.Properties != nil && l.Properties.VirtualNetwork != nil {
				one.Links = append(one.Links, val(l.Properties.VirtualNetwork.ID))
			}
		}
		ruled, err := list(ctx, rules.NewListPager(id.group, id.name, nil), func(p armdnsresolver.DNSSecurityRulesClientListResponse) []*armdnsresolver.DNSSecurityRule {
			return p.Value
		})
		if err != nil {
			return err
		}
		for _, rule := range ruled {
			if rule.Properties == nil {
				continue
			}
			read := preflight.DNSPolicyRule{Priority: int(val(rule.Properties.Priority)), Domains: []string{},
				Enabled: text(rule.Properties.DNSSecurityRuleState) != string(armdnsresolver.DNSSecurityRuleStateDisabled)}
			if rule.Properties.Action != nil {
				read.Action = text(rule.Properties.Action.ActionType)
			}
			for _, l := range rule.Properties.DNSResolverDomainLists {
				domains, err := r.domains(ctx, val(l.ID))
				if err != nil {
					return err
				}
				read.Domains = append(read.Domains, domains...)
			}
			one.Rules = append(one.Rules, read)
		}
		all = append(all, one)
	}
	r.inv.DNSPolicies = all
	return nil
}

func (r *reader) domains(ctx context.Context, listID string) ([]string, error) {
	id, err := parseID(listID)
	if err != nil {
		return nil, err
	}
	client, err := armdnsresolver.NewDomainListsClient(id.subscription, r.credential, r.scope.Options)
	if err != nil {
		return nil, err
	}
	l, err := client.Get(ctx, id.group, id.name, nil)
	if err != nil || l.Properties == nil {
		return nil, err
	}
	return texts(l.Properties.Domains), nil
}

func (r *reader) dnsForwarding(ctx context.Context) error {
	sets, err := armdnsresolver.NewDNSForwardingRulesetsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	rules, err := armdnsresolver.NewForwardingRulesClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	links, err := armdnsresolver.NewVirtualNetworkLinksClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, sets.NewListPager(nil), func(p armdnsresolver.DNSForwardingRulesetsClientListResponse) []*armdnsresolver.DNSForwardingRuleset {
		return p.Value
	})
	if err != nil {
		return err
	}
	all := []preflight.DNSForwarding{}
	for _, s := range found {
		id, err := parseID(val(s.ID))
		if err != nil {
			return err
		}
		one := preflight.DNSForwarding{ID: val(s.ID), Links: []string{}, Rules: []preflight.DNSForwardingRule{}}
		linked, err := list(ctx, links.NewListPager(id.group, id.name, nil), func(p armdnsresolver.VirtualNetworkLinksClientListResponse) []*armdnsresolver.VirtualNetworkLink {
			return p.Value
		})
		if err != nil {
			return err
		}
		for _, l := range linked {
			if l.Properties != nil && l.Properties.VirtualNetwork != nil {
				one.Links = append(one.Links, val(l.Properties.VirtualNetwork.ID))
			}
		}
		ruled, err := list(ctx, rules.NewListPager(id.group, id.name, nil), func(p armdnsresolver.ForwardingRulesClientListResponse) []*armdnsresolver.ForwardingRule {
			return p.Value
		})
		if err != nil {
			return err
		}
		for _, rule := range ruled {
			if rule.Properties == nil {
				continue
			}
			read := preflight.DNSForwardingRule{Domain: val(rule.Properties.DomainName), Targets: []netip.Addr{},
				Enabled: text(rule.Properties.ForwardingRuleState) != string(armdnsresolver.ForwardingRuleStateDisabled)}
			for _, t := range rule.Properties.TargetDNSServers {
				read.Targets = append(read.Targets, parseAddrs([]*string{t.IPAddress})...)
			}
			one.Rules = append(one.Rules, read)
		}
		all = append(all, one)
	}
	r.inv.DNSForwarding = all
	return nil
}
