package components

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// SpokeGatewayToken is the component's type.
const SpokeGatewayToken = "bulkhead:index:SpokeGateway"

// SpokeGatewayArgs describes the gateway: a virtual machine with a static address in a subnet of its own, and the
// storage account from which it takes its release and its ruleset.
type SpokeGatewayArgs struct {
	// Region of the virtual network, such as eastus2.
	Location string `pulumi:"location"`
	// Resource group of everything that the gateway consists of.
	ResourceGroupName pulumi.StringInput `pulumi:"resourceGroupName"`
	// ARM id of the gateway's own subnet. Without a private endpoint it needs the service endpoint Microsoft.Storage;
	// the agents' subnet must not have it.
	SubnetID pulumi.StringInput `pulumi:"subnetId"`
	// The gateway's static private address in that subnet. Azure keeps the first four and the last.
	Address string `pulumi:"address"`
	// The agents' subnets: whose packets are governed.
	AgentPrefixes []string `pulumi:"agentPrefixes"`
	// The gateway's release archive, a local file. It is published to the storage account, and the machine unpacks it
	// only if its SHA-256 is that of this file.
	BundleFile string `pulumi:"bundleFile"`
	// URI of the vault that holds the root's key: an output of InspectionCA, as are the next three. Give all four, or
	// none: then nothing is decrypted.
	VaultURI pulumi.StringPtrInput `pulumi:"vaultUri,optional"`
	// Name of the root's key in the vault.
	KeyName pulumi.StringPtrInput `pulumi:"keyName,optional"`
	// ARM id of the root's key: the scope of the role that lets the gateway sign with it.
	KeyID pulumi.StringPtrInput `pulumi:"keyId,optional"`
	// The root's certificate in PEM.
	RootCertificate pulumi.StringPtrInput `pulumi:"rootCertificate,optional"`
	// Object id of whoever deploys. It is granted what publishing needs on the storage account's containers. Without
	// it those roles must exist.
	DeployerObjectID *string `pulumi:"deployerObjectId,optional"`
	// Public addresses or prefixes from which the deployer reaches the storage account. Everybody else is refused
	// before being asked who they are. They do not hold for a deployer that runs in Azure in the same region. Default: none.
	DeployerAddresses []string `pulumi:"deployerAddresses,optional"`
	// The gateway's way out. publicIp: a static Standard public address on its own interface, through which nothing
	// comes in. subnet: whatever the subnet has, such as a NAT gateway. Default: publicIp.
	Egress *string `pulumi:"egress,optional"`
	// Size of the machine: one of x86-64 with accelerated networking, Trusted Launch and generation 2. Default: Standard_D2s_v5.
	VMSize *string `pulumi:"vmSize,optional"`
	// Availability zone of the machine and of its public address: one, or none. Default: none.
	Zones []string `pulumi:"zones,optional"`
	// Encrypt the machine's disks on its host too. The subscription must have registered the feature EncryptionAtHost.
	// Default: false.
	EncryptionAtHost *bool `pulumi:"encryptionAtHost,optional"`
	// An SSH public key of the user that may log in from sshSources. Without it nobody can: no user is made and the SSH
	// server does not run. Azure does not let it be changed on a machine that exists.
	SSHPublicKey *string `pulumi:"sshPublicKey,optional"`
	// Private prefixes from which SSH is admitted, such as a bastion's subnet. Default: none.
	SSHSources []string `pulumi:"sshSources,optional"`
	// For whom a resolved name holds, as in the gateway's configuration: source, shared or verify. Default: source.
	PinScope *string `pulumi:"pinScope,optional"`
	// Resolvers that ask on behalf of all agents. Needed for, and only for, the pin scope shared.
	DNSClients []string `pulumi:"dnsClients,optional"`
	// ARM id of a subnet for a private endpoint of the storage account. With it the gateway reaches the account
	// through that endpoint instead of the service endpoint.
	PrivateEndpointSubnetID pulumi.StringPtrInput `pulumi:"privateEndpointSubnetId,optional"`
	// ARM id of the zone privatelink.blob.core.windows.net, linked to the virtual network. Needed with
	// privateEndpointSubnetId.
	BlobPrivateDNSZoneID pulumi.StringPtrInput `pulumi:"blobPrivateDnsZoneId,optional"`
	// How the gateway comes by the addresses behind Azure's service tags. Default: it asks Azure.
	ServiceTags *ServiceTagOptions `pulumi:"serviceTags,optional"`
	// Tags of every resource that can have them.
	Tags map[string]string `pulumi:"tags,optional"`
}

// SpokeGateway is the gateway's machine with its identity, its storage account and its way out. There is one machine;
// the outputs have room for several behind an internal load balancer.
type SpokeGateway struct {
	pulumi.ResourceState

	// The next hop of agents' routes: the machine's address, or the load balancer's when there are several.
	Address pulumi.StringOutput `pulumi:"address"`
	// Private address of each machine.
	Addresses pulumi.StringArrayOutput `pulumi:"addresses"`
	// ARM id of each machine.
	VMIDs pulumi.StringArrayOutput `pulumi:"vmIds"`
	// ARM id of the managed identity.
	IdentityID pulumi.StringOutput `pulumi:"identityId"`
	// Object id of the managed identity.
	IdentityPrincipalID pulumi.StringOutput `pulumi:"identityPrincipalId"`
	// Client id of the managed identity.
	IdentityClientID pulumi.StringOutput `pulumi:"identityClientId"`
	// Name of the storage account.
	StorageAccountName pulumi.StringOutput `pulumi:"storageAccountName"`
	// Where the storage account's blobs are: https://ACCOUNT.blob.core.windows.net/.
	BlobEndpoint pulumi.StringOutput `pulumi:"blobEndpoint"`
	// The blob that Ruleset publishes and the gateway asks for. It is known once the deployer may write it.
	PolicyURL pulumi.StringOutput `pulumi:"policyUrl"`
	// The blob in which the gateway says which ruleset it enforces. It is known once there is a machine to say it.
	AttestationURL pulumi.StringOutput `pulumi:"attestationUrl"`
	// The public address that origins see. Empty where the subnet has its own way out.
	EgressAddress pulumi.StringOutput `pulumi:"egressAddress"`
}

// NewSpokeGateway makes a gateway.
func NewSpokeGateway(ctx *pulumi.Context, name string, args SpokeGatewayArgs, opts ...pulumi.ResourceOption) (*SpokeGateway, error) {
	c, err := newSpokeGateway(ctx, name, args, opts...)
	return registered(ctx, c, err)
}

func newSpokeGateway(ctx *pulumi.Context, name string, args SpokeGatewayArgs, opts ...pulumi.ResourceOption) (*SpokeGateway, error) {
	if err := nameOfVM.check("gateway", name, 0); err != nil {
		return nil, err
	}
	plain, err := args.check()
	if err != nil {
		return nil, err
	}
	c := &SpokeGateway{}
	if err := ctx.RegisterComponentResource(SpokeGatewayToken, name, c, opts...); err != nil {
		return nil, err
	}
	g := &gatewayBuilder{ctx: ctx, name: name, args: args, plain: plain, child: pulumi.Parent(c)}
	if err := g.build(); err != nil {
		return nil, err
	}
	c.Address = pulumi.String(args.Address).ToStringOutput()
	c.Addresses = pulumi.ToStringArray([]string{args.Address}).ToStringArrayOutput()
	c.VMIDs = pulumi.StringArray{g.machine.ID().ToStringOutput()}.ToStringArrayOutput()
	c.IdentityID = g.identity.ID().ToStringOutput()
	c.IdentityPrincipalID = g.identity.PrincipalID
	c.IdentityClientID = g.identity.ClientID
	c.StorageAccountName = g.account.Name
	c.BlobEndpoint = g.endpoint
	c.PolicyURL = g.policyURL
	// By the output and not by DependsOn: whoever depends on a component made in the same
	// program waits only for those of its children that have been registered by then.
	c.AttestationURL = pulumi.All(g.attestationURL, g.machine.ID()).ApplyT(func(v []any) string { return v[0].(string) }).(pulumi.StringOutput)
	c.EgressAddress = g.egressAddress
	return c, nil
}

// gatewayArgs are the arguments that are known in preview, read.
type gatewayArgs struct {
	address           netip.Addr
	agents            []netip.Prefix
	dnsClients        []netip.Prefix
	sshSources        []netip.Prefix
	deployerAddresses []netip.Prefix
	pinScope, egress  string
	serviceTags       string
	inspects          bool // a root was given
}

// armSize matches the names of sizes with an Arm processor, such as Standard_D4ps_v5: a p among the letters behind the number of
// cores (learn.microsoft.com/azure/virtual-machines/vm-naming-conventions).
var armSize = regexp.MustCompile(`^[A-Za-z]+_[A-Z]+[0-9]+(-[0-9]+)?[a-z]*p[a-z]*(_|$)`)

// check refuses what Azure or the gateway itself would refuse, and what would let somebody in.
func (args *SpokeGatewayArgs) check() (gatewayArgs, error) {
	var p problems
	p.location("location", args.Location)
	plain := gatewayArgs{
		address:           p.address("address", args.Address),
		agents:            p.prefixes("agentPrefixes", args.AgentPrefixes),
		dnsClients:        p.prefixes("dnsClients", args.DNSClients),
		sshSources:        p.prefixes("sshSources", args.SSHSources),
		deployerAddresses: p.publicPrefixes("deployerAddresses", args.DeployerAddresses),
		pinScope:          p.oneOf("pinScope", args.PinScope, "source", "shared", "verify"),
		egress:            p.oneOf("egress", args.Egress, "publicIp", "subnet"),
		serviceTags:       p.serviceTags("serviceTags", args.ServiceTags),
		inspects:          args.VaultURI != nil,
	}
	if len(args.AgentPrefixes) == 0 {
		p.add("agentPrefixes", "name the agents' subnets: a gateway governs nobody else")
	}
	for i, agents := range plain.agents {
		at := fmt.Sprintf("agentPrefixes[%d]", i)
		switch {
		case agents.Bits() == 0:
			p.add(at, "%s would govern every source, the gateway's own management too: name the subnets", agents)
		case agents.Contains(plain.address):
			p.add(at, "%s holds the gateway's address %s: what it sends would be routed back to itself. Give it a subnet of its own", agents, plain.address)
		}
	}
	if size := or(args.VMSize, defaultVMSize); armSize.MatchString(size) {
		p.add("vmSize", "%s has an Arm processor, and the gateway's image and release are for x64: choose one such as %s", size, defaultVMSize)
	}
	if args.BundleFile == "" {
		p.add("bundleFile", "name the gateway's release archive")
	}
	if (plain.pinScope == "shared") != (len(args.DNSClients) > 0) {
		p.add("dnsClients", "the pin scope shared needs the resolvers that ask on behalf of agents, and only it does")
	}
	if args.SSHPublicKey == nil && len(args.SSHSources) > 0 {
		p.add("sshPublicKey", "sshSources admits somebody, but without a key nobody can log in")
	}
	if args.SSHPublicKey != nil {
		if key := *args.SSHPublicKey; !strings.HasPrefix(key, "ssh-rsa ") && !strings.HasPrefix(key, "ssh-ed25519 ") || strings.ContainsAny(strings.TrimSpace(key), "\r\n") {
			p.add("sshPublicKey", "not one line of an SSH public key: ssh-rsa with 2048 bits or more, or ssh-ed25519")
		}
		if len(args.SSHSources) == 0 {
			p.add("sshSources", "a key is of no use without the prefixes from which SSH is admitted")
		}
	}
	for i, from := range plain.sshSources {
		if !from.Addr().IsPrivate() {
			p.add(fmt.Sprintf("sshSources[%d]", i), "%s is not private: nothing from the Internet reaches a gateway", from)
		}
	}
	if len(args.Zones) > 1 {
		p.add("zones", "one machine stands in one zone")
	}
	for path, given := range map[string]bool{"keyName": args.KeyName != nil, "keyId": args.KeyID != nil, "rootCertificate": args.RootCertificate != nil} {
		if given != plain.inspects {
			p.add(path, "give vaultUri, keyName, keyId and rootCertificate, or none of them")
		}
	}
	if (args.PrivateEndpointSubnetID != nil) != (args.BlobPrivateDNSZoneID != nil) {
		p.add("blobPrivateDnsZoneId", "a private endpoint needs its subnet and the zone in which the account's name leads to it")
	}
	return plain, p.err()
}
