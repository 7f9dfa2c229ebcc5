package policy

import (
	"cmp"
	"fmt"
	"slices"
)

// The ids of the checks. They are stable: people name them in `allow`, in pipelines
// and in reviews. docs/reference/checks.md describes each.
const (
	checkDecode             = "POL-00" // the document cannot be read
	checkURLsUndecrypted    = "POL-01" // requests are to be judged under DECRYPT_NOT_ALLOWED
	checkPlatformDecrypted  = "POL-02" // the platform's own names are decrypted
	checkURLHostUndecrypted = "POL-03" // another rule lets the host of a URL through undecrypted
	checkMatchAll           = "POL-04" // a PERMIT for everything
	checkServiceTag         = "POL-05" // a service tag permitted without a name
	checkMultiTenant        = "POL-06" // a wildcard where anybody can register a name
	checkDefaultPermits     = "POL-07" // the default permits
	checkInfraPrivate       = "POL-08" // the platform's address group holds private ranges
	checkPlatformMissing    = "POL-09" // a platform name is not permitted
	checkPlatformDenied     = "POL-10" // a deny stands before a platform permit
	checkVerifyWildcard     = "POL-11" // a wildcard where names are resolved ahead
	checkCompile            = "POL-12" // the ruleset is beyond what the gateway can load
	checkThreatPermit       = "POL-13" // a permit towards known-bad destinations
	checkSecretAnywhere     = "POL-14" // a secret is sent to whoever has a name

	checkShadowed      = "POL-20" // earlier rules take all that a rule could match
	checkUnused        = "POL-21" // nobody uses a group
	checkMisspelt      = "POL-22" // a known misspelling
	checkMonitoredDeny = "POL-23" // a monitored deny before a default that denies anyway
	checkNamelessPass  = "POL-24" // flows without a name pass below a deny by name
	checkNoData        = "POL-25" // the data that is loaded has nothing for a group
	checkEmptyGroup    = "POL-26" // a group without members
	checkIdleOverride  = "POL-27" // an override that overrides nothing
	checkInternetPort  = "POL-28" // a port permitted to the whole internet
	checkNoNamePort    = "POL-29" // names on ports where flows carry none
	checkCredential    = "POL-30" // a credential is written into the document
	checkOriginIgnored = "POL-31" // decrypted flows go to whoever answers
	checkNoTool        = "POL-32" // an mcp entry denies every tool that it allows
)

// Check finds what is wrong or dangerous in a document that Decode has read, where
// env says that it applies. The result is in the order of the document's paths. A
// ruleset with a diagnostic of SeverityError is refused by whatever would load it.
//
// Without data for service tags and feeds in env, what depends on it is not judged.
func Check(doc *Document, env Environment) []Diagnostic {
	c := newChecker(doc, env)
	c.document()
	c.groups()
	for i := range c.rules {
		c.rule(c.rules[i])
	}
	c.platform()
	c.overrides()
	if _, err := Compile(doc, env); err != nil {
		c.add(checkCompile, SeverityError, "", "", "%v", err)
	}
	slices.SortStableFunc(c.found, func(a, b Diagnostic) int {
		return cmp.Or(comparePaths(a.Path, b.Path), cmp.Compare(a.ID, b.ID))
	})
	return c.found
}

// checker holds a document with its references resolved.
type checker struct {
	doc    *Document
	env    Environment
	smart  map[string]*SmartGroup
	web    map[string]*WebGroup
	threat map[string]*ThreatGroup
	rules  []*scope // in priority order
	used   map[string]bool
	found  []Diagnostic
}

func newChecker(doc *Document, env Environment) *checker {
	c := &checker{doc: doc, env: env, smart: map[string]*SmartGroup{}, web: map[string]*WebGroup{},
		threat: map[string]*ThreatGroup{}, used: map[string]bool{}}
	for i := range doc.SmartGroups {
		c.smart[doc.SmartGroups[i].Name] = &doc.SmartGroups[i]
	}
	for i := range doc.WebGroups {
		c.web[doc.WebGroups[i].Name] = &doc.WebGroups[i]
	}
	for i := range doc.ThreatGroups {
		c.threat[doc.ThreatGroups[i].Name] = &doc.ThreatGroups[i]
	}
	for i := range doc.Rules {
		c.rules = append(c.rules, c.scope(i))
	}
	slices.SortStableFunc(c.rules, func(a, b *scope) int { return cmp.Compare(a.Priority, b.Priority) })
	return c
}

func (c *checker) add(id string, severity Severity, path, fix, format string, args ...any) {
	c.found = append(c.found, Diagnostic{ID: id, Severity: severity, Path: path, Message: fmt.Sprintf(format, args...), Fix: fix})
}

// addUnlessAllowed is add for the checks that a rule may override in writing.
func (c *checker) addUnlessAllowed(id string, r *scope, path, fix, format string, args ...any) {
	for _, a := range r.Allow {
		if a.Check == id {
			c.used[r.path+id] = true
			return
		}
	}
	c.add(id, SeverityError, path, fix+fmt.Sprintf(`, or add to the rule allow: [{check: %s, reason: "…"}]`, id), format, args...)
}

// overrides warns of an `allow` that has nothing left to override: it would silence
// the check when the danger comes back.
func (c *checker) overrides() {
	for _, r := range c.rules {
		for k, a := range r.Allow {
			if !c.used[r.path+a.Check] {
				c.add(checkIdleOverride, SeverityWarning, fmt.Sprintf("%s.allow[%d]", r.path, k), "remove it",
					"rule %q overrides %s, which it does not violate", r.Name, a.Check)
			}
		}
	}
}
