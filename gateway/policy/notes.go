package policy

import (
	"fmt"
	"strings"
)

// Notes says, one sentence for each, what a document asks for that this version
// reads and checks but does not enforce yet. They are not diagnostics: nothing is
// wrong with the document.
func Notes(doc *Document) []string {
	webs := map[string]*WebGroup{}
	for i := range doc.WebGroups {
		webs[doc.WebGroups[i].Name] = &doc.WebGroups[i]
	}
	var out []string
	for i, r := range doc.Rules {
		note := func(format string, args ...any) {
			out = append(out, fmt.Sprintf("rules[%d] (%s): ", i, r.Name)+fmt.Sprintf(format, args...))
		}
		if r.Budget != nil {
			note("the budget of %d bytes in %s is checked and not yet enforced", r.Budget.BytesOut, r.Budget.Window)
		}
		for _, name := range r.WebGroups {
			g := webs[name]
			if g == nil {
				continue
			}
			var urls, tools []string
			for _, u := range g.URLs {
				urls = append(urls, u.Host)
			}
			for _, m := range g.MCP {
				tools = append(tools, m.Host)
			}
			if len(urls) > 0 {
				note("the urls of web group %q (%s) are checked and not yet enforced on encrypted flows", name, strings.Join(urls, ", "))
			}
			if len(tools) > 0 {
				note("the MCP tools of web group %q (%s) are checked and not yet enforced", name, strings.Join(tools, ", "))
			}
		}
	}
	return out
}
