package ruleset

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// text is the document in its wire form, with what may be left out filled in.
func (d Document) text() ([]byte, error) {
	one, enforce := 1, Mode(policy.ModeEnforce)
	if d.Version == nil {
		d.Version = &one
	}
	if d.Mode == nil {
		d.Mode = &enforce
	}
	if d.Default == nil {
		d.Default = &Default{Action: Action(policy.Deny), Mode: &enforce}
	}
	if d.Rules == nil {
		d.Rules = []Rule{}
	}
	return json.Marshal(d)
}

// MarshalJSON writes what was given and nothing else. An empty list was given: left out it would mean "any", and a
// program whose list happens to be empty would open what it meant to close. gateway/policy refuses it
// instead. (The tag `omitzero` would do; the engine's SDK does not know it.)
func (d Document) MarshalJSON() ([]byte, error) { return json.Marshal(given(reflect.ValueOf(d))) }

// given is a part of a document as maps and lists, without the fields that are nil.
func given(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		return given(v.Elem())
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = given(v.Index(i))
		}
		return list
	case reflect.Struct:
		fields := map[string]any{}
		for i := range v.NumField() {
			f := v.Field(i)
			if absent := (f.Kind() == reflect.Pointer || f.Kind() == reflect.Slice) && f.IsNil(); !absent {
				name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
				fields[name] = given(f)
			}
		}
		return fields
	}
	return v.Interface()
}

// Typed is the typed form of a document.
func Typed(doc *policy.Document) (*Document, error) {
	text, err := policy.Encode(doc)
	if err != nil {
		return nil, err
	}
	d := &Document{}
	return d, json.Unmarshal(text, d)
}

// empty reports whether nothing of a document was given.
func (d *Document) empty() bool {
	return d.Version == nil && d.Mode == nil && d.Default == nil && len(d.SmartGroups)+len(d.WebGroups)+len(d.ThreatGroups)+
		len(d.Resolve)+len(d.OriginCAs)+len(d.Rules) == 0
}

// Check is what `policy check` says of the document, with the canonical form if it decodes.
func (d *Document) Check(serviceTags string) (canonical string, diagnostics []policy.Diagnostic, err error) {
	text, err := d.text()
	if err != nil {
		return "", nil, err
	}
	return check(text, serviceTags)
}

func check(text []byte, serviceTags string) (canonical string, diagnostics []policy.Diagnostic, err error) {
	doc, err := policy.Decode(text)
	var bad *policy.DecodeError
	switch {
	case errors.As(err, &bad):
		return "", bad.Diagnostics, nil
	case err != nil:
		return "", nil, err
	}
	env, err := environment(doc, serviceTags)
	if err != nil {
		return "", nil, err
	}
	encoded, err := policy.Encode(doc)
	return string(encoded), policy.Check(doc, env), err
}

// environment has the addresses behind service tags, where a file with them is given. Feeds are the
// gateway's: which addresses they hold changes by the hour and is no part of a change.
func environment(doc *policy.Document, serviceTags string) (policy.Environment, error) {
	if serviceTags == "" {
		return policy.Environment{}, nil
	}
	if _, err := os.Stat(serviceTags); err != nil {
		return policy.Environment{}, fmt.Errorf("service tags: %w", err)
	}
	data, _, err := feeds.Load(doc, feeds.Options{ServiceTagsFile: serviceTags})
	return policy.Environment{Data: policy.Data{ServiceTags: data.ServiceTags}}, err
}

// compile is the evaluator of a document that was checked.
func compile(canonical, serviceTags string) (*policy.Ruleset, error) {
	doc, err := policy.Decode([]byte(canonical))
	if err != nil {
		return nil, err
	}
	env, err := environment(doc, serviceTags)
	if err != nil {
		return nil, err
	}
	return policy.Compile(doc, env)
}

// nothing is the ruleset before the first one: it permits nothing.
var nothing = func() *policy.Ruleset {
	text, err := (Document{}).text()
	if err == nil {
		var doc *policy.Document
		if doc, err = policy.Decode(text); err == nil {
			var rs *policy.Ruleset
			if rs, err = policy.Compile(doc, policy.Environment{}); err == nil {
				return rs
			}
		}
	}
	panic(fmt.Sprintf("ruleset: %v", err))
}()
