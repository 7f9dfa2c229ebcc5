package arm

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Object is a JSON object. Its methods read and write along a path of keys, and take what is
// not there for empty.
type Object map[string]any

// At is the value at a path.
func (o Object) At(path ...string) any {
	var v any = o
	for _, key := range path {
		m, ok := object(v)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// Text is the string at a path.
func (o Object) Text(path ...string) string {
	s, _ := o.At(path...).(string)
	return s
}

// True says whether the value at a path is true.
func (o Object) True(path ...string) bool {
	b, _ := o.At(path...).(bool)
	return b
}

// Number is the number at a path.
func (o Object) Number(path ...string) float64 {
	n, _ := o.At(path...).(float64)
	return n
}

// Object is the object at a path; it may be nil.
func (o Object) Object(path ...string) Object {
	m, _ := object(o.At(path...))
	return m
}

// List are the objects in the list at a path.
func (o Object) List(path ...string) []Object {
	var all []Object
	list, _ := o.At(path...).([]any)
	for _, v := range list {
		if m, ok := object(v); ok {
			all = append(all, m)
		}
	}
	return all
}

// Texts are the strings in the list at a path.
func (o Object) Texts(path ...string) []string {
	var all []string
	list, _ := o.At(path...).([]any)
	for _, v := range list {
		if s, ok := v.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// Set puts a value at a path, and makes the objects on the way.
func (o Object) Set(value any, path ...string) {
	m := o
	for _, key := range path[:len(path)-1] {
		next, ok := object(m[key])
		if !ok {
			next = Object{}
		}
		m[key] = map[string]any(next)
		m = next
	}
	m[path[len(path)-1]] = value
}

// Default sets what is absent.
func (o Object) Default(value any, path ...string) {
	if o.At(path...) == nil {
		o.Set(value, path...)
	}
}

// Remove takes away what is at a path.
func (o Object) Remove(path ...string) {
	if m := o.Object(path[:len(path)-1]...); m != nil {
		delete(m, path[len(path)-1])
	}
}

// Clone is a deep copy.
func (o Object) Clone() Object {
	if o == nil {
		return nil
	}
	return Object(clone(map[string]any(o)).(map[string]any))
}

func clone(v any) any {
	switch v := v.(type) {
	case Object:
		return clone(map[string]any(v))
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[k] = clone(x)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, x := range v {
			l[i] = clone(x)
		}
		return l
	}
	return v
}

func object(v any) (Object, bool) {
	switch v := v.(type) {
	case Object:
		return v, true
	case map[string]any:
		return v, v != nil
	}
	return nil, false
}

// keys are those of an object, sorted.
func (o Object) keys() []string { return slices.Sorted(maps.Keys(o)) }

// normal brings what a caller made to what encoding/json makes, so that numbers are float64.
func normal(v any) (Object, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var o Object
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, err
	}
	return o, nil
}

// merge is a JSON merge patch (RFC 7396), which is how PATCH works for most of Azure's types.
func merge(into Object, patch Object) {
	for _, k := range patch.keys() {
		switch v := patch[k].(type) {
		case nil:
			delete(into, k)
		case map[string]any:
			old, ok := object(into[k])
			if !ok {
				old = Object{}
			}
			merge(old, v)
			into[k] = map[string]any(old)
		default:
			into[k] = v
		}
	}
}

func same(a, b string) bool { return strings.EqualFold(a, b) }

func text(v any) string { return fmt.Sprint(v) }
