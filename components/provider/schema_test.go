package provider

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/blang/semver"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/integration"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
)

const schemaFile = "../../schema.json"

var update = flag.Bool("update", false, "write schema.json")

// inferred is the schema of the provider as it is built now. Its version is left out of the
// committed file, so that a release does not change it.
func inferred(t *testing.T) []byte {
	t.Helper()
	plugin, err := New("0.1.0-dev")
	if err != nil {
		t.Fatal(err)
	}
	server, err := integration.NewServer(t.Context(), Name, semver.MustParse("0.1.0-dev"), integration.WithProvider(plugin))
	if err != nil {
		t.Fatal(err)
	}
	got, err := server.GetSchema(p.GetSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(got.Schema), &object); err != nil {
		t.Fatal(err)
	}
	delete(object, "version")
	text, err := json.MarshalIndent(object, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// TestSchemaIsCommitted holds schema.json to the Go types. After a change that is meant:
// go test ./components/provider -update
func TestSchemaIsCommitted(t *testing.T) {
	got := inferred(t)
	if *update {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("schema.json is not that of the provider; run: go test ./components/provider -update")
	}
}

// TestSchemaBinds holds the schema to what the generators of SDKs accept.
func TestSchemaBinds(t *testing.T) {
	var spec schema.PackageSpec
	if err := json.Unmarshal(inferred(t), &spec); err != nil {
		t.Fatal(err)
	}
	if _, err := schema.ImportSpec(spec, nil, schema.NewNullLoader(), schema.ValidationOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestEverythingIsDescribed: the registry's page is made of these descriptions.
func TestEverythingIsDescribed(t *testing.T) {
	var spec schema.PackageSpec
	if err := json.Unmarshal(inferred(t), &spec); err != nil {
		t.Fatal(err)
	}
	described := func(what, text string) {
		if len(text) < 10 {
			t.Errorf("%s has no description", what)
		}
	}
	properties := func(what string, all map[string]schema.PropertySpec) {
		for name, property := range all {
			described(what+"."+name, property.Description)
		}
	}
	described(Name, spec.Description)
	for token, r := range spec.Resources {
		described(token, r.Description)
		properties(token+" (output)", r.Properties)
		properties(token+" (input)", r.InputProperties)
	}
	for token, typ := range spec.Types {
		if len(typ.Enum) == 0 { // an enum has no description of its own; its values have
			described(token, typ.Description)
		}
		properties(token, typ.Properties)
		for _, value := range typ.Enum {
			described(token+" "+value.Name, value.Description)
		}
	}
	for token, f := range spec.Functions {
		described(token, f.Description)
		if f.Inputs != nil {
			properties(token+" (input)", f.Inputs.Properties)
		}
		if f.ReturnType != nil && f.ReturnType.ObjectTypeSpec != nil {
			properties(token+" (result)", f.ReturnType.ObjectTypeSpec.Properties)
		}
	}
}

// TestTokens: everything is in one module, and the components are marked as such.
func TestTokens(t *testing.T) {
	var spec schema.PackageSpec
	if err := json.Unmarshal(inferred(t), &spec); err != nil {
		t.Fatal(err)
	}
	components := []string{"AgentSubnet", "Canary", "FoundrySpoke", "InspectionCA", "SpokeGateway"}
	for _, name := range components {
		if r, ok := spec.Resources["bulkhead:index:"+name]; !ok || !r.IsComponent {
			t.Errorf("bulkhead:index:%s is not a component of the schema", name)
		}
	}
	for token, r := range spec.Resources {
		name, ok := bytes.CutPrefix([]byte(token), []byte("bulkhead:index:"))
		if !ok {
			t.Errorf("%s is not in the module index", token)
		}
		if r.IsComponent != slices.Contains(components, string(name)) {
			t.Errorf("%s: component is %v", token, r.IsComponent)
		}
	}
	for token := range spec.Types {
		if !bytes.HasPrefix([]byte(token), []byte("bulkhead:index:")) {
			t.Errorf("%s is not in the module index", token)
		}
	}
}
