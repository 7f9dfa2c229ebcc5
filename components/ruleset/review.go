package ruleset

import (
	"context"
	"fmt"
	"slices"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// change is what lies between the ruleset in the state and the one that is wanted.
type change struct {
	*policy.Changes
	first         bool
	before, after *policy.Ruleset
	tags          bool // the addresses behind service tags are known
	warnings      []policy.Diagnostic
}

func compare(was, is *Args) (*change, error) {
	c := &change{first: was.Canonical == nil, before: nothing, tags: is.ServiceTags != nil}
	var err error
	if c.after, err = compile(*is.Canonical, or(is.ServiceTags)); err != nil {
		return nil, err
	}
	if !c.first {
		// Both are judged with the same addresses behind service tags: what Microsoft changes is no change here.
		if c.before, err = compile(*was.Canonical, or(is.ServiceTags)); err != nil {
			return nil, err
		}
	}
	_, diagnostics, err := check([]byte(*is.Canonical), or(is.ServiceTags))
	for _, d := range diagnostics {
		if d.Severity == policy.SeverityWarning {
			c.warnings = append(c.warnings, d)
		}
	}
	c.Changes = policy.Diff(c.before, c.after)
	return c, err
}

// widens reports whether anything could pass that could not, or passes with less asked of it.
// In doubt it does.
func (c *change) widens() bool {
	if len(c.Gained) > 0 {
		return true
	}
	for _, a := range c.Changed {
		if a.New.Mode != a.Old.Mode || a.New.Conditions != a.Old.Conditions || a.Old.Would != nil != (a.New.Would != nil) ||
			a.Old.Decrypt == policy.DecryptAllowed && a.New.Decrypt != policy.DecryptAllowed {
			return true
		}
	}
	// Names were compared above. Addresses behind service tags may not be known, those of feeds never are.
	denied, permitted, unseen := groupsBy(c.after, policy.Deny), groupsBy(c.after, policy.Permit), c.unseen()
	for _, g := range c.Groups {
		more := g.Opened > 0 || unseen[g.Group] && len(g.Added) > 0
		fewer := g.Closed > 0 || unseen[g.Group] && len(g.Removed) > 0
		if more && permitted[g.Group] || fewer && denied[g.Group] {
			return true
		}
	}
	// A rule that denies and is gone may have denied what no sample shows, such as a feed's addresses.
	for _, r := range c.Rules {
		if r.Change != "added" && denies(c.before, r.Rule) {
			return true
		}
	}
	return false
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

// groupsBy are the groups that rules of an action name.
func groupsBy(rs *policy.Ruleset, action policy.Action) map[string]bool {
	all := map[string]bool{}
	for _, r := range rs.Document().Rules {
		if r.Action == action {
			for _, g := range slices.Concat(r.Sources, r.Destinations) {
				all[g] = true
			}
		}
	}
	return all
}

func denies(rs *policy.Ruleset, rule string) bool {
	for _, r := range rs.Document().Rules {
		if r.Name == rule {
			return r.Action == policy.Deny
		}
	}
	return rule == policy.RuleDefault
}

// fields are the parts of the document that differ, for a change that opens and closes nothing.
func (c *change) fields() []string {
	var all []string
	if len(c.Rules) > 0 {
		all = append(all, "rules")
	}
	if len(c.Groups) > 0 {
		all = append(all, "smartGroups")
	}
	if len(all) == 0 {
		all = append(all, "canonical")
	}
	return all
}

// words tell a reviewer what the change does, the most important first.
func (c *change) words() string {
	var b strings.Builder
	fmt.Fprintf(&b, "this ruleset (%s) ", short(c.after.Digest()))
	if c.first {
		fmt.Fprintf(&b, "is the first: %d rules permit %d kinds of access, all else is denied\n", len(c.after.Document().Rules), len(c.Gained))
	} else {
		fmt.Fprintf(&b, "gains %d, loses %d, changes %d kinds of access\n", len(c.Gained), len(c.Lost), len(c.Changed))
	}
	if c.after.Document().Default.Mode == policy.ModeMonitor || c.after.Document().Mode == policy.ModeMonitor {
		b.WriteString("the default is monitored: what no rule denies passes, and is recorded\n")
	}
	if !c.first {
		for key, a := range c.Changed {
			switch {
			case a.Old.Decrypt != policy.DecryptAllowed && a.New.Decrypt == policy.DecryptAllowed:
				fmt.Fprintf(&b, "becomes decrypted: %s\n", key)
			case a.Old.Decrypt == policy.DecryptAllowed && a.New.Decrypt != policy.DecryptAllowed:
				fmt.Fprintf(&b, "is no longer decrypted: %s\n", key)
			}
		}
		_ = c.Changes.Format(&b) // to memory
	}
	for _, g := range c.after.Document().SmartGroups {
		if len(g.ServiceTags) > 0 && !c.tags {
			fmt.Fprintf(&b, "how many addresses %s opens is not known: give serviceTags\n", g.Name)
		}
	}
	for _, w := range c.warnings {
		fmt.Fprintf(&b, "%s %s\n", w.ID, w)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func short(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }

// review tells the change to whoever reads the preview, and refuses it where approval is wanted.
func (c *change) review(ctx context.Context, in *Args) error {
	log := p.GetLogger(ctx)
	if err := c.approved(in); err != nil {
		log.Warning(c.words())
		return err
	}
	if c.widens() && !c.first || len(c.warnings) > 0 {
		log.Warning(c.words())
	} else {
		log.Info(c.words())
	}
	return nil
}

// approved refuses what opens something and whose digest nobody approved.
func (c *change) approved(in *Args) error {
	digest := c.after.Digest()
	if !or(in.RequireApproval) || or(in.ApprovedDigest) == digest || !c.widens() {
		return nil
	}
	if given := or(in.ApprovedDigest); given != "" {
		return fmt.Errorf("this ruleset opens something, and another one was approved (%s): review what it gains, then set approvedDigest to %s", given, digest)
	}
	return fmt.Errorf("this ruleset opens something, and nobody has approved it: review what it gains, then set approvedDigest to %s", digest)
}
