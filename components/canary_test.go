package components

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	perrors "github.com/pulumi/pulumi/sdk/v3/go/pulumi/errors"
)

func canaryArgs() CanaryArgs {
	return CanaryArgs{
		Location: "eastus2", ResourceGroupName: pulumi.String("spoke"), VnetName: pulumi.String("vnet"), Prefix: "10.20.3.0/27",
		RouteTableID: pulumi.String("table"), NetworkSecurityGroupID: pulumi.String("nsg"), Image: "registry.example/bulkhead:1",
	}
}

func provisionCanary(t *testing.T, args CanaryArgs) (*recorder, error) {
	t.Helper()
	return provision(t, func(ctx *pulumi.Context) error {
		_, err := NewCanary(ctx, "canary", args)
		return err
	})
}

// The canary proves the agents' own table and group, so it has to be held by those.
func TestCanaryIsHeldAsAgentsAre(t *testing.T) {
	r, err := provisionCanary(t, canaryArgs())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"resourceGroupName": "spoke", "virtualNetworkName": "vnet", "subnetName": "canary", "addressPrefix": "10.20.3.0/27",
		"delegations":           []any{map[string]any{"name": "Microsoft.App.environments", "serviceName": "Microsoft.App/environments"}},
		"networkSecurityGroup":  map[string]any{"id": "nsg"},
		"routeTable":            map[string]any{"id": "table"},
		"defaultOutboundAccess": false, "privateEndpointNetworkPolicies": "Disabled", "privateLinkServiceNetworkPolicies": "Enabled",
	}
	if got := r.one(t, "Subnet", "").inputs.Mappable(); !reflect.DeepEqual(got, want) {
		t.Errorf("subnet\n got %v\nwant %v", got, want)
	}
	environment := r.one(t, "ManagedEnvironment", "")
	if got, want := environment.plain("vnetConfiguration"), map[string]any{"infrastructureSubnetId": subscription + "/Subnet/canary", "internal": true}; !reflect.DeepEqual(got, want) {
		t.Errorf("the environment is in %v, want %v", got, want)
	}
	if got, want := environment.plain("workloadProfiles"), []any{map[string]any{"name": "Consumption", "workloadProfileType": "Consumption"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("workload profiles %v, want %v", got, want)
	}
}

func TestCanaryProbe(t *testing.T) {
	args := canaryArgs()
	args.Decrypted = new("mcp.contoso.com")
	args.RootCertificate = pulumi.String("PEM")
	args.Schedule = new("0 * * * *")
	r, err := provisionCanary(t, args)
	if err != nil {
		t.Fatal(err)
	}
	job := r.one(t, "Job", "")
	container := job.plain("template").(map[string]any)["containers"].([]any)[0].(map[string]any)
	if got, want := container["command"], []any{"bulkhead", "probe", "--json", "--permitted", "mcr.microsoft.com", "--denied", "example.com", "--decrypted", "mcp.contoso.com"}; !reflect.DeepEqual(got, want) {
		t.Errorf("runs %v, want %v", got, want)
	}
	if got, want := container["env"], []any{map[string]any{"name": "BULKHEAD_ROOT", "value": "PEM"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("with %v, want %v", got, want)
	}
	if got, want := job.plain("configuration"), map[string]any{
		"triggerType": "Schedule", "replicaTimeout": 300.0, "replicaRetryLimit": 0.0,
		"scheduleTriggerConfig": map[string]any{"cronExpression": "0 * * * *", "parallelism": 1.0, "replicaCompletionCount": 1.0},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("starts by %v, want %v", got, want)
	}
}

// What pulls the image may do nothing else, and what runs in the job cannot be it.
func TestCanaryPulls(t *testing.T) {
	args := canaryArgs()
	registry := subscription + "/resourceGroups/shared/providers/Microsoft.ContainerRegistry/registries/contoso"
	args.Image, args.RegistryID = "contoso.azurecr.io/bulkhead:1", &registry
	r, err := provisionCanary(t, args)
	if err != nil {
		t.Fatal(err)
	}
	identity := subscription + "/UserAssignedIdentity/canary-pulls"
	job := r.one(t, "Job", "")
	if got, want := job.plain("identity"), map[string]any{"type": "UserAssigned", "userAssignedIdentities": []any{identity}}; !reflect.DeepEqual(got, want) {
		t.Errorf("the job is %v, want %v", got, want)
	}
	configuration := job.plain("configuration").(map[string]any)
	if got, want := configuration["registries"], []any{map[string]any{"server": "contoso.azurecr.io", "identity": identity}}; !reflect.DeepEqual(got, want) {
		t.Errorf("pulls from %v, want %v", got, want)
	}
	if got, want := configuration["identitySettings"], []any{map[string]any{"identity": identity, "lifecycle": "None"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("identities of what runs: %v, want %v", got, want)
	}
	if !r.waitsFor(job, "RoleAssignment canary-pulls") {
		t.Error("the job does not wait for the right to pull")
	}
	granted := r.one(t, "RoleAssignment", "")
	if granted.plain("scope") != registry || granted.plain("principalId") != "11111111-0000-0000-0000-000000000000" ||
		granted.plain("roleDefinitionId") != subscription+"/providers/Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d" {
		t.Errorf("granted %v", granted.inputs.Mappable())
	}
}

func TestImageHosts(t *testing.T) {
	for image, want := range map[string][]string{
		"contoso.azurecr.io/bulkhead:1":     {"contoso.azurecr.io", "contoso.eastus2.data.azurecr.io"},
		"ghcr.io/contoso/bulkhead@sha256:0": {"ghcr.io"},
		"registry.example:5000/bulkhead":    nil,
		"bulkhead:1":                        nil,
		"contoso/bulkhead":                  nil,
		"":                                  nil,
	} {
		if got := imageHosts(image, "eastus2"); !slices.Equal(got, want) {
			t.Errorf("%s is pulled from %q, want %q", image, got, want)
		}
	}
}

func TestCanaryRefuses(t *testing.T) {
	for _, test := range []struct {
		path  string
		spoil func(*CanaryArgs)
	}{
		{"prefix", func(a *CanaryArgs) { a.Prefix = "10.20.3.0/28" }},
		{"image", func(a *CanaryArgs) { a.Image = "" }},
		{"image", func(a *CanaryArgs) { a.Image = "registry.example:5000/bulkhead:1" }},
		{"registryId", func(a *CanaryArgs) { a.RegistryID = new("contoso") }},
		{"image", func(a *CanaryArgs) {
			a.Image, a.RegistryID = "bulkhead:1", new("/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/contoso")
		}},
		{"rootCertificate", func(a *CanaryArgs) { a.Decrypted = new("mcp.contoso.com") }},
		{"schedule", func(a *CanaryArgs) { a.Schedule = new("hourly") }},
	} {
		t.Run(test.path, func(t *testing.T) {
			args := canaryArgs()
			test.spoil(&args)
			r, err := provisionCanary(t, args)
			var input *perrors.InputPropertiesError
			if !errors.As(err, &input) || !slices.ContainsFunc(input.Errors, func(d perrors.InputPropertyErrorDetails) bool { return d.PropertyPath == test.path }) {
				t.Errorf("error is %v, want one for %s", err, test.path)
			}
			if len(r.made) > 0 {
				t.Errorf("made %v", r.names())
			}
		})
	}
}

// A name is refused before anything is made if no job can have it.
func TestCanaryNames(t *testing.T) {
	for name, want := range map[string]bool{"canary": true, strings.Repeat("c", 24): true, strings.Repeat("c", 25): false, "Canary": false, "can.ary": false} {
		r, err := provision(t, func(ctx *pulumi.Context) error {
			_, err := NewCanary(ctx, name, canaryArgs())
			return err
		})
		if (err == nil) != want || err != nil && len(r.made) > 0 {
			t.Errorf("%q: %v, made %v", name, err, r.names())
		}
	}
}
