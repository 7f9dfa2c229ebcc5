package ruleset

import (
	"context"
	"fmt"

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
	opens         []string // why it may open something; empty: it does not
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
	c.opens = c.widens()
	return c, err
}

// review tells the change to whoever reads the preview, and refuses it where approval is wanted.
func (c *change) review(ctx context.Context, in *Args) error {
	log := p.GetLogger(ctx)
	if err := c.approved(in); err != nil {
		log.Warning(c.words())
		return err
	}
	if len(c.opens) > 0 && !c.first || len(c.warnings) > 0 {
		log.Warning(c.words())
	} else {
		log.Info(c.words())
	}
	return nil
}

// approved refuses what opens something and whose digest nobody approved.
func (c *change) approved(in *Args) error {
	digest := c.after.Digest()
	if !or(in.RequireApproval) || or(in.ApprovedDigest) == digest || len(c.opens) == 0 {
		return nil
	}
	if given := or(in.ApprovedDigest); given != "" {
		return fmt.Errorf("this ruleset opens something, and another one was approved (%s): review what it gains, then set approvedDigest to %s", given, digest)
	}
	return fmt.Errorf("this ruleset opens something, and nobody has approved it: review what it gains, then set approvedDigest to %s", digest)
}
