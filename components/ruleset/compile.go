package ruleset

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

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
	rules := d.Rules
	if rules == nil {
		rules = []Rule{}
	}
	return json.Marshal(struct {
		Document
		Rules []Rule `json:"rules"` // always there
	}{d, rules})
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
