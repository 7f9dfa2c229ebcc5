package azurenative

import (
	"reflect"
	"strings"

	app "github.com/pulumi/pulumi-azure-native-sdk/app/v2"
	app20250101 "github.com/pulumi/pulumi-azure-native-sdk/app/v2/v20250101"
	"github.com/pulumi/pulumi-azure-native-sdk/authorization/v2"
	"github.com/pulumi/pulumi-azure-native-sdk/compute/v2"
	"github.com/pulumi/pulumi-azure-native-sdk/keyvault/v2"
	network "github.com/pulumi/pulumi-azure-native-sdk/network/v2"
	network20230701preview "github.com/pulumi/pulumi-azure-native-sdk/network/v2/v20230701preview"
	network20240501 "github.com/pulumi/pulumi-azure-native-sdk/network/v2/v20240501"
	network20240601 "github.com/pulumi/pulumi-azure-native-sdk/network/v2/v20240601"
	"github.com/pulumi/pulumi-azure-native-sdk/resources/v2"
	"github.com/pulumi/pulumi-azure-native-sdk/storage/v2"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// resource is what the provider knows of one type of azure-native's.
type resource struct {
	// path is the ARM id, with the names of input properties in braces.
	path string
	kind string // in Azure
	// args and state are the SDK's; nil for a type that the SDK has no Go types of, whose
	// properties are then the model's alone.
	args, state reflect.Type
	// flat says for such a type whether the contents of properties stand at the top.
	flat bool
	// forceNew are properties, beside those in the path, that cannot change: from the real
	// provider's gen/replacement.go and the specifications' x-ms-mutability.
	forceNew []string
	// maintained are parts that are kept where a program does not list them.
	maintained []string
	// singleton is always there: it is changed and never created or deleted.
	singleton bool
	// dataPlane says that the real provider deletes it through the vault.
	dataPlane bool
}

const group = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}"

// pair is a type's version in the SDK.
type pair struct{ args, state any }

var types = map[string]*resource{}

// add enters a type under its tokens: module:Name and module/version:Name.
func add(r resource, token string, versions map[string]pair) {
	r.kind = kindOf(r.path)
	module, name, _ := strings.Cut(token, ":")
	for version, p := range versions {
		v := r
		if p.args != nil {
			v.args = p.args.(interface{ ElementType() reflect.Type }).ElementType()
			v.state = reflect.TypeOf(p.state)
		}
		if version != "" {
			version = "/" + version
		}
		types["azure-native:"+module+version+":"+name] = &v
	}
}

// kindOf is Azure's type of a path.
func kindOf(path string) string {
	at := strings.LastIndex(path, "/providers/")
	if at < 0 {
		return "Microsoft.Resources/resourceGroups"
	}
	parts := strings.Split(path[at+len("/providers/"):], "/")
	kind := parts[0]
	for i := 1; i < len(parts); i += 2 {
		kind += "/" + parts[i]
	}
	return kind
}

func init() {
	net := group + "/providers/Microsoft.Network/"
	type versions = map[string]pair

	add(resource{path: group, forceNew: []string{"location"}}, "resources:ResourceGroup", versions{"": {resources.ResourceGroupArgs{}, resources.ResourceGroup{}}})

	add(resource{path: net + "virtualNetworks/{virtualNetworkName}", forceNew: []string{"location"}, maintained: []string{"subnets", "virtualNetworkPeerings"}}, "network:VirtualNetwork", versions{
		"": {network.VirtualNetworkArgs{}, network.VirtualNetwork{}}, "v20240501": {network20240501.VirtualNetworkArgs{}, network20240501.VirtualNetwork{}}})
	add(resource{path: net + "virtualNetworks/{virtualNetworkName}/subnets/{subnetName}"}, "network:Subnet", versions{
		"": {network.SubnetArgs{}, network.Subnet{}}, "v20240501": {network20240501.SubnetArgs{}, network20240501.Subnet{}}})
	add(resource{path: net + "virtualNetworks/{virtualNetworkName}/virtualNetworkPeerings/{virtualNetworkPeeringName}"}, "network:VirtualNetworkPeering", versions{
		"": {network.VirtualNetworkPeeringArgs{}, network.VirtualNetworkPeering{}}, "v20240501": {network20240501.VirtualNetworkPeeringArgs{}, network20240501.VirtualNetworkPeering{}}})
	add(resource{path: net + "networkSecurityGroups/{networkSecurityGroupName}", forceNew: []string{"location"}, maintained: []string{"securityRules"}}, "network:NetworkSecurityGroup", versions{
		"": {network.NetworkSecurityGroupArgs{}, network.NetworkSecurityGroup{}}, "v20240501": {network20240501.NetworkSecurityGroupArgs{}, network20240501.NetworkSecurityGroup{}}})
	add(resource{path: net + "networkSecurityGroups/{networkSecurityGroupName}/securityRules/{securityRuleName}"}, "network:SecurityRule", versions{
		"": {network.SecurityRuleArgs{}, network.SecurityRule{}}, "v20240501": {network20240501.SecurityRuleArgs{}, network20240501.SecurityRule{}}})
	add(resource{path: net + "routeTables/{routeTableName}", forceNew: []string{"location"}, maintained: []string{"routes"}}, "network:RouteTable", versions{
		"": {network.RouteTableArgs{}, network.RouteTable{}}, "v20240501": {network20240501.RouteTableArgs{}, network20240501.RouteTable{}}})
	add(resource{path: net + "routeTables/{routeTableName}/routes/{routeName}"}, "network:Route", versions{
		"": {network.RouteArgs{}, network.Route{}}, "v20240501": {network20240501.RouteArgs{}, network20240501.Route{}}})
	add(resource{path: net + "networkInterfaces/{networkInterfaceName}", forceNew: []string{"location"}}, "network:NetworkInterface", versions{
		"": {network.NetworkInterfaceArgs{}, network.NetworkInterface{}}, "v20240501": {network20240501.NetworkInterfaceArgs{}, network20240501.NetworkInterface{}}})
	add(resource{path: net + "publicIPAddresses/{publicIpAddressName}", forceNew: []string{"location", "publicIPAddressVersion", "publicIPPrefix", "sku"}}, "network:PublicIPAddress", versions{
		"": {network.PublicIPAddressArgs{}, network.PublicIPAddress{}}, "v20240501": {network20240501.PublicIPAddressArgs{}, network20240501.PublicIPAddress{}}})
	add(resource{path: net + "natGateways/{natGatewayName}", forceNew: []string{"location"}}, "network:NatGateway", versions{
		"": {network.NatGatewayArgs{}, network.NatGateway{}}, "v20240501": {network20240501.NatGatewayArgs{}, network20240501.NatGateway{}}})
	add(resource{path: net + "privateEndpoints/{privateEndpointName}", forceNew: []string{"location", "subnet"}}, "network:PrivateEndpoint", versions{
		"": {network.PrivateEndpointArgs{}, network.PrivateEndpoint{}}, "v20240501": {network20240501.PrivateEndpointArgs{}, network20240501.PrivateEndpoint{}}})
	add(resource{path: net + "privateEndpoints/{privateEndpointName}/privateDnsZoneGroups/{privateDnsZoneGroupName}"}, "network:PrivateDnsZoneGroup", versions{
		"": {network.PrivateDnsZoneGroupArgs{}, network.PrivateDnsZoneGroup{}}, "v20240501": {network20240501.PrivateDnsZoneGroupArgs{}, network20240501.PrivateDnsZoneGroup{}}})
	add(resource{path: net + "privateDnsZones/{privateZoneName}", forceNew: []string{"location"}}, "network:PrivateZone", versions{
		"": {network.PrivateZoneArgs{}, network.PrivateZone{}}, "v20240601": {network20240601.PrivateZoneArgs{}, network20240601.PrivateZone{}}})
	add(resource{path: net + "privateDnsZones/{privateZoneName}/virtualNetworkLinks/{virtualNetworkLinkName}", forceNew: []string{"location"}}, "network:VirtualNetworkLink", versions{
		"": {network.VirtualNetworkLinkArgs{}, network.VirtualNetworkLink{}}, "v20240601": {network20240601.VirtualNetworkLinkArgs{}, network20240601.VirtualNetworkLink{}}})
	add(resource{path: net + "dnsResolverPolicies/{dnsResolverPolicyName}", forceNew: []string{"location"}}, "network:DnsResolverPolicy", versions{
		"": {network.DnsResolverPolicyArgs{}, network.DnsResolverPolicy{}}, "v20230701preview": {network20230701preview.DnsResolverPolicyArgs{}, network20230701preview.DnsResolverPolicy{}}})
	add(resource{path: net + "dnsResolverPolicies/{dnsResolverPolicyName}/dnsSecurityRules/{dnsSecurityRuleName}", forceNew: []string{"location"}}, "network:DnsSecurityRule", versions{
		"": {network.DnsSecurityRuleArgs{}, network.DnsSecurityRule{}}, "v20230701preview": {network20230701preview.DnsSecurityRuleArgs{}, network20230701preview.DnsSecurityRule{}}})
	add(resource{path: net + "dnsResolverPolicies/{dnsResolverPolicyName}/virtualNetworkLinks/{dnsResolverPolicyVirtualNetworkLinkName}", forceNew: []string{"location"}}, "network:DnsResolverPolicyVirtualNetworkLink", versions{
		"":                 {network.DnsResolverPolicyVirtualNetworkLinkArgs{}, network.DnsResolverPolicyVirtualNetworkLink{}},
		"v20230701preview": {network20230701preview.DnsResolverPolicyVirtualNetworkLinkArgs{}, network20230701preview.DnsResolverPolicyVirtualNetworkLink{}}})
	add(resource{path: net + "dnsResolverDomainLists/{dnsResolverDomainListName}", forceNew: []string{"location"}}, "network:DnsResolverDomainList", versions{
		"": {network.DnsResolverDomainListArgs{}, network.DnsResolverDomainList{}}, "v20230701preview": {network20230701preview.DnsResolverDomainListArgs{}, network20230701preview.DnsResolverDomainList{}}})

	add(resource{path: group + "/providers/Microsoft.Compute/virtualMachines/{vmName}", forceNew: []string{"location"}}, "compute:VirtualMachine", versions{"": {compute.VirtualMachineArgs{}, compute.VirtualMachine{}}})
	add(resource{path: group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{resourceName}", flat: true, forceNew: []string{"location"}}, "managedidentity:UserAssignedIdentity", versions{"": {}})

	account := group + "/providers/Microsoft.Storage/storageAccounts/{accountName}"
	add(resource{path: account, forceNew: []string{"isHnsEnabled", "location"}}, "storage:StorageAccount", versions{"": {storage.StorageAccountArgs{}, storage.StorageAccount{}}})
	add(resource{path: account + "/blobServices/{blobServicesName}", singleton: true}, "storage:BlobServiceProperties", versions{"": {storage.BlobServicePropertiesArgs{}, storage.BlobServiceProperties{}}})
	add(resource{path: account + "/blobServices/default/containers/{containerName}"}, "storage:BlobContainer", versions{"": {storage.BlobContainerArgs{}, storage.BlobContainer{}}})

	add(resource{path: account + "/managementPolicies/{managementPolicyName}"}, "storage:ManagementPolicy", versions{"": {storage.ManagementPolicyArgs{}, storage.ManagementPolicy{}}})

	vault := group + "/providers/Microsoft.KeyVault/vaults/{vaultName}"
	add(resource{path: vault, forceNew: []string{"location"}, maintained: []string{"properties.accessPolicies"}}, "keyvault:Vault", versions{"": {keyvault.VaultArgs{}, keyvault.Vault{}}})
	add(resource{path: vault + "/keys/{keyName}", dataPlane: true}, "keyvault:Key", versions{"": {keyvault.KeyArgs{}, keyvault.Key{}}})

	add(resource{path: "/{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}", forceNew: []string{"principalId", "scope"}}, "authorization:RoleAssignment", versions{"": {authorization.RoleAssignmentArgs{}, authorization.RoleAssignment{}}})

	add(resource{path: "/{scope}/providers/Microsoft.Authorization/roleDefinitions/{roleDefinitionId}", forceNew: []string{"scope"}}, "authorization:RoleDefinition", versions{"": {authorization.RoleDefinitionArgs{}, authorization.RoleDefinition{}}})

	add(resource{path: group + "/providers/Microsoft.App/managedEnvironments/{environmentName}", forceNew: []string{"location"}}, "app:ManagedEnvironment", versions{
		"": {app.ManagedEnvironmentArgs{}, app.ManagedEnvironment{}}, "v20250101": {app20250101.ManagedEnvironmentArgs{}, app20250101.ManagedEnvironment{}}})
	add(resource{path: group + "/providers/Microsoft.App/jobs/{jobName}", forceNew: []string{"location"}}, "app:Job", versions{
		"": {app.JobArgs{}, app.Job{}}, "v20250101": {app20250101.JobArgs{}, app20250101.Job{}}})

	// The Go types of cognitiveservices cannot be had at this version.
	foundry := group + "/providers/Microsoft.CognitiveServices/accounts/{accountName}"
	untyped := versions{}
	for _, v := range []string{"", "v20250401preview", "v20250601"} {
		untyped[v] = pair{}
	}
	add(resource{path: foundry, forceNew: []string{"location"}}, "cognitiveservices:Account", untyped)
	add(resource{path: foundry + "/capabilityHosts/{capabilityHostName}"}, "cognitiveservices:AccountCapabilityHost", untyped)
	add(resource{path: foundry + "/connections/{connectionName}"}, "cognitiveservices:AccountConnection", untyped)
	add(resource{path: foundry + "/projects/{projectName}", forceNew: []string{"location"}}, "cognitiveservices:Project", untyped)
	add(resource{path: foundry + "/projects/{projectName}/capabilityHosts/{capabilityHostName}"}, "cognitiveservices:ProjectCapabilityHost", untyped)
	add(resource{path: foundry + "/projects/{projectName}/connections/{connectionName}"}, "cognitiveservices:ProjectConnection", untyped)
}

// names are the properties in a path, in order; the last one is the resource's own name.
func (r *resource) names() []string {
	var all []string
	for _, part := range strings.Split(r.path, "/") {
		if strings.HasPrefix(part, "{") && part != "{subscriptionId}" {
			all = append(all, strings.Trim(part, "{}"))
		}
	}
	return all
}

// own is the property that holds the resource's own name.
func (r *resource) own() string {
	all := r.names()
	return all[len(all)-1]
}

// top says that the resource stands in a resource group and is no part of another.
func (r *resource) top() bool { return len(r.names()) == 2 || r.path == group }

func (r *resource) model() arm.Model {
	m, ok := arm.ModelOf(r.kind)
	if !ok {
		panic("azurenative: no model of " + r.kind)
	}
	return m
}
