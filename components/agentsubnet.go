package components

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// AgentSubnetToken is the component's type.
const AgentSubnetToken = "bulkhead:index:AgentSubnet"

// AgentSubnetArgs describes a delegated subnet whose only way out is the gateway.
type AgentSubnetArgs struct {
	// Location of the virtual network, such as eastus2.
	Location string `pulumi:"location"`
	// ResourceGroupName of the virtual network.
	ResourceGroupName pulumi.StringInput `pulumi:"resourceGroupName"`
	// VnetName of the virtual network that the subnet is made in.
	VnetName pulumi.StringInput `pulumi:"vnetName"`
	// VnetPrefixes are the virtual network's own prefixes; each is routed to the gateway.
	VnetPrefixes []string `pulumi:"vnetPrefixes"`
	// Prefix of the subnet, /27 or wider, in RFC 1918 space.
	Prefix string `pulumi:"prefix"`
	// LocalPrefixes are reached without the gateway: the private endpoints' subnet.
	LocalPrefixes []string `pulumi:"localPrefixes,optional"`
	// AdjacentPrefixes are those of peered or transit-attached networks; each is routed to the gateway.
	AdjacentPrefixes []string `pulumi:"adjacentPrefixes,optional"`
	// GatewayAddress is the gateway's static private address, or its load balancer's.
	GatewayAddress string `pulumi:"gatewayAddress"`
	// DnsClosure says how 168.63.129.16 is closed to agents: nsg (default), policy or both.
	DnsClosure *string `pulumi:"dnsClosure,optional"`
	// ResolvableNames are what the DNS security policy lets Azure's resolver answer, the gateway's own names
	// among them. Used where DnsClosure is policy or both.
	ResolvableNames []string `pulumi:"resolvableNames,optional"`
	// VnetID is the virtual network's ARM id. Needed where DnsClosure is policy or both.
	VnetID pulumi.StringPtrInput `pulumi:"vnetId,optional"`
	Tags   map[string]string     `pulumi:"tags,optional"`
}

// AgentSubnet is a delegated subnet with its network security group and route table.
type AgentSubnet struct {
	pulumi.ResourceState

	SubnetID               pulumi.StringOutput `pulumi:"subnetId"`
	SubnetName             pulumi.StringOutput `pulumi:"subnetName"`
	Prefix                 pulumi.StringOutput `pulumi:"prefix"`
	RouteTableID           pulumi.StringOutput `pulumi:"routeTableId"`
	NetworkSecurityGroupID pulumi.StringOutput `pulumi:"networkSecurityGroupId"`
}
