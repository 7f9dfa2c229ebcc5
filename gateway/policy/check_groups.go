package policy

import (
	"fmt"
	"slices"
	"strings"
)

// document judges what belongs to no group or rule.
func (c *checker) document() {
	if c.doc.Default.Action == Permit {
		c.add(checkDefaultPermits, SeverityError, "default.action", "write DENY; to watch before enforcing, set default.mode to monitor",
			"the default permits, so what no rule names leaves unjudged")
	}
}

// misspellings are names that people copy from each other and that are not what
// they are meant to be.
var misspellings = map[string]string{
	"acsmirror.azureedge.net": "acs-mirror.azureedge.net",
}

// groups judges each group by itself.
func (c *checker) groups() {
	groups, webs := c.usedGroups()
	for i, g := range c.doc.SmartGroups {
		path := fmt.Sprintf("smartGroups[%d]", i)
		c.group("smart", g.Name, path, groups[g.Name], len(g.CIDRs)+len(g.ServiceTags))
		c.serviceTags(g, path)
		c.agentInfra(g, path)
	}
	for i, g := range c.doc.ThreatGroups {
		path := fmt.Sprintf("threatGroups[%d]", i)
		c.group("threat", g.Name, path, groups[g.Name], len(g.Feeds))
		for j, f := range g.Feeds {
			if _, there := c.env.Data.Feeds[f.Name]; c.env.Data.Feeds != nil && !there {
				c.add(checkNoData, SeverityWarning, fmt.Sprintf("%s.feeds[%d]", path, j), "fetch it, or correct its url",
					"feed %q has no data, so nothing on it is refused", f.Name)
			}
		}
	}
	for i, g := range c.doc.WebGroups {
		path := fmt.Sprintf("webGroups[%d]", i)
		c.group("web", g.Name, path, webs[g.Name], len(g.FQDNs)+len(g.URLs)+len(g.MCP))
		for j, f := range g.FQDNs {
			if right := misspellings[f]; right != "" {
				c.add(checkMisspelt, SeverityWarning, fmt.Sprintf("%s.fqdns[%d]", path, j), "write "+right, "%s is a known misspelling of %s", f, right)
			}
		}
	}
}

// usedGroups lists the groups, and the web groups, that something names.
func (c *checker) usedGroups() (groups, webs map[string]bool) {
	groups, webs = map[string]bool{}, map[string]bool{}
	for _, r := range c.doc.Rules {
		for _, name := range slices.Concat(r.Sources, r.Destinations) {
			groups[name] = true
		}
		for _, name := range r.WebGroups {
			webs[name] = true
		}
	}
	for _, r := range c.doc.Resolve {
		for _, name := range r.Answers {
			groups[name] = true
		}
	}
	return groups, webs
}

func (c *checker) group(kind, name, path string, used bool, members int) {
	if !used {
		c.add(checkUnused, SeverityWarning, path, "use it in a rule or remove it", "nothing uses the %s group %q", kind, name)
	}
	if members == 0 {
		c.add(checkEmptyGroup, SeverityWarning, path, "give it members or remove it", "the %s group %q is empty and matches nothing", kind, name)
	}
}

func (c *checker) serviceTags(g SmartGroup, path string) {
	if c.env.Data.ServiceTags == nil {
		return
	}
	known := make([]string, 0, len(c.env.Data.ServiceTags))
	for tag := range c.env.Data.ServiceTags {
		known = append(known, tag)
	}
	for j, tag := range g.ServiceTags {
		if _, there := c.env.Data.ServiceTags[tag]; !there {
			c.add(checkNoData, SeverityWarning, fmt.Sprintf("%s.serviceTags[%d]", path, j), didYouMean(tag, known),
				"the service tag data has no tag %q, so it matches nothing", tag)
		}
	}
}

var (
	// sharedSpace is where the platform that runs the agents lives (RFC 6598).
	sharedSpace = ranges(prefixes("100.64.0.0/10"))
	// privateSpace is the operators' own (RFC 1918).
	privateSpace = ranges(prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
)

// agentInfra refuses private ranges in the group of the platform that runs the
// agents: it is permitted without names, and private ranges are the operator's own
// networks. A group is taken for it by its name, or because it holds shared address
// space and a PERMIT reaches it by address alone.
func (c *checker) agentInfra(g SmartGroup, path string) {
	infra := strings.Contains(strings.ToLower(g.Name), "agent-infra")
	if intersects(ranges(g.CIDRs), sharedSpace) {
		infra = infra || slices.ContainsFunc(c.rules, func(r *scope) bool {
			return r.Action == Permit && !r.byName() && slices.Contains(r.Destinations, g.Name)
		})
	}
	if !infra {
		return
	}
	for j, p := range g.CIDRs {
		if rs := ranges(slices.Clone(g.CIDRs[j : j+1])); intersects(rs, privateSpace) {
			c.add(checkInfraPrivate, SeverityError, fmt.Sprintf("%s.cidrs[%d]", path, j),
				"name shared address space (within 100.64.0.0/10) or the single addresses that were seen",
				"%q opens private addresses (RFC 1918) in %s to agents: those are your own networks, not the platform's", g.Name, p)
		}
	}
}
