package components

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// InspectionCAToken is the component's type.
const InspectionCAToken = "bulkhead:index:InspectionCA"

// InspectionCAArgs describes the root behind decrypted flows.
type InspectionCAArgs struct {
	Location          string             `pulumi:"location"`
	ResourceGroupName pulumi.StringInput `pulumi:"resourceGroupName"`
	TenantID          pulumi.StringInput `pulumi:"tenantId"`
	// GatewaySubnetID may reach the vault's data plane.
	GatewaySubnetID pulumi.StringPtrInput `pulumi:"gatewaySubnetId,optional"`
	// DeployerObjectID is granted the data-plane roles that making the root needs; absent: the roles must exist.
	DeployerObjectID  *string           `pulumi:"deployerObjectId,optional"`
	DeployerAddresses []string          `pulumi:"deployerAddresses,optional"`
	CommonName        *string           `pulumi:"commonName,optional"`
	ValidityYears     *int              `pulumi:"validityYears,optional"` // 10
	HSM               *bool             `pulumi:"hsm,optional"`           // true: a Premium vault and EC-HSM
	Tags              map[string]string `pulumi:"tags,optional"`
}

// InspectionCA is a Key Vault, a key in it that cannot leave it, and the certificate that agents trust.
type InspectionCA struct {
	pulumi.ResourceState

	VaultURI        pulumi.StringOutput `pulumi:"vaultUri"`
	VaultID         pulumi.StringOutput `pulumi:"vaultId"`
	KeyName         pulumi.StringOutput `pulumi:"keyName"`
	KeyID           pulumi.StringOutput `pulumi:"keyId"`           // ARM id of the key
	RootCertificate pulumi.StringOutput `pulumi:"rootCertificate"` // PEM
	Fingerprint     pulumi.StringOutput `pulumi:"fingerprint"`     // SHA-256, hexadecimal
}
