package components

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Azure's built-in roles that are given, by the ids that they have in every tenant
// (learn.microsoft.com/azure/role-based-access-control/built-in-roles).
const (
	roleBlobReader     = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1" // Storage Blob Data Reader
	roleBlobWriter     = "ba92f5b4-2d11-453d-a403-e96b0029c9fe" // Storage Blob Data Contributor
	roleKeyUser        = "12338af0-0e69-4776-bea7-57ae8d297424" // Key Vault Crypto User: signs, reads the public half, may disable the key
	roleImagePuller    = "7f951dda-4ed3-4680-a7ca-43fe172d538d" // AcrPull
	roleSecretsOfficer = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7" // Key Vault Secrets Officer
)

// grant gives a principal one of Azure's roles on exactly one scope.
func grant(ctx *pulumi.Context, name string, role string, scope pulumi.IDOutput, principal pulumi.StringInput, kind string, opts ...pulumi.ResourceOption) (pulumi.Resource, error) {
	// In this form Azure gives it back; without the subscription each refresh would see a change.
	definition := scope.ApplyT(func(id pulumi.ID) (string, error) {
		subscription, err := subscriptionOf(string(id))
		return subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + role, err
	}).(pulumi.StringOutput)
	return assign(ctx, name, definition, scope, principal, kind, opts...)
}

// assign gives a principal a role by the id of its definition.
//
// The kind of principal is given where it is known, because Azure otherwise looks the
// principal up, and does not find one that was made a moment ago. Where it is not, it is left
// out, for which the resource is registered by its token: the SDK's type would fill in User,
// and Azure refuses the role of a deployer that is a service principal.
func assign(ctx *pulumi.Context, name string, definition, scope, principal pulumi.Input, kind string, opts ...pulumi.ResourceOption) (pulumi.Resource, error) {
	args := pulumi.Map{"principalId": principal, "roleDefinitionId": definition, "scope": scope}
	if kind != "" {
		args["principalType"] = pulumi.String(kind)
	}
	var assignment pulumi.CustomResourceState
	err := ctx.RegisterResource("azure-native:authorization:RoleAssignment", name, args, &assignment, append(opts, pulumi.Version(azureNative))...)
	return &assignment, err
}

// subscriptionOf is the id of the subscription that a resource is in, as a scope.
func subscriptionOf(id string) (string, error) {
	parts := strings.SplitN(id, "/", 4)
	if len(parts) < 4 || !strings.EqualFold(parts[1], "subscriptions") {
		return "", fmt.Errorf("%q is not the id of a resource in a subscription", id)
	}
	return "/subscriptions/" + parts[2], nil
}

// publicPrefixes reads what Azure's service firewalls take: public IPv4 addresses and
// prefixes. Private ones never reach those firewalls, which see the address after NAT.
func (p *problems) publicPrefixes(path string, list []string) []netip.Prefix {
	var all []netip.Prefix
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if addr, err := netip.ParseAddr(s); err == nil {
			s = netip.PrefixFrom(addr, addr.BitLen()).String()
		}
		prefix := p.prefix(at, s)
		switch {
		case !prefix.IsValid():
		case prefix.Addr().IsPrivate() || !prefix.Addr().IsGlobalUnicast():
			p.add(at, "%s is not a public address: give the one that Azure sees. A deployer inside the network needs the service endpoint instead", s)
		case prefix.Bits() < 8:
			p.add(at, "%s would admit a large part of the Internet; name the deployer's own addresses", s)
		default:
			all = append(all, prefix)
		}
	}
	return all
}

// shortName makes a logical name for a resource whose Azure name is at most 24 characters, in
// lower-case letters and digits, and unique in the world: azure-native adds eight characters
// of its own, which also keep a soft-deleted vault's name from being asked for again.
func shortName(name string) string {
	const most = 24 - 8
	short := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, name)
	if short == "" || short[0] < 'a' { // a vault's name begins with a letter
		short = "b" + short
	}
	if len(short) > most || short != name {
		// Two components whose names differ only in what was dropped stay two.
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:4]
		short = short[:min(len(short), most-len(sum))] + sum
	}
	return short
}
