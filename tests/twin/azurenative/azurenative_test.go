package azurenative

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/blang/semver"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/integration"
	presource "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// stack is a program's resources, made as the engine makes them.
type stack struct {
	t       *testing.T
	server  integration.Server
	control *arm.Control
}

func newStack(t *testing.T) *stack {
	t.Helper()
	control, err := arm.Open(filepath.Join(t.TempDir(), "arm.json"))
	if err != nil {
		t.Fatal(err)
	}
	provider, err := New(control, Version)
	if err != nil {
		t.Fatal(err)
	}
	server, err := integration.NewServer(t.Context(), "azure-native", semver.MustParse(Version), integration.WithProvider(provider))
	if err != nil {
		t.Fatal(err)
	}
	return &stack{t, server, control}
}

// made is a resource of a stack.
type made struct {
	urn presource.URN
	id  string
	in  property.Map
	out property.Map
}

func (m made) get(path string) any { return at(plainMap(m.out), path) }

func urn(token, name string) presource.URN {
	return presource.NewURN("dev", "test", "", tokens.Type("azure-native:"+token), name)
}

type props = map[string]any

func (s *stack) check(token, name string, in props) (property.Map, []p.CheckFailure) {
	s.t.Helper()
	res, err := s.server.Check(p.CheckRequest{Urn: urn(token, name), Inputs: values(in), RandomSeed: []byte(token + name)})
	if err != nil {
		s.t.Fatalf("%s %s: %v", token, name, err)
	}
	return res.Inputs, res.Failures
}

func (s *stack) try(token, name string, in props) (made, error) {
	s.t.Helper()
	checked, failures := s.check(token, name, in)
	if len(failures) > 0 {
		s.t.Fatalf("%s %s: %v", token, name, failures)
	}
	if _, err := s.server.Create(p.CreateRequest{Urn: urn(token, name), Properties: checked, DryRun: true}); err != nil {
		s.t.Fatalf("%s %s: preview: %v", token, name, err)
	}
	res, err := s.server.Create(p.CreateRequest{Urn: urn(token, name), Properties: checked})
	if res.PartialState != nil && err == nil {
		s.t.Fatalf("%s %s: a partial state without an error, which the engine's side does not survive", token, name)
	}
	return made{urn(token, name), res.ID, checked, res.Properties}, err
}

func (s *stack) make(token, name string, in props) made {
	s.t.Helper()
	m, err := s.try(token, name, in)
	if err != nil {
		s.t.Fatalf("%s %s: %v", token, name, err)
	}
	return m
}

// unplaced are properties of the SDK's types that the models of today do not have. They came
// with old versions or were never on the wire.
var unplaced = []string{
	"certificateValue", "sku", "outboundSettings", "runtimeSubnetId", // Container Apps
	"keyVaultProperties", "encryptionIdentity", "releasePolicy", // keys of customers' own
	"blockResponseCode",      // DNS security rules
	"syncRemoteAddressSpace", // a parameter of the request
	"id",                     // of IPAM pools, which stand below another key
}

// TestEveryPropertyHasAPlace walks the SDK's types: each property of a program has a place in
// the official model's body, so that none is lost on the way.
func TestEveryPropertyHasAPlace(t *testing.T) {
	for _, token := range slices.Sorted(maps.Keys(types)) {
		r := types[token]
		if r.args == nil {
			continue
		}
		var walk func(t2 reflect.Type, m arm.Model, path string, depth int)
		walk = func(t2 reflect.Type, m arm.Model, path string, depth int) {
			if depth > 6 {
				return
			}
			for name, inner := range members(t2) {
				if depth == 0 && slices.Contains(r.names(), name) {
					continue
				}
				_, model, ok := place(m, name)
				at := path + "." + name
				if !ok {
					if !slices.Contains(unplaced, name) {
						t.Errorf("%s: no place for %s in %v", token, strings.TrimPrefix(at, "."), m)
					}
					continue
				}
				next := inner
				for {
					e, ok := arm.Element(model)
					if !ok || element(next) == nil {
						break
					}
					model, next = e, element(next)
				}
				if members(next) != nil {
					walk(next, model, at, depth+1)
				}
			}
		}
		walk(r.args, r.model(), "", 0)
	}
}

func (s *stack) settings() arm.Settings {
	state, err := s.control.State()
	if err != nil {
		s.t.Fatal(err)
	}
	return state.Settings
}
