package azurenative

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	p "github.com/pulumi/pulumi-go-provider"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// TestTypesAreThePackages holds types.json to what the package for Node declares. After a change:
//
//	NODE_PATH=$PWD/bin/twin/node/node_modules node tests/twin/azurenative/types.js $(jq -r '.types | keys[]' tests/twin/azurenative/types.json)
func TestTypesAreThePackages(t *testing.T) {
	modules, err := filepath.Abs("../../../bin/twin/node/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		t.Fatalf("%v: run make twin", err)
	}
	cmd := exec.Command("node", append([]string{"types.js"}, slices.Sorted(maps.Keys(paths3))...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	got, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(declared) {
		t.Error("types.json is not what @pulumi/azure-native declares")
	}
}

// TestDeclaredTypes: what a program in TypeScript may say.
func TestDeclaredTypes(t *testing.T) {
	n := &native{types: types3}
	account := func(properties props) props {
		return props{"accountName": "a", "resourceGroupName": "rg", "location": "eastus2", "kind": "AIServices", "sku": props{"name": "S0"}, "properties": properties}
	}
	for _, c := range []struct {
		name, token string
		in          props
		want        string // a part of the failure's property; empty: none
	}{
		{"account", "cognitiveservices:Account", account(props{"allowProjectManagement": true, "networkInjections": []any{props{"scenario": "agent", "subnetArmId": "s", "useMicrosoftManagedNetwork": false}}}), ""},
		{"unknown property, deep in it", "cognitiveservices:Account", account(props{"networkInjections": []any{props{"scenario": "agent", "subnetId": "s"}}}), "properties.networkInjections[0].subnetId"},
		{"text for a boolean", "cognitiveservices:Account", account(props{"allowProjectManagement": "yes"}), "properties.allowProjectManagement"},
		{"database account without its offer", "cosmosdb:DatabaseAccount", props{"resourceGroupName": "rg", "location": "eastus2", "locations": []any{}}, "databaseAccountOfferType"},
		{"search service", "search:Service", props{"resourceGroupName": "rg", "location": "eastus2", "replicaCount": 1.0, "sku": props{"name": "standard"}}, ""},
		{"text for a number", "search:Service", props{"resourceGroupName": "rg", "location": "eastus2", "replicaCount": "1"}, "replicaCount"},
		{"capability host with a property of newer versions", "cognitiveservices:ProjectCapabilityHost", props{"resourceGroupName": "rg", "accountName": "a", "projectName": "p", "projectCapabilityHostProperties": props{"capabilityHostKind": "Agents"}}, "projectCapabilityHostProperties.capabilityHostKind"},
		{"endpoint", "network:PrivateEndpoint", props{"resourceGroupName": "rg", "location": "eastus2", "subnets": []any{}}, "subnets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := n.check(t.Context(), p.CheckRequest{Urn: urn(c.token, "x"), Inputs: values(c.in), RandomSeed: []byte("seed")})
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, f := range res.Failures {
				failed = append(failed, f.Property)
			}
			if got := strings.Join(failed, " "); got != c.want {
				t.Errorf("refused: %q, want %q", got, c.want)
			}
		})
	}
	if _, err := n.lookup("azure-native:network:VirtualNetwork"); err == nil {
		t.Error("a type of the other version is known")
	}
	if _, err := New(&arm.Control{}, "3.0.0"); err == nil {
		t.Error("there is an azure-native 3.0.0")
	}
}
