package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// askAhead resolves every exact name that a rule permits. Agents in verify scope
// resolve names elsewhere; the pins made here are what their connections are
// checked against.
func (s *Server) askAhead(ctx context.Context, doc *policy.Document) {
	for _, q := range ahead(doc, s.config.Agents) {
		if ctx.Err() != nil {
			return
		}
		if err := s.Ask(ctx, q.src, q.name); err != nil && ctx.Err() == nil {
			s.config.Report(fmt.Errorf("asking ahead: %w", err))
		}
	}
}

// question is a name, and an agent that may ask for it.
type question struct {
	src  netip.Addr
	name string
}

// ahead lists the exact names of all permits, each once, with an agent that stands
// for those the rule permits it to: pins in verify scope hold for every agent, and
// the enforcer judges each one's connections.
func ahead(doc *policy.Document, agents []netip.Prefix) []question {
	names := map[string][]string{}
	for _, g := range doc.WebGroups {
		for _, f := range g.FQDNs {
			if !strings.Contains(f, "*") {
				names[g.Name] = append(names[g.Name], f)
			}
		}
		for _, u := range g.URLs {
			names[g.Name] = append(names[g.Name], u.Host)
		}
	}
	var all []question
	seen := map[string]bool{}
	for i := range doc.Rules {
		r := &doc.Rules[i]
		src, ok := anAgent(doc, r, agents)
		if !ok || r.Action != policy.Permit {
			continue
		}
		for _, g := range r.WebGroups {
			for _, n := range names[g] {
				if !seen[n] {
					seen[n] = true
					all = append(all, question{src, n})
				}
			}
		}
	}
	return all
}

// anAgent returns an address that is both an agent's and among the rule's sources.
func anAgent(doc *policy.Document, r *policy.Rule, agents []netip.Prefix) (netip.Addr, bool) {
	if len(r.Sources) == 0 && len(agents) > 0 {
		return agents[0].Masked().Addr(), true
	}
	for _, name := range r.Sources {
		for _, g := range doc.SmartGroups {
			if g.Name != name {
				continue
			}
			for _, c := range g.CIDRs {
				for _, a := range agents {
					if !c.Overlaps(a) {
						continue
					}
					if c.Bits() < a.Bits() {
						c = a
					}
					return c.Masked().Addr(), true
				}
			}
		}
		if name == policy.GroupAny && len(agents) > 0 {
			return agents[0].Masked().Addr(), true
		}
	}
	return netip.Addr{}, false
}
