package policy

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Changes is what lies between two rulesets: what was written differently, and what
// agents can reach that they could not, or no longer can. The second is not derived
// from the first but asked of the evaluator, since a rule can change without effect
// and have effect without being changed.
type Changes struct {
	Rules  []RuleChange  `json:"rules"`
	Groups []GroupChange `json:"groups"`
	// The keys are what is reached, as name or group and port: api.github.com:443,
	// *.login.microsoft.com:443, agent-infra:udp/123, agent-infra (every port),
	// mcp.contoso.com:443 POST /mcp. Where agents are not treated alike, the groups
	// that they belong to stand before it: "invoice-agents > api.github.com:443".
	Gained  map[string]Access       `json:"gained"`
	Lost    map[string]Access       `json:"lost"`
	Changed map[string]AccessChange `json:"changed"`
}

// RuleChange is a rule, or the document's mode and default under the name
// `default`, that was added, removed or changed.
type RuleChange struct {
	Rule   string        `json:"rule"`
	Change string        `json:"change"` // added, removed or changed
	Fields []FieldChange `json:"fields,omitempty"`
}

// FieldChange is one field of a rule in its wire form; empty where it was absent.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// GroupChange is a group with other members than before. Opened and Closed count
// addresses, with the data behind service tags; they are zero for web groups.
type GroupChange struct {
	Group   string   `json:"group"`
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	Opened  uint64   `json:"opened,omitempty"`
	Closed  uint64   `json:"closed,omitempty"`
}

// Access is a permission: by which rule, and how.
type Access struct {
	Rule    string  `json:"rule"`
	Mode    Mode    `json:"mode"`
	Decrypt Decrypt `json:"decrypt"`
	Would   *Would  `json:"would,omitempty"`
	// Conditions are what the rule asks of what it permits, see Obligations.
	Conditions string `json:"conditions,omitempty"`
}

// AccessChange is a permission that stands under other conditions.
type AccessChange struct {
	Old Access `json:"old"`
	New Access `json:"new"`
}

// Empty reports whether the rulesets say the same.
func (c *Changes) Empty() bool {
	return len(c.Rules)+len(c.Groups)+len(c.Gained)+len(c.Lost)+len(c.Changed) == 0
}

// Diff compares two rulesets.
func Diff(before, after *Ruleset) *Changes {
	c := &Changes{
		Rules: diffRules(before.doc, after.doc), Groups: diffGroups(before, after),
		Gained: map[string]Access{}, Lost: map[string]Access{}, Changed: map[string]AccessChange{},
	}
	was, is := reach(before, after)
	for key, a := range is {
		b, there := was[key]
		switch {
		case !there:
			c.Gained[key] = a
		case !reflect.DeepEqual(a, b):
			c.Changed[key] = AccessChange{b, a}
		}
	}
	for key, b := range was {
		if _, there := is[key]; !there {
			c.Lost[key] = b
		}
	}
	dropRepeated(c.Gained)
	dropRepeated(c.Lost)
	dropRepeated(c.Changed)
	return c
}

// dropRepeated leaves out what a name's access in one group of addresses only says
// again, because it is the same at any address.
func dropRepeated[T any](m map[string]T) {
	for key, v := range m {
		anywhere, _, in := strings.Cut(key, " in ")
		if same, there := m[anywhere]; in && there && reflect.DeepEqual(same, v) {
			delete(m, key)
		}
	}
}

// diffRules compares rules by name, field by field in their wire form.
func diffRules(before, after *Document) []RuleChange {
	out := []RuleChange{}
	if fields := diffFields(wire(before, "mode", "default", "resolve"), wire(after, "mode", "default", "resolve")); len(fields) > 0 {
		out = append(out, RuleChange{RuleDefault, "changed", fields})
	}
	olds := map[string]*Rule{}
	for i := range before.Rules {
		olds[before.Rules[i].Name] = &before.Rules[i]
	}
	for i := range after.Rules {
		r := &after.Rules[i]
		old := olds[r.Name]
		delete(olds, r.Name)
		if old == nil {
			out = append(out, RuleChange{r.Name, "added", diffFields(nil, wire(r))})
		} else if fields := diffFields(wire(old), wire(r)); len(fields) > 0 {
			out = append(out, RuleChange{r.Name, "changed", fields})
		}
	}
	for i := range before.Rules {
		if r := &before.Rules[i]; olds[r.Name] != nil {
			out = append(out, RuleChange{r.Name, "removed", nil})
		}
	}
	return out
}

func diffFields(before, after map[string]string) []FieldChange {
	var out []FieldChange
	keys := maps.Clone(before)
	if keys == nil {
		keys = map[string]string{}
	}
	maps.Copy(keys, after)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if before[k] != after[k] && k != "name" {
			out = append(out, FieldChange{k, before[k], after[k]})
		}
	}
	return out
}

// diffGroups compares the members of groups.
func diffGroups(before, after *Ruleset) []GroupChange {
	olds, news := members(before.doc), members(after.doc)
	names := maps.Clone(olds)
	maps.Copy(names, news)
	out := []GroupChange{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		g := GroupChange{Group: strings.TrimPrefix(name, "web "), Added: without(news[name], olds[name]), Removed: without(olds[name], news[name])}
		was, is := before.addressesOf(name), after.addressesOf(name)
		g.Opened, g.Closed = count(subtract(is, was)), count(subtract(was, is))
		if len(g.Added)+len(g.Removed) > 0 || g.Opened+g.Closed > 0 {
			out = append(out, g)
		}
	}
	return out
}

// members lists what each group of a document holds, web groups under "web NAME".
func members(doc *Document) map[string][]string {
	out := map[string][]string{}
	for _, g := range doc.SmartGroups {
		list := slices.Clone(g.ServiceTags)
		for _, p := range g.CIDRs {
			list = append(list, p.String())
		}
		out[g.Name] = list
	}
	for _, g := range doc.ThreatGroups {
		for _, f := range g.Feeds {
			out[g.Name] = append(out[g.Name], f.Name+" "+f.URL)
		}
	}
	for _, g := range doc.WebGroups {
		list := slices.Clone(g.FQDNs)
		for _, u := range g.URLs {
			list = append(list, requestKey(u.Host, u.Methods, u.Paths))
		}
		for _, m := range g.MCP {
			list = append(list, fmt.Sprintf("%s tools %s, without %s", requestKey(m.Host, nil, m.Paths), orAny(m.AllowTools), strings.Join(m.DenyTools, ",")))
		}
		out["web "+g.Name] = list
	}
	return out
}

func (r *Ruleset) addressesOf(group string) []AddrRange {
	c := &checker{env: r.env, smart: map[string]*SmartGroup{}}
	for i := range r.doc.SmartGroups {
		c.smart[r.doc.SmartGroups[i].Name] = &r.doc.SmartGroups[i]
	}
	return c.destination(group).ranges
}

func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}

func requestKey(host string, methods, paths []string) string {
	return host + " " + orAny(methods) + " " + orAny(paths)
}

func orAny(list []string) string {
	if len(list) == 0 {
		return "*"
	}
	return strings.Join(list, ",")
}

// Format writes the changes for a person, what agents gain first: that is what a
// reviewer has to see.
func (c *Changes) Format(w io.Writer) error {
	var b strings.Builder
	section := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "%s:\n  %s\n", title, strings.Join(lines, "\n  "))
		}
	}
	var gained, lost, changed, rules, groups []string
	for _, key := range slices.Sorted(maps.Keys(c.Gained)) {
		gained = append(gained, fmt.Sprintf("+ %s  by %s", key, c.Gained[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(c.Lost)) {
		lost = append(lost, fmt.Sprintf("- %s  was by %s", key, c.Lost[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(c.Changed)) {
		changed = append(changed, fmt.Sprintf("~ %s  %s -> %s", key, c.Changed[key].Old, c.Changed[key].New))
	}
	for _, r := range c.Rules {
		rules = append(rules, map[string]string{"added": "+ ", "removed": "- ", "changed": "~ "}[r.Change]+r.Rule)
		for _, f := range r.Fields {
			rules = append(rules, fmt.Sprintf("    %s: %s -> %s", f.Field, orNothing(f.Old), orNothing(f.New)))
		}
	}
	for _, g := range c.Groups {
		line := "~ " + g.Group
		if g.Opened+g.Closed > 0 {
			line += fmt.Sprintf("  (%d addresses more, %d fewer)", g.Opened, g.Closed)
		}
		groups = append(groups, line)
		for _, m := range g.Added {
			groups = append(groups, "    + "+m)
		}
		for _, m := range g.Removed {
			groups = append(groups, "    - "+m)
		}
	}
	section("access gained", gained)
	section("access lost", lost)
	section("access under other conditions", changed)
	section("rules", rules)
	section("groups", groups)
	if b.Len() == 0 {
		b.WriteString("no difference\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func orNothing(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// String names the rule and what is special about the permission.
func (a Access) String() string {
	s := a.Rule
	if a.Mode == ModeMonitor {
		s += ", monitored"
	}
	if a.Decrypt == DecryptAllowed {
		s += ", decrypted"
	}
	if a.Conditions != "" {
		s += ", " + a.Conditions
	}
	if a.Would != nil {
		s += fmt.Sprintf(", would be %s by %s", a.Would.Verdict, a.Would.Rule)
	}
	return s
}

// wire gives the fields of a part of the document as they are written, or only those
// named.
func wire(part any, only ...string) map[string]string {
	text, err := json.Marshal(part)
	if err != nil {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		return nil
	}
	out := map[string]string{}
	for k, v := range fields {
		if len(only) == 0 || slices.Contains(only, k) {
			out[k] = strings.Trim(string(v), `"`)
		}
	}
	return out
}
