package components

import (
	"net/netip"

	network "github.com/pulumi/pulumi-azure-native-sdk/network/v2/v20240501"
	"github.com/pulumi/pulumi-azure-native-sdk/storage/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Containers of the gateway's storage account. Each has one writer and one reader.
const (
	policyContainer      = "policy"      // the deployer publishes rulesets, the gateway reads them
	bundleContainer      = "bundle"      // the deployer publishes releases, the gateway's machine reads them
	attestationContainer = "attestation" // the gateway reports, the deployer reads
)

// keepDeleted is for how many days what was deleted can be had back. What was overwritten is kept
// as a version until somebody deletes it: which ruleset was published when stays on record.
const keepDeleted = 30

// keepReports is for how many days the gateway's overwritten reports are kept. It writes one every few minutes, and what
// it decided is in its audit.
const keepReports = 7

// storage makes the account with its three containers.
//
// It takes no shared key, so whatever reads or writes shows an identity, and it answers
// nobody but the gateway and the deployer's addresses. The service endpoint is on the
// gateway's subnet alone: on the agents' it would be a route past the gateway, to every
// tenant's storage.
func (g *gatewayBuilder) storage() (err error) {
	rules := storage.NetworkRuleSetArgs{
		DefaultAction: storage.DefaultActionDeny,
		Bypass:        pulumi.String(storage.BypassNone),
		IpRules:       storageAddresses(g.plain.deployerAddresses),
	}
	if g.args.PrivateEndpointSubnetID == nil {
		rules.VirtualNetworkRules = storage.VirtualNetworkRuleArray{storage.VirtualNetworkRuleArgs{
			Action: storage.ActionAllow, VirtualNetworkResourceId: g.args.SubnetID,
		}}
	}
	g.account, err = storage.NewStorageAccount(g.ctx, shortName(g.name), &storage.StorageAccountArgs{
		Location:                     pulumi.String(g.args.Location),
		ResourceGroupName:            g.args.ResourceGroupName,
		Kind:                         pulumi.String(storage.KindStorageV2),
		Sku:                          storage.SkuArgs{Name: pulumi.String(storage.SkuName_Standard_LRS)},
		AllowSharedKeyAccess:         pulumi.Bool(false),
		AllowBlobPublicAccess:        pulumi.Bool(false),
		AllowCrossTenantReplication:  pulumi.Bool(false),
		DefaultToOAuthAuthentication: pulumi.Bool(true),
		EnableHttpsTrafficOnly:       pulumi.Bool(true),
		MinimumTlsVersion:            pulumi.String(storage.MinimumTlsVersion_TLS1_2),
		// Enabled means: by the rules. The service endpoint and the deployer come this way.
		PublicNetworkAccess: pulumi.String(storage.PublicNetworkAccessEnabled),
		NetworkRuleSet:      rules,
		Tags:                g.tags(),
	}, g.child)
	if err != nil {
		return err
	}
	retention := storage.DeleteRetentionPolicyArgs{Enabled: pulumi.Bool(true), Days: pulumi.Int(keepDeleted)}
	_, err = storage.NewBlobServiceProperties(g.ctx, g.name+"-blobs", &storage.BlobServicePropertiesArgs{
		ResourceGroupName:              g.args.ResourceGroupName,
		AccountName:                    g.account.Name,
		BlobServicesName:               pulumi.String("default"),
		IsVersioningEnabled:            pulumi.Bool(true),
		DeleteRetentionPolicy:          retention,
		ContainerDeleteRetentionPolicy: retention,
	}, g.child)
	if err != nil {
		return err
	}
	if err := g.expireReports(); err != nil {
		return err
	}
	g.containers = map[string]*storage.BlobContainer{}
	for _, name := range []string{policyContainer, bundleContainer, attestationContainer} {
		g.containers[name], err = storage.NewBlobContainer(g.ctx, g.name+"-"+name, &storage.BlobContainerArgs{
			ResourceGroupName: g.args.ResourceGroupName,
			AccountName:       g.account.Name,
			ContainerName:     pulumi.String(name),
			PublicAccess:      storage.PublicAccessNone,
		}, g.child)
		if err != nil {
			return err
		}
	}
	g.endpoint = g.account.PrimaryEndpoints.Blob()
	return g.privateEndpoint()
}

// expireReports has Azure delete old versions of reports
// (learn.microsoft.com/azure/storage/blobs/lifecycle-management-overview).
func (g *gatewayBuilder) expireReports() error {
	_, err := storage.NewManagementPolicy(g.ctx, g.name+"-blobs", &storage.ManagementPolicyArgs{
		ResourceGroupName:    g.args.ResourceGroupName,
		AccountName:          g.account.Name,
		ManagementPolicyName: pulumi.String("default"),
		Policy: storage.ManagementPolicySchemaArgs{Rules: storage.ManagementPolicyRuleArray{storage.ManagementPolicyRuleArgs{
			Name: pulumi.String("old-reports"),
			Type: pulumi.String("Lifecycle"),
			Definition: storage.ManagementPolicyDefinitionArgs{
				Filters: storage.ManagementPolicyFilterArgs{
					BlobTypes: pulumi.ToStringArray([]string{"blockBlob"}), PrefixMatch: pulumi.ToStringArray([]string{attestationContainer + "/"}),
				},
				Actions: storage.ManagementPolicyActionArgs{Version: storage.ManagementPolicyVersionArgs{
					Delete: storage.DateAfterCreationArgs{DaysAfterCreationGreaterThan: pulumi.Float64(keepReports)},
				}},
			},
		}}},
	}, g.child)
	return err
}

// storageAddresses are prefixes as the storage firewall takes them, which refuses /31 and
// /32 and wants single addresses instead
// (learn.microsoft.com/azure/storage/common/storage-network-security).
func storageAddresses(prefixes []netip.Prefix) storage.IPRuleArray {
	var all storage.IPRuleArray
	add := func(s string) {
		all = append(all, storage.IPRuleArgs{Action: storage.ActionAllow, IPAddressOrRange: pulumi.String(s)})
	}
	for _, p := range prefixes {
		switch p.Bits() {
		case 31:
			add(p.Addr().String())
			add(p.Addr().Next().String())
		case 32:
			add(p.Addr().String())
		default:
			add(p.String())
		}
	}
	return all
}

// privateEndpoint is the other way from the gateway to its account.
func (g *gatewayBuilder) privateEndpoint() error {
	if g.args.PrivateEndpointSubnetID == nil {
		return nil
	}
	endpoint, err := network.NewPrivateEndpoint(g.ctx, g.name+"-blob", &network.PrivateEndpointArgs{
		Location:          pulumi.String(g.args.Location),
		ResourceGroupName: g.args.ResourceGroupName,
		Subnet:            network.SubnetTypeArgs{Id: g.args.PrivateEndpointSubnetID},
		PrivateLinkServiceConnections: network.PrivateLinkServiceConnectionArray{network.PrivateLinkServiceConnectionArgs{
			Name: pulumi.String("blob"), PrivateLinkServiceId: g.account.ID(), GroupIds: pulumi.ToStringArray([]string{"blob"}),
		}},
		Tags: g.tags(),
	}, g.child)
	if err != nil {
		return err
	}
	zone, err := network.NewPrivateDnsZoneGroup(g.ctx, g.name+"-blob", &network.PrivateDnsZoneGroupArgs{
		ResourceGroupName:   g.args.ResourceGroupName,
		PrivateEndpointName: endpoint.Name,
		PrivateDnsZoneConfigs: network.PrivateDnsZoneConfigArray{network.PrivateDnsZoneConfigArgs{
			Name: pulumi.String("blob"), PrivateDnsZoneId: g.args.BlobPrivateDNSZoneID,
		}},
	}, g.child)
	g.before = append(g.before, zone)
	return err
}
