package components

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/components/ruleset"
)

// FoundrySpokeToken is the component's type.
const FoundrySpokeToken = "bulkhead:index:FoundrySpoke"

// FoundrySpokeArgs describes a spoke. Only the region and the gateway's release are needed; everything else has a
// default that holds together.
type FoundrySpokeArgs struct {
	// Region of everything, such as eastus2. The Foundry account has to be in it too.
	Location string `pulumi:"location"`
	// The gateway's release archive, a local file.
	BundleFile string `pulumi:"bundleFile"`
	// Resource group to use. Default: one is made.
	ResourceGroupName pulumi.StringPtrInput `pulumi:"resourceGroupName,optional"`
	// Virtual network to use, in that resource group; addressSpace must be its own, and its DNS server the gateway's
	// address. Default: one is made.
	VnetName pulumi.StringPtrInput `pulumi:"vnetName,optional"`
	// The virtual network's prefixes, private space of RFC 1918. Default: 10.20.0.0/16.
	AddressSpace []string `pulumi:"addressSpace,optional"`
	// Prefix of the gateway's subnet. Default: the first /24 of addressSpace.
	GatewayPrefix *string `pulumi:"gatewayPrefix,optional"`
	// Prefix of the agents' subnet, /27 or wider. It can never be changed. Default: the second /24 of addressSpace.
	AgentPrefix *string `pulumi:"agentPrefix,optional"`
	// Prefix of the private endpoints' subnet. Default: the third /24 of addressSpace.
	PrivateEndpointPrefix *string `pulumi:"privateEndpointPrefix,optional"`
	// The gateway's static address, the next hop of every route and the network's DNS server. Default: the fifth
	// address of its subnet, such as 10.20.0.4, the first that Azure gives to a machine.
	GatewayAddress *string `pulumi:"gatewayAddress,optional"`
	// Virtual networks to peer with, such as a transit hub. Their prefixes are routed to the gateway. Default: none.
	Peerings []Peering `pulumi:"peerings,optional"`
	// Further prefixes behind those networks, such as on-premises. They are routed to the gateway. Default: none.
	AdjacentPrefixes []string `pulumi:"adjacentPrefixes,optional"`
	// Prefixes within the virtual network that agents reach without the gateway, beside the private endpoints' subnet.
	// Default: none.
	LocalPrefixes []string `pulumi:"localPrefixes,optional"`
	// Make the private DNS zones of Foundry's standard setup and link them to the virtual network. Off where they are
	// kept centrally. Default: true.
	PrivateZones *bool `pulumi:"privateZones,optional"`

	// The ruleset. Default: the standard one for these prefixes, which permits what the platform needs and the calls of
	// toolCalls, and answers the names of the private zones.
	Ruleset *ruleset.Document `pulumi:"ruleset,optional"`
	// The ruleset, as a file in JSON or YAML.
	RulesetFile *string `pulumi:"rulesetFile,optional"`
	// Names of the services that agents' tools may call, with the standard ruleset, or URLs such as
	// https://mcp.contoso.com/mcp, which need inspection. Default: none.
	ToolCalls []string `pulumi:"toolCalls,optional"`
	// Azure's service-tag file (ServiceTags_Public_….json). With it a preview says how many addresses a group opens.
	// Default: none, and the number is not said.
	ServiceTagsFile *string `pulumi:"serviceTagsFile,optional"`
	// Refuse a ruleset that opens more than the deployed one, unless its digest is approvedDigest. Default: false.
	RequireApproval *bool `pulumi:"requireApproval,optional"`
	// The digest of the ruleset that somebody has approved, as the refusal prints it. Default: none.
	ApprovedDigest *string `pulumi:"approvedDigest,optional"`
	// Make a root certificate, so that the ruleset can judge single requests. Default: true.
	Inspection *bool `pulumi:"inspection,optional"`
	// How Azure's own resolver is closed to agents: nsg, policy or both. Default: nsg. Neither is proven on a live
	// tenant.
	DnsClosure *string `pulumi:"dnsClosure,optional"`

	// The gateway's machine. Default: as each option says.
	Gateway *GatewayOptions `pulumi:"gateway,optional"`
	// A canary beside the agents. Default: none.
	Canary *CanaryOptions `pulumi:"canary,optional"`
	// What is known of the Foundry account that the spoke is for. Default: nothing.
	Foundry *FoundryAccount `pulumi:"foundry,optional"`

	// Object id of whoever deploys, for the roles that publishing needs. Default: who runs this program. Empty: the
	// roles exist already.
	DeployerObjectID *string `pulumi:"deployerObjectId,optional"`
	// Public addresses or prefixes, as Azure sees them, from which whoever deploys reaches the vault and the storage
	// account. An agent of a pipeline that runs in Azure, in the spoke's own region, comes from none: Azure's storage
	// firewall does not see public addresses within a region. Default: none, and only the gateway's subnet reaches them.
	DeployerAddresses []string `pulumi:"deployerAddresses,optional"`
	// For how many seconds to wait until the gateway shows that it enforces the ruleset, from 30 to 7200. Default: 1200.
	AttestationTimeoutSeconds *int `pulumi:"attestationTimeoutSeconds,optional"`
	// Refuse every plan that deletes or replaces what agents' state depends on: the resource group, the virtual network
	// and the agents' subnet. To destroy the spoke, set it to false, run pulumi up, then pulumi destroy. Default: true.
	Protect *bool `pulumi:"protect,optional"`
	// Judge in each preview what is in Azure already, beside what is planned. It takes some minutes. Default: only what is
	// planned is judged.
	LiveGuards *LiveGuards `pulumi:"liveGuards,optional"`
	// Guards that are not to be judged, each with the reason. Default: none.
	SkipGuards []SkippedGuard `pulumi:"skipGuards,optional"`
	// Tags of every resource that can have them.
	Tags map[string]string `pulumi:"tags,optional"`
}

// Peering joins the spoke to another virtual network, from the spoke's side. The other side makes its own.
type Peering struct {
	// ARM id of the other virtual network.
	RemoteVnetID pulumi.StringInput `pulumi:"remoteVnetId"`
	// The other network's prefixes.
	Prefixes []string `pulumi:"prefixes"`
	// Use the other network's VPN or ExpressRoute gateway. Default: false.
	UseRemoteGateways *bool `pulumi:"useRemoteGateways,optional"`
}

// GatewayOptions are choices about the gateway's machine that have a good default.
type GatewayOptions struct {
	// The way out. publicIp: a static Standard public address, through which nothing comes in. subnet: what an existing
	// network's gateway subnet has. Default: publicIp.
	Egress *string `pulumi:"egress,optional"`
	// Size of the machine: one of x86-64 with accelerated networking, Trusted Launch and generation 2.
	// Default: Standard_D2s_v5.
	VMSize *string `pulumi:"vmSize,optional"`
	// Availability zone of the machine: one, or none. Default: none.
	Zones []string `pulumi:"zones,optional"`
	// Encrypt the machine's disks on its host too. The subscription must have registered the feature EncryptionAtHost.
	// Default: false.
	EncryptionAtHost *bool `pulumi:"encryptionAtHost,optional"`
	// An SSH public key of the user that may log in from sshSources. Default: nobody can log in.
	SSHPublicKey *string `pulumi:"sshPublicKey,optional"`
	// Private prefixes from which SSH is admitted. Default: none.
	SSHSources []string `pulumi:"sshSources,optional"`
	// For whom a resolved name holds: source, shared or verify. Default: source.
	PinScope *string `pulumi:"pinScope,optional"`
	// Resolvers that ask on behalf of all agents, as prefixes. Needed for, and only for, the pin scope shared.
	DNSClients []string `pulumi:"dnsClients,optional"`
	// How the gateway comes by the addresses behind Azure's service tags. Default: it asks Azure.
	ServiceTags *ServiceTagOptions `pulumi:"serviceTags,optional"`
	// Keep the root's key in a hardware security module. It cannot be changed afterwards. Default: false.
	HSM *bool `pulumi:"hsm,optional"`
}

// CanaryOptions are what Canary cannot know by itself.
type CanaryOptions struct {
	// Reference of an image that has the bulkhead program in it. The ruleset has to permit its registry, and the hosts
	// that the registry sends to for its layers.
	Image string `pulumi:"image"`
	// ARM id of the Azure Container Registry that the image is in, for which the canary is given an identity that may pull
	// from it. Default: the image is public.
	RegistryID *string `pulumi:"registryId,optional"`
	// Prefix of the canary's subnet, /27 or wider. Default: the first /27 of the fourth /24 of addressSpace.
	Prefix *string `pulumi:"prefix,optional"`
	// A name that the ruleset permits. Default: mcr.microsoft.com.
	Permitted *string `pulumi:"permitted,optional"`
	// A name that the ruleset denies. Default: example.com.
	Denied *string `pulumi:"denied,optional"`
	// A name that the ruleset decrypts.
	Decrypted *string `pulumi:"decrypted,optional"`
	// When the probe runs by itself, as a cron expression in UTC.
	Schedule *string `pulumi:"schedule,optional"`
	// Run the probe in every update that changes the ruleset or the image, and give agentSubnetId and networkInjections
	// only once it has succeeded, so that no account is made before. Default: false.
	Required *bool `pulumi:"required,optional"`
}

// FoundryAccount is what is known of an account before it exists. It is judged, not made.
type FoundryAccount struct {
	// Name of the account. Unless id is given, SpokeLock watches over the one of that name in the spoke's resource group.
	Name *string `pulumi:"name,optional"`
	// ARM id of the account, where it stands in another resource group.
	ID *string `pulumi:"id,optional"`
	// Region of the account. Default: the spoke's.
	Location *string `pulumi:"location,optional"`
	// How many agent sessions are expected at one time; each takes an address. Default: it is not judged.
	Sessions *int `pulumi:"sessions,optional"`
	// Whether an account is bound to the agents' subnet, so that it can no longer be changed. Default: it is looked up.
	Bound *bool `pulumi:"bound,optional"`
	// The project brings its own Cosmos DB, Storage and AI Search. Default: true.
	StandardSetup *bool `pulumi:"standardSetup,optional"`
}

// LiveGuards says where to look in Azure.
type LiveGuards struct {
	// Name of the resource group, as it is in Azure.
	ResourceGroupName string `pulumi:"resourceGroupName"`
	// Name of the virtual network, as it is in Azure.
	VnetName string `pulumi:"vnetName"`
}

// SkippedGuard is a guard that is not judged.
type SkippedGuard struct {
	// Id of the guard, such as NET-06.
	ID string `pulumi:"id"`
	// Why it does not apply here.
	Reason string `pulumi:"reason"`
}

// FoundrySpoke is a virtual network for Foundry's agents in which they have one way out: a gateway that enforces one
// ordered ruleset. The agents' subnet is made last, after the gateway has shown which ruleset it enforces.
type FoundrySpoke struct {
	pulumi.ResourceState

	// Name of the resource group.
	ResourceGroupName pulumi.StringOutput `pulumi:"resourceGroupName"`
	// ARM id of the virtual network.
	VnetID pulumi.StringOutput `pulumi:"vnetId"`
	// Name of the virtual network.
	VnetName pulumi.StringOutput `pulumi:"vnetName"`
	// ARM id of the agents' subnet. It is known once agents may exist: with a required canary, once that has succeeded.
	AgentSubnetID pulumi.StringOutput `pulumi:"agentSubnetId"`
	// What a Foundry account takes as its networkInjections, which can only be given when it is made.
	NetworkInjections NetworkInjectionArrayOutput `pulumi:"networkInjections"`
	// ARM id of the subnet for private endpoints.
	PrivateEndpointSubnetID pulumi.StringOutput `pulumi:"privateEndpointSubnetId"`
	// ARM id of each private DNS zone, by its name. Empty where they are kept centrally.
	PrivateZoneIDs pulumi.StringMapOutput `pulumi:"privateZoneIds"`
	// The gateway's address: next hop and DNS server.
	GatewayAddress pulumi.StringOutput `pulumi:"gatewayAddress"`
	// The public address that origins see.
	EgressAddress pulumi.StringOutput `pulumi:"egressAddress"`
	// ARM id of the gateway's managed identity.
	GatewayIdentityID pulumi.StringOutput `pulumi:"gatewayIdentityId"`
	// Object id of the gateway's managed identity.
	GatewayPrincipalID pulumi.StringOutput `pulumi:"gatewayPrincipalId"`
	// URI of the vault that holds the root's key. Empty without inspection.
	VaultURI pulumi.StringOutput `pulumi:"vaultUri"`
	// The root's certificate in PEM, for the trust store of agents' images. Empty without inspection.
	RootCertificate pulumi.StringOutput `pulumi:"rootCertificate"`
	// Digest of the ruleset that the gateway showed to enforce.
	RulesetDigest pulumi.StringOutput `pulumi:"rulesetDigest"`
	// The blob that holds the ruleset.
	PolicyURL pulumi.StringOutput `pulumi:"policyUrl"`
	// Name of the canary's job. Empty without a canary.
	CanaryJobName pulumi.StringOutput `pulumi:"canaryJobName"`
}

// Custom resources of this package's plugin, as far as the spoke reads them back.
type (
	publishedRuleset struct {
		pulumi.CustomResourceState
		Digest pulumi.StringOutput `pulumi:"digest"`
	}
	attestation struct{ pulumi.CustomResourceState }
	canaryRun   struct {
		pulumi.CustomResourceState
		Digest pulumi.StringOutput `pulumi:"digest"`
	}
	spokeLock struct{ pulumi.CustomResourceState }
)

// NewFoundrySpoke makes a spoke.
func NewFoundrySpoke(ctx *pulumi.Context, name string, args FoundrySpokeArgs, opts ...pulumi.ResourceOption) (*FoundrySpoke, error) {
	c, err := newFoundrySpoke(ctx, name, args, opts...)
	return registered(ctx, c, err)
}

// named refuses a spoke's name.
func (args *FoundrySpokeArgs) named(name string) error {
	if args.Canary != nil {
		return nameOfJob.check("spoke", name, len("-canary"))
	}
	return nameOfVM.check("spoke", name, len("-gateway"))
}

func newFoundrySpoke(ctx *pulumi.Context, name string, args FoundrySpokeArgs, opts ...pulumi.ResourceOption) (*FoundrySpoke, error) {
	if err := args.named(name); err != nil {
		return nil, err
	}
	plan, warnings, err := args.plan()
	if err != nil {
		return nil, err
	}
	c := &FoundrySpoke{}
	if err := ctx.RegisterComponentResource(FoundrySpokeToken, name, c, opts...); err != nil {
		return nil, err
	}
	s := &spokeBuilder{ctx: ctx, name: name, args: args, plan: plan, spoke: c, child: pulumi.Parent(c)}
	if err := s.warn(warnings); err != nil {
		return nil, err
	}
	for _, step := range []func() error{s.deployer, s.live, s.network, s.zones, s.inspection, s.gateway, s.ruleset, s.agents, s.canary, s.lock} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// spokeBuilder holds the parts of a spoke while they are made, in this order: nothing that an
// agent could live in exists before the gateway has shown what it enforces.
type spokeBuilder struct {
	ctx   *pulumi.Context
	name  string
	args  FoundrySpokeArgs
	plan  spokePlan
	spoke *FoundrySpoke
	child pulumi.ResourceOrInvokeOption

	subscription, tenantID, deployerID string

	resourceGroup    pulumi.StringOutput
	vnetName, vnetID pulumi.StringOutput
	gatewaySubnetID  pulumi.StringOutput
	last             pulumi.Resource // of the virtual network's parts, which Azure changes one at a time

	ca       *InspectionCA
	machine  *SpokeGateway
	rules    publishedRuleset
	attested attestation
	subnet   *AgentSubnet
}

// inspection makes the root, unless nothing is to be decrypted.
func (s *spokeBuilder) inspection() (err error) {
	s.spoke.VaultURI, s.spoke.RootCertificate = pulumi.String("").ToStringOutput(), pulumi.String("").ToStringOutput()
	if !or(s.args.Inspection, true) {
		return nil
	}
	s.ca, err = NewInspectionCA(s.ctx, s.name+"-ca", InspectionCAArgs{
		Location:          s.args.Location,
		ResourceGroupName: s.resourceGroup,
		TenantID:          pulumi.String(s.tenantID),
		GatewaySubnetID:   s.gatewaySubnetID,
		DeployerObjectID:  s.deployerObjectID(),
		DeployerAddresses: s.args.DeployerAddresses,
		HSM:               s.gatewayOptions().HSM,
		Tags:              s.args.Tags,
	}, s.child)
	if err != nil {
		return err
	}
	s.spoke.VaultURI, s.spoke.RootCertificate = s.ca.VaultURI, s.ca.RootCertificate
	return nil
}

func (s *spokeBuilder) gateway() (err error) {
	options := s.gatewayOptions()
	args := SpokeGatewayArgs{
		Location:          s.args.Location,
		ResourceGroupName: s.resourceGroup,
		SubnetID:          s.gatewaySubnetID,
		Address:           s.plan.address,
		AgentPrefixes:     s.plan.agentPrefixes(),
		BundleFile:        s.args.BundleFile,
		DeployerObjectID:  s.deployerObjectID(),
		DeployerAddresses: s.args.DeployerAddresses,
		Egress:            options.Egress,
		VMSize:            options.VMSize,
		Zones:             options.Zones,
		EncryptionAtHost:  options.EncryptionAtHost,
		SSHPublicKey:      options.SSHPublicKey,
		SSHSources:        options.SSHSources,
		PinScope:          options.PinScope,
		DNSClients:        options.DNSClients,
		ServiceTags:       options.ServiceTags,
		Tags:              s.args.Tags,
	}
	if s.ca != nil {
		args.VaultURI, args.KeyName, args.KeyID, args.RootCertificate = s.ca.VaultURI, s.ca.KeyName, s.ca.KeyID, s.ca.RootCertificate
	}
	s.machine, err = NewSpokeGateway(s.ctx, s.name+"-gateway", args, s.child)
	if err != nil {
		return err
	}
	s.spoke.GatewayAddress, s.spoke.EgressAddress = s.machine.Address, s.machine.EgressAddress
	s.spoke.GatewayIdentityID, s.spoke.GatewayPrincipalID = s.machine.IdentityID, s.machine.IdentityPrincipalID
	s.spoke.PolicyURL = s.machine.PolicyURL
	return nil
}

// ruleset publishes the document and waits until the gateway shows that it enforces it.
func (s *spokeBuilder) ruleset() error {
	inputs, err := s.plan.document.inputs()
	if err != nil {
		return err
	}
	inputs["publishUrl"] = s.machine.PolicyURL
	inputs["requireApproval"] = pulumi.Bool(or(s.args.RequireApproval, false))
	for key, given := range map[string]*string{"approvedDigest": s.args.ApprovedDigest, "serviceTags": s.args.ServiceTagsFile} {
		if given != nil {
			inputs[key] = pulumi.String(*given)
		}
	}
	if err := s.ctx.RegisterResource("bulkhead:index:Ruleset", s.name+"-ruleset", inputs, &s.rules, own(s.child)...); err != nil {
		return err
	}
	s.spoke.RulesetDigest = s.rules.Digest
	report := pulumi.Map{"url": s.machine.AttestationURL, "digest": s.rules.Digest}
	if s.args.AttestationTimeoutSeconds != nil {
		report["timeoutSeconds"] = pulumi.Int(*s.args.AttestationTimeoutSeconds)
	}
	return s.ctx.RegisterResource("bulkhead:index:Attestation", s.name+"-attestation", report, &s.attested, own(s.child)...)
}

// agents makes their subnet, once there is a gateway that contains them.
func (s *spokeBuilder) agents() (err error) {
	args := AgentSubnetArgs{
		Location:          s.args.Location,
		ResourceGroupName: s.resourceGroup,
		VnetName:          s.vnetName,
		VnetID:            s.vnetID,
		VnetPrefixes:      s.plan.space,
		Prefix:            s.plan.agents,
		LocalPrefixes:     s.plan.local,
		AdjacentPrefixes:  s.plan.adjacent,
		GatewayAddress:    s.plan.address,
		DnsClosure:        s.args.DnsClosure,
		Protect:           new(s.protect()),
		Tags:              s.args.Tags,
	}
	if s.plan.closure != "nsg" {
		if args.ResolvableNames, err = s.plan.document.resolvable(); err != nil {
			return err
		}
	}
	if s.args.Canary != nil {
		args.CanaryPrefix = &s.plan.canary
	}
	s.subnet, err = NewAgentSubnet(s.ctx, s.name+"-agents", args, s.child, pulumi.DependsOn([]pulumi.Resource{&s.attested, s.last}))
	if err != nil {
		return err
	}
	s.spoke.AgentSubnetID = s.subnet.SubnetID
	s.spoke.NetworkInjections = injections(s.subnet.SubnetID)
	return nil
}

func (s *spokeBuilder) canary() error {
	s.spoke.CanaryJobName = pulumi.String("").ToStringOutput()
	options := s.args.Canary
	if options == nil {
		return nil
	}
	args := CanaryArgs{
		Location:               s.args.Location,
		ResourceGroupName:      s.resourceGroup,
		VnetName:               s.vnetName,
		Prefix:                 s.plan.canary,
		RouteTableID:           s.subnet.RouteTableID,
		NetworkSecurityGroupID: s.subnet.NetworkSecurityGroupID,
		Image:                  options.Image,
		RegistryID:             options.RegistryID,
		Permitted:              options.Permitted,
		Denied:                 options.Denied,
		Decrypted:              options.Decrypted,
		Schedule:               options.Schedule,
		Tags:                   s.args.Tags,
	}
	if s.ca != nil {
		args.RootCertificate = s.ca.RootCertificate
	}
	canary, err := NewCanary(s.ctx, s.name+"-canary", args, s.child, pulumi.DependsOn([]pulumi.Resource{s.subnet.subnet}))
	if err != nil {
		return err
	}
	s.spoke.CanaryJobName = canary.JobName
	if or(options.Required, false) {
		return s.prove(canary)
	}
	return nil
}

// prove runs the canary, and keeps what a Foundry account needs back until it has succeeded: an account is bound to
// its subnet for good. What is waited for is the run's digest, which a preview knows, so that no plan shows an account
// whose injection is unknown; such a plan would replace it.
func (s *spokeBuilder) prove(canary *Canary) error {
	inputs := pulumi.Map{"jobId": canary.JobID, "digest": s.rules.Digest, "image": pulumi.String(s.args.Canary.Image)}
	var run canaryRun
	if err := s.ctx.RegisterResource("bulkhead:index:CanaryRun", s.name+"-canary-run", inputs, &run,
		own(s.child, pulumi.DependsOn([]pulumi.Resource{&s.attested}))...); err != nil {
		return err
	}
	s.spoke.AgentSubnetID = pulumi.All(s.subnet.SubnetID, run.Digest).ApplyT(func(all []any) string {
		return all[0].(string)
	}).(pulumi.StringOutput)
	s.spoke.NetworkInjections = injections(s.spoke.AgentSubnetID)
	return nil
}

// lock records what Foundry makes immutable.
func (s *spokeBuilder) lock() error {
	account := s.foundry()
	inputs := pulumi.Map{
		"vnetId":         s.vnetID,
		"agentSubnetId":  s.subnet.SubnetID,
		"agentPrefix":    pulumi.String(s.plan.agents),
		"delegation":     pulumi.String(Delegation),
		"location":       pulumi.String(s.args.Location),
		"gatewayAddress": pulumi.String(s.plan.address),
	}
	if account.Bound != nil {
		inputs["bound"] = pulumi.Bool(*account.Bound)
	}
	switch {
	case account.ID != nil:
		inputs["accountId"] = pulumi.String(*account.ID)
	case account.Name != nil:
		inputs["accountId"] = pulumi.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.CognitiveServices/accounts/%s",
			s.subscription, s.resourceGroup, *account.Name)
	}
	var lock spokeLock
	return s.ctx.RegisterResource("bulkhead:index:SpokeLock", s.name+"-lock", inputs, &lock, own(s.child)...)
}

func (s *spokeBuilder) protect() bool                  { return or(s.args.Protect, true) }
func (s *spokeBuilder) gatewayOptions() GatewayOptions { return or(s.args.Gateway, GatewayOptions{}) }
func (s *spokeBuilder) foundry() FoundryAccount        { return or(s.args.Foundry, FoundryAccount{}) }

// deployerObjectID is nil where the roles exist already.
func (s *spokeBuilder) deployerObjectID() *string {
	if s.deployerID == "" {
		return nil
	}
	return &s.deployerID
}
