package components

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

const subscription = "/subscriptions/00000000-0000-0000-0000-000000000001"

// registered resources of a program, in the order in which the engine would hear of them.
//
// It stands for the engine and every provider, so it proves what is asked for and in which
// order, and nothing about what Azure makes of it.
type recorder struct {
	mu      sync.Mutex
	made    []made
	refused string // a kind that cannot be made
}

type made struct {
	token, name string
	inputs      resource.PropertyMap
	after       []string // URNs: what has to exist before
	protect     bool
	deleteFirst bool   // before its replacement is made
	deletedWith string // URN: whose end is also its own
	version     string
}

func (r *recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := made{token: args.TypeToken, name: args.Name, inputs: args.Inputs}
	if rpc := args.RegisterRPC; rpc != nil {
		m.after, m.protect, m.version = rpc.GetDependencies(), rpc.GetProtect(), rpc.GetVersion()
		m.deleteFirst, m.deletedWith = rpc.GetDeleteBeforeReplace(), rpc.GetDeletedWith()
	}
	if r.refused != "" && strings.HasSuffix(args.TypeToken, ":"+r.refused) {
		return "", nil, fmt.Errorf("%s is refused", args.Name)
	}
	r.made = append(r.made, m)

	out := args.Inputs.Copy()
	set := func(key, value string) {
		if !out.HasValue(resource.PropertyKey(key)) {
			out[resource.PropertyKey(key)] = resource.NewStringProperty(value)
		}
	}
	kind := args.TypeToken[strings.LastIndex(args.TypeToken, ":")+1:]
	set("name", args.Name)
	switch kind {
	case "UserAssignedIdentity":
		set("principalId", "11111111-0000-0000-0000-000000000000")
		set("clientId", "22222222-0000-0000-0000-000000000000")
	case "StorageAccount":
		out["primaryEndpoints"] = resource.NewObjectProperty(resource.PropertyMap{
			"blob": resource.NewStringProperty("https://" + args.Name + "0a1b2c3d.blob.core.windows.net/"),
		})
	case "Vault":
		properties := out["properties"].ObjectValue().Copy()
		properties["vaultUri"] = resource.NewStringProperty("https://" + args.Name + "0a1b2c3d.vault.azure.net/")
		out["properties"] = resource.NewObjectProperty(properties)
	case "PublicIPAddress":
		set("ipAddress", "203.0.113.7")
	case "GatewayBundle":
		set("url", args.Inputs["containerUrl"].StringValue()+"/bulkhead-gateway_0.1.0_linux_amd64.tar.gz")
		set("sha256", strings.Repeat("0f", 32))
	case "RootCertificate":
		set("pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
		set("fingerprint", "ab")
	case "Ruleset":
		set("digest", "sha256:"+strings.Repeat("0", 64))
	}
	return subscription + "/" + kind + "/" + args.Name, out, nil
}

func (r *recorder) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	if strings.HasSuffix(args.Token, ":getClientConfig") {
		return resource.PropertyMap{
			"tenantId":       resource.NewStringProperty("33333333-0000-0000-0000-000000000000"),
			"objectId":       resource.NewStringProperty("44444444-0000-0000-0000-000000000000"),
			"clientId":       resource.NewStringProperty("55555555-0000-0000-0000-000000000000"),
			"subscriptionId": resource.NewStringProperty(strings.TrimPrefix(subscription, "/subscriptions/")),
		}, nil
	}
	return nil, fmt.Errorf("unexpected invoke of %s", args.Token)
}

// provision runs a program against the recorder.
func provision(t *testing.T, program pulumi.RunFunc) (*recorder, error) {
	t.Helper()
	r := &recorder{}
	err := pulumi.RunErr(program, pulumi.WithMocks("project", "stack", r))
	return r, err
}

// one is the only resource of a kind, such as Subnet, with a name, or any name if it is empty.
func (r *recorder) one(t *testing.T, kind, name string) made {
	t.Helper()
	var found []made
	for _, m := range r.made {
		if strings.HasSuffix(m.token, ":"+kind) && (name == "" || m.name == name) {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d resources %s %q, want one; there are:\n%s", len(found), kind, name, strings.Join(r.names(), "\n"))
	}
	return found[0]
}

func (r *recorder) names() []string {
	var all []string
	for _, m := range r.made {
		all = append(all, m.token+" "+m.name)
	}
	return all
}

// waitsFor reports whether a resource is made after another one, directly or through others.
func (r *recorder) waitsFor(m made, other string) bool {
	seen := map[string]bool{}
	todo := slices.Clone(m.after)
	for len(todo) > 0 {
		urn := todo[0]
		todo = todo[1:]
		if seen[urn] {
			continue
		}
		seen[urn] = true
		typeAndName := strings.SplitN(urn, "::", 4)
		token := typeAndName[2][strings.LastIndex(typeAndName[2], "$")+1:]
		if kind := token[strings.LastIndex(token, ":")+1:]; kind+" "+typeAndName[3] == other {
			return true
		}
		for _, n := range r.made {
			if n.token == token && n.name == typeAndName[3] {
				todo = append(todo, n.after...)
			}
		}
	}
	return false
}

// keys are the names of the inputs that were given.
func (m made) keys() []string {
	var all []string
	for k := range maps.Keys(m.inputs) {
		all = append(all, string(k))
	}
	slices.Sort(all)
	return all
}

// plain is a value without Pulumi's wrappings.
func (m made) plain(key string) any {
	return m.inputs[resource.PropertyKey(key)].Mappable()
}
