package components

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/pulumi/pulumi-azure-native-sdk/authorization/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
)

// ServiceTagOptions says how a gateway comes by the addresses behind Azure's service tags, which the standard ruleset uses beside the
// platform's names.
type ServiceTagOptions struct {
	// discovery: the gateway asks Azure once a day, as its managed identity, for which it is given a role that may do this and
	// nothing else. none: it does not ask, and groups by service tag match nothing; the platform is permitted by name alone.
	// Default: discovery.
	Source *string `pulumi:"source,optional"`
	// ARM id of a role definition with the action Microsoft.Network/locations/serviceTags/read, for whoever may not make
	// one: it is assigned in the subscription. Empty: nothing is assigned, because the identity is given such a role by
	// somebody else. Default: a custom role is made and assigned, which takes the right to do both in the subscription.
	RoleDefinitionID *string `pulumi:"roleDefinitionId,optional"`
}

// readServiceTags is all that the gateway may do in the subscription.
const readServiceTags = "Microsoft.Network/locations/serviceTags/read"

// serviceTags reads the options, which are all optional.
func (p *problems) serviceTags(path string, given *ServiceTagOptions) (source string) {
	options := or(given, ServiceTagOptions{})
	source = p.oneOf(path+".source", options.Source, "discovery", "none")
	switch role := options.RoleDefinitionID; {
	case role == nil || *role == "":
	case source == "none":
		p.add(path+".roleDefinitionId", "a gateway that does not ask for service tags needs no role")
	case !strings.HasPrefix(*role, "/") || !strings.Contains(strings.ToLower(*role), "/providers/microsoft.authorization/roledefinitions/"):
		p.add(path+".roleDefinitionId", "%q is not the id of a role definition: /subscriptions/ID/providers/Microsoft.Authorization/roleDefinitions/ID", *role)
	}
	return source
}

// discover lets the identity ask for service tags. Azure lists them for a subscription, so that is the least scope; none of the built-in
// roles has the action without all other reading.
func (g *gatewayBuilder) discover() error {
	g.subscription = g.args.SubnetID.ToStringOutput().ApplyT(subscriptionOf).(pulumi.StringOutput)
	role := or(g.args.ServiceTags, ServiceTagOptions{}).RoleDefinitionID
	if g.plain.serviceTags == "none" || role != nil && *role == "" {
		return nil
	}
	var definition pulumi.Input
	if role != nil {
		definition = pulumi.String(*role)
	} else {
		made, err := g.serviceTagRole()
		if err != nil {
			return err
		}
		definition = made.ID()
	}
	_, err := assign(g.ctx, g.name+"-reads-service-tags", definition, g.subscription, g.identity.PrincipalID, "ServicePrincipal", g.child)
	return err
}

// serviceTagRole makes a custom role. Its names are unique in the tenant, as Azure wants it, because the storage account's is in the world.
func (g *gatewayBuilder) serviceTagRole() (*authorization.RoleDefinition, error) {
	id := pulumi.All(g.subscription, g.account.Name).ApplyT(func(v []any) string {
		return uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s/%s/%s", v[0], v[1], readServiceTags)).String()
	}).(pulumi.StringOutput)
	return authorization.NewRoleDefinition(g.ctx, g.name+"-service-tags", &authorization.RoleDefinitionArgs{
		Scope:            g.subscription,
		RoleDefinitionId: id,
		RoleName:         pulumi.Sprintf("Bulkhead gateway %s: service tags", g.account.Name),
		RoleType:         pulumi.String("CustomRole"),
		Description:      pulumi.String("Reads the list of Azure's service tags, and nothing else"),
		AssignableScopes: pulumi.StringArray{g.subscription},
		Permissions:      authorization.PermissionArray{authorization.PermissionArgs{Actions: pulumi.StringArray{pulumi.String(readServiceTags)}}},
	}, g.child)
}

// discovery is the gateway's configuration, for a subscription's scope.
func (g *gatewayBuilder) discovery(subscription string) *config.Discovery {
	if g.plain.serviceTags == "none" {
		return nil
	}
	return &config.Discovery{Location: g.args.Location, Subscription: strings.TrimPrefix(subscription, "/subscriptions/")}
}
