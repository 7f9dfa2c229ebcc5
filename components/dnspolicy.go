package components

import (
	"fmt"
	"slices"
	"strings"

	dns "github.com/pulumi/pulumi-azure-native-sdk/network/v2/v20230701preview"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// newDNSPolicy makes an Azure DNS security policy with which Azure's resolver answers what
// the ruleset could permit and nothing else, and links it to the virtual network. It returns
// what has to stand before an agent may exist.
//
// The policy holds for every asker in the virtual network, so the gateway's own questions
// pass through it. A name on a list stands for all names under it
// (https://learn.microsoft.com/azure/dns/dns-security-policy), so it is coarser than the
// ruleset: it closes the way past the gateway, and does not replace the gateway's own answer.
func newDNSPolicy(ctx *pulumi.Context, name string, args AgentSubnetArgs, opts ...pulumi.ResourceOption) ([]pulumi.Resource, error) {
	var p problems
	zones := p.zones("resolvableNames", args.ResolvableNames)
	if err := p.err(); err != nil {
		return nil, err
	}
	location, tags := pulumi.String(args.Location), pulumi.ToStringMap(args.Tags)
	policy, err := dns.NewDnsResolverPolicy(ctx, name, &dns.DnsResolverPolicyArgs{
		Location: location, ResourceGroupName: args.ResourceGroupName, Tags: tags,
	}, opts...)
	if err != nil {
		return nil, err
	}
	rule := func(suffix string, priority int, action dns.ActionType, domains []string) (*dns.DnsSecurityRule, error) {
		list, err := dns.NewDnsResolverDomainList(ctx, name+"-"+suffix, &dns.DnsResolverDomainListArgs{
			Location: location, ResourceGroupName: args.ResourceGroupName, Tags: tags, Domains: pulumi.ToStringArray(domains),
		}, opts...)
		if err != nil {
			return nil, err
		}
		return dns.NewDnsSecurityRule(ctx, name+"-"+suffix, &dns.DnsSecurityRuleArgs{
			Location: location, ResourceGroupName: args.ResourceGroupName, Tags: tags,
			DnsResolverPolicyName:  policy.Name,
			DnsSecurityRuleName:    pulumi.String(suffix),
			Priority:               pulumi.Int(priority),
			Action:                 dns.DnsSecurityRuleActionArgs{ActionType: action},
			DnsSecurityRuleState:   pulumi.String("Enabled"),
			DnsResolverDomainLists: dns.SubResourceArray{dns.SubResourceArgs{Id: list.ID()}},
		}, opts...)
	}
	allow, err := rule("allow", 100, dns.ActionTypeAllow, zones)
	if err != nil {
		return nil, err
	}
	block, err := rule("block", 65000, dns.ActionTypeBlock, []string{"."})
	if err != nil {
		return nil, err
	}
	// The link is last: before it nothing changes, after it both rules hold, and so the
	// gateway is never cut off from the names it needs.
	link, err := dns.NewDnsResolverPolicyVirtualNetworkLink(ctx, name+"-link", &dns.DnsResolverPolicyVirtualNetworkLinkArgs{
		Location: location, ResourceGroupName: args.ResourceGroupName, Tags: tags,
		DnsResolverPolicyName: policy.Name,
		VirtualNetwork:        dns.SubResourceArgs{Id: args.VnetID},
	}, append(slices.Clone(opts), pulumi.DependsOn([]pulumi.Resource{allow, block}))...)
	if err != nil {
		return nil, err
	}
	return []pulumi.Resource{link}, nil
}

// zones turns names of a ruleset into entries of a domain list: absolute, each once, and
// none that lies under another. A name with a wildcard becomes the part behind it.
func (p *problems) zones(path string, names []string) []string {
	if len(names) == 0 {
		p.add(path, "a DNS security policy without names would cut the gateway off too; name what may be resolved")
	}
	var all []string
	for i, name := range names {
		labels := strings.Split(strings.ToLower(strings.Trim(name, ".")), ".")
		for j, label := range slices.Backward(labels) {
			if strings.Contains(label, "*") {
				labels = labels[j+1:]
				break
			}
		}
		if len(labels) == 0 || labels[0] == "" {
			p.add(fmt.Sprintf("%s[%d]", path, i), "%q would let every name be resolved", name)
			continue
		}
		all = append(all, strings.Join(labels, ".")+".")
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(slices.Clone(all), func(zone string) bool {
		return slices.ContainsFunc(all, func(other string) bool { return strings.HasSuffix(zone, "."+other) })
	})
}
