package components

import (
	"net/netip"

	"github.com/pulumi/pulumi-azure-native-sdk/keyvault/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// InspectionCAToken is the component's type.
const InspectionCAToken = "bulkhead:index:InspectionCA"

// rootKey is the name of the root's key in its vault.
const rootKey = "bulkhead-root"

// InspectionCAArgs describes the root behind decrypted flows.
type InspectionCAArgs struct {
	// Region of the vault, such as eastus2.
	Location string `pulumi:"location"`
	// Resource group of the vault.
	ResourceGroupName pulumi.StringInput `pulumi:"resourceGroupName"`
	// Tenant whose identities the vault knows.
	TenantID pulumi.StringInput `pulumi:"tenantId"`
	// ARM id of the gateway's subnet, which needs the service endpoint Microsoft.KeyVault. It may reach the vault.
	GatewaySubnetID pulumi.StringPtrInput `pulumi:"gatewaySubnetId,optional"`
	// Object id of whoever deploys. It is granted what making the root needs: to sign with this one key, and to write
	// the certificate into the vault. Without it those roles must exist.
	DeployerObjectID *string `pulumi:"deployerObjectId,optional"`
	// Public addresses or prefixes from which the deployer reaches the vault. Default: none.
	DeployerAddresses []string `pulumi:"deployerAddresses,optional"`
	// Common name of the root's certificate, at most 64 bytes. Default: Bulkhead inspection root.
	CommonName *string `pulumi:"commonName,optional"`
	// For how many years of 365 days agents may trust the root, from 1 to 20. Default: 10.
	ValidityYears *int `pulumi:"validityYears,optional"`
	// Keep the key in a hardware security module: a Premium vault, and a key of the type EC-HSM. It cannot be changed
	// afterwards. Default: false.
	HSM *bool `pulumi:"hsm,optional"`
	// Tags of every resource that can have them.
	Tags map[string]string `pulumi:"tags,optional"`
}

// InspectionCA is a vault, a key in it that cannot leave it, and the certificate that agents trust. The vault is
// soft-deleted with the stack and cannot be purged, so that nobody destroys the root by accident or on purpose.
type InspectionCA struct {
	pulumi.ResourceState

	// URI of the vault.
	VaultURI pulumi.StringOutput `pulumi:"vaultUri"`
	// ARM id of the vault.
	VaultID pulumi.StringOutput `pulumi:"vaultId"`
	// Name of the root's key in the vault.
	KeyName pulumi.StringOutput `pulumi:"keyName"`
	// ARM id of the root's key: the scope of the gateway's role.
	KeyID pulumi.StringOutput `pulumi:"keyId"`
	// The root's certificate in PEM, which agents have to trust. Nothing about it is secret.
	RootCertificate pulumi.StringOutput `pulumi:"rootCertificate"`
	// SHA-256 of the certificate in hexadecimal.
	Fingerprint pulumi.StringOutput `pulumi:"fingerprint"`
}

// rootCertificate is the custom resource that lets the key sign its own certificate.
type rootCertificate struct {
	pulumi.CustomResourceState

	PEM         pulumi.StringOutput `pulumi:"pem"`
	Fingerprint pulumi.StringOutput `pulumi:"fingerprint"`
}

// NewInspectionCA makes a root.
func NewInspectionCA(ctx *pulumi.Context, name string, args InspectionCAArgs, opts ...pulumi.ResourceOption) (*InspectionCA, error) {
	c, err := newInspectionCA(ctx, name, args, opts...)
	return registered(ctx, c, err)
}

func newInspectionCA(ctx *pulumi.Context, name string, args InspectionCAArgs, opts ...pulumi.ResourceOption) (*InspectionCA, error) {
	deployer, err := args.check()
	if err != nil {
		return nil, err
	}
	c := &InspectionCA{}
	if err := ctx.RegisterComponentResource(InspectionCAToken, name, c, opts...); err != nil {
		return nil, err
	}
	child := pulumi.Parent(c)

	vault, err := keyvault.NewVault(ctx, shortName(name), &keyvault.VaultArgs{
		Location:          pulumi.String(args.Location),
		ResourceGroupName: args.ResourceGroupName,
		Properties:        args.vault(deployer),
		Tags:              pulumi.ToStringMap(args.Tags),
	}, child)
	if err != nil {
		return nil, err
	}
	kty := keyvault.JsonWebKeyTypeEC
	if or(args.HSM, false) {
		kty = keyvault.JsonWebKeyType_EC_HSM
	}
	// Through Azure's management and not through the vault itself, so that whoever deploys
	// needs no right to make keys.
	key, err := keyvault.NewKey(ctx, name+"-key", &keyvault.KeyArgs{
		ResourceGroupName: args.ResourceGroupName,
		VaultName:         vault.Name,
		KeyName:           pulumi.String(rootKey),
		Properties: keyvault.KeyPropertiesArgs{
			Kty:        pulumi.String(kty),
			CurveName:  pulumi.String(keyvault.JsonWebKeyCurveName_P_256),
			KeyOps:     pulumi.ToStringArray([]string{string(keyvault.JsonWebKeyOperationSign)}),
			Attributes: keyvault.KeyAttributesArgs{Enabled: pulumi.Bool(true), Exportable: pulumi.Bool(false)},
		},
		Tags: pulumi.ToStringMap(args.Tags),
		// Azure's management cannot delete a key; azure-native would ask the vault, with a right
		// that nobody is given here. It goes with its vault.
	}, child, pulumi.DeletedWith(vault))
	if err != nil {
		return nil, err
	}

	before := []pulumi.Resource{key}
	if args.DeployerObjectID != nil {
		// No built-in role signs and does less than Crypto User, which may also change the key's
		// attributes and back it up, but neither make, export nor delete one. Secrets Officer can
		// be had for a whole vault only before there is a secret, and this one holds none.
		signs, err := grant(ctx, name+"-deployer-signs", roleKeyUser, key.ID(), pulumi.String(*args.DeployerObjectID), "", child)
		if err != nil {
			return nil, err
		}
		stores, err := grant(ctx, name+"-deployer-stores", roleSecretsOfficer, vault.ID(), pulumi.String(*args.DeployerObjectID), "", child)
		if err != nil {
			return nil, err
		}
		before = append(before, signs, stores)
	}
	var root rootCertificate
	err = ctx.RegisterResource("bulkhead:index:RootCertificate", name+"-root", pulumi.Map{
		"vaultUri":      vault.Properties.VaultUri(),
		"keyName":       pulumi.String(rootKey),
		"commonName":    pulumi.String(or(args.CommonName, "Bulkhead inspection root")),
		"validityYears": pulumi.Int(or(args.ValidityYears, 10)),
	}, &root, own(child, pulumi.DependsOn(before))...)
	if err != nil {
		return nil, err
	}

	c.VaultURI = vault.Properties.VaultUri()
	c.VaultID = vault.ID().ToStringOutput()
	c.KeyName = pulumi.String(rootKey).ToStringOutput()
	c.KeyID = key.ID().ToStringOutput()
	c.RootCertificate = root.PEM
	c.Fingerprint = root.Fingerprint
	return c, nil
}

func (args *InspectionCAArgs) check() ([]netip.Prefix, error) {
	var p problems
	p.location("location", args.Location)
	deployer := p.publicPrefixes("deployerAddresses", args.DeployerAddresses)
	if years := or(args.ValidityYears, 10); years < 1 || years > 20 {
		p.add("validityYears", "%d is not between 1 and 20", years)
	}
	if args.CommonName != nil && (*args.CommonName == "" || len(*args.CommonName) > 64) {
		p.add("commonName", "1 to 64 bytes, as X.520 has it")
	}
	return deployer, p.err()
}

// vault is as closed as a vault can be: every data-plane right is a role on a scope, and
// nobody is heard but the gateway's subnet and the deployer's addresses, Azure's own services
// included.
func (args *InspectionCAArgs) vault(deployer []netip.Prefix) keyvault.VaultPropertiesArgs {
	acls := keyvault.NetworkRuleSetArgs{
		DefaultAction: pulumi.String(keyvault.NetworkRuleActionDeny),
		Bypass:        pulumi.String(keyvault.NetworkRuleBypassOptionsNone),
	}
	var addresses keyvault.IPRuleArray
	for _, p := range deployer {
		addresses = append(addresses, keyvault.IPRuleArgs{Value: pulumi.String(p.String())})
	}
	acls.IpRules = addresses
	if args.GatewaySubnetID != nil {
		acls.VirtualNetworkRules = keyvault.VirtualNetworkRuleArray{keyvault.VirtualNetworkRuleArgs{Id: args.GatewaySubnetID.ToStringPtrOutput().Elem()}}
	}
	sku := keyvault.SkuNameStandard
	if or(args.HSM, false) {
		sku = keyvault.SkuNamePremium
	}
	return keyvault.VaultPropertiesArgs{
		TenantId:                  args.TenantID,
		Sku:                       keyvault.SkuArgs{Family: pulumi.String(keyvault.SkuFamilyA), Name: sku},
		EnableRbacAuthorization:   pulumi.Bool(true),
		EnableSoftDelete:          pulumi.Bool(true),
		EnablePurgeProtection:     pulumi.Bool(true),
		SoftDeleteRetentionInDays: pulumi.Int(90),
		PublicNetworkAccess:       pulumi.String("Enabled"), // by the rules
		NetworkAcls:               acls,
	}
}
