package arm

import (
	"reflect"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/cognitiveservices/armcognitiveservices/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/cosmos/armcosmos/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dnsresolver/armdnsresolver"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/msi/armmsi"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/privatedns/armprivatedns"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/search/armsearch"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"
)

// kind is a type of resource: its model and its rules.
type kind struct {
	name  string
	model Model
	// located says that it has a location; global, that this can only be "global".
	located, global bool
	// undeletable has no DELETE; singletonParent is never made, but always there; softDeleted
	// is kept with its name after DELETE, until it is purged.
	undeletable, singletonParent, softDeleted bool
	inline                                    []inline
	// valid is the rule of names.
	valid func(name string) error
	// prepare may change a body before it is looked at; rules say what Azure refuses; fill sets
	// what Azure computes; after does what follows once the parts are there.
	prepare, rules func(*operation) error
	fill           func(*operation, *Resource)
	after          func(*operation, *Resource) error
	// removable says why it cannot be deleted; removed does what follows.
	removable func(*operation) error
	removed   func(*operation, *Resource)
	// long is set for what Azure makes, changes and deletes in an operation of some time; holds
	// are the ids, beside its own, that nobody changes meanwhile; finish is what happens at the
	// end, and may fail it.
	long   *long
	holds  func(id ID, body Object) []string
	finish func(*State, *Resource) error
	// show adds what Azure computes when it is asked.
	show func(*State, *Resource, Object)
}

// inline are parts that Azure shows within a resource and takes there too.
type inline struct {
	path []string
	kind string
	kept bool // a PUT that says nothing about them leaves them
}

func (k *kind) provisions() bool {
	properties, ok := Fields(k.model)["properties"]
	if !ok {
		return false
	}
	_, ok = Fields(properties)["provisioningState"]
	return ok
}

// ModelOf is the model of a type's bodies.
func ModelOf(kind string) (Model, bool) {
	k, ok := kinds[key(kind)]
	if !ok {
		return nil, false
	}
	return k.model, true
}

// kindOf is the type of an id. One that is not known is refused: a twin that takes what it has
// no rules for is strict about nothing.
func kindOf(id ID) (*kind, error) {
	k, ok := kinds[key(id.Type)]
	if !ok {
		return nil, failure(400, "InvalidResourceType", "The resource type could not be found in the namespace '%s' (the twin does not know %s).", strings.SplitN(id.Type, "/", 2)[0], id.Type)
	}
	return k, nil
}

var kinds = map[string]*kind{}

func register(all ...*kind) {
	for _, k := range all {
		kinds[key(k.name)] = k
	}
}

func model[T any]() Model { return reflect.TypeFor[T]() }

// Types that rules speak of.
const (
	typeVNet           = "Microsoft.Network/virtualNetworks"
	typeSubnet         = "Microsoft.Network/virtualNetworks/subnets"
	typePeering        = "Microsoft.Network/virtualNetworks/virtualNetworkPeerings"
	typeNSG            = "Microsoft.Network/networkSecurityGroups"
	typeSecurityRule   = "Microsoft.Network/networkSecurityGroups/securityRules"
	typeRouteTable     = "Microsoft.Network/routeTables"
	typeRoute          = "Microsoft.Network/routeTables/routes"
	typeNIC            = "Microsoft.Network/networkInterfaces"
	typePublicIP       = "Microsoft.Network/publicIPAddresses"
	typeNAT            = "Microsoft.Network/natGateways"
	typeEndpoint       = "Microsoft.Network/privateEndpoints"
	typeZoneGroup      = "Microsoft.Network/privateEndpoints/privateDnsZoneGroups"
	typeZone           = "Microsoft.Network/privateDnsZones"
	typeZoneLink       = "Microsoft.Network/privateDnsZones/virtualNetworkLinks"
	typeZoneA          = "Microsoft.Network/privateDnsZones/A"
	typeDNSPolicy      = "Microsoft.Network/dnsResolverPolicies"
	typeDNSRule        = "Microsoft.Network/dnsResolverPolicies/dnsSecurityRules"
	typeDNSLink        = "Microsoft.Network/dnsResolverPolicies/virtualNetworkLinks"
	typeDomainList     = "Microsoft.Network/dnsResolverDomainLists"
	typeVM             = "Microsoft.Compute/virtualMachines"
	typeIdentity       = "Microsoft.ManagedIdentity/userAssignedIdentities"
	typeStorage        = "Microsoft.Storage/storageAccounts"
	typeBlobService    = "Microsoft.Storage/storageAccounts/blobServices"
	typeContainer      = "Microsoft.Storage/storageAccounts/blobServices/containers"
	typeLifecycle      = "Microsoft.Storage/storageAccounts/managementPolicies"
	typeVault          = "Microsoft.KeyVault/vaults"
	typeKey            = "Microsoft.KeyVault/vaults/keys"
	typeRoleAssignment = "Microsoft.Authorization/roleAssignments"
	typeRoleDefinition = "Microsoft.Authorization/roleDefinitions"
	typeRegistry       = "Microsoft.ContainerRegistry/registries"
	typeEnvironment    = "Microsoft.App/managedEnvironments"
	typeJob            = "Microsoft.App/jobs"
	typeExecution      = "Microsoft.App/jobs/executions"
	typeAccount        = "Microsoft.CognitiveServices/accounts"
	typeAccountHost    = "Microsoft.CognitiveServices/accounts/capabilityHosts"
	typeConnection     = "Microsoft.CognitiveServices/accounts/connections"
	typeProject        = "Microsoft.CognitiveServices/accounts/projects"
	typeProjectHost    = "Microsoft.CognitiveServices/accounts/projects/capabilityHosts"
	typeProjectConn    = "Microsoft.CognitiveServices/accounts/projects/connections"
	typeCosmos         = "Microsoft.DocumentDB/databaseAccounts"
	typeCosmosDatabase = "Microsoft.DocumentDB/databaseAccounts/sqlDatabases"
	typeCosmosRole     = "Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments"
	typeSearch         = "Microsoft.Search/searchServices"
)

func init() {
	register(
		&kind{name: typeGroup, model: model[armresources.ResourceGroup](), located: true, valid: groupName, removable: emptied},

		&kind{name: typeVNet, model: model[armnetwork.VirtualNetwork](), located: true, valid: networkName, inline: []inline{
			{[]string{"properties", "subnets"}, typeSubnet, true}, {[]string{"properties", "virtualNetworkPeerings"}, typePeering, true},
		}, rules: vnetRules, fill: vnetFill, after: vnetAfter, removable: vnetRemovable},
		&kind{name: typeSubnet, model: model[armnetwork.Subnet](), valid: networkName, rules: subnetRules, fill: subnetFill, removable: subnetRemovable, show: subnetShow},
		&kind{name: typePeering, model: model[armnetwork.VirtualNetworkPeering](), valid: networkName, rules: peeringRules, fill: peeringFill, after: peeringAfter, removed: peeringRemoved},
		&kind{name: typeNSG, model: model[armnetwork.SecurityGroup](), located: true, valid: networkName, inline: []inline{
			{[]string{"properties", "securityRules"}, typeSecurityRule, false},
		}, fill: nsgFill, removable: inUse("InUseNetworkSecurityGroupCannotBeDeleted", "Network security group %[1]s cannot be deleted because it is in use by the following resources: %[2]s. In order to delete the Network security group, remove the association with the resource(s). To learn how to do this, see aka.ms/deletensg.")},
		&kind{name: typeSecurityRule, model: model[armnetwork.SecurityRule](), valid: networkName, rules: securityRuleRules},
		&kind{name: typeRouteTable, model: model[armnetwork.RouteTable](), located: true, valid: networkName, inline: []inline{
			{[]string{"properties", "routes"}, typeRoute, false},
		}, fill: defaults(false, "properties", "disableBgpRoutePropagation"), removable: inUse("InUseRouteTableCannotBeDeleted", "Route table %[1]s is in use and cannot be deleted.")},
		&kind{name: typeRoute, model: model[armnetwork.Route](), valid: networkName, rules: routeRules, fill: routeFill},
		&kind{name: typeNIC, model: model[armnetwork.Interface](), located: true, valid: networkName, rules: nicRules, fill: nicFill, removable: nicRemovable},
		&kind{name: typePublicIP, model: model[armnetwork.PublicIPAddress](), located: true, valid: networkName, rules: publicIPRules, fill: publicIPFill,
			removable: inUse("PublicIPAddressCannotBeDeleted", "Public IP address %[1]s can not be deleted since it is still allocated to resource %[2]s. In order to delete the public IP, disassociate/detach the Public IP address from the resource. To learn how to do this, see aka.ms/deletepublicip.")},
		&kind{name: typeNAT, model: model[armnetwork.NatGateway](), located: true, valid: networkName, rules: natRules, fill: defaults(4.0, "properties", "idleTimeoutInMinutes"),
			removable: inUse("InUseNatGatewayCannotBeDeleted", "Nat Gateway %[1]s is in use by the following resources and cannot be deleted: %[2]s.")},
		&kind{name: typeEndpoint, model: model[armnetwork.PrivateEndpoint](), located: true, valid: networkName, rules: endpointRules, after: endpointAfter, removed: endpointRemoved},
		&kind{name: typeZoneGroup, model: model[armnetwork.PrivateDNSZoneGroup](), valid: networkName, rules: zoneGroupRules, after: zoneGroupAfter, removed: zoneGroupRemoved},

		&kind{name: typeZone, model: model[armprivatedns.PrivateZone](), located: true, global: true, valid: zoneName, removable: zoneRemovable},
		&kind{name: typeZoneLink, model: model[armprivatedns.VirtualNetworkLink](), located: true, global: true, valid: networkName, rules: zoneLinkRules, fill: zoneLinkFill},
		&kind{name: typeZoneA, model: model[armprivatedns.RecordSet](), rules: recordRules},
		&kind{name: typeDNSPolicy, model: model[armdnsresolver.Policy](), located: true, valid: networkName, fill: dnsPolicyFill, removable: dnsPolicyRemovable},
		&kind{name: typeDNSRule, model: model[armdnsresolver.DNSSecurityRule](), located: true, valid: networkName, rules: dnsRuleRules},
		&kind{name: typeDNSLink, model: model[armdnsresolver.PolicyVirtualNetworkLink](), located: true, valid: networkName, rules: dnsLinkRules},
		&kind{name: typeDomainList, model: model[armdnsresolver.DomainList](), located: true, valid: networkName, rules: domainListRules,
			removable: inUse("CannotDeleteResource", "Cannot delete resource %[1]s while it is referenced by %[2]s.")},

		&kind{name: typeVM, model: model[armcompute.VirtualMachine](), located: true, valid: vmName, rules: vmRules, fill: vmFill, removed: vmRemoved},
		&kind{name: typeIdentity, model: model[armmsi.Identity](), located: true, valid: identityName, prepare: identityPrepare, fill: identityFill, removable: identityRemovable},

		&kind{name: typeStorage, model: model[armstorage.Account](), located: true, valid: storageName, rules: storageRules, fill: storageFill},
		&kind{name: typeBlobService, model: model[armstorage.BlobServiceProperties](), rules: blobServiceRules, undeletable: true},
		&kind{name: typeContainer, model: model[armstorage.BlobContainer](), singletonParent: true, valid: containerName, rules: containerRules, fill: containerFill},
		&kind{name: typeLifecycle, model: model[armstorage.ManagementPolicy](), rules: lifecycleRules},

		&kind{name: typeVault, model: model[armkeyvault.Vault](), located: true, valid: vaultName, rules: vaultRules, fill: vaultFill, softDeleted: true},
		&kind{name: typeKey, model: model[armkeyvault.Key](), valid: keyName, prepare: keyPrepare, rules: keyRules, fill: keyFill, undeletable: true},

		&kind{name: typeRoleAssignment, model: model[armauthorization.RoleAssignment](), rules: roleRules, fill: roleFill},
		&kind{name: typeRoleDefinition, model: model[armauthorization.RoleDefinition](), rules: definitionRules, fill: definitionFill, removable: definitionRemovable},

		&kind{name: typeRegistry, model: model[armcontainerregistry.Registry](), located: true, valid: registryName, fill: registryFill},
		&kind{name: typeEnvironment, model: model[armappcontainers.ManagedEnvironment](), located: true, valid: containerAppName, rules: environmentRules, fill: environmentFill,
			removable: inUse("ManagedEnvironmentInUse", "Managed environment %[1]s cannot be deleted while it holds %[2]s.")},
		&kind{name: typeJob, model: model[armappcontainers.Job](), located: true, valid: jobName, rules: jobRules, fill: jobFill},
		&kind{name: typeExecution, model: model[armappcontainers.JobExecution](), rules: executionRules, undeletable: true},

		&kind{name: typeAccount, model: model[armcognitiveservices.Account](), located: true, valid: accountName, rules: accountRules, fill: accountFill, finish: accountFinish, removable: accountRemovable, softDeleted: true},
		&kind{name: typeAccountHost, model: model[armcognitiveservices.CapabilityHost](), rules: accountHostRules, removable: accountHostRemovable},
		&kind{name: typeConnection, model: model[armcognitiveservices.ConnectionPropertiesV2BasicResource](), rules: connectionRules},
		&kind{name: typeProject, model: model[armcognitiveservices.Project](), located: true, valid: accountName, rules: projectRules, fill: projectFill, removable: projectRemovable},
		&kind{name: typeProjectHost, model: model[armcognitiveservices.CapabilityHost](), rules: projectHostRules, finish: projectHostFinish},
		&kind{name: typeProjectConn, model: model[armcognitiveservices.ConnectionPropertiesV2BasicResource](), rules: connectionRules, removable: connectionRemovable},

		&kind{name: typeCosmos, model: model[armcosmos.DatabaseAccountGetResults](), located: true, valid: cosmosName, rules: cosmosRules, fill: cosmosFill},
		&kind{name: typeCosmosDatabase, model: model[armcosmos.SQLDatabaseGetResults]()},
		&kind{name: typeCosmosRole, model: model[armcosmos.SQLRoleAssignmentGetResults](), rules: cosmosRoleRules},

		&kind{name: typeSearch, model: model[armsearch.Service](), located: true, valid: searchName, rules: searchRules, fill: searchFill},
	)
	schedule()
}

// polymorphic are values for fields whose type is an interface of the SDK's.
var polymorphic = map[Model]any{
	reflect.TypeFor[armcognitiveservices.ConnectionPropertiesV2Classification](): &armcognitiveservices.ConnectionPropertiesV2{},
	reflect.TypeFor[armcosmos.BackupPolicyClassification]():                      &armcosmos.BackupPolicy{},
}

// enums are the values of the types that Azure refuses others of.
var enums = map[Model][]string{}

func enum[T ~string](values []T) {
	var all []string
	for _, v := range values {
		all = append(all, string(v))
	}
	enums[reflect.TypeFor[T]()] = all
}

func init() {
	enum(armnetwork.PossibleRouteNextHopTypeValues())
	enum(armnetwork.PossibleSecurityRuleAccessValues())
	enum(armnetwork.PossibleSecurityRuleDirectionValues())
	enum(armnetwork.PossibleSecurityRuleProtocolValues())
	enum(armnetwork.PossibleIPAllocationMethodValues())
	enum(armnetwork.PossibleIPVersionValues())
	enum(armnetwork.PossiblePublicIPAddressSKUNameValues())
	enum(armnetwork.PossibleNatGatewaySKUNameValues())
	enum(armnetwork.PossibleVirtualNetworkPrivateEndpointNetworkPoliciesValues())
	enum(armnetwork.PossibleVirtualNetworkPrivateLinkServiceNetworkPoliciesValues())
	enum(armcompute.PossibleSecurityTypesValues())
	enum(armcompute.PossibleDiskCreateOptionTypesValues())
	enum(armcompute.PossibleStorageAccountTypesValues())
	enum(armcompute.PossibleResourceIdentityTypeValues())
	enum(armkeyvault.PossibleSKUNameValues())
	enum(armkeyvault.PossibleJSONWebKeyTypeValues())
	enum(armkeyvault.PossibleJSONWebKeyCurveNameValues())
	enum(armkeyvault.PossibleJSONWebKeyOperationValues())
	enum(armkeyvault.PossibleNetworkRuleActionValues())
	enum(armkeyvault.PossibleNetworkRuleBypassOptionsValues())
	enum(armstorage.PossibleKindValues())
	enum(armstorage.PossibleSKUNameValues())
	enum(armstorage.PossibleDefaultActionValues())
	enum(armstorage.PossibleBypassValues())
	enum(armstorage.PossiblePublicAccessValues())
	enum(armstorage.PossiblePublicNetworkAccessValues())
	enum(armstorage.PossibleMinimumTLSVersionValues())
	enum(armauthorization.PossiblePrincipalTypeValues())
	enum(armdnsresolver.PossibleActionTypeValues())
	enum(armdnsresolver.PossibleDNSSecurityRuleStateValues())
	enum(armappcontainers.PossibleTriggerTypeValues())
	enum(armappcontainers.PossibleIdentitySettingsLifeCycleValues())
	enum(armstorage.PossibleRuleTypeValues())
	enum(armcosmos.PossibleDatabaseAccountKindValues())
	enum(armcosmos.PossibleDefaultConsistencyLevelValues())
	enum(armcosmos.PossiblePublicNetworkAccessValues())
	enum(armsearch.PossibleSKUNameValues())
	enum(armsearch.PossiblePublicNetworkAccessValues())
	enum(armsearch.PossibleHostingModeValues())
	enum(armcognitiveservices.PossibleScenarioTypeValues())
	enum(armcognitiveservices.PossibleConnectionCategoryValues())
	enum(armcognitiveservices.PossibleConnectionAuthTypeValues())
	enum(armcognitiveservices.PossibleCapabilityHostKindValues())
}

// defaults sets one value that Azure would.
func defaults(value any, path ...string) func(*operation, *Resource) {
	return func(o *operation, _ *Resource) { o.body.Default(value, path...) }
}

func idsOf(all []*Resource) string {
	var ids []string
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return strings.Join(ids, ", ")
}

// inUse refuses to delete what others name. The message has the resource's id and theirs.
func inUse(code, format string) func(*operation) error {
	return func(o *operation) error {
		if users := o.s.users(o.id.text); len(users) > 0 {
			return failure(400, code, format, o.id.text, idsOf(users))
		}
		return nil
	}
}
