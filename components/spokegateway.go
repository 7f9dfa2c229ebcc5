package components

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// SpokeGatewayToken is the component's type.
const SpokeGatewayToken = "bulkhead:index:SpokeGateway"

// SpokeGatewayArgs describes the gateway: a VM with a static address in a subnet of its own.
type SpokeGatewayArgs struct {
	Location          string             `pulumi:"location"`
	ResourceGroupName pulumi.StringInput `pulumi:"resourceGroupName"`
	// SubnetID of the gateway's own subnet.
	SubnetID pulumi.StringInput `pulumi:"subnetId"`
	// Address is the gateway's static private address in that subnet.
	Address string `pulumi:"address"`
	// AgentPrefixes are the subnets whose packets are governed.
	AgentPrefixes []string `pulumi:"agentPrefixes"`
	// BundleFile is the gateway's release archive: a local file, published to the storage account.
	BundleFile string `pulumi:"bundleFile"`
	// VaultURI, KeyName, KeyID and RootCertificate are InspectionCA's outputs; without them nothing is decrypted.
	VaultURI        pulumi.StringPtrInput `pulumi:"vaultUri,optional"`
	KeyName         pulumi.StringPtrInput `pulumi:"keyName,optional"`
	KeyID           pulumi.StringPtrInput `pulumi:"keyId,optional"` // ARM id of the key: the scope of the gateway's role
	RootCertificate pulumi.StringPtrInput `pulumi:"rootCertificate,optional"`
	// DeployerObjectID is granted the data-plane roles that publishing needs; absent: the roles must exist.
	DeployerObjectID *string `pulumi:"deployerObjectId,optional"`
	// DeployerAddresses may reach the storage account's data plane (public addresses or prefixes).
	DeployerAddresses []string `pulumi:"deployerAddresses,optional"`
	VMSize            *string  `pulumi:"vmSize,optional"`
	Zones             []string `pulumi:"zones,optional"`
	SSHPublicKey      *string  `pulumi:"sshPublicKey,optional"`
	// PinScope, as in the gateway's configuration: source (default), shared or verify.
	PinScope *string           `pulumi:"pinScope,optional"`
	Tags     map[string]string `pulumi:"tags,optional"`
}

// SpokeGateway is the gateway VM with its identity, its storage account and its way out.
type SpokeGateway struct {
	pulumi.ResourceState

	Address             pulumi.StringOutput      `pulumi:"address"`   // next hop: the VM's now, a load balancer's frontend later
	Addresses           pulumi.StringArrayOutput `pulumi:"addresses"` // of each gateway
	VMIDs               pulumi.StringArrayOutput `pulumi:"vmIds"`
	IdentityID          pulumi.StringOutput      `pulumi:"identityId"`
	IdentityPrincipalID pulumi.StringOutput      `pulumi:"identityPrincipalId"`
	IdentityClientID    pulumi.StringOutput      `pulumi:"identityClientId"`
	StorageAccountName  pulumi.StringOutput      `pulumi:"storageAccountName"`
	BlobEndpoint        pulumi.StringOutput      `pulumi:"blobEndpoint"`   // https://ACCOUNT.blob.core.windows.net/
	PolicyURL           pulumi.StringOutput      `pulumi:"policyUrl"`      // BlobEndpoint + policy/ruleset.json, what Ruleset publishes and the gateway polls
	AttestationURL      pulumi.StringOutput      `pulumi:"attestationUrl"` // BlobEndpoint + attestation/<gateway>.json, what the gateway reports
	EgressAddress       pulumi.StringOutput      `pulumi:"egressAddress"`  // public address that origins see
}
