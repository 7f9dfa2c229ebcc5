package ruleset

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// most bounds each part of the description: a preview is read by a person. The whole comparison is in
// the keyed map of a preview with --diff, and in `bulkhead policy diff`.
const most = 40

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// words tell a reviewer what the change does, the most important first.
func (c *change) words() string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	part := func(all []string) {
		lines = append(lines, all[:min(len(all), most)]...)
		if len(all) > most {
			add("  … and %d more", len(all)-most)
		}
	}
	digest, after := short(c.after.Digest()), c.after.Document()
	if c.first {
		add("this ruleset (%s) is the first: %d rules permit %d kinds of access, all else is denied", digest, len(after.Rules), len(c.Gained))
	} else {
		add("this ruleset (%s) gains %d, loses %d, changes %d kinds of access", digest, len(c.Gained), len(c.Lost), len(c.Changed))
		var why []string
		for _, s := range c.opens {
			why = append(why, "  ! "+s)
		}
		if len(why) > 0 {
			add("it may open something:")
			part(why)
		}
	}
	if watches(after.Mode, after.Default.Mode) > 0 {
		add("the default is monitored: what no rule denies passes, and is recorded")
	}
	if !c.first {
		part(c.posture())
		part(c.modes())
		part(c.authorities())
		var b strings.Builder
		_ = c.Changes.Format(&b) // to memory
		for _, section := range sections(b.String()) {
			part(section)
		}
	}
	part(c.addresses())
	var warnings []string
	for _, w := range c.warnings {
		warnings = append(warnings, w.ID+" "+w.String())
	}
	part(warnings)
	return strings.Join(lines, "\n")
}

// sections cuts a text before each line that is not indented.
func sections(text string) (all [][]string) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, " ") {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], strings.TrimSuffix(line, "\n"))
	}
	return all
}

func short(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }

// posture is what becomes decrypted, or no longer is.
func (c *change) posture() (lines []string) {
	for _, key := range sortedKeys(c.Changed) {
		switch was, is := c.Changed[key].Old.Decrypt, c.Changed[key].New.Decrypt; {
		case was != policy.DecryptAllowed && is == policy.DecryptAllowed:
			lines = append(lines, "becomes decrypted: "+key)
		case was == policy.DecryptAllowed && is != policy.DecryptAllowed:
			lines = append(lines, "is no longer decrypted: "+key)
		}
	}
	return lines
}

// modes is what moves between watching and deciding.
func (c *change) modes() (lines []string) {
	was, is := c.before.Document(), c.after.Document()
	move := func(what string, before, after int) {
		if before < after {
			lines = append(lines, "is only monitored now: "+what)
		} else if before > after {
			lines = append(lines, "is enforced now: "+what)
		}
	}
	if was.Mode != is.Mode {
		move("every rule, and the default", watches(was.Mode, ""), watches(is.Mode, ""))
		return lines
	}
	move(policy.RuleDefault, watches(was.Mode, was.Default.Mode), watches(is.Mode, is.Default.Mode))
	old := map[string]policy.Mode{}
	for _, r := range was.Rules {
		old[r.Name] = r.Mode
	}
	for _, r := range is.Rules {
		if mode, there := old[r.Name]; there {
			move(r.Name, watches(was.Mode, mode), watches(is.Mode, r.Mode))
		}
	}
	return lines
}

// authorities is who else is believed to vouch for origins, or no longer is.
func (c *change) authorities() (lines []string) {
	was, is := c.before.Document().OriginCAs, c.after.Document().OriginCAs
	for _, ca := range is {
		if !slices.Contains(was, ca) {
			lines = append(lines, "vouches for origins: "+ca.Name)
		}
	}
	for _, ca := range was {
		if !slices.Contains(is, ca) {
			lines = append(lines, "no longer vouches for origins, as it was: "+ca.Name)
		}
	}
	return lines
}

// addresses is how many addresses lie in the groups that this change permits anything to.
func (c *change) addresses() (lines []string) {
	tagged, size := map[string]bool{}, map[string]uint64{}
	for _, g := range c.after.Document().SmartGroups {
		tagged[g.Name] = len(g.ServiceTags) > 0
	}
	for _, g := range policy.Diff(nothing, c.after).Groups { // beside nothing, all of a group is opened
		size[g.Group] = max(size[g.Group], g.Opened)
	}
	concerned := map[string]bool{}
	for _, g := range c.Groups {
		concerned[g.Group] = true
	}
	gained := map[string]bool{} // the rules by which
	for _, a := range c.Gained {
		gained[a.Rule] = true
	}
	all := map[string]bool{}
	for _, r := range c.after.Document().Rules {
		if r.Action == policy.Permit {
			for _, g := range r.Destinations {
				_, smart := tagged[g]
				all[g] = all[g] || smart && (gained[r.Name] || concerned[g])
			}
		}
	}
	for _, g := range sortedKeys(all) {
		switch {
		case !all[g]:
		case tagged[g] && !c.tags:
			lines = append(lines, fmt.Sprintf("how many addresses %s holds is not known: give serviceTags", g))
		default:
			lines = append(lines, fmt.Sprintf("%s holds %d addresses", g, size[g]))
		}
	}
	return lines
}

// fields are the parts of the document that differ, for a change that opens and closes nothing.
func (c *change) fields() []string {
	was, is := reflect.ValueOf(*c.before.Document()), reflect.ValueOf(*c.after.Document())
	var all []string
	for i := range was.NumField() {
		if !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			name, _, _ := strings.Cut(was.Type().Field(i).Tag.Get("json"), ",")
			all = append(all, name)
		}
	}
	return all
}
