package ruleset

import (
	"net/url"
	"slices"
	"strings"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Spoke is what a ruleset has to know of the network that it is for.
type Spoke struct {
	// AgentPrefixes are the subnets whose packets the gateway governs.
	AgentPrefixes []string
	// EndpointPrefixes are where private endpoints are, which agents reach without the gateway.
	EndpointPrefixes []string
	// AdjacentPrefixes are those of networks next to the spoke.
	AdjacentPrefixes []string
	// Resolve are the names that lead to private endpoints.
	Resolve []string
	// ToolCalls are the services that agents' tools call: names, or URLs such as https://mcp.contoso.com/mcp.
	ToolCalls []string
	// CanaryPrefix is the canary's subnet, and CanaryImage the hosts that its image is pulled from.
	CanaryPrefix string
	CanaryImage  []string
	// Inspection has tool calls decrypted. URLs need it: `policy check` says so where it is missing.
	Inspection bool
}

// The groups that a spoke fills.
const (
	groupAgents     = "foundry-agents"
	groupEndpoints  = "private-endpoints"
	groupNeighbours = "other-spoke-resources"
	groupTools      = "foundry-tool-calls"
)

// platformNames are what Foundry and Container Apps need of the Internet. Nobody else's
// certificate is taken for them, so they are never decrypted.
var platformNames = []string{
	"mcr.microsoft.com", "*.data.mcr.microsoft.com", "packages.aks.azure.com", "acs-mirror.azureedge.net", "*.identity.azure.net",
	"login.microsoftonline.com", "*.login.microsoftonline.com", "login.microsoft.com", "*.login.microsoft.com",
	"agent365.svc.cloud.microsoft", "gsm*eh.servicebus.windows.net",
}

// Standard is the ruleset that a spoke begins with: what the platform needs, the services that tools call, Foundry's
// private endpoints, and nothing else. For the example's prefixes it is examples/ruleset.yaml. What a
// spoke does not have (tool calls, neighbours, private endpoints) it has no group and no rule for: an empty one would be warned of.
func Standard(s Spoke) *Document {
	const infra, tags, platform, threats = "agent-infra", "aca-svctag", "aca-requirements-fqdns", "default-threatgroup"
	permit, deny := Action(policy.Permit), Action(policy.Deny)
	untouched, decrypted, anySNI := Decrypt(policy.DecryptNotAllowed), Decrypt(policy.DecryptAllowed), SNI(policy.SNIOptional)
	generated := []Exemption{{Check: "POL-06", Reason: "Microsoft's broker names under servicebus.windows.net are generated; the glob is as narrow as they allow"}}

	d := &Document{
		SmartGroups: []SmartGroup{
			{Name: groupAgents},
			{Name: infra, CIDRs: []string{"100.64.0.0/11"}},
			{Name: tags, ServiceTags: []string{"MicrosoftContainerRegistry", "AzureFrontDoor.FirstParty", "AzureContainerRegistry", "AzureActiveDirectory"}},
		},
		WebGroups:    []WebGroup{{Name: platform, FQDNs: slices.Clone(platformNames)}},
		ThreatGroups: []ThreatGroup{{Name: threats, Feeds: []Feed{{Name: "ipsum", Format: "netset", URL: "https://raw.githubusercontent.com/stamparm/ipsum/master/levels/3.txt"}}}},
	}
	add := func(r Rule) {
		r.Priority, r.Sources = len(d.Rules)+1, []string{groupAgents}
		d.Rules = append(d.Rules, r)
	}
	https := []string{"tcp/443"}
	add(Rule{Name: "deny-threat-intel", Destinations: []string{threats}, Action: deny})
	add(Rule{Name: "allow-aca-fqdn", WebGroups: []string{platform}, Ports: https, Action: permit, Decrypt: &untouched, Allow: generated})
	add(Rule{Name: "allow-aca-svctag", Destinations: []string{tags}, WebGroups: []string{platform}, SNI: &anySNI, Ports: https, Action: permit, Decrypt: &untouched, Allow: generated})
	if len(s.CanaryImage) > 0 {
		const canary, image = "canary", "canary-image"
		d.SmartGroups = append(d.SmartGroups, SmartGroup{Name: canary, CIDRs: []string{s.CanaryPrefix}})
		d.WebGroups = append(d.WebGroups, WebGroup{Name: image, FQDNs: slices.Clone(s.CanaryImage)})
		add(Rule{Name: "allow-canary-image", WebGroups: []string{image}, Ports: https, Action: permit, Decrypt: &untouched})
		d.Rules[len(d.Rules)-1].Sources = []string{canary} // agents have no business there
	}
	if len(s.ToolCalls) > 0 {
		d.WebGroups = append(d.WebGroups, WebGroup{Name: groupTools})
		decrypt := &untouched
		if s.Inspection {
			decrypt = &decrypted
		}
		add(Rule{Name: "allow-tool-calls", WebGroups: []string{groupTools}, Ports: https, Action: permit, Decrypt: decrypt})
	}
	add(Rule{Name: "allow-agent-infra", Destinations: []string{infra}, Action: permit})
	add(Rule{Name: "default-deny-internet", Destinations: []string{policy.GroupInternet}, Action: deny})
	if len(s.AdjacentPrefixes) > 0 {
		d.SmartGroups = append(d.SmartGroups, SmartGroup{Name: groupNeighbours})
		add(Rule{Name: "deny-east-west", Destinations: []string{groupNeighbours}, Action: deny})
	}
	if len(s.EndpointPrefixes) > 0 && len(s.Resolve) > 0 {
		d.SmartGroups = append(d.SmartGroups, SmartGroup{Name: groupEndpoints})
		d.Resolve = []Resolve{{Names: slices.Clone(s.Resolve), Answers: []string{groupEndpoints}}}
	}
	return Fill(d, s)
}

// Fill returns the document with the spoke's members in the groups foundry-agents, private-endpoints,
// other-spoke-resources and foundry-tool-calls, where it declares them without any. What it says itself stays.
func Fill(d *Document, s Spoke) *Document {
	filled := *d
	filled.SmartGroups = slices.Clone(d.SmartGroups)
	filled.WebGroups = slices.Clone(d.WebGroups)
	prefixes := map[string][]string{groupAgents: s.AgentPrefixes, groupEndpoints: s.EndpointPrefixes, groupNeighbours: s.AdjacentPrefixes}
	for i := range filled.SmartGroups {
		if g := &filled.SmartGroups[i]; len(g.CIDRs)+len(g.ServiceTags) == 0 {
			g.CIDRs = slices.Clone(prefixes[g.Name])
		}
	}
	for i := range filled.WebGroups {
		if g := &filled.WebGroups[i]; g.Name == groupTools && len(g.FQDNs)+len(g.URLs)+len(g.MCP) == 0 {
			for _, call := range s.ToolCalls {
				if u, ok := request(call); ok {
					g.URLs = append(g.URLs, u)
				} else {
					g.FQDNs = append(g.FQDNs, call)
				}
			}
		}
	}
	return &filled
}

// request reads a tool call that names a path on a host. A URL without a path leaves open whether it is for all of its
// host: it stays as it was written, like all that is no plain HTTPS URL, for gateway/policy to refuse.
func request(call string) (URL, bool) {
	u, err := url.Parse(call)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Host != u.Hostname() || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Path == "" || u.Path == "/" {
		return URL{}, false
	}
	return URL{Host: u.Host, Paths: []string{u.EscapedPath()}}, true
}

// ResolvableNames are the names that the resolver behind the gateway has to answer for a ruleset: what a permit
// or a private endpoint makes resolvable, and the hosts that the gateway fetches feeds from. What else the gateway
// asks for is not in the document.
func ResolvableNames(doc *policy.Document) []string {
	var names []string
	for _, r := range doc.Resolve {
		names = append(names, r.Names...)
	}
	for _, group := range doc.WebGroups {
		if slices.ContainsFunc(doc.Rules, func(r policy.Rule) bool { return r.Action == policy.Permit && slices.Contains(r.WebGroups, group.Name) }) {
			names = append(names, group.FQDNs...)
			for _, u := range group.URLs {
				names = append(names, u.Host)
			}
			for _, m := range group.MCP {
				names = append(names, m.Host)
			}
		}
	}
	for _, group := range doc.ThreatGroups {
		for _, feed := range group.Feeds {
			if u, err := url.Parse(feed.URL); err == nil && strings.Contains(u.Hostname(), ".") {
				names = append(names, u.Hostname())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
