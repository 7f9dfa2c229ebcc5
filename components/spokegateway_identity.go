package components

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// userAssignedIdentity is registered by its token: azure-native publishes no Go types for it.
type userAssignedIdentity struct {
	pulumi.CustomResourceState

	PrincipalID pulumi.StringOutput `pulumi:"principalId"`
	ClientID    pulumi.StringOutput `pulumi:"clientId"`
}

// azureNative is the version of the provider whose types this package is written in.
const azureNative = "2.90.0"

// identify makes the machine's identity and gives it what it needs, on the smallest scope
// that Azure has: a container, and one key. Nothing lets it read a secret, so a stolen
// gateway can sign while it stands, and takes nothing away.
func (g *gatewayBuilder) identify() error {
	err := g.ctx.RegisterResource("azure-native:managedidentity:UserAssignedIdentity", g.name+"-identity", pulumi.Map{
		"resourceGroupName": g.args.ResourceGroupName,
		"location":          pulumi.String(g.args.Location),
		"tags":              g.tags(),
	}, &g.identity, g.child, pulumi.Version(azureNative))
	if err != nil {
		return err
	}
	if err := g.give("reads-policy", roleBlobReader, g.containers[policyContainer].ID()); err != nil {
		return err
	}
	if err := g.give("reads-bundle", roleBlobReader, g.containers[bundleContainer].ID()); err != nil {
		return err
	}
	if err := g.give("reports", roleBlobWriter, g.containers[attestationContainer].ID()); err != nil {
		return err
	}
	if !g.plain.inspects {
		return nil
	}
	key := g.args.KeyID.ToStringPtrOutput().Elem().ApplyT(func(id string) pulumi.ID { return pulumi.ID(id) }).(pulumi.IDOutput)
	return g.give("signs", roleKeyUser, key)
}

// give grants the machine's identity a role, before there is a machine.
func (g *gatewayBuilder) give(name, role string, scope pulumi.IDOutput) error {
	r, err := grant(g.ctx, g.name+"-"+name, role, scope, g.identity.PrincipalID, "ServicePrincipal", g.child)
	g.before = append(g.before, r)
	return err
}

// admitDeployer gives whoever deploys what publishing needs: it writes where the gateway
// reads, and reads where the gateway writes.
func (g *gatewayBuilder) admitDeployer() error {
	if g.args.DeployerObjectID == nil {
		return nil
	}
	for _, r := range []struct{ name, role, container string }{
		{"deployer-publishes-policy", roleBlobWriter, policyContainer},
		{"deployer-publishes-bundle", roleBlobWriter, bundleContainer},
		{"deployer-reads-attestation", roleBlobReader, attestationContainer},
	} {
		granted, err := grant(g.ctx, g.name+"-"+r.name, r.role, g.containers[r.container].ID(), pulumi.String(*g.args.DeployerObjectID), "", g.child)
		if err != nil {
			return err
		}
		g.deployer = append(g.deployer, granted)
	}
	return nil
}
