package ruleset

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// widens says why something could pass that could not, or pass with less asked of it. Nothing is
// said only where that can be ruled out: this is what an approval hangs on.
//
// What agents gain is asked of the evaluator (policy.Diff), which judges samples: one address for a group, one name for a
// pattern, none for a feed. So the documents are looked at as well, and what is not plainly narrower counts
// as wider: a rule that was renamed, a permit that moved before a deny.
func (c *change) widens() (why []string) {
	before, after := c.before.Document(), c.after.Document()
	if before.Mode == policy.ModeMonitor && !c.first {
		return nil // all of it passed
	}
	if after.Mode == policy.ModeMonitor && !c.first {
		return []string{"nothing is denied any more, only recorded"}
	}
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if n := len(c.Gained); n > 0 {
		say("%s gained", kinds(n))
	}
	for _, key := range sortedKeys(c.Changed) {
		a := c.Changed[key]
		switch {
		case a.Old.Mode == policy.ModeMonitor:
		case a.New.Mode == policy.ModeMonitor:
			say("%s passes by a monitored default", key)
		case a.Old.Decrypt == policy.DecryptAllowed && a.New.Decrypt != policy.DecryptAllowed:
			say("%s is no longer decrypted", key)
		case a.Old.Rule != a.New.Rule && a.Old.Conditions != a.New.Conditions:
			say("%s is permitted by %s, which asks other things of it than %s", key, a.New.Rule, a.Old.Rule)
		}
	}
	if watches(before.Mode, before.Default.Mode) < watches(after.Mode, after.Default.Mode) {
		say("the default is only monitored")
	}
	c.rules(before, after, say)
	c.order(before, after, say)
	c.groups(before, after, say)
	c.trust(before, after, say)
	return why
}

func kinds(n int) string {
	if n == 1 {
		return "1 kind of access is"
	}
	return fmt.Sprintf("%d kinds of access are", n)
}

// watches is 1 where a document's mode, or that of a part of it, has it only watch.
func watches(document, part policy.Mode) int {
	if document == policy.ModeMonitor || part == policy.ModeMonitor {
		return 1
	}
	return 0
}

// deciding are the rules that decide, by name.
func deciding(doc *policy.Document) map[string]*policy.Rule {
	all := map[string]*policy.Rule{}
	for i := range doc.Rules {
		if r := &doc.Rules[i]; watches(doc.Mode, r.Mode) == 0 {
			all[r.Name] = r
		}
	}
	return all
}

// rules compares each rule with the one of its name.
func (c *change) rules(before, after *policy.Document, say func(string, ...any)) {
	was, is := deciding(before), deciding(after)
	written := map[string]bool{}
	for _, r := range after.Rules {
		written[r.Name] = true
	}
	for _, r := range before.Rules {
		old, now := was[r.Name], is[r.Name]
		switch {
		case old == nil: // it decided nothing
		case now == nil && written[r.Name]:
			say("%s is only monitored", r.Name)
		case now == nil && old.Action == policy.Deny:
			say("%s no longer denies", r.Name)
		case now == nil:
			if restricts(old) {
				say("%s no longer asks anything of what it permitted", r.Name)
			}
		case old.Action == policy.Deny && now.Action != policy.Deny:
			say("%s permits now", r.Name)
		case old.Action == policy.Deny && !within(old, now):
			say("%s may deny less", r.Name)
		case old.Action == policy.Permit && now.Action == policy.Permit:
			if !within(now, old) {
				say("%s may permit more", r.Name)
			}
			if old.Decrypt != now.Decrypt && now.Decrypt != policy.DecryptAllowed {
				say("%s no longer decrypts", r.Name)
			}
			if asksLess(old, now) {
				say("%s asks less, or other things, of what it permits", r.Name)
			}
		}
	}
	for _, r := range after.Rules {
		if was[r.Name] == nil && is[r.Name] != nil && r.Action == policy.Permit {
			say("%s permits now", r.Name)
		}
	}
}

// within reports whether a rule matches only what the other one does as well. Two rules that are compared
// have the same action, so what an absent field means is the same for both.
func within(r, other *policy.Rule) bool {
	absent := policy.GroupInternet
	if r.Action == policy.Deny {
		absent = policy.GroupAny
	}
	destinations := func(r *policy.Rule) []string {
		if len(r.Destinations) == 0 {
			return []string{absent}
		}
		return r.Destinations
	}
	return listed(r.Sources, other.Sources) && listed(r.WebGroups, other.WebGroups) &&
		(slices.Contains(other.Destinations, policy.GroupAny) || listed(destinations(r), destinations(other))) &&
		(len(other.Ports) == 0 || len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, func(x policy.PortRange) bool {
			return !slices.ContainsFunc(other.Ports, func(y policy.PortRange) bool { return x.Proto == y.Proto && y.Lo <= x.Lo && x.Hi <= y.Hi })
		})) &&
		(r.SNI == other.SNI || r.SNI == policy.SNIRequired) &&
		(r.TLSOnly() || !other.TLSOnly()) &&
		(r.Action != policy.Deny || r.Decrypt == other.Decrypt || other.Decrypt == policy.DecryptAllowed)
}

// listed reports whether a list is within another; an absent one holds everything.
func listed(list, other []string) bool {
	return len(other) == 0 || len(list) > 0 && !slices.ContainsFunc(list, func(s string) bool { return !slices.Contains(other, s) })
}

// restricts reports whether a permit asks anything of what it permits.
func restricts(r *policy.Rule) bool {
	return r.Budget != nil || len(r.Headers) > 0 || r.MaxRequestBytes > 0 || r.TLSOnly()
}

// originTrust orders what is asked of origins.
var originTrust = map[policy.OriginTrust]int{policy.OriginIgnore: -1, policy.OriginVerify: 1}

func asksLess(old, now *policy.Rule) bool {
	budget := old.Budget != nil && (now.Budget == nil || now.Budget.BytesOut > old.Budget.BytesOut ||
		now.Budget.Window != old.Budget.Window || now.Budget.Per != old.Budget.Per)
	bytes := old.MaxRequestBytes > 0 && (now.MaxRequestBytes == 0 || now.MaxRequestBytes > old.MaxRequestBytes)
	// A header that is set may hold what lets a request in elsewhere; only a requirement more asks more.
	headers := !reflect.DeepEqual(old.Headers, now.Headers) &&
		(len(old.Headers) > 0 || slices.ContainsFunc(now.Headers, func(h policy.Header) bool { return len(h.Require) == 0 }))
	return budget || bytes || headers || now.MinTLS < old.MinTLS || originTrust[now.OriginCertificate] < originTrust[old.OriginCertificate]
}

// order finds permits that are judged before a rule now that was judged before them, where that rule denies, or
// asks more. New ones are told by rules.
func (c *change) order(before, after *policy.Document, say func(string, ...any)) {
	was, is := deciding(before), deciding(after)
	var rules []*policy.Rule
	for name, r := range was {
		if is[name] != nil {
			rules = append(rules, r)
		}
	}
	slices.SortFunc(rules, func(a, b *policy.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	var last *policy.Rule // of those that hold others back, the one that is judged last now
	for _, r := range rules {
		now := is[r.Name]
		if now.Action == policy.Permit && last != nil && now.Priority < last.Priority {
			say("%s is judged before %s", now.Name, last.Name)
		}
		holds := now.Action == policy.Deny || restricts(now) || now.Decrypt == policy.DecryptAllowed
		if holds && (last == nil || now.Priority > last.Priority) {
			last = now
		}
	}
}

// groups compares what rules name: more of what is permitted, less of what is denied.
func (c *change) groups(before, after *policy.Document, say func(string, ...any)) {
	denied, permitted := namedBy(before, policy.Deny), namedBy(after, policy.Permit)
	for _, r := range after.Resolve {
		for _, g := range r.Answers {
			permitted[g] = true
		}
	}
	unseen := c.unseen()
	for _, g := range c.Groups {
		if permitted[g.Group] && (g.Opened > 0 || unseen[g.Group] && len(g.Added) > 0) {
			say("%s grows, and is permitted", g.Group)
		}
		if denied[g.Group] && (g.Closed > 0 || unseen[g.Group] && len(g.Removed) > 0) {
			say("%s shrinks, and is denied", g.Group)
		}
	}
	// The rest is not about addresses that are known here: feeds, and names that a deny lists.
	feeds, webs := map[string][]policy.Feed{}, map[string]policy.WebGroup{}
	for _, g := range after.ThreatGroups {
		feeds[g.Name] = g.Feeds
	}
	for _, g := range before.ThreatGroups {
		if denied[g.Name] && gone(g.Feeds, feeds[g.Name]) {
			say("%s loses a feed, or reads it otherwise, and is denied", g.Name)
		}
	}
	for _, g := range after.WebGroups {
		webs[g.Name] = g
	}
	for _, g := range before.WebGroups {
		now := webs[g.Name]
		if denied["web "+g.Name] && (gone(g.FQDNs, now.FQDNs) || gone(g.URLs, now.URLs) || gone(g.MCP, now.MCP)) {
			say("%s shrinks, and is denied", g.Name)
		}
	}
}

// gone reports whether a list held anything that another does not.
func gone[T any](list, other []T) bool {
	return slices.ContainsFunc(list, func(x T) bool {
		return !slices.ContainsFunc(other, func(y T) bool { return reflect.DeepEqual(x, y) })
	})
}

// namedBy are the groups that deciding rules of an action name, web groups behind "web ".
func namedBy(doc *policy.Document, action policy.Action) map[string]bool {
	all := map[string]bool{}
	for _, r := range deciding(doc) {
		if r.Action == action {
			for _, g := range slices.Concat(r.Sources, r.Destinations) {
				all[g] = true
			}
			for _, g := range r.WebGroups {
				all["web "+g] = true
			}
		}
	}
	return all
}

// unseen are the groups whose addresses are not all known here.
func (c *change) unseen() map[string]bool {
	all := map[string]bool{}
	for _, rs := range []*policy.Ruleset{c.before, c.after} {
		for _, g := range rs.Document().SmartGroups {
			all[g.Name] = all[g.Name] || len(g.ServiceTags) > 0 && !c.tags
		}
		for _, g := range rs.Document().ThreatGroups {
			all[g.Name] = true
		}
	}
	return all
}

// trust compares which answers are believed, and which authorities.
func (c *change) trust(before, after *policy.Document, say func(string, ...any)) {
	type answer struct{ name, group string }
	believed := map[answer]bool{}
	for _, r := range before.Resolve {
		for _, name := range r.Names {
			for _, g := range r.Answers {
				believed[answer{name, g}] = true
			}
		}
	}
	for _, r := range after.Resolve {
		for _, name := range r.Names {
			for _, g := range r.Answers {
				if !believed[answer{name, g}] {
					say("%s may be answered with addresses in %s", name, g)
				}
			}
		}
	}
	for _, ca := range after.OriginCAs {
		if !slices.Contains(before.OriginCAs, ca) {
			say("origins are verified with %s too", ca.Name)
		}
	}
}
