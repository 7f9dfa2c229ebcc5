package components

import (
	"net/netip"
	"strings"

	network "github.com/pulumi/pulumi-azure-native-sdk/network/v2/v20240501"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

// AgentSubnetToken is the component's type.
const AgentSubnetToken = "bulkhead:index:AgentSubnet"

// Delegation is the service that an agent subnet is delegated to. Azure compares it byte
// for byte, and says so only when a capability host fails, three quarters of an hour later.
const Delegation = preflight.Delegation

// agentSubnetName is the subnet's where none is given.
const agentSubnetName = "agents"

// AgentSubnetArgs describes a delegated subnet whose only way out is the gateway.
type AgentSubnetArgs struct {
	// Region of the virtual network, such as eastus2.
	Location string `pulumi:"location"`
	// Resource group of the virtual network.
	ResourceGroupName pulumi.StringInput `pulumi:"resourceGroupName"`
	// Name of the virtual network that the subnet is made in.
	VnetName pulumi.StringInput `pulumi:"vnetName"`
	// The virtual network's own prefixes. Each is routed to the gateway, or agents would reach the rest of the
	// network by Azure's own, more specific route.
	VnetPrefixes []string `pulumi:"vnetPrefixes"`
	// Name of the subnet. Default: agents.
	SubnetName *string `pulumi:"subnetName,optional"`
	// Prefix of the subnet: private space of RFC 1918, /27 or wider, /24 recommended. It can never be changed.
	Prefix string `pulumi:"prefix"`
	// Prefixes within the virtual network that agents reach without the gateway: the private endpoints' subnet. If a
	// live environment turns out to need direct packets between its own addresses, the subnet's own prefix.
	LocalPrefixes []string `pulumi:"localPrefixes,optional"`
	// Prefixes of peered or transit-attached networks. Each is routed to the gateway. Default: none.
	AdjacentPrefixes []string `pulumi:"adjacentPrefixes,optional"`
	// The next hop of every route: the gateway's static private address, or its load balancer's.
	GatewayAddress string `pulumi:"gatewayAddress"`
	// How Azure's own resolver, 168.63.129.16, is closed to agents, since no route governs it: nsg, policy or both.
	// Default: nsg. Neither is proven on a live tenant.
	DnsClosure *string `pulumi:"dnsClosure,optional"`
	// Names, with wildcards as a ruleset writes them, that the DNS security policy lets Azure's resolver answer, the
	// gateway's own among them: the policy holds for the whole virtual network. Needed for policy and both.
	ResolvableNames []string `pulumi:"resolvableNames,optional"`
	// ARM id of the virtual network. Needed for policy and both.
	VnetID pulumi.StringPtrInput `pulumi:"vnetId,optional"`
	// Prefix of a canary's subnet, which has the same route table and security group. Default: none.
	CanaryPrefix *string `pulumi:"canaryPrefix,optional"`
	// Refuse every plan that deletes or replaces the subnet, until this is off. Default: false.
	Protect *bool `pulumi:"protect,optional"`
	// Tags of every resource that can have them.
	Tags map[string]string `pulumi:"tags,optional"`
}

// AgentSubnet is a delegated subnet with its network security group and its route table. It is born with all three,
// in one request, so that no address in it ever has another way out than the gateway.
type AgentSubnet struct {
	pulumi.ResourceState

	// ARM id of the subnet: what a Foundry account's network injection names.
	SubnetID pulumi.StringOutput `pulumi:"subnetId"`
	// Name of the subnet.
	SubnetName pulumi.StringOutput `pulumi:"subnetName"`
	// Prefix of the subnet.
	Prefix pulumi.StringOutput `pulumi:"prefix"`
	// ARM id of the route table.
	RouteTableID pulumi.StringOutput `pulumi:"routeTableId"`
	// ARM id of the network security group.
	NetworkSecurityGroupID pulumi.StringOutput `pulumi:"networkSecurityGroupId"`

	// For whoever in this package has to wait for it: who depends on a component made in the
	// same program waits only for those of its children that have been registered by then.
	subnet *network.Subnet
}

// NewAgentSubnet makes an agent subnet. What has to exist before it, such as a gateway that
// attests the ruleset it enforces, goes into pulumi.DependsOn.
func NewAgentSubnet(ctx *pulumi.Context, name string, args AgentSubnetArgs, opts ...pulumi.ResourceOption) (*AgentSubnet, error) {
	c, err := newAgentSubnet(ctx, name, args, opts...)
	return registered(ctx, c, err)
}

func newAgentSubnet(ctx *pulumi.Context, name string, args AgentSubnetArgs, opts ...pulumi.ResourceOption) (*AgentSubnet, error) {
	closure, err := args.check()
	if err != nil {
		return nil, err
	}
	c := &AgentSubnet{}
	if err := ctx.RegisterComponentResource(AgentSubnetToken, name, c, opts...); err != nil {
		return nil, err
	}
	child := pulumi.Parent(c)
	tags := pulumi.ToStringMap(args.Tags)

	routes, err := network.NewRouteTable(ctx, name+"-routes", &network.RouteTableArgs{
		Location:                   pulumi.String(args.Location),
		ResourceGroupName:          args.ResourceGroupName,
		DisableBgpRoutePropagation: pulumi.Bool(true), // a route learned from on-premises would be more specific
		Routes:                     args.routes(),
		Tags:                       tags,
	}, child)
	if err != nil {
		return nil, err
	}
	nsg, err := network.NewNetworkSecurityGroup(ctx, name+"-nsg", &network.NetworkSecurityGroupArgs{
		Location:          pulumi.String(args.Location),
		ResourceGroupName: args.ResourceGroupName,
		SecurityRules:     args.securityRules(closure != "policy"),
		Tags:              tags,
	}, child)
	if err != nil {
		return nil, err
	}
	var before []pulumi.Resource
	if closure != "nsg" {
		if before, err = newDNSPolicy(ctx, name+"-dns", args, child); err != nil {
			return nil, err
		}
	}

	told, err := after(opts)
	if err != nil {
		return nil, err
	}
	subnet, err := contained{
		resourceGroup: args.ResourceGroupName, vnet: args.VnetName, name: or(args.SubnetName, agentSubnetName), prefix: args.Prefix,
		nsg: nsg.ID().ToStringOutput(), routes: routes.ID().ToStringOutput(),
	}.subnet(ctx, name, child, told, pulumi.DependsOn(before), pulumi.Protect(or(args.Protect, false)))
	if err != nil {
		return nil, err
	}

	c.subnet = subnet
	c.SubnetID = subnet.ID().ToStringOutput()
	c.SubnetName = pulumi.String(or(args.SubnetName, agentSubnetName)).ToStringOutput()
	c.Prefix = pulumi.String(args.Prefix).ToStringOutput()
	c.RouteTableID = routes.ID().ToStringOutput()
	c.NetworkSecurityGroupID = nsg.ID().ToStringOutput()
	return c, nil
}

// contained is a delegated subnet as agents have it.
type contained struct {
	resourceGroup, vnet pulumi.StringInput
	name, prefix        string
	nsg, routes         pulumi.StringInput
}

// subnet asks for it once. Azure could be asked to make it and to attach the rest afterwards;
// between the two requests, or for ever if the second fails, agents would have the Internet.
func (s contained) subnet(ctx *pulumi.Context, name string, opts ...pulumi.ResourceOption) (*network.Subnet, error) {
	return network.NewSubnet(ctx, name, &network.SubnetArgs{
		ResourceGroupName:  s.resourceGroup,
		VirtualNetworkName: s.vnet,
		SubnetName:         pulumi.String(s.name),
		AddressPrefix:      pulumi.String(s.prefix),
		Delegations: network.DelegationArray{network.DelegationArgs{
			Name:        pulumi.String("Microsoft.App.environments"),
			ServiceName: pulumi.String(Delegation),
		}},
		NetworkSecurityGroup: network.NetworkSecurityGroupTypeArgs{Id: s.nsg.ToStringOutput().ToStringPtrOutput()},
		RouteTable:           network.RouteTableTypeArgs{Id: s.routes.ToStringOutput().ToStringPtrOutput()},
		// Without the route table there must be no way out at all: neither Azure's default
		// one nor a NAT gateway. A service endpoint is a route of its own to every tenant's
		// accounts of that service.
		DefaultOutboundAccess:             pulumi.Bool(false),
		PrivateEndpointNetworkPolicies:    pulumi.String("Disabled"),
		PrivateLinkServiceNetworkPolicies: pulumi.String("Enabled"),
	}, opts...)
}

// check refuses what Azure would refuse, or would take and leak by.
func (args *AgentSubnetArgs) check() (closure string, err error) {
	var p problems
	p.prefix("prefix", args.Prefix)
	p.prefixes("vnetPrefixes", args.VnetPrefixes)
	p.prefixes("adjacentPrefixes", args.AdjacentPrefixes)
	p.prefixes("localPrefixes", args.LocalPrefixes)
	p.address("gatewayAddress", args.GatewayAddress)
	if args.CanaryPrefix != nil {
		p.prefix("canaryPrefix", *args.CanaryPrefix)
	}
	if len(args.VnetPrefixes) == 0 {
		p.add("vnetPrefixes", "the virtual network's own prefixes have to be routed to the gateway too; name them")
	}
	closure = p.oneOf("dnsClosure", args.DnsClosure, "nsg", "policy", "both")
	if closure != "nsg" {
		if args.VnetID == nil {
			p.add("vnetId", "needed to link the DNS security policy that dnsClosure %q asks for", closure)
		}
		p.zones("resolvableNames", args.ResolvableNames)
	}
	return closure, p.err()
}

// routes are all that the route table holds, inline: routes made as resources of their own
// and routes in the table undo each other.
//
// Azure takes the longest prefix and, among equals, the user's route before its own. So the
// default route alone would leave the virtual network and every peered network reachable
// past the gateway; each needs a route of the same length.
//
// The virtual network's prefix covers the gateway's address and the agents' own subnet:
//
//   - From an agent to the gateway itself, which is how DNS gets there, the next hop is the
//     destination. Azure delivers to the gateway's interface, as it would have without the
//     route. The way back has no route table and is direct.
//   - From one agent to another, the packet goes to the gateway too, although both are in
//     one subnet, and the ruleset judges it. Without a rule it is refused. That is meant: a
//     neighbour is a way out if it is permitted more. Microsoft's examples add a VnetLocal
//     route for the own subnet where that is not wanted; LocalPrefixes can hold it.
//
// Private endpoints have a /32 each, which Azure makes and which wins over any of these. The
// VnetLocal route says the same for their subnet, so that it is to be seen here.
func (args *AgentSubnetArgs) routes() network.RouteTypeArray {
	var all network.RouteTypeArray
	seen := map[string]bool{}
	add := func(name, prefix string, hop network.RouteNextHopType) {
		if seen[prefix] {
			return
		}
		seen[prefix] = true
		route := network.RouteTypeArgs{Name: pulumi.String(name), AddressPrefix: pulumi.String(prefix), NextHopType: hop}
		if hop == network.RouteNextHopTypeVirtualAppliance {
			route.NextHopIpAddress = pulumi.String(args.GatewayAddress)
		}
		all = append(all, route)
	}
	each := func(kind string, prefixes []string, hop network.RouteNextHopType) {
		for _, p := range prefixes {
			add(kind+"-"+strings.ReplaceAll(p, "/", "_"), p, hop)
		}
	}
	add("default", netip.PrefixFrom(netip.IPv4Unspecified(), 0).String(), network.RouteNextHopTypeVirtualAppliance)
	each("vnet", args.VnetPrefixes, network.RouteNextHopTypeVirtualAppliance)
	each("adjacent", args.AdjacentPrefixes, network.RouteNextHopTypeVirtualAppliance)
	each("local", args.LocalPrefixes, network.RouteNextHopTypeVnetLocal)
	return all
}

// securityRules are the network security group's, inline for the same reason.
//
// Outbound it can forbid little: it sees a packet's destination, never its next hop, so what
// the gateway may be asked for has to be allowed here, and Azure's default rules do that. What
// Container Apps needs (its registry, identity and monitoring endpoints, its own subnet) is
// among it. The one thing that no route can take to the gateway is Azure's resolver.
//
// Inbound, Azure's default would admit the tag VirtualNetwork. That tag holds the prefixes of
// user-defined routes, and with them 0.0.0.0/0. So what may come in is listed, and the rest
// refused.
func (args *AgentSubnetArgs) securityRules(closeDNS bool) network.SecurityRuleTypeArray {
	rule := func(name string, priority int, direction network.SecurityRuleDirection, access network.SecurityRuleAccess, protocol, from, to, ports, why string) network.SecurityRuleTypeArgs {
		return network.SecurityRuleTypeArgs{
			Name: pulumi.String(name), Description: pulumi.String(why), Priority: pulumi.Int(priority),
			Direction: direction, Access: access, Protocol: pulumi.String(protocol),
			SourceAddressPrefix: pulumi.String(from), SourcePortRange: pulumi.String("*"),
			DestinationAddressPrefix: pulumi.String(to), DestinationPortRange: pulumi.String(ports),
		}
	}
	const in, out = network.SecurityRuleDirectionInbound, network.SecurityRuleDirectionOutbound
	const allow, deny = network.SecurityRuleAccessAllow, network.SecurityRuleAccessDeny
	all := network.SecurityRuleTypeArray{
		rule("allow-platform-probes", 100, in, allow, "Tcp", "AzureLoadBalancer", "*", "30000-32767",
			"Container Apps: the platform's probes"),
		rule("allow-own-subnet", 110, in, allow, "*", args.Prefix, args.Prefix, "*",
			"Container Apps: the environment's own addresses"),
		rule("allow-gateway", 120, in, allow, "*", args.GatewayAddress+"/32", "*", "*",
			"What the ruleset permits between agents arrives from the gateway"),
		rule("deny-inbound", 4096, in, deny, "*", "*", "*", "*",
			"Nobody else opens connections to agents"),
	}
	if args.CanaryPrefix != nil {
		all = append(all, rule("allow-canary-subnet", 115, in, allow, "*", *args.CanaryPrefix, *args.CanaryPrefix, "*",
			"Container Apps: the canary environment's own addresses"))
	}
	if closeDNS {
		all = append(all, rule("deny-azure-dns", 100, out, deny, "*", "*", "AzurePlatformDNS", "*",
			"168.63.129.16 answers past every route: DNS goes to the gateway"))
	}
	return all
}
