package ruleset

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// standardSpoke is the spoke that examples/ruleset.yaml is written for.
func standardSpoke() Spoke {
	return Spoke{
		AgentPrefixes: []string{"10.20.1.0/24"}, EndpointPrefixes: []string{"10.20.2.0/24"}, AdjacentPrefixes: []string{"10.30.0.0/16"},
		Resolve:   []string{"*.openai.azure.com", "*.services.ai.azure.com", "*.documents.azure.com", "*.search.windows.net"},
		ToolCalls: []string{"api.github.com", "https://mcp.contoso.com/mcp"}, Inspection: true,
	}
}

func decoded(t *testing.T, d *Document) *policy.Document {
	t.Helper()
	canonical, diagnostics, err := d.Check("")
	if err != nil || len(diagnostics) > 0 {
		t.Fatal(err, diagnostics)
	}
	doc, err := policy.Decode([]byte(canonical))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestStandard holds the standard ruleset to examples/ruleset.yaml, apart from the order of groups, the reasons of exemptions,
// and the method, which a URL does not say.
func TestStandard(t *testing.T) {
	got := decoded(t, Standard(standardSpoke()))
	want, err := policy.Decode([]byte(example(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range []*policy.Document{got, want} {
		slices.SortFunc(doc.SmartGroups, func(a, b policy.SmartGroup) int { return strings.Compare(a.Name, b.Name) })
		for i := range doc.Rules {
			for k := range doc.Rules[i].Allow {
				doc.Rules[i].Allow[k].Reason = ""
			}
		}
		doc.WebGroups[1].URLs[0].Methods = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// TestStandardPassesCheck holds that no spoke begins with a diagnostic.
func TestStandardPassesCheck(t *testing.T) {
	for what, change := range map[string]func(s *Spoke){
		"alone":         func(s *Spoke) { s.AdjacentPrefixes = nil },
		"without tools": func(s *Spoke) { s.ToolCalls = nil },
		"with one name": func(s *Spoke) { s.ToolCalls, s.Inspection = []string{"api.github.com"}, false },
		"with one URL":  func(s *Spoke) { s.ToolCalls = []string{"https://mcp.contoso.com/mcp"} },
		"with a canary": func(s *Spoke) { s.AgentPrefixes = append(s.AgentPrefixes, "10.20.3.0/27") },
		"with its image": func(s *Spoke) {
			s.AgentPrefixes, s.CanaryPrefix, s.CanaryImage = append(s.AgentPrefixes, "10.20.3.0/27"), "10.20.3.0/27", []string{"contoso.azurecr.io"}
		},
		"without endpoints":   func(s *Spoke) { s.EndpointPrefixes = nil },
		"without zones":       func(s *Spoke) { s.Resolve = nil },
		"with nothing at all": func(s *Spoke) { *s = Spoke{AgentPrefixes: s.AgentPrefixes} },
	} {
		t.Run(what, func(t *testing.T) {
			s := standardSpoke()
			change(&s)
			decoded(t, Standard(s))
		})
	}
}

// TestToolCalls holds that a path is never lost: where it cannot be judged, the ruleset is refused.
func TestToolCalls(t *testing.T) {
	for call, want := range map[string]WebGroup{
		"api.github.com":              {FQDNs: []string{"api.github.com"}},
		"*.contoso.com":               {FQDNs: []string{"*.contoso.com"}},
		"https://mcp.contoso.com/mcp": {URLs: []URL{{Host: "mcp.contoso.com", Paths: []string{"/mcp"}}}},
		"https://contoso.com/a%20b/c": {URLs: []URL{{Host: "contoso.com", Paths: []string{"/a%20b/c"}}}},
	} {
		s := standardSpoke()
		s.ToolCalls, want.Name = []string{call}, groupTools
		d := Standard(s)
		if !reflect.DeepEqual(d.WebGroups[1], want) {
			t.Errorf("%s: %+v", call, d.WebGroups[1])
		}
		decoded(t, d)
	}
	for _, call := range []string{
		"http://api.github.com/x", "https://api.github.com:8443/x", "https://api.github.com/x?y=z", "https://me@api.github.com/x",
		"https://api.github.com/x#y", "https:///x", "api.github.com/x", "https://api.github.com", "https://api.github.com/", "",
	} {
		s := standardSpoke()
		s.ToolCalls = []string{call}
		if _, diagnostics, err := Standard(s).Check(""); err != nil || !policy.HasErrors(diagnostics) {
			t.Errorf("%q is taken: %v %v", call, diagnostics, err)
		}
	}
	undecrypted := standardSpoke()
	undecrypted.Inspection = false
	if _, diagnostics, err := Standard(undecrypted).Check(""); err != nil || !policy.HasErrors(diagnostics) {
		t.Errorf("a URL is taken without inspection: %v %v", diagnostics, err)
	}
}

// TestFill holds that a document of one's own gets the spoke's members only where it has none, and is not written to.
func TestFill(t *testing.T) {
	own := &Document{
		SmartGroups: []SmartGroup{{Name: groupAgents}, {Name: groupEndpoints, CIDRs: []string{"10.9.0.0/24"}}, {Name: groupNeighbours, CIDRs: []string{}}, {Name: "mine"}},
		WebGroups:   []WebGroup{{Name: groupTools}, {Name: "mine"}},
	}
	got := Fill(own, standardSpoke())
	want := []SmartGroup{{Name: groupAgents, CIDRs: []string{"10.20.1.0/24"}}, {Name: groupEndpoints, CIDRs: []string{"10.9.0.0/24"}}, {Name: groupNeighbours, CIDRs: []string{"10.30.0.0/16"}}, {Name: "mine"}}
	if !reflect.DeepEqual(got.SmartGroups, want) || len(got.WebGroups[0].FQDNs) != 1 || len(got.WebGroups[0].URLs) != 1 || len(got.WebGroups[1].FQDNs) != 0 {
		t.Errorf("%+v", got)
	}
	if own.SmartGroups[0].CIDRs != nil || own.WebGroups[0].FQDNs != nil {
		t.Error("the document that was given is another one now")
	}
}

func TestResolvableNames(t *testing.T) {
	got := ResolvableNames(decoded(t, Standard(standardSpoke())))
	for _, name := range []string{"api.github.com", "mcp.contoso.com", "mcr.microsoft.com", "*.openai.azure.com", "raw.githubusercontent.com"} {
		if !slices.Contains(got, name) {
			t.Errorf("%s is missing in %v", name, got)
		}
	}
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Error(got)
	}
}

// TestStandardCanaryImage: the registry of the canary's image is open to the canary, and not to agents.
func TestStandardCanaryImage(t *testing.T) {
	s := standardSpoke()
	s.AgentPrefixes, s.CanaryPrefix, s.CanaryImage = append(s.AgentPrefixes, "10.20.3.0/27"), "10.20.3.0/27", []string{"contoso.azurecr.io"}
	rules, err := policy.Compile(decoded(t, Standard(s)), policy.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]bool{"10.20.3.4": true, "10.20.1.4": false} {
		if got := rules.Question(netip.MustParseAddr(from), "contoso.azurecr.io"); got.Permitted() != want {
			t.Errorf("%s asks for the registry: %+v", from, got)
		}
	}
}
