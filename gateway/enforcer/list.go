package enforcer

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Live is one permitted flow that has not ended.
type Live struct {
	Src   netip.AddrPort `json:"src"`
	Dst   netip.AddrPort `json:"dst"`
	Name  string         `json:"name,omitempty"`
	Rule  string         `json:"rule"`
	Since time.Time      `json:"since"`
}

// List returns at most limit permitted flows, the youngest first, and how many there
// are. Flows that are still being decided are not among them.
func (s *Server) List(limit int) (flows []Live, total int) {
	for _, f := range s.snapshot() {
		f.mu.Lock()
		if v := f.live; v != nil && !f.gone {
			flows = append(flows, Live{Src: f.src, Dst: f.dst, Name: v.facts.Name, Rule: v.Rule, Since: f.start})
		}
		f.mu.Unlock()
	}
	slices.SortFunc(flows, func(a, b Live) int { return cmp.Or(b.Since.Compare(a.Since), a.Src.Compare(b.Src)) })
	total = len(flows)
	return flows[:min(total, limit)], total
}
