package policy

import (
	"fmt"
	"strings"
)

// references checks what spans several places: names that must be unique, and names
// that must exist.
func (d *decoder) references(doc *Document) {
	groups := map[string]string{GroupAny: "", GroupInternet: ""} // smart and threat groups share the field that names them
	smart, web := map[string]string{}, map[string]string{}
	feeds := map[string]Feed{}
	for i, g := range doc.SmartGroups {
		at := fmt.Sprintf("smartGroups[%d].name", i)
		d.unique(groups, "group", g.Name, at)
		smart[g.Name] = at
	}
	for i, g := range doc.ThreatGroups {
		d.unique(groups, "group", g.Name, fmt.Sprintf("threatGroups[%d].name", i))
		for j, f := range g.Feeds {
			at := fmt.Sprintf("threatGroups[%d].feeds[%d].name", i, j)
			if first, there := feeds[f.Name]; there && first != f && d.read(at) {
				d.fail(d.lines[at], at, "give one of them another name", "another feed is named %q", f.Name)
			}
			feeds[f.Name] = f
		}
	}
	for i, g := range doc.WebGroups {
		d.unique(web, "web group", g.Name, fmt.Sprintf("webGroups[%d].name", i))
	}
	for i, r := range doc.Resolve {
		for j, name := range r.Answers {
			d.exists(smart, "smart group", name, fmt.Sprintf("resolve[%d].answers[%d]", i, j), "")
		}
	}

	rules, priorities := map[string]string{}, map[int]string{}
	for i, r := range doc.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		d.unique(rules, "rule", r.Name, at+".name")
		if first, twice := priorities[r.Priority]; !d.read(at + ".priority") {
			// said already
		} else if twice {
			d.fail(d.lines[at+".priority"], at+".priority", "give each rule a priority of its own", "priority %d is taken by %s", r.Priority, first)
		} else {
			priorities[r.Priority] = at
		}
		d.allExist(groups, "group", r.Sources, at+".sources", web, "a web group: name it under webGroups")
		d.allExist(groups, "group", r.Destinations, at+".destinations", web, "a web group: name it under webGroups")
		d.allExist(web, "web group", r.WebGroups, at+".webGroups", groups, "a smart or threat group: name it under destinations")
	}
}

// read reports whether the value at the path is there and was understood; errors
// about a guess would only hide the first one.
func (d *decoder) read(path string) bool { return d.lines[path] > 0 && !d.failed[path] }

func (d *decoder) unique(seen map[string]string, kind, name, path string) {
	first, twice := seen[name]
	switch {
	case !d.read(path):
	case twice && first == "":
		d.fail(d.lines[path], path, "choose another name", "%q is a built-in group", name)
	case twice:
		d.fail(d.lines[path], path, "choose another name", "another %s is named %q, at %s", kind, name, first)
	default:
		seen[name] = path
	}
}

func (d *decoder) allExist(known map[string]string, kind string, names []string, path string, other map[string]string, otherwise string) {
	listed := make(map[string]bool, len(names))
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		hint := ""
		if _, there := other[name]; there {
			hint = fmt.Sprintf("%q is %s", name, otherwise)
		}
		d.exists(known, kind, name, at, hint)
		if listed[name] && d.read(at) {
			d.fail(d.lines[at], at, "leave it out", "%q is listed twice", name)
		}
		listed[name] = true
	}
}

func (d *decoder) exists(known map[string]string, kind, name, path, hint string) {
	if _, there := known[name]; there || !d.read(path) {
		return
	}
	if hint == "" {
		names := make([]string, 0, len(known))
		for k := range known {
			names = append(names, k)
		}
		hint = didYouMean(name, names)
	}
	if hint == "" {
		hint = "define it"
	}
	d.fail(d.lines[path], path, hint, "no %s %q", kind, name)
}

// didYouMean proposes the nearest of the known words, or lists them if they are few.
func didYouMean(word string, known []string) string {
	if len(word) > 128 {
		return ""
	}
	best, distance := "", len(word)/3+2
	for _, k := range known {
		if n := editDistance(strings.ToLower(word), strings.ToLower(k)); n < distance || n == distance && best != "" && k < best {
			best, distance = k, n
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("did you mean %q?", best)
	case len(known) > 0 && len(known) <= 16:
		return "use one of " + strings.Join(sorted(known), ", ")
	}
	return ""
}

// editDistance counts the insertions, deletions and replacements between two words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
