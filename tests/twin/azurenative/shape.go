package azurenative

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// unknown is a value that preview does not have yet.
type unknown struct{}

// plain takes the engine's value apart; secrets are values like others here.
func plain(v property.Value) any {
	switch {
	case v.IsComputed():
		return unknown{}
	case v.IsMap():
		return plainMap(v.AsMap())
	case v.IsArray():
		all := []any{}
		for _, x := range v.AsArray().All {
			all = append(all, plain(x))
		}
		return all
	case v.IsString():
		return v.AsString()
	case v.IsBool():
		return v.AsBool()
	case v.IsNumber():
		return v.AsNumber()
	}
	return nil
}

func plainMap(m property.Map) map[string]any {
	all := map[string]any{}
	for k, v := range m.All {
		if x := plain(v); x != nil {
			all[k] = x
		}
	}
	return all
}

// values is the way back.
func values(m map[string]any) property.Map {
	all := map[string]property.Value{}
	for k, v := range m {
		all[k] = value(v)
	}
	return property.NewMap(all)
}

func value(v any) property.Value {
	switch v := v.(type) {
	case unknown:
		return property.New(property.Computed)
	case arm.Object:
		return property.New(values(v))
	case map[string]any:
		return property.New(values(v))
	case []any:
		var all []property.Value
		for _, x := range v {
			all = append(all, value(x))
		}
		return property.New(property.NewArray(all))
	case string:
		return property.New(v)
	case bool:
		return property.New(v)
	case float64:
		return property.New(v)
	}
	return property.Value{}
}

// hasUnknown says whether preview lacks a part of a value.
func hasUnknown(v any) bool {
	switch v := v.(type) {
	case unknown:
		return true
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), hasUnknown)
	case []any:
		return slices.ContainsFunc(v, hasUnknown)
	}
	return false
}

// shape is what the SDK says a value is: of an output what comes out of it, of a pointer what it
// points to. It may be nil where the SDK has no type.
func shape(t reflect.Type) reflect.Type {
	for t != nil {
		switch {
		case t.Implements(reflect.TypeFor[pulumi.Output]()):
			t = reflect.Zero(t).Interface().(pulumi.Output).ElementType()
		case t.Kind() == reflect.Pointer:
			t = t.Elem()
		default:
			return t
		}
	}
	return nil
}

// members are the properties of an object type of the SDK's, by their names in programs; nil for
// a type that is none.
func members(t reflect.Type) map[string]reflect.Type {
	if t = shape(t); t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	all := map[string]reflect.Type{}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("pulumi"); name != "" {
			all[name] = t.Field(i).Type
		}
	}
	return all
}

func element(t reflect.Type) reflect.Type {
	if t = shape(t); t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) {
		return t.Elem()
	}
	return nil
}

// renamed are the properties whose name in programs is not the one on the wire
// (x-ms-client-name in Azure's specifications).
var renamed = map[string]string{
	"AccountProperties.networkRuleSet":               "networkAcls",
	"AccountProperties.enableHttpsTrafficOnly":       "supportsHttpsTrafficOnly",
	"AccountProperties.enableNfsV3":                  "isNfsV3Enabled",
	"IPRule.iPAddressOrRange":                        "value",
	"VirtualNetworkRule.virtualNetworkResourceId":    "id",
	"CapabilityHost.projectCapabilityHostProperties": "properties",
	"RoleDefinitionProperties.roleType":              "type",
	"KeyAttributes.expires":                          "exp",
	"KeyAttributes.notBefore":                        "nbf",
}

// place finds where a property stands in a body of a model: at the top, or within properties,
// which azure-native flattens.
func place(m arm.Model, name string) ([]string, arm.Model, bool) {
	fields := arm.Fields(m)
	for m.Kind() == reflect.Pointer {
		m = m.Elem()
	}
	if fields == nil {
		return []string{name}, reflect.TypeFor[any](), true
	}
	if wire, ok := renamed[m.Name()+"."+name]; ok {
		if _, here := fields[name]; !here {
			name = wire
		}
	}
	if f, ok := fields[name]; ok {
		return []string{name}, f, true
	}
	if inner, ok := fields["properties"]; ok {
		if path, f, ok := place(inner, name); ok && arm.Fields(inner) != nil {
			return append([]string{"properties"}, path...), f, true
		}
	}
	return nil, nil, false
}

// body brings an object of a program into Azure's shape.
func body(in map[string]any, t reflect.Type, m arm.Model) (arm.Object, error) {
	out := arm.Object{}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		path, inner, ok := place(m, name)
		if !ok {
			return nil, fmt.Errorf("the twin finds no place for %q in %v", name, m)
		}
		v, err := bodyValue(in[name], members(t)[name], inner)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out.Set(v, path...)
	}
	return out, nil
}

func bodyValue(v any, t reflect.Type, m arm.Model) (any, error) {
	for m.Kind() == reflect.Pointer {
		m = m.Elem()
	}
	switch v := v.(type) {
	case map[string]any:
		if m.Kind() == reflect.Map {
			out := map[string]any{}
			for k, x := range v {
				y, err := bodyValue(x, element(t), m.Elem())
				if err != nil {
					return nil, err
				}
				out[k] = y
			}
			return out, nil
		}
		o, err := body(v, t, m)
		return map[string]any(o), err
	case []any:
		if m.Kind() == reflect.Map { // a set of strings: identities
			out := map[string]any{}
			for _, x := range v {
				out[fmt.Sprint(x)] = map[string]any{}
			}
			return out, nil
		}
		out := []any{}
		for _, x := range v {
			inner, ok := arm.Element(m)
			if !ok {
				inner = reflect.TypeFor[any]()
			}
			y, err := bodyValue(x, element(t), inner)
			if err != nil {
				return nil, err
			}
			out = append(out, y)
		}
		return out, nil
	}
	return v, nil
}

// outputs bring a body of Azure's into the shape that the SDK says.
func outputs(o arm.Object, t reflect.Type, m arm.Model) map[string]any {
	out := map[string]any{}
	for name, inner := range members(t) {
		path, model, ok := place(m, name)
		if !ok {
			continue
		}
		if v := o.At(path...); v != nil {
			out[name] = outputValue(v, inner, model)
		}
	}
	return out
}

func outputValue(v any, t reflect.Type, m arm.Model) any {
	inner, ok := arm.Element(m)
	if !ok {
		inner = reflect.TypeFor[any]()
	}
	switch v := v.(type) {
	case arm.Object:
		return outputValue(map[string]any(v), t, m)
	case map[string]any:
		if members(t) != nil {
			return outputs(v, t, m)
		}
		out := map[string]any{}
		for k, x := range v {
			out[k] = outputValue(x, element(t), inner)
		}
		return out
	case []any:
		out := []any{}
		for _, x := range v {
			out = append(out, outputValue(x, element(t), inner))
		}
		return out
	}
	return v
}

// preview is what is known of outputs before: the inputs.
func preview(in map[string]any, t reflect.Type) map[string]any {
	out := map[string]any{}
	for name, inner := range members(t) {
		if v, ok := in[name]; ok {
			out[name] = previewValue(v, inner)
		} else {
			out[name] = unknown{}
		}
	}
	return out
}

func previewValue(v any, t reflect.Type) any {
	switch v := v.(type) {
	case map[string]any:
		if members(t) != nil {
			return preview(v, t)
		}
	case []any:
		if s := shape(t); s != nil && s.Kind() == reflect.Map { // a set of strings comes back as a map
			return unknown{}
		}
		out := []any{}
		for _, x := range v {
			out = append(out, previewValue(x, element(t)))
		}
		return out
	}
	return v
}

// project keeps of outputs what a program could have put in.
func project(out map[string]any, t reflect.Type) map[string]any {
	in := map[string]any{}
	for name, inner := range members(t) {
		if v, ok := out[name]; ok {
			in[name] = projectValue(v, inner)
		}
	}
	return in
}

func projectValue(v any, t reflect.Type) any {
	s := shape(t)
	switch v := v.(type) {
	case map[string]any:
		if members(t) != nil {
			return project(v, t)
		}
		if s != nil && s.Kind() == reflect.Slice { // a set of strings again
			var all []any
			for _, k := range slices.Sorted(maps.Keys(v)) {
				all = append(all, k)
			}
			return all
		}
	case []any:
		out := []any{}
		for _, x := range v {
			out = append(out, projectValue(x, element(t)))
		}
		return out
	}
	return v
}

// at is a value along a path with dots.
func at(m map[string]any, path string) any { return arm.Object(m).At(strings.Split(path, ".")...) }
