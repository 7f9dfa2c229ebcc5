package azurenative

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"
	presource "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// check holds a program's properties to the SDK's types, and fills in the name and the location.
func (n *native) check(ctx context.Context, req p.CheckRequest) (p.CheckResponse, error) {
	r, err := n.lookup(string(req.Urn.Type()))
	if err != nil {
		return p.CheckResponse{}, err
	}
	in := plainMap(req.Inputs)
	if err := n.name(r, in, plainMap(req.State), req.Urn.Name(), seed(ctx, req)); err != nil {
		return p.CheckResponse{}, err
	}
	n.locate(r, in)
	failures := r.validate(in)
	for i, f := range failures {
		failures[i].Reason = fmt.Sprintf("%s: %s", req.Urn.Type(), f.Reason)
	}
	// The program's own values are kept, with their secrets.
	out := req.Inputs
	for _, k := range slices.Sorted(maps.Keys(in)) {
		if _, given := out.GetOk(k); !given {
			out = out.Set(k, value(in[k]))
		}
	}
	return p.CheckResponse{Inputs: out, Failures: failures}, nil
}

// name invents the name that a program does not give, and then keeps it.
func (n *native) name(r *resource, in, old map[string]any, logical string, seed []byte) error {
	own := r.own()
	if in[own] != nil {
		return nil
	}
	switch {
	case old[own] != nil:
		in[own] = old[own]
	case r.kind == "Microsoft.Authorization/roleAssignments":
		digits, err := presource.NewUniqueName(seed, "", 32, 0, nil)
		if err != nil {
			return err
		}
		in[own] = fmt.Sprintf("%s-%s-4%s-8%s-%s", digits[:8], digits[8:12], digits[13:16], digits[17:20], digits[20:])
	case r.top():
		name, err := presource.NewUniqueName(seed, logical, 8, 0, nil)
		if err != nil {
			return err
		}
		in[own] = name
	default:
		in[own] = logical
	}
	return nil
}

// locate takes the location from the configuration, or from the resource group.
func (n *native) locate(r *resource, in map[string]any) {
	if in["location"] != nil || r.args != nil && members(r.args)["location"] == nil {
		return
	}
	if n.location != "" {
		in["location"] = n.location
		return
	}
	name, ok := in["resourceGroupName"].(string)
	if _, located, _ := place(r.model(), "location"); !ok || located == nil {
		return
	}
	if g, err := n.control.Get("/subscriptions/" + n.subscription + "/resourceGroups/" + name); err == nil {
		in["location"] = g.Text("location")
	}
}

// validate finds what the SDK's types do not permit.
func (r *resource) validate(in map[string]any) []p.CheckFailure {
	var all []p.CheckFailure
	fail := func(path, format string, args ...any) {
		all = append(all, p.CheckFailure{Property: strings.TrimPrefix(path, "."), Reason: fmt.Sprintf(format, args...)})
	}
	if r.args == nil {
		for _, name := range r.names() {
			if in[name] == nil {
				fail(name, "missing required property %q", name)
			}
		}
		return append(all, r.foreign(in)...)
	}
	conform(in, r.args, "", fail)
	return all
}

// foreign checks a type that the SDK has no Go types of: its properties are the model's.
func (r *resource) foreign(in map[string]any) []p.CheckFailure {
	rest := maps.Clone(in)
	for _, name := range r.names() {
		delete(rest, name)
	}
	var all []p.CheckFailure
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		path, _, ok := place(r.model(), name)
		if !ok || len(path) > 1 && !r.flat {
			all = append(all, p.CheckFailure{Property: name, Reason: fmt.Sprintf("unknown property %q", name)})
		}
	}
	return all
}

func conform(v any, t reflect.Type, path string, fail func(path, format string, args ...any)) {
	if _, computed := v.(unknown); computed {
		return
	}
	t = shape(t)
	wrong := func(want string) { fail(path, "%s must be %s", strings.TrimPrefix(path, "."), want) }
	switch t.Kind() {
	case reflect.Struct:
		object, ok := v.(map[string]any)
		if !ok {
			wrong("an object")
			return
		}
		known := members(t)
		for _, name := range slices.Sorted(maps.Keys(object)) {
			inner, ok := known[name]
			if !ok {
				fail(path+"."+name, "unknown property %q, in %s: %s", name, t.Name(), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
				continue
			}
			conform(object[name], inner, path+"."+name, fail)
		}
		for _, name := range slices.Sorted(maps.Keys(known)) {
			if k := known[name].Kind(); object[name] == nil && k != reflect.Pointer && k != reflect.Slice && k != reflect.Map && k != reflect.Interface {
				fail(path+"."+name, "missing required property %q", name)
			}
		}
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			wrong("a list")
			return
		}
		for i, x := range list {
			conform(x, t.Elem(), fmt.Sprintf("%s[%d]", path, i), fail)
		}
	case reflect.Map:
		object, ok := v.(map[string]any)
		if !ok {
			wrong("an object")
			return
		}
		for _, k := range slices.Sorted(maps.Keys(object)) {
			conform(object[k], t.Elem(), fmt.Sprintf("%s[%q]", path, k), fail)
		}
	case reflect.String:
		if _, ok := v.(string); !ok {
			wrong("a string")
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			wrong("a boolean")
		}
	case reflect.Int, reflect.Float64:
		if _, ok := v.(float64); !ok {
			wrong("a number")
		}
	}
}
