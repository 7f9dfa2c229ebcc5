package preflight

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	srcHostAddress = "Azure Virtual Network documentation, what-is-ip-address-168-63-129-16"
	srcDNSPolicy   = "Azure DNS documentation, dns-security-policy"
	srcAzureDev    = "Azure/azure-dev, private-networking"
)

// zonesOf are the private DNS zones that a private endpoint of a group needs, so that the
// service's public name leads to it.
//
// Source: Azure Private Link, private-endpoint-dns; foundry-samples,
// 15-private-network-standard-agent-setup.
var zonesOf = map[string][]string{
	"account":       {"privatelink.cognitiveservices.azure.com", "privatelink.openai.azure.com", "privatelink.services.ai.azure.com"},
	"searchService": {"privatelink.search.windows.net"},
	"Sql":           {"privatelink.documents.azure.com"},
	"blob":          {"privatelink.blob.core.windows.net"},
	"file":          {"privatelink.file.core.windows.net"},
	"vault":         {"privatelink.vaultcore.azure.net"},
	"registry":      {"privatelink.azurecr.io"},
}

var dnsGuards = []Guard{{
	ID: "DNS-01", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartDNSForwarding},
	Condition: "agents' questions come to the gateway: the network's DNS servers are the gateway's address alone, or a forwarding ruleset sends every name there (pinScope shared)",
	Why:       "A permit by name holds only for addresses that the gateway's own resolver gave; a second server would be asked as well.",
	Source:    "erjosito/net-lab-builder, foundry-agent-prompt-vs-hosted-networking (seen in a deployment)",
	Fix:       "set the virtual network's DNS servers to the gateway's address, or link a forwarding ruleset with the rule \".\" to it and set pinScope to shared",
	check:     resolver,
}, {
	ID: "DNS-02", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartNSGs, PartDNSPolicies},
	Condition: "168.63.129.16 answers no agent: the agent subnet's NSG denies AzurePlatformDNS outbound, or a DNS security policy on the network blocks what it does not list",
	Why:       "Azure's resolver is never subject to routes, nor to an NSG that does not name AzurePlatformDNS, so any agent could carry data out in questions to it.",
	Source:    srcHostAddress + "; " + srcDNSPolicy,
	Fix:       "set dnsClosure to nsg, policy or both; neither has been proven with a live Foundry account, so try it there first",
	check:     platformDNS,
}, {
	ID: "DNS-03", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartPrivateEndpoints, PartPrivateZones},
	Condition: "for each private endpoint of the network the zones of its kind exist, are linked, and give its private address",
	Why:       "Without the zone the service's name leads to its public address, which a private account refuses.",
	Source:    srcSamples + "; Azure Private Link documentation, private-endpoint-dns",
	Fix:       "create the zone, link it to the network that the gateway asks from, and attach a DNS zone group to the endpoint",
	check:     endpointNames,
}, {
	ID: "DNS-04", Severity: Fail, When: Before, Needs: []Part{PartVNets, PartPrivateZones, PartRuleset},
	Condition: "at most one zone of a name is linked to the network, and none holds a name that the ruleset permits on the internet",
	Why:       "Azure answers from a linked zone and never asks further, so a name that the zone lacks does not exist, and a private answer to a public name is refused.",
	Source:    srcAzureDev + "; erjosito/net-lab-builder (seen in a deployment)",
	Fix:       "unlink the zone, add the name's record to it, or list the name under `resolve`",
	check:     shadowingZones,
}}

func resolver(v *view) {
	if v.vnet == nil {
		v.notApplicable("the virtual network does not exist yet")
		return
	}
	gateway := v.gatewayAddress()
	if slices.Equal(v.vnet.DNSServers, []netip.Addr{gateway}) {
		return
	}
	found := "Azure's own resolver"
	if len(v.vnet.DNSServers) > 0 {
		found = "DNS servers " + joined(v.vnet.DNSServers)
	}
	for _, f := range v.inv.DNSForwarding {
		if len(v.vnet.DNSServers) > 0 || !slices.ContainsFunc(f.Links, func(id string) bool { return same(id, v.vnet.ID) }) {
			continue
		}
		for _, r := range f.Rules {
			switch {
			case !r.Enabled:
			case r.Domain != ".":
				found += ", which " + path.Base(f.ID) + " sends to " + joined(r.Targets) + " for " + r.Domain
			case !slices.Equal(r.Targets, []netip.Addr{gateway}):
				found += ", which " + path.Base(f.ID) + " sends to " + joined(r.Targets)
			case v.plan.PinScope != "" && v.plan.PinScope != "shared":
				found += ", which sends every question on, with pinScope " + v.plan.PinScope
			default:
				return
			}
		}
	}
	v.found(v.vnet.ID, found, "DNS server "+gateway.String())
}

func joined(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}

func platformDNS(v *view) {
	if !v.made() {
		return
	}
	byNSG, found := v.nsgClosed()
	byPolicy := v.policyClosed()
	open := map[string]bool{"nsg": !byNSG, "policy": !byPolicy, "both": !byNSG || !byPolicy, "": !byNSG && !byPolicy}[v.plan.DNSClosure]
	if !open {
		return
	}
	want := "an outbound deny of AzurePlatformDNS, or a linked DNS security policy that blocks \".\""
	if v.plan.DNSClosure != "" {
		want += " (dnsClosure: " + v.plan.DNSClosure + ")"
	}
	if byNSG {
		found = "no linked DNS security policy that blocks \".\""
	}
	v.found(v.agent.ID, found, want)
}

// nsgClosed asks, for each protocol that DNS has, the first outbound rule that names
// AzurePlatformDNS: rules that do not name it have no say there, however wide they are.
func (v *view) nsgClosed() (closed bool, found string) {
	g := v.nsg(v.agent.NSG)
	if g == nil {
		return false, "no network security group"
	}
	rules := slices.Clone(g.Rules)
	slices.SortFunc(rules, func(a, b NSGRule) int { return a.Priority - b.Priority })
	for _, protocol := range []string{"Udp", "Tcp"} {
		found := path.Base(g.ID) + " without a rule that denies AzurePlatformDNS to every agent for " + protocol
		for _, r := range rules {
			if !strings.EqualFold(r.Direction, "Outbound") || !slices.Contains(r.Destinations, "AzurePlatformDNS") ||
				r.Protocol != "*" && !strings.EqualFold(r.Protocol, protocol) || !holdsPort(r.Ports, 53) {
				continue
			}
			if !strings.EqualFold(r.Access, "Deny") {
				return false, fmt.Sprintf("%s allows AzurePlatformDNS by %s", path.Base(g.ID), r.Name)
			}
			if slices.Contains(r.Sources, "*") || v.coversAgents(r.Sources) {
				found = ""
				break
			}
		}
		if found != "" {
			return false, found
		}
	}
	return true, ""
}

// holdsPort reports whether an NSG rule's ports, such as 53, 1-1024 or *, hold one.
func holdsPort(ports []string, port int) bool {
	return slices.ContainsFunc(ports, func(s string) bool {
		from, to, isRange := strings.Cut(s, "-")
		if !isRange {
			to = from
		}
		lo, errLo := strconv.Atoi(from)
		hi, errHi := strconv.Atoi(to)
		return s == "*" || errLo == nil && errHi == nil && lo <= port && port <= hi
	})
}

// coversAgents reports whether sources of an NSG's rule hold the agent subnet.
func (v *view) coversAgents(sources []string) bool {
	for _, p := range v.agent.Prefixes {
		if !slices.ContainsFunc(sources, func(s string) bool {
			outer, err := netip.ParsePrefix(s)
			return s == "VirtualNetwork" || err == nil && contains(outer, p)
		}) {
			return false
		}
	}
	return true
}

// policyClosed reports whether a DNS security policy on the network blocks every name that
// no earlier rule of it allows.
func (v *view) policyClosed() bool {
	for _, p := range v.inv.DNSPolicies {
		if !slices.ContainsFunc(p.Links, func(id string) bool { return same(id, v.vnet.ID) }) {
			continue
		}
		rules := slices.Clone(p.Rules)
		slices.SortFunc(rules, func(a, b DNSPolicyRule) int { return a.Priority - b.Priority })
		for _, r := range rules {
			if r.Enabled && slices.Contains(r.Domains, ".") {
				return r.Action == "Block"
			}
		}
	}
	return false
}

func endpointNames(v *view) {
	if v.vnet == nil {
		v.notApplicable("the virtual network does not exist yet")
		return
	}
	for _, e := range v.inv.PrivateEndpoints {
		if n, _ := v.subnet(e.Subnet); n != v.vnet {
			continue
		}
		for _, zone := range zonesOf[e.Group] {
			v.zoneOf(&e, zone)
		}
		for _, a := range e.Addresses {
			if !a.IsPrivate() {
				v.found(e.ID, a.String(), "a private address")
			}
		}
	}
}

// zoneOf finds what is wrong with one zone of a private endpoint.
func (v *view) zoneOf(e *PrivateEndpoint, name string) {
	var named, linked bool
	for _, z := range v.inv.PrivateZones {
		if !strings.EqualFold(z.Name, name) {
			continue
		}
		named = true
		if !slices.ContainsFunc(z.Links, func(id string) bool { return same(id, v.vnet.ID) }) {
			continue
		}
		linked = true
		for _, r := range z.Records {
			if slices.ContainsFunc(r.Addresses, func(a netip.Addr) bool { return slices.Contains(e.Addresses, a) }) {
				return
			}
		}
	}
	switch {
	case !named:
		v.found(e.ID, "no zone "+name, "the zone, linked to "+v.vnet.ID)
	case !linked:
		v.found(e.ID, "zone "+name+", not linked to the network", "a link to "+v.vnet.ID)
	default:
		v.found(e.ID, "zone "+name+" without a record for it", "a record with "+joined(e.Addresses))
	}
}

func shadowingZones(v *view) {
	if v.vnet == nil {
		v.notApplicable("the virtual network does not exist yet")
		return
	}
	doc, _ := v.documents()
	linked := map[string]string{}
	for _, z := range v.inv.PrivateZones {
		if !slices.ContainsFunc(z.Links, func(id string) bool { return same(id, v.vnet.ID) }) {
			continue
		}
		name, ok := policy.NormalizeName(z.Name)
		if !ok {
			continue
		}
		if other, twice := linked[name]; twice {
			v.found(z.ID, "linked beside "+other+", which has the same name", "one zone of a name")
		}
		linked[name] = z.ID
		if doc == nil {
			continue
		}
		for _, g := range doc.WebGroups {
			for _, n := range permittedNames(doc, &g) {
				if held(name, n) && !resolved(doc, n) && !slices.ContainsFunc(z.Records, func(r Name) bool { return policy.MatchPattern(n, r.Name) }) {
					v.found(z.ID, fmt.Sprintf("a linked zone %s, which holds %s of web group %s", name, n, g.Name), "no zone over a name that is reached on the internet")
				}
			}
		}
	}
}

// permittedNames are the patterns of a web group, if a PERMIT names it.
func permittedNames(doc *policy.Document, g *policy.WebGroup) []string {
	if !slices.ContainsFunc(doc.Rules, func(r policy.Rule) bool { return r.Action == policy.Permit && slices.Contains(r.WebGroups, g.Name) }) {
		return nil
	}
	names := slices.Clone(g.FQDNs)
	for _, u := range g.URLs {
		names = append(names, u.Host)
	}
	for _, m := range g.MCP {
		names = append(names, m.Host)
	}
	return names
}

// held reports whether names that a pattern means lie in a zone.
func held(zone, pattern string) bool {
	return pattern == zone || strings.HasSuffix(pattern, "."+zone)
}

// resolved reports whether a name is one that agents reach without the gateway.
func resolved(doc *policy.Document, name string) bool {
	return slices.ContainsFunc(doc.Resolve, func(r policy.Resolve) bool {
		return slices.ContainsFunc(r.Names, func(p string) bool { return p == name || policy.MatchPattern(p, name) })
	})
}
