package components

import (
	"encoding/base64"
	"net/netip"

	"github.com/pulumi/pulumi-azure-native-sdk/compute/v2"
	network "github.com/pulumi/pulumi-azure-native-sdk/network/v2/v20240501"
	"github.com/pulumi/pulumi-azure-native-sdk/storage/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/gateway/image"
)

// gatewayBuilder holds the parts of a gateway while they are made.
type gatewayBuilder struct {
	ctx   *pulumi.Context
	name  string
	args  SpokeGatewayArgs
	plain gatewayArgs
	child pulumi.ResourceOption

	account    *storage.StorageAccount
	containers map[string]*storage.BlobContainer
	endpoint   pulumi.StringOutput // of blobs, with a slash at the end
	identity   userAssignedIdentity
	machine    *compute.VirtualMachine

	before   []pulumi.Resource // what the machine needs at its first boot
	deployer []pulumi.Resource // roles that publishing needs

	policyURL, attestationURL, egressAddress pulumi.StringOutput
	subscription                             pulumi.StringOutput // as a scope
}

// gatewayBundle is the custom resource that publishes the release archive.
type gatewayBundle struct {
	pulumi.CustomResourceState

	URL    pulumi.StringOutput `pulumi:"url"`
	SHA256 pulumi.StringOutput `pulumi:"sha256"`
}

// onlyOne is for what cannot stand beside its own replacement: two interfaces with one
// address, two machines with one interface. Agents reach nothing between the two.
var onlyOne = pulumi.DeleteBeforeReplace(true)

func (g *gatewayBuilder) tags() pulumi.StringMap { return pulumi.ToStringMap(g.args.Tags) }

// zones are nil where none is named, which is not the same to Azure as an empty list.
func (g *gatewayBuilder) zones() pulumi.StringArrayInput {
	if len(g.args.Zones) == 0 {
		return nil
	}
	return pulumi.ToStringArray(g.args.Zones)
}

func (g *gatewayBuilder) build() error {
	for _, step := range []func() error{g.storage, g.admitDeployer, g.identify, g.discover, g.run} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// run publishes the release and starts the machine.
func (g *gatewayBuilder) run() error {
	// Whoever writes a blob at a URL of ours waits for the container and for the right to.
	known := []any{g.endpoint}
	for _, name := range []string{policyContainer, bundleContainer, attestationContainer} {
		known = append(known, g.containers[name].ID())
	}
	for _, role := range g.deployer {
		known = append(known, role.(pulumi.CustomResource).ID())
	}
	at := func(path string) pulumi.StringOutput {
		return pulumi.All(known...).ApplyT(func(all []any) string { return all[0].(string) + path }).(pulumi.StringOutput)
	}
	g.policyURL, g.attestationURL = at(policyContainer+"/ruleset.json"), at(attestationContainer+"/gateway.json")

	var bundle gatewayBundle
	err := g.ctx.RegisterResource("bulkhead:index:GatewayBundle", g.name+"-bundle", pulumi.Map{
		"file": pulumi.String(g.args.BundleFile), "containerUrl": at(bundleContainer),
	}, &bundle, own(g.child)...)
	if err != nil {
		return err
	}
	nic, err := g.networkInterface()
	if err != nil {
		return err
	}
	g.machine, err = compute.NewVirtualMachine(g.ctx, g.name, g.virtualMachine(nic, g.userData(&bundle)), g.child,
		pulumi.DependsOn(g.before), onlyOne)
	return err
}

// networkInterface makes the interface with its address, its rules and, unless the subnet
// has a way out, a public address.
func (g *gatewayBuilder) networkInterface() (*network.NetworkInterface, error) {
	nsg, err := network.NewNetworkSecurityGroup(g.ctx, g.name+"-nsg", &network.NetworkSecurityGroupArgs{
		Location:          pulumi.String(g.args.Location),
		ResourceGroupName: g.args.ResourceGroupName,
		SecurityRules:     g.securityRules(),
		Tags:              g.tags(),
	}, g.child)
	if err != nil {
		return nil, err
	}
	ip := network.NetworkInterfaceIPConfigurationArgs{
		Name:                      pulumi.String("gateway"),
		Primary:                   pulumi.Bool(true),
		Subnet:                    network.SubnetTypeArgs{Id: g.args.SubnetID},
		PrivateIPAddress:          pulumi.String(g.args.Address),
		PrivateIPAddressVersion:   pulumi.String(network.IPVersionIPv4),
		PrivateIPAllocationMethod: pulumi.String(network.IPAllocationMethodStatic),
	}
	g.egressAddress = pulumi.String("").ToStringOutput()
	if g.plain.egress == "publicIp" {
		public, err := network.NewPublicIPAddress(g.ctx, g.name+"-egress", &network.PublicIPAddressArgs{
			Location:                 pulumi.String(g.args.Location),
			ResourceGroupName:        g.args.ResourceGroupName,
			Sku:                      network.PublicIPAddressSkuArgs{Name: pulumi.String(network.PublicIPAddressSkuNameStandard), Tier: pulumi.String(network.PublicIPAddressSkuTierRegional)},
			PublicIPAddressVersion:   pulumi.String(network.IPVersionIPv4),
			PublicIPAllocationMethod: pulumi.String(network.IPAllocationMethodStatic),
			Zones:                    g.zones(),
			Tags:                     g.tags(),
		}, g.child)
		if err != nil {
			return nil, err
		}
		ip.PublicIPAddress = network.PublicIPAddressTypeArgs{Id: public.ID()}
		g.egressAddress = public.IpAddress.Elem()
	}
	return network.NewNetworkInterface(g.ctx, g.name+"-nic", &network.NetworkInterfaceArgs{
		Location:                    pulumi.String(g.args.Location),
		ResourceGroupName:           g.args.ResourceGroupName,
		EnableIPForwarding:          pulumi.Bool(true),
		EnableAcceleratedNetworking: pulumi.Bool(true),
		NetworkSecurityGroup:        network.NetworkSecurityGroupTypeArgs{Id: nsg.ID()},
		// The network's own DNS server is this gateway, which has to ask somebody else: for its
		// release before it runs, and for agents' names while it does.
		DnsSettings:      network.NetworkInterfaceDnsSettingsArgs{DnsServers: pulumi.ToStringArray([]string{"AzureProvidedDNS"})},
		IpConfigurations: network.NetworkInterfaceIPConfigurationArray{ip},
		Tags:             g.tags(),
	}, g.child, onlyOne)
}

// securityRules are what may arrive at the interface; the rest is refused, the Internet and
// the neighbours in the network alike.
//
// Agents' packets need a rule of their own: their destinations are on the Internet, and
// Azure's default rule for the virtual network admits only what also goes to it. Outbound
// Azure's defaults hold; what may leave is the ruleset's business.
func (g *gatewayBuilder) securityRules() network.SecurityRuleTypeArray {
	var all network.SecurityRuleTypeArray
	add := func(name string, priority int, access network.SecurityRuleAccess, protocol string, from []netip.Prefix, tag, to, port, why string) {
		rule := network.SecurityRuleTypeArgs{
			Name: pulumi.String(name), Description: pulumi.String(why), Priority: pulumi.Int(priority),
			Direction: network.SecurityRuleDirectionInbound, Access: access, Protocol: pulumi.String(protocol),
			SourcePortRange: pulumi.String("*"), DestinationAddressPrefix: pulumi.String(to), DestinationPortRange: pulumi.String(port),
		}
		if tag != "" {
			rule.SourceAddressPrefix = pulumi.String(tag)
		} else {
			prefixes := pulumi.StringArray{}
			for _, p := range from {
				prefixes = append(prefixes, pulumi.String(p.String()))
			}
			rule.SourceAddressPrefixes = prefixes
		}
		all = append(all, rule)
	}
	const allow, deny = network.SecurityRuleAccessAllow, network.SecurityRuleAccessDeny
	add("allow-agents", 100, allow, "*", g.plain.agents, "", "*", "*", "Agents' packets, wherever they go: the gateway judges them")
	add("allow-probes", 110, allow, "*", nil, "AzureLoadBalancer", "*", "*", "Health probes of the platform and of a load balancer")
	if len(g.plain.dnsClients) > 0 {
		add("allow-resolvers", 120, allow, "*", g.plain.dnsClients, "", g.args.Address+"/32", "53", "Resolvers that ask on behalf of agents")
	}
	if len(g.plain.sshSources) > 0 {
		add("allow-ssh", 130, allow, "Tcp", g.plain.sshSources, "", g.args.Address+"/32", "22", "Operators, from inside")
	}
	add("deny-inbound", 4096, deny, "*", nil, "*", "*", "*", "Nothing else comes in: not from the Internet, not from the network")
	return all
}

// userData is the machine's, once all that it names is known.
func (g *gatewayBuilder) userData(bundle *gatewayBundle) pulumi.StringOutput {
	optional := func(in pulumi.StringPtrInput) pulumi.StringOutput {
		if in == nil {
			return pulumi.String("").ToStringOutput()
		}
		return in.ToStringPtrOutput().Elem()
	}
	return pulumi.All(g.policyURL, g.attestationURL, bundle.URL, bundle.SHA256, g.identity.ClientID,
		optional(g.args.VaultURI), optional(g.args.KeyName), optional(g.args.RootCertificate), g.subscription,
	).ApplyT(func(v []any) (string, error) {
		text := func(i int) string { return v[i].(string) }
		data, err := image.UserData(image.Spec{
			Address: g.plain.address, Agents: g.plain.agents, PinScope: g.plain.pinScope, DNSClients: g.plain.dnsClients,
			PolicyURL: text(0), AttestationURL: text(1), BundleURL: text(2), BundleSHA256: text(3), ClientID: text(4),
			VaultURI: text(5), KeyName: text(6), RootCertificate: text(7),
			Discovery: g.discovery(text(8)),
			SSH:       g.args.SSHPublicKey != nil,
		})
		return base64.StdEncoding.EncodeToString(data), err
	}).(pulumi.StringOutput)
}

const (
	defaultVMSize = "Standard_D2s_v5"
	adminUser     = "bulkhead"

	// nobodysKey is given where nobody is to log in, because Azure makes no Linux machine
	// without a password or a key. Its modulus is RSA-2048, from the factoring challenge of
	// RSA Laboratories (1991–2007), whose factors were destroyed when it was made, and which
	// nobody has factored since. So no private key is made, none is in the state, and none
	// exists to be stolen. It is not relied upon: the user that it belongs to is not made, the
	// SSH server does not run, and port 22 is shut.
	nobodysKey = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDHlwzu3MOwdUSQIBp6phPNc5EQgceQ9fGocm9GNVC7W3/w244eoRiexy+T0WUAEb1yGu6swq" +
		"zeMqBBB/BkjCgTox9bC3dl/4tEtLb/yTOEtkbrCcfPXoWS1A6jPIADnzW08UoEtR97/Xgb5NFnMWS6jrmRwsTXMLu+NfWSve9SSvfo2u/SbGb8" +
		"AsR5r4nWTTc/RCcJQ53mbOuVXz6jfVFZ9hNYCfhTNLXLGBOt3IDNBWCfEKxqla1lhyyQlSW9rTK8cpWSZCkg8kxh3Fs8O3kj5WsWpNnTc9hyHy" +
		"Sj/A8bMTH1VhUXKGa8zDD5UFTIJOczpetoF/e8FjmdSMY2HMfl nobody"
)

// virtualMachine describes the machine.
//
// The user data goes into userData and not into osProfile.customData: Azure changes the one
// on a running machine and the other never, so that an upgrade would be a new machine, with
// the audit of the old one gone. See package image for how the machine takes new user data.
func (g *gatewayBuilder) virtualMachine(nic *network.NetworkInterface, userData pulumi.StringInput) *compute.VirtualMachineArgs {
	return &compute.VirtualMachineArgs{
		Location:          pulumi.String(g.args.Location),
		ResourceGroupName: g.args.ResourceGroupName,
		Zones:             g.zones(),
		HardwareProfile:   compute.HardwareProfileArgs{VmSize: pulumi.String(or(g.args.VMSize, defaultVMSize))},
		Identity: compute.VirtualMachineIdentityArgs{
			Type:                   compute.ResourceIdentityTypeUserAssigned,
			UserAssignedIdentities: pulumi.StringArray{g.identity.ID()},
		},
		SecurityProfile: compute.SecurityProfileArgs{
			SecurityType:     pulumi.String(compute.SecurityTypesTrustedLaunch),
			UefiSettings:     compute.UefiSettingsArgs{SecureBootEnabled: pulumi.Bool(true), VTpmEnabled: pulumi.Bool(true)},
			EncryptionAtHost: pulumi.Bool(or(g.args.EncryptionAtHost, false)),
		},
		// Without an address of a storage account Azure keeps the console's log in one of its own.
		DiagnosticsProfile: compute.DiagnosticsProfileArgs{BootDiagnostics: compute.BootDiagnosticsArgs{Enabled: pulumi.Bool(true)}},
		StorageProfile: compute.StorageProfileArgs{
			// Generation 2, which Trusted Launch needs.
			ImageReference: compute.ImageReferenceArgs{
				Publisher: pulumi.String("Canonical"), Offer: pulumi.String("ubuntu-24_04-lts"), Sku: pulumi.String("server"), Version: pulumi.String("latest"),
			},
			OsDisk: compute.OSDiskArgs{
				CreateOption: pulumi.String(compute.DiskCreateOptionTypesFromImage),
				Caching:      compute.CachingTypesReadWrite,
				ManagedDisk:  compute.ManagedDiskParametersArgs{StorageAccountType: pulumi.String(compute.StorageAccountTypes_Premium_LRS)},
				// Azure made it with the machine, so nobody else would delete it.
				DeleteOption: pulumi.String(compute.DiskDeleteOptionTypesDelete),
			},
		},
		OsProfile: compute.OSProfileArgs{
			ComputerName:  pulumi.String("bulkhead-gateway"),
			AdminUsername: pulumi.String(adminUser),
			LinuxConfiguration: compute.LinuxConfigurationArgs{
				DisablePasswordAuthentication: pulumi.Bool(true),
				ProvisionVMAgent:              pulumi.Bool(true),
				Ssh: compute.SshConfigurationArgs{PublicKeys: compute.SshPublicKeyTypeArray{compute.SshPublicKeyTypeArgs{
					Path:    pulumi.String("/home/" + adminUser + "/.ssh/authorized_keys"),
					KeyData: pulumi.String(or(g.args.SSHPublicKey, nobodysKey)),
				}}},
			},
		},
		NetworkProfile: compute.NetworkProfileArgs{NetworkInterfaces: compute.NetworkInterfaceReferenceArray{
			compute.NetworkInterfaceReferenceArgs{Id: nic.ID(), Primary: pulumi.Bool(true)},
		}},
		UserData: userData,
		Tags:     g.tags(),
	}
}
