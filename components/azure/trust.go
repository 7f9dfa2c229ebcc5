package azure

import (
	"context"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

// vaults reads those of the resource group, with their keys as ARM knows them: no secret
// and no key material is asked for.
func (r *reader) vaults(ctx context.Context) error {
	vaults, err := armkeyvault.NewVaultsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	keys, err := armkeyvault.NewKeysClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, vaults.NewListByResourceGroupPager(r.scope.ResourceGroup, nil), func(p armkeyvault.VaultsClientListByResourceGroupResponse) []*armkeyvault.Vault {
		return p.Value
	})
	if err != nil {
		return err
	}
	all := []preflight.Vault{}
	for _, v := range found {
		one := preflight.Vault{ID: val(v.ID), Keys: []preflight.Key{}}
		if p := v.Properties; p != nil {
			// Soft delete cannot be turned off any more; the field is absent where it never was.
			one.RBAC, one.SoftDelete, one.PurgeProtection = val(p.EnableRbacAuthorization), p.EnableSoftDelete == nil || *p.EnableSoftDelete, val(p.EnablePurgeProtection)
		}
		held, err := list(ctx, keys.NewListPager(r.scope.ResourceGroup, val(v.Name), nil), func(p armkeyvault.KeysClientListResponse) []*armkeyvault.Key { return p.Value })
		if err != nil {
			return err
		}
		for _, k := range held {
			whole, err := keys.Get(ctx, r.scope.ResourceGroup, val(v.Name), val(k.Name), nil)
			if err != nil {
				return err
			}
			read := preflight.Key{ID: val(whole.ID), Operations: []string{}}
			if p := whole.Properties; p != nil {
				read.Type, read.Curve, read.Size, read.Operations = text(p.Kty), text(p.CurveName), int(val(p.KeySize)), texts(p.KeyOps)
				read.Exportable = p.Attributes != nil && val(p.Attributes.Exportable)
			}
			one.Keys = append(one.Keys, read)
		}
		all = append(all, one)
	}
	r.inv.Vaults = all
	return nil
}

func (r *reader) deletedVaults(ctx context.Context) error {
	client, err := armkeyvault.NewVaultsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, client.NewListDeletedPager(nil), func(p armkeyvault.VaultsClientListDeletedResponse) []*armkeyvault.DeletedVault { return p.Value })
	if err != nil {
		return err
	}
	r.inv.DeletedVaults = []preflight.DeletedResource{}
	for _, v := range found {
		one := preflight.DeletedResource{Name: val(v.Name)}
		if v.Properties != nil {
			one.Location = val(v.Properties.Location)
		}
		r.inv.DeletedVaults = append(r.inv.DeletedVaults, one)
	}
	return nil
}

func (r *reader) storage(ctx context.Context) error {
	client, err := armstorage.NewAccountsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, client.NewListByResourceGroupPager(r.scope.ResourceGroup, nil), func(p armstorage.AccountsClientListByResourceGroupResponse) []*armstorage.Account {
		return p.Value
	})
	if err != nil {
		return err
	}
	r.inv.StorageAccounts = []preflight.StorageAccount{}
	for _, a := range found {
		one := preflight.StorageAccount{ID: val(a.ID), Subnets: []string{}}
		if p := a.Properties; p != nil {
			// Absent means allowed, for shared keys and for the public network.
			one.SharedKey = p.AllowSharedKeyAccess == nil || *p.AllowSharedKeyAccess
			one.AnonymousAccess = val(p.AllowBlobPublicAccess)
			if p.PrimaryEndpoints != nil {
				one.Endpoint = val(p.PrimaryEndpoints.Blob)
			}
			one.PublicAccess = text(p.PublicNetworkAccess) != string(armstorage.PublicNetworkAccessDisabled)
			if p.NetworkRuleSet != nil {
				one.DefaultAction = text(p.NetworkRuleSet.DefaultAction)
				for _, n := range p.NetworkRuleSet.VirtualNetworkRules {
					one.Subnets = append(one.Subnets, val(n.VirtualNetworkResourceID))
				}
			}
		}
		r.inv.StorageAccounts = append(r.inv.StorageAccounts, one)
	}
	return nil
}

// roles reads what is assigned to the gateways' identities, above and below the subscription.
func (r *reader) roles(ctx context.Context) error {
	if err := r.needs(preflight.PartVMs); err != nil {
		return err
	}
	client, err := armauthorization.NewRoleAssignmentsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	all := []preflight.RoleAssignment{}
	for _, m := range r.inv.VMs {
		for _, principal := range m.Identities {
			options := &armauthorization.RoleAssignmentsClientListForSubscriptionOptions{Filter: to.Ptr(fmt.Sprintf("principalId eq '%s'", principal))}
			found, err := list(ctx, client.NewListForSubscriptionPager(options), func(p armauthorization.RoleAssignmentsClientListForSubscriptionResponse) []*armauthorization.RoleAssignment {
				return p.Value
			})
			if err != nil {
				return err
			}
			for _, a := range found {
				if a.Properties != nil {
					all = append(all, preflight.RoleAssignment{ID: val(a.ID), Principal: val(a.Properties.PrincipalID), Role: val(a.Properties.RoleDefinitionID), Scope: val(a.Properties.Scope)})
				}
			}
		}
	}
	r.inv.RoleAssignments = all
	return nil
}

// deployer reads what whoever asks may do in the resource group.
func (r *reader) deployer(ctx context.Context) error {
	client, err := armauthorization.NewPermissionsClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, client.NewListForResourceGroupPager(r.scope.ResourceGroup, nil), func(p armauthorization.PermissionsClientListForResourceGroupResponse) []*armauthorization.Permission {
		return p.Value
	})
	if err != nil {
		return err
	}
	r.inv.Deployer = &preflight.Deployer{Permissions: []preflight.Permission{}}
	for _, p := range found {
		r.inv.Deployer.Permissions = append(r.inv.Deployer.Permissions, preflight.Permission{Actions: texts(p.Actions), NotActions: texts(p.NotActions),
			DataActions: texts(p.DataActions), NotDataActions: texts(p.NotDataActions)})
	}
	return nil
}

func (r *reader) providers(ctx context.Context) error {
	client, err := armresources.NewProvidersClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	all := []preflight.ResourceProvider{}
	for _, namespace := range preflight.Providers {
		p, err := client.Get(ctx, namespace, nil)
		if err != nil {
			return err
		}
		all = append(all, preflight.ResourceProvider{Namespace: namespace, State: val(p.RegistrationState)})
	}
	r.inv.Providers = all
	return nil
}

// registries reads those of the resource group.
func (r *reader) registries(ctx context.Context) error {
	client, err := armcontainerregistry.NewRegistriesClient(r.scope.Subscription, r.credential, r.scope.Options)
	if err != nil {
		return err
	}
	found, err := list(ctx, client.NewListByResourceGroupPager(r.scope.ResourceGroup, nil), func(p armcontainerregistry.RegistriesClientListByResourceGroupResponse) []*armcontainerregistry.Registry {
		return p.Value
	})
	if err != nil {
		return err
	}
	r.inv.Registries = []preflight.Registry{}
	for _, a := range found {
		one := preflight.Registry{ID: val(a.ID)}
		if a.SKU != nil {
			one.SKU = text(a.SKU.Name)
		}
		if a.Properties != nil {
			one.LoginServer, one.DedicatedDataEndpoints = val(a.Properties.LoginServer), val(a.Properties.DataEndpointEnabled)
		}
		r.inv.Registries = append(r.inv.Registries, one)
	}
	return nil
}
