package azurenative

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"
)

// diff compares what a program asks for with what it asked for before, never with what Azure has.
func (n *native) diff(_ context.Context, req p.DiffRequest) (p.DiffResponse, error) {
	r, err := n.lookup(string(req.Urn.Type()))
	if err != nil {
		return p.DiffResponse{}, err
	}
	d := differ{replace: map[string]bool{}, found: map[string]p.PropertyDiff{}}
	for _, k := range slices.Concat(r.names(), r.forceNew) {
		d.replace[k] = true
	}
	d.maps(plainMap(req.OldInputs), plainMap(req.Inputs), "", false)
	// Azure's own provider deletes first: the new one could not have the old one's name.
	return p.DiffResponse{HasChanges: len(d.found) > 0, DetailedDiff: d.found, DeleteBeforeReplace: d.replaces}, nil
}

type differ struct {
	replace  map[string]bool
	found    map[string]p.PropertyDiff
	replaces bool
}

func (d *differ) add(path string, kind p.DiffKind, replace bool) {
	if replace {
		kind += "&replace"
		d.replaces = true
	}
	d.found[path] = p.PropertyDiff{Kind: kind, InputDiff: true}
}

func (d *differ) maps(old, now map[string]any, base string, replace bool) {
	names := maps.Clone(old)
	maps.Copy(names, now)
	for _, k := range slices.Sorted(maps.Keys(names)) {
		path := k
		if strings.ContainsAny(k, ".[]\"/- ") {
			path = fmt.Sprintf("[%q]", k)
		} else if base != "" {
			path = "." + k
		}
		path = base + path
		before, had := old[k]
		after, has := now[k]
		here := replace || base == "" && d.replace[k]
		switch {
		case !had:
			d.add(path, p.Add, here)
		case !has:
			d.add(path, p.Delete, here)
		case path == "location" && region(before) == region(after):
		default:
			d.values(before, after, path, here)
		}
	}
}

func (d *differ) values(before, after any, path string, replace bool) {
	if a, ok := before.(map[string]any); ok {
		if b, ok := after.(map[string]any); ok {
			d.maps(a, b, path, replace)
			return
		}
	}
	if a, ok := before.([]any); ok {
		if b, ok := after.([]any); ok {
			for i := range max(len(a), len(b)) {
				at := fmt.Sprintf("%s[%d]", path, i)
				switch {
				case i >= len(a):
					d.add(at, p.Add, replace)
				case i >= len(b):
					d.add(at, p.Delete, replace)
				default:
					d.values(a[i], b[i], at, replace)
				}
			}
			return
		}
	}
	if !reflect.DeepEqual(before, after) {
		d.add(path, p.Update, replace)
	}
}

// region is a location as Azure compares it.
func region(v any) string {
	return strings.ToLower(strings.ReplaceAll(fmt.Sprint(v), " ", ""))
}

// apply brings what changed between two sets of outputs into inputs, and leaves alone what only
// Azure ever said: so a refresh shows drift and no defaults.
func apply(in, before, after map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range in {
		if _, had := before[k]; had && after[k] == nil {
			continue // gone
		}
		out[k] = v
	}
	for k, v := range after {
		old, had := before[k]
		switch {
		case !had:
			out[k] = v
		case !reflect.DeepEqual(old, v):
			if given, ok := in[k]; ok {
				out[k] = applyValue(given, old, v)
			} else {
				out[k] = v
			}
		}
	}
	return out
}

func applyValue(given, before, after any) any {
	g, ok1 := given.(map[string]any)
	b, ok2 := before.(map[string]any)
	a, ok3 := after.(map[string]any)
	if ok1 && ok2 && ok3 {
		return apply(g, b, a)
	}
	gl, ok1 := given.([]any)
	bl, ok2 := before.([]any)
	al, ok3 := after.([]any)
	if !ok1 || !ok2 || !ok3 {
		return after
	}
	out := []any{}
	for i, x := range al {
		if i < len(gl) && i < len(bl) {
			x = applyElement(gl[i], bl[i], x)
		}
		out = append(out, x)
	}
	return out
}

// applyElement leaves an element that did not change as it was given.
func applyElement(given, before, after any) any {
	if reflect.DeepEqual(before, after) {
		return given
	}
	return applyValue(given, before, after)
}
