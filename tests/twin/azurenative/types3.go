package azurenative

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Version3 is the azure-native that programs in TypeScript name, whose types are those of newer
// API versions under the same tokens. A program's own resources are of this version, what the
// components make is of [Version]: the engine starts a provider for each.
const Version3 = "3.28.0"

// The Go types of that version cannot be had. Its properties are therefore read from what its
// package for Node declares (types.js), and made into Go types here; where they stand in an API
// version that the Go types of Version have too, those are taken.
//
//go:embed types.json
var declared []byte

// described is a type in types.json.
type described struct {
	text   string
	list   *described
	fields map[string]described // by name; with ? at the end if it can be left out
	mapped *described
}

func (d *described) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &d.text) == nil {
		return nil
	}
	var v struct {
		List   *described           `json:"list"`
		Map    *described           `json:"map"`
		Object map[string]described `json:"object"`
	}
	err := json.Unmarshal(data, &v)
	d.list, d.mapped, d.fields = v.List, v.Map, v.Object
	return err
}

// goType is the type that the SDK for Go would have: what can be left out is a pointer.
func (d described) goType() reflect.Type {
	switch {
	case d.list != nil:
		return reflect.SliceOf(d.list.goType())
	case d.mapped != nil:
		return reflect.MapOf(reflect.TypeFor[string](), d.mapped.goType())
	case d.fields != nil:
		var fields []reflect.StructField
		for i, name := range slices.Sorted(maps.Keys(d.fields)) {
			t := d.fields[name].goType()
			name, optional := strings.CutSuffix(name, "?")
			if k := t.Kind(); optional && k != reflect.Slice && k != reflect.Map && k != reflect.Interface {
				t = reflect.PointerTo(t)
			}
			fields = append(fields, reflect.StructField{Name: fmt.Sprint("F", i), Type: t, Tag: reflect.StructTag(fmt.Sprintf("pulumi:%q", name))})
		}
		return reflect.StructOf(fields)
	}
	switch d.text {
	case "string":
		return reflect.TypeFor[string]()
	case "number":
		return reflect.TypeFor[float64]()
	case "boolean":
		return reflect.TypeFor[bool]()
	}
	return reflect.TypeFor[any]()
}

// paths3 are the types that are read from the package, and what cannot change of them.
var paths3 = map[string]resource{
	"cosmosdb:DatabaseAccount":                {path: group + "/providers/Microsoft.DocumentDB/databaseAccounts/{accountName}", forceNew: []string{"location"}},
	"cosmosdb:SqlResourceSqlRoleAssignment":   {path: group + "/providers/Microsoft.DocumentDB/databaseAccounts/{accountName}/sqlRoleAssignments/{roleAssignmentId}"},
	"search:Service":                          {path: group + "/providers/Microsoft.Search/searchServices/{searchServiceName}", forceNew: []string{"location"}},
	"storage:StorageAccount":                  {path: group + "/providers/Microsoft.Storage/storageAccounts/{accountName}", forceNew: []string{"isHnsEnabled", "location"}},
	"cognitiveservices:Account":               {path: group + "/providers/Microsoft.CognitiveServices/accounts/{accountName}", forceNew: []string{"location"}},
	"cognitiveservices:Project":               {path: group + "/providers/Microsoft.CognitiveServices/accounts/{accountName}/projects/{projectName}", forceNew: []string{"location"}},
	"cognitiveservices:ProjectConnection":     {path: group + "/providers/Microsoft.CognitiveServices/accounts/{accountName}/projects/{projectName}/connections/{connectionName}"},
	"cognitiveservices:ProjectCapabilityHost": {path: group + "/providers/Microsoft.CognitiveServices/accounts/{accountName}/projects/{projectName}/capabilityHosts/{capabilityHostName}"},
}

// same3 are types that Version has in the same API version.
var same3 = map[string]string{
	"authorization:RoleAssignment": "authorization:RoleAssignment",
	"network:PrivateEndpoint":      "network/v20240501:PrivateEndpoint",
	"network:PrivateDnsZoneGroup":  "network/v20240501:PrivateDnsZoneGroup",
}

var types3 = map[string]*resource{}

func init() {
	var all struct {
		Version string
		Types   map[string]struct{ Args, State described }
	}
	if err := json.Unmarshal(declared, &all); err != nil || all.Version != Version3 {
		panic(fmt.Sprintf("azurenative: types.json is of version %q: %v", all.Version, err))
	}
	for token, r := range paths3 {
		r.kind = kindOf(r.path)
		r.args, r.state = all.Types[token].Args.goType(), all.Types[token].State.goType()
		types3["azure-native:"+token] = &r
	}
	for token, as := range same3 {
		types3["azure-native:"+token] = types["azure-native:"+as]
	}
}
