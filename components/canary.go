package components

import (
	"regexp"
	"strings"

	app "github.com/pulumi/pulumi-azure-native-sdk/app/v2/v20250101"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// CanaryToken is the component's type.
const CanaryToken = "bulkhead:index:Canary"

// CanaryArgs describes a twin of the agent subnet, with something harmless in it.
type CanaryArgs struct {
	// Region of the virtual network, such as eastus2.
	Location string `pulumi:"location"`
	// Resource group of the virtual network.
	ResourceGroupName pulumi.StringInput `pulumi:"resourceGroupName"`
	// Name of the virtual network that the subnet is made in.
	VnetName pulumi.StringInput `pulumi:"vnetName"`
	// Prefix of the canary's own subnet, /27 or wider. A subnet belongs to one environment, so it cannot be the agents'.
	Prefix string `pulumi:"prefix"`
	// ARM id of the agent subnet's route table: the canary proves that very table.
	RouteTableID pulumi.StringInput `pulumi:"routeTableId"`
	// ARM id of the agent subnet's network security group.
	NetworkSecurityGroupID pulumi.StringInput `pulumi:"networkSecurityGroupId"`
	// Reference of an image that has the bulkhead program in it. The gateway has to permit its registry to the canary,
	// and the hosts that the registry sends to for its layers.
	Image string `pulumi:"image"`
	// ARM id of the Azure Container Registry that the image is in. The job then pulls as an identity of its own, which is
	// made, may pull from that registry and nothing else, and is out of the reach of what runs in the job. That takes the
	// right to assign roles on the registry. Default: the image is public.
	RegistryID *string `pulumi:"registryId,optional"`
	// A name that the ruleset permits on port 443. Default: mcr.microsoft.com, which the platform needs.
	Permitted *string `pulumi:"permitted,optional"`
	// A name that the ruleset denies. Default: example.com.
	Denied *string `pulumi:"denied,optional"`
	// A name that the ruleset decrypts; the probe then shows that the gateway's certificate for it is from the root.
	Decrypted *string `pulumi:"decrypted,optional"`
	// The root's certificate in PEM. Needed with decrypted.
	RootCertificate pulumi.StringPtrInput `pulumi:"rootCertificate,optional"`
	// When the probe runs by itself, as a cron expression in UTC. Default: only when somebody starts the job.
	Schedule *string `pulumi:"schedule,optional"`
	// Tags of every resource that can have them.
	Tags map[string]string `pulumi:"tags,optional"`
}

// Canary goes down the mine before the agents do: a subnet with their delegation, route table and security group,
// and a Container Apps job in it that tells whether names are answered, one connection is permitted, one is denied,
// Azure's own resolver is closed and decryption is trusted.
type Canary struct {
	pulumi.ResourceState

	// ARM id of the canary's subnet.
	SubnetID pulumi.StringOutput `pulumi:"subnetId"`
	// ARM id of the Container Apps environment.
	EnvironmentID pulumi.StringOutput `pulumi:"environmentId"`
	// Name of the job: az containerapp job start --name NAME.
	JobName pulumi.StringOutput `pulumi:"jobName"`
	// ARM id of the job.
	JobID pulumi.StringOutput `pulumi:"jobId"`
}

// NewCanary makes a canary.
func NewCanary(ctx *pulumi.Context, name string, args CanaryArgs, opts ...pulumi.ResourceOption) (*Canary, error) {
	c, err := newCanary(ctx, name, args, opts...)
	return registered(ctx, c, err)
}

func newCanary(ctx *pulumi.Context, name string, args CanaryArgs, opts ...pulumi.ResourceOption) (*Canary, error) {
	if err := nameOfJob.check("canary", name, 0); err != nil {
		return nil, err
	}
	if err := args.check(); err != nil {
		return nil, err
	}
	c := &Canary{}
	if err := ctx.RegisterComponentResource(CanaryToken, name, c, opts...); err != nil {
		return nil, err
	}
	child := pulumi.Parent(c)
	tags := pulumi.ToStringMap(args.Tags)

	told, err := after(opts)
	if err != nil {
		return nil, err
	}
	subnet, err := contained{
		resourceGroup: args.ResourceGroupName, vnet: args.VnetName, name: "canary", prefix: args.Prefix,
		nsg: args.NetworkSecurityGroupID, routes: args.RouteTableID,
	}.subnet(ctx, name, child, told)
	if err != nil {
		return nil, err
	}
	// Before the environment, which takes minutes: so long a new assignment may take until the registry knows of it.
	puller, err := args.puller(ctx, name, child)
	if err != nil {
		return nil, err
	}
	// Workload profiles, because Foundry's own environments have them: the older kind does
	// not support route tables at all.
	const profile = "Consumption"
	environment, err := app.NewManagedEnvironment(ctx, name, &app.ManagedEnvironmentArgs{
		Location:          pulumi.String(args.Location),
		ResourceGroupName: args.ResourceGroupName,
		VnetConfiguration: app.VnetConfigurationArgs{
			InfrastructureSubnetId: subnet.ID(),
			Internal:               pulumi.Bool(true), // no public address
		},
		WorkloadProfiles: app.WorkloadProfileArray{app.WorkloadProfileArgs{
			Name: pulumi.String(profile), WorkloadProfileType: pulumi.String(profile),
		}},
		Tags: tags,
	}, child)
	if err != nil {
		return nil, err
	}
	configuration, first := args.trigger(), []pulumi.Resource{}
	var identity app.ManagedServiceIdentityPtrInput
	if puller != nil {
		id := puller.identity.ID().ToStringOutput()
		identity = app.ManagedServiceIdentityArgs{Type: pulumi.String("UserAssigned"), UserAssignedIdentities: pulumi.StringArray{id}}
		configuration.Registries = app.RegistryCredentialsArray{app.RegistryCredentialsArgs{Server: pulumi.String(imageServer(args.Image)), Identity: id}}
		configuration.IdentitySettings = app.IdentitySettingsArray{app.IdentitySettingsArgs{Identity: id, Lifecycle: pulumi.String(app.IdentitySettingsLifeCycleNone)}}
		first = append(first, puller.granted)
	}
	job, err := app.NewJob(ctx, name, &app.JobArgs{
		Location:            pulumi.String(args.Location),
		ResourceGroupName:   args.ResourceGroupName,
		EnvironmentId:       environment.ID(),
		WorkloadProfileName: pulumi.String(profile),
		Configuration:       configuration,
		Template: app.JobTemplateArgs{Containers: app.ContainerArray{app.ContainerArgs{
			Name:      pulumi.String("probe"),
			Image:     pulumi.String(args.Image),
			Command:   pulumi.ToStringArray(args.command()),
			Env:       args.environment(),
			Resources: app.ContainerResourcesArgs{Cpu: pulumi.Float64(0.25), Memory: pulumi.String("0.5Gi")},
		}}},
		Identity: identity,
		Tags:     tags,
	}, child, pulumi.DependsOn(first))
	if err != nil {
		return nil, err
	}

	c.SubnetID = subnet.ID().ToStringOutput()
	c.EnvironmentID = environment.ID().ToStringOutput()
	c.JobName = job.Name
	c.JobID = job.ID().ToStringOutput()
	return c, nil
}

func (args *CanaryArgs) check() error {
	var p problems
	if prefix := p.prefix("prefix", args.Prefix); prefix.IsValid() && prefix.Bits() > 27 {
		p.add("prefix", "%s is too small: Container Apps wants /27 or wider", prefix)
	}
	if args.Image == "" {
		p.add("image", "name an image that has the bulkhead program in it")
	}
	if server := imageServer(args.Image); strings.Contains(server, ":") {
		p.add("image", "%s names a port: only registries on 443 are reached through the gateway", server)
	}
	if args.RegistryID != nil {
		switch {
		case !registryID.MatchString(*args.RegistryID):
			p.add("registryId", "%q is not the id of a registry: /subscriptions/ID/resourceGroups/NAME/providers/Microsoft.ContainerRegistry/registries/NAME", *args.RegistryID)
		case args.Image != "" && imageServer(args.Image) == "":
			p.add("image", "%s does not say which host it is pulled from, such as contoso.azurecr.io/bulkhead:1", args.Image)
		}
	}
	if args.Decrypted != nil && args.RootCertificate == nil {
		p.add("rootCertificate", "needed to tell whether the certificate of %s is from the gateway's root", *args.Decrypted)
	}
	if args.Schedule != nil && len(strings.Fields(*args.Schedule)) != 5 {
		p.add("schedule", "%q is not a cron expression of five fields, such as 0 * * * *", *args.Schedule)
	}
	return p.err()
}

var registryID = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ContainerRegistry/registries/[^/]+$`)

// imageServer is the host in an image's reference; empty where it has none, which means another to each client.
func imageServer(image string) string {
	host, _, named := strings.Cut(image, "/")
	if !named || !strings.Contains(host, ".") {
		return ""
	}
	return host
}

// imageHosts are the names that an image is pulled from, as far as its reference tells. An Azure Container Registry with dedicated
// data endpoints has its layers under a name of its own in each region; any other has them under
// *.blob.core.windows.net, which is too much to permit
// (learn.microsoft.com/azure/container-registry/container-registry-dedicated-data-endpoints).
func imageHosts(image, location string) []string {
	server := imageServer(image)
	if server == "" || strings.Contains(server, ":") { // a port, which CanaryArgs refuses
		return nil
	}
	hosts := []string{server}
	if registry, ok := strings.CutSuffix(server, ".azurecr.io"); ok {
		hosts = append(hosts, registry+"."+location+".data.azurecr.io")
	}
	return hosts
}

// puller may pull the image, and do nothing else. Azure looks for the image when the job is made, so it is granted first.
type puller struct {
	identity userAssignedIdentity
	granted  pulumi.Resource
}

// puller makes one for a registry that wants to know who pulls; nil for any other.
func (args *CanaryArgs) puller(ctx *pulumi.Context, name string, child pulumi.ResourceOption) (*puller, error) {
	if args.RegistryID == nil {
		return nil, nil
	}
	p := &puller{}
	err := ctx.RegisterResource("azure-native:managedidentity:UserAssignedIdentity", name+"-pulls", pulumi.Map{
		"resourceGroupName": args.ResourceGroupName,
		"location":          pulumi.String(args.Location),
		"tags":              pulumi.ToStringMap(args.Tags),
	}, &p.identity, child, pulumi.Version(azureNative))
	if err != nil {
		return nil, err
	}
	p.granted, err = grant(ctx, name+"-pulls", roleImagePuller, pulumi.ID(*args.RegistryID).ToIDOutput(), p.identity.PrincipalID, "ServicePrincipal", child)
	return p, err
}

// rootVariable is where the probe finds the root: a certificate, and nothing secret.
const rootVariable = "BULKHEAD_ROOT"

func (args *CanaryArgs) command() []string {
	command := []string{"bulkhead", "probe", "--json", "--permitted", or(args.Permitted, "mcr.microsoft.com"), "--denied", or(args.Denied, "example.com")}
	if args.Decrypted != nil {
		command = append(command, "--decrypted", *args.Decrypted)
	}
	return command
}

func (args *CanaryArgs) environment() app.EnvironmentVarArray {
	if args.Decrypted == nil {
		return nil
	}
	return app.EnvironmentVarArray{app.EnvironmentVarArgs{Name: pulumi.String(rootVariable), Value: args.RootCertificate}}
}

// trigger is how the job starts. A job on a schedule can be started by hand too. A probe that
// fails is not tried again: its first answer is the one to be seen.
func (args *CanaryArgs) trigger() app.JobConfigurationArgs {
	once := pulumi.Int(1)
	c := app.JobConfigurationArgs{
		ReplicaTimeout:    pulumi.Int(300),
		ReplicaRetryLimit: pulumi.Int(0),
		TriggerType:       pulumi.String("Manual"),
	}
	if args.Schedule == nil {
		c.ManualTriggerConfig = app.JobConfigurationManualTriggerConfigArgs{Parallelism: once, ReplicaCompletionCount: once}
		return c
	}
	c.TriggerType = pulumi.String("Schedule")
	c.ScheduleTriggerConfig = app.JobConfigurationScheduleTriggerConfigArgs{
		CronExpression: pulumi.String(*args.Schedule), Parallelism: once, ReplicaCompletionCount: once,
	}
	return c
}
