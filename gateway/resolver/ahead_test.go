package resolver

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestAhead(t *testing.T) {
	doc, err := policy.Decode([]byte(`
version: 1
mode: enforce
default: {action: DENY, mode: enforce}
smartGroups:
  - {name: all, cidrs: [10.0.0.0/8]}
  - {name: some, cidrs: [10.20.1.128/25]}
  - {name: strangers, cidrs: [172.16.0.0/16]}
webGroups:
  - {name: a, fqdns: [a.example, "*.wild.example"], urls: [{host: u.example}]}
  - {name: b, fqdns: [b.example, a.example]}
  - {name: c, fqdns: [c.example]}
  - {name: d, fqdns: [d.example]}
  - {name: e, fqdns: [e.example]}
rules:
  - {name: one, priority: 1, sources: [all], webGroups: [a], action: PERMIT, decrypt: DECRYPT_ALLOWED}
  - {name: two, priority: 2, sources: [strangers, some], webGroups: [b], action: PERMIT}
  - {name: three, priority: 3, sources: [strangers], webGroups: [c], action: PERMIT}
  - {name: four, priority: 4, sources: [all], webGroups: [d], action: DENY}
  - {name: five, priority: 5, webGroups: [e], action: PERMIT}
`))
	if err != nil {
		t.Fatal(err)
	}
	got := ahead(doc, []netip.Prefix{netip.MustParsePrefix("10.20.1.0/24")})
	first, some := netip.MustParseAddr("10.20.1.0"), netip.MustParseAddr("10.20.1.128")
	want := []question{{first, "a.example"}, {first, "u.example"}, {some, "b.example"}, {first, "e.example"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
