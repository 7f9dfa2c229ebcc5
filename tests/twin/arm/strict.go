package arm

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// A model of the SDK has no field tags: the names that it has on the wire stand in its generated
// MarshalJSON alone. So they are learned from that: a value with one field set marshals to an
// object with one key. The generated UnmarshalJSON then reads the whole, and says of a value
// whether it has the right type, but passes over keys that it does not know; those are found here.

// Model is the type of the SDK that a body is decoded into.
type Model = reflect.Type

var (
	wireMu sync.Mutex
	wire   = map[Model]map[string]Model{}
)

// Fields are a model's keys on the wire with their types; nil for one that takes any.
func Fields(m Model) map[string]Model {
	m = bare(m)
	if m.Kind() != reflect.Struct || m == reflect.TypeFor[time.Time]() {
		return nil
	}
	wireMu.Lock()
	defer wireMu.Unlock()
	if have, ok := wire[m]; ok {
		return have
	}
	all := map[string]Model{}
	for i := range m.NumField() {
		f := m.Field(i)
		if !f.IsExported() {
			continue
		}
		v := reflect.New(m)
		if !fill(v.Elem().Field(i)) {
			continue
		}
		data, err := json.Marshal(v.Interface())
		if err != nil {
			panic(fmt.Sprintf("arm: %v.%s: %v", m, f.Name, err))
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(data, &keys); err != nil {
			panic(fmt.Sprintf("arm: %v.%s: %v", m, f.Name, err))
		}
		for k := range keys {
			if _, known := all[k]; !known {
				all[k] = f.Type
			}
		}
	}
	wire[m] = all
	return all
}

// fill gives a field a value that is not left out.
func fill(f reflect.Value) bool {
	switch f.Kind() {
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), 0, 0))
	case reflect.Map:
		f.Set(reflect.MakeMap(f.Type()))
	case reflect.Interface:
		if f.Type().NumMethod() > 0 {
			sample, ok := polymorphic[f.Type()]
			if !ok {
				return false
			}
			f.Set(reflect.ValueOf(sample))
			return true
		}
		f.Set(reflect.ValueOf(""))
	}
	return true
}

func bare(m Model) Model {
	for m.Kind() == reflect.Pointer {
		m = m.Elem()
	}
	return m
}

// Element is what a list or map of the SDK's holds.
func Element(m Model) (Model, bool) {
	if m = bare(m); m.Kind() == reflect.Slice || m.Kind() == reflect.Map {
		return m.Elem(), true
	}
	return nil, false
}

// decode checks a body against a model.
func decode(m Model, body Object) error {
	if err := unknown(m, map[string]any(body), ""); err != nil {
		return err
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, reflect.New(bare(m)).Interface()); err != nil {
		return failure(400, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%v'.", err)
	}
	return nil
}

// unknown finds a key that the model does not have.
func unknown(m Model, v any, path string) error {
	m = bare(m)
	switch v := v.(type) {
	case map[string]any:
		if m.Kind() == reflect.Map {
			for k, x := range v {
				if err := unknown(m.Elem(), x, fmt.Sprintf("%s['%s']", path, k)); err != nil {
					return err
				}
			}
			return nil
		}
		fields := Fields(m)
		if fields == nil {
			return nil // any, or an interface that only UnmarshalJSON knows
		}
		for _, k := range Object(v).keys() {
			f, ok := fields[k]
			at := strings.TrimPrefix(path+"."+k, ".")
			if !ok {
				return failure(400, "InvalidRequestContent", "The request content was invalid and could not be deserialized: 'Could not find member '%s' on object of type '%s'. Path '%s'.'", k, m.Name(), at)
			}
			if err := unknown(f, v[k], at); err != nil {
				return err
			}
		}
	case []any:
		if m.Kind() == reflect.Slice {
			for i, x := range v {
				if err := unknown(m.Elem(), x, fmt.Sprintf("%s[%d]", path, i)); err != nil {
					return err
				}
			}
		}
	case string:
		if values, ok := enums[m]; ok && !slices.ContainsFunc(values, func(s string) bool { return same(s, v) }) {
			return failure(400, "InvalidRequestContent", "The request content was invalid and could not be deserialized: 'Error converting value \"%s\" to type '%s'. Path '%s'.'", v, m.Name(), path)
		}
	}
	return nil
}
