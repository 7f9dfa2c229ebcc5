package components

import (
	"fmt"

	"github.com/pulumi/pulumi-azure-native-sdk/authorization/v2"
	network "github.com/pulumi/pulumi-azure-native-sdk/network/v2/v20240501"
	dns "github.com/pulumi/pulumi-azure-native-sdk/network/v2/v20240601"
	"github.com/pulumi/pulumi-azure-native-sdk/resources/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// deployer asks who runs the program, and where.
func (s *spokeBuilder) deployer() error {
	who, err := authorization.GetClientConfig(s.ctx, s.child)
	if err != nil {
		return fmt.Errorf("who deploys: %w", err)
	}
	s.subscription, s.tenantID, s.deployerID = who.SubscriptionId, who.TenantId, who.ObjectId
	if s.args.DeployerObjectID != nil {
		s.deployerID = *s.args.DeployerObjectID
	}
	if s.args.VnetName != nil { // its id, without having to read it
		s.vnetID = pulumi.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Network/virtualNetworks/%s",
			who.SubscriptionId, s.args.ResourceGroupName.ToStringPtrOutput().Elem(), s.args.VnetName.ToStringPtrOutput().Elem())
	}
	return nil
}

// network makes the resource group and the virtual network unless they exist, the gateway's
// subnet and the private endpoints'. Azure answers 409 to whoever changes two parts of one
// virtual network at a time, so each part waits for the one before.
func (s *spokeBuilder) network() error {
	keep := pulumi.Protect(s.protect())
	tags := pulumi.ToStringMap(s.args.Tags)
	if s.args.ResourceGroupName != nil {
		s.resourceGroup = s.args.ResourceGroupName.ToStringPtrOutput().Elem()
	} else {
		group, err := resources.NewResourceGroup(s.ctx, s.name, &resources.ResourceGroupArgs{Location: pulumi.String(s.args.Location), Tags: tags}, s.child, keep)
		if err != nil {
			return err
		}
		s.resourceGroup = group.Name
	}
	if s.args.VnetName != nil {
		s.vnetName = s.args.VnetName.ToStringPtrOutput().Elem()
	} else {
		vnet, err := network.NewVirtualNetwork(s.ctx, s.name, &network.VirtualNetworkArgs{
			Location:          pulumi.String(s.args.Location),
			ResourceGroupName: s.resourceGroup,
			AddressSpace:      network.AddressSpaceArgs{AddressPrefixes: pulumi.ToStringArray(s.plan.space)},
			// The gateway answers names, and by answering it lets agents reach what they stand for.
			DhcpOptions: network.DhcpOptionsArgs{DnsServers: pulumi.ToStringArray([]string{s.plan.address})},
			Tags:        tags,
		}, s.child, keep)
		if err != nil {
			return err
		}
		s.vnetName, s.vnetID, s.last = vnet.Name, vnet.ID().ToStringOutput(), vnet
	}
	s.spoke.ResourceGroupName, s.spoke.VnetName, s.spoke.VnetID = s.resourceGroup, s.vnetName, s.vnetID

	for _, step := range []func() error{s.gatewaySubnet, s.endpointSubnet, s.peerings} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// gatewaySubnet is the gateway's. What may come in is decided at its interface; here, Azure's
// default rules keep the Internet out, and one rule lets in agents' packets to wherever.
func (s *spokeBuilder) gatewaySubnet() error {
	nsg, err := network.NewNetworkSecurityGroup(s.ctx, s.name+"-gateway-subnet", &network.NetworkSecurityGroupArgs{
		Location:          pulumi.String(s.args.Location),
		ResourceGroupName: s.resourceGroup,
		SecurityRules: network.SecurityRuleTypeArray{network.SecurityRuleTypeArgs{
			Name: pulumi.String("allow-agents"), Description: pulumi.String("Agents' packets, wherever they go: the gateway judges them"),
			Priority: pulumi.Int(100), Direction: network.SecurityRuleDirectionInbound, Access: network.SecurityRuleAccessAllow, Protocol: pulumi.String("*"),
			SourceAddressPrefixes: pulumi.ToStringArray(s.plan.agentPrefixes()), SourcePortRange: pulumi.String("*"),
			DestinationAddressPrefix: pulumi.String("*"), DestinationPortRange: pulumi.String("*"),
		}},
		Tags: pulumi.ToStringMap(s.args.Tags),
	}, s.child)
	if err != nil {
		return err
	}
	// The service endpoints are the gateway's way to its ruleset and its key. On the agents'
	// subnet they would be a way past it.
	endpoints := network.ServiceEndpointPropertiesFormatArray{}
	for _, service := range []string{"Microsoft.KeyVault", "Microsoft.Storage"} {
		endpoints = append(endpoints, network.ServiceEndpointPropertiesFormatArgs{Service: pulumi.String(service)})
	}
	subnet, err := s.part("gateway", s.plan.gateway, &network.SubnetArgs{
		NetworkSecurityGroup: network.NetworkSecurityGroupTypeArgs{Id: nsg.ID()},
		ServiceEndpoints:     endpoints,
	})
	if err != nil {
		return err
	}
	s.gatewaySubnetID = subnet.ID().ToStringOutput()
	return nil
}

func (s *spokeBuilder) endpointSubnet() error {
	subnet, err := s.part("private-endpoints", s.plan.endpoints, &network.SubnetArgs{})
	if err != nil {
		return err
	}
	s.spoke.PrivateEndpointSubnetID = subnet.ID().ToStringOutput()
	return nil
}

// part makes a subnet that no agent is in.
func (s *spokeBuilder) part(name, prefix string, args *network.SubnetArgs) (*network.Subnet, error) {
	args.ResourceGroupName, args.VirtualNetworkName = s.resourceGroup, s.vnetName
	args.SubnetName, args.AddressPrefix = pulumi.String(name), pulumi.String(prefix)
	args.DefaultOutboundAccess = pulumi.Bool(false)
	args.PrivateEndpointNetworkPolicies = pulumi.String("Disabled")
	subnet, err := network.NewSubnet(s.ctx, s.name+"-"+name, args, s.child, s.afterLast())
	if err != nil {
		return nil, err
	}
	s.last = subnet
	return subnet, nil
}

func (s *spokeBuilder) peerings() error {
	for i, p := range s.args.Peerings {
		peering, err := network.NewVirtualNetworkPeering(s.ctx, fmt.Sprintf("%s-peering-%d", s.name, i), &network.VirtualNetworkPeeringArgs{
			ResourceGroupName:         s.resourceGroup,
			VirtualNetworkName:        s.vnetName,
			RemoteVirtualNetwork:      network.SubResourceArgs{Id: p.RemoteVnetID.ToStringOutput().ToStringPtrOutput()},
			AllowVirtualNetworkAccess: pulumi.Bool(true),
			AllowForwardedTraffic:     pulumi.Bool(true), // what a transit hub's own gateway sends on
			AllowGatewayTransit:       pulumi.Bool(false),
			UseRemoteGateways:         pulumi.Bool(or(p.UseRemoteGateways, false)),
		}, s.child, s.afterLast())
		if err != nil {
			return err
		}
		s.last = peering
	}
	return nil
}

func (s *spokeBuilder) afterLast() pulumi.ResourceOption {
	if s.last == nil {
		return pulumi.DependsOn(nil)
	}
	return pulumi.DependsOn([]pulumi.Resource{s.last})
}

// privateZones are those of Foundry's standard setup, with the names that lead to them.
var privateZones = []struct{ zone, names string }{
	{"privatelink.cognitiveservices.azure.com", "*.cognitiveservices.azure.com"},
	{"privatelink.openai.azure.com", "*.openai.azure.com"},
	{"privatelink.services.ai.azure.com", "*.services.ai.azure.com"},
	{"privatelink.search.windows.net", "*.search.windows.net"},
	{"privatelink.documents.azure.com", "*.documents.azure.com"},
	{"privatelink.blob.core.windows.net", "*.blob.core.windows.net"},
	{"privatelink.file.core.windows.net", "*.file.core.windows.net"},
	{"privatelink.vaultcore.azure.net", "*.vault.azure.net"},
	{"privatelink.azurecr.io", "*.azurecr.io"},
}

func (s *spokeBuilder) zones() error {
	ids := pulumi.StringMap{}
	if or(s.args.PrivateZones, true) {
		for _, z := range privateZones {
			zone, err := dns.NewPrivateZone(s.ctx, s.name+"-"+z.zone, &dns.PrivateZoneArgs{
				ResourceGroupName: s.resourceGroup, PrivateZoneName: pulumi.String(z.zone), Location: pulumi.String("global"),
				Tags: pulumi.ToStringMap(s.args.Tags),
			}, s.child)
			if err != nil {
				return err
			}
			_, err = dns.NewVirtualNetworkLink(s.ctx, s.name+"-"+z.zone, &dns.VirtualNetworkLinkArgs{
				ResourceGroupName: s.resourceGroup, PrivateZoneName: zone.Name, Location: pulumi.String("global"),
				VirtualNetworkLinkName: pulumi.String(s.name),
				VirtualNetwork:         dns.SubResourceArgs{Id: s.vnetID},
				RegistrationEnabled:    pulumi.Bool(false),
				Tags:                   pulumi.ToStringMap(s.args.Tags),
			}, s.child)
			if err != nil {
				return err
			}
			ids[z.zone] = zone.ID()
		}
	}
	s.spoke.PrivateZoneIDs = ids.ToStringMapOutput()
	return nil
}
