package components

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

// spokePlan is a spoke's arguments with every default filled in, all of it known before
// anything is asked of Azure.
type spokePlan struct {
	space                              []string
	gateway, agents, endpoints, canary string
	address                            string
	adjacent, local                    []string
	closure                            string
	document                           spokeDocument
}

// agentPrefixes are the prefixes whose packets the gateway governs.
func (p *spokePlan) agentPrefixes() []string {
	if p.canary == "" {
		return []string{p.agents}
	}
	return []string{p.agents, p.canary}
}

// defaultSpace is the virtual network's where none is named.
const defaultSpace = "10.20.0.0/16"

// plan fills in the defaults and asks the guards. Warnings forbid nothing.
func (args *FoundrySpokeArgs) plan() (plan spokePlan, warnings []string, err error) {
	var p problems
	p.location("location", args.Location)
	if args.BundleFile == "" {
		p.add("bundleFile", "name the gateway's release archive")
	}
	if args.VnetName != nil {
		if args.ResourceGroupName == nil {
			p.add("resourceGroupName", "needed to find the virtual network")
		}
		if len(args.AddressSpace) == 0 {
			p.add("addressSpace", "needed for a virtual network that exists: each of its prefixes is routed to the gateway")
		}
	}
	plan.space = args.AddressSpace
	if len(plan.space) == 0 {
		plan.space = []string{defaultSpace}
	}
	space := p.prefixes("addressSpace", plan.space)
	if err := p.err(); err != nil {
		return plan, nil, err
	}

	plan.gateway = p.subnet("gatewayPrefix", args.GatewayPrefix, space[0], 0, 24)
	plan.agents = p.subnet("agentPrefix", args.AgentPrefix, space[0], 1, 24)
	plan.endpoints = p.subnet("privateEndpointPrefix", args.PrivateEndpointPrefix, space[0], 2, 24)
	if args.Canary != nil {
		plan.canary = p.subnet("canary.prefix", args.Canary.Prefix, space[0], 3, 27)
	}
	plan.local = append([]string{plan.endpoints}, args.LocalPrefixes...)
	for i, peering := range args.Peerings {
		p.prefixes(fmt.Sprintf("peerings[%d].prefixes", i), peering.Prefixes)
		if len(peering.Prefixes) == 0 {
			p.add(fmt.Sprintf("peerings[%d].prefixes", i), "what is not routed to the gateway is reached past it; name the other network's prefixes")
		}
		plan.adjacent = append(plan.adjacent, peering.Prefixes...)
	}
	p.prefixes("adjacentPrefixes", args.AdjacentPrefixes)
	p.prefixes("localPrefixes", args.LocalPrefixes)
	plan.adjacent = append(plan.adjacent, args.AdjacentPrefixes...)
	plan.closure = p.oneOf("dnsClosure", args.DnsClosure, "nsg", "policy", "both")
	if err := p.err(); err != nil {
		return plan, nil, err
	}

	plan.address = or(args.GatewayAddress, fifth(netip.MustParsePrefix(plan.gateway)).String())
	p.address("gatewayAddress", plan.address)
	plan.document = p.document(args, &plan)
	if !or(args.Inspection, true) {
		p.decrypting(&plan.document)
	}
	if err := p.err(); err != nil {
		return plan, nil, err
	}
	warnings = p.guards(args, &plan)
	if tags := or(or(args.Gateway, GatewayOptions{}).ServiceTags, ServiceTagOptions{}); or(tags.Source, "") == "none" && plan.document.tagged() {
		warnings = append(warnings, "gateway.serviceTags.source is none, and the ruleset has groups by service tag: on the gateway they match nothing")
	}
	if len(args.DeployerAddresses) == 0 {
		warnings = append(warnings, "deployerAddresses is empty: nobody but the gateway's subnet reaches the vault and the storage account, so making the root and publishing fail unless the program runs there")
	}
	return plan, warnings, p.err()
}

// fifth is the first address of a subnet that Azure gives to a machine: it keeps the network's
// own and the three after it
// (learn.microsoft.com/azure/virtual-network/virtual-networks-faq).
func fifth(prefix netip.Prefix) netip.Addr {
	addr := prefix.Addr()
	for range 4 {
		addr = addr.Next()
	}
	return addr
}

// subnet reads a subnet's prefix, or takes the start of the nth /24 of the space.
func (p *problems) subnet(path string, given *string, space netip.Prefix, nth, bits int) string {
	if given != nil {
		p.prefix(path, *given)
		return *given
	}
	if space.Bits() > 22 {
		p.add(path, "%s is too small to be divided by default; name the prefix", space)
		return ""
	}
	addr := space.Addr().As4()
	addr[2] += byte(nth)
	return netip.PrefixFrom(netip.AddrFrom4(addr), bits).String()
}

// guards asks those that can be judged from the arguments alone, and puts what they find on
// the argument that it is about.
func (p *problems) guards(args *FoundrySpokeArgs, plan *spokePlan) []string {
	for i, s := range args.SkipGuards {
		if strings.TrimSpace(s.Reason) == "" {
			p.add(fmt.Sprintf("skipGuards[%d].reason", i), "say why %s does not apply", s.ID)
		}
	}
	if len(*p) > 0 {
		return nil
	}
	report, err := preflight.Static(args.guarded(plan), preflight.Options{Skips: args.skips()})
	if err != nil {
		p.add("skipGuards", "%v", err)
		return nil
	}
	for _, r := range report.Results {
		if r.Outcome == preflight.Failed {
			for _, f := range r.Findings {
				p.add(guardedBy(f.Resource, plan), "%s", r.Explain(f))
			}
		}
	}
	return report.Warnings()
}

// skips are the guards that are left out.
func (args *FoundrySpokeArgs) skips() []preflight.Skip {
	var all []preflight.Skip
	for _, s := range args.SkipGuards {
		all = append(all, preflight.Skip(s))
	}
	return all
}

// guarded is the plan as the guards know it.
func (args *FoundrySpokeArgs) guarded(plan *spokePlan) preflight.Plan {
	foundry, gateway := or(args.Foundry, FoundryAccount{}), or(args.Gateway, GatewayOptions{})
	tags := or(gateway.ServiceTags, ServiceTagOptions{})
	return preflight.Plan{
		Location:         args.Location,
		AccountLocation:  or(foundry.Location, ""),
		AccountName:      or(foundry.Name, ""),
		VNetPrefixes:     plan.space,
		AdjacentPrefixes: plan.adjacent,
		LocalPrefixes:    plan.local,
		AgentPrefix:      plan.agents,
		GatewayPrefix:    plan.gateway,
		EndpointPrefix:   plan.endpoints,
		CanaryPrefix:     plan.canary,
		CanaryImageHost:  registryOf(args),
		GatewayAddress:   plan.address,
		Delegation:       Delegation,
		Sessions:         or(foundry.Sessions, 0),
		DNSClosure:       plan.closure,
		PinScope:         or(gateway.PinScope, ""),
		VMSize:           or(gateway.VMSize, ""),
		StandardSetup:    or(foundry.StandardSetup, true),
		GrantsDeployer:   args.DeployerObjectID == nil || *args.DeployerObjectID != "",
		DefinesRole:      or(tags.Source, "") != "none" && tags.RoleDefinitionID == nil,
		Ruleset:          &preflight.Ruleset{Document: plan.document.text},
	}
}

// registryOf is the host that the canary's image is pulled from; empty where that is not known.
func registryOf(args *FoundrySpokeArgs) string {
	hosts := imageHosts(or(args.Canary, CanaryOptions{}).Image, args.Location)
	if len(hosts) == 0 {
		return ""
	}
	return hosts[0]
}

// guardedBy is the argument that a finding about a planned resource is about.
func guardedBy(resource string, plan *spokePlan) string {
	path, ok := map[string]string{
		"planned agent subnet":            "agentPrefix",
		"planned gateway subnet":          "gatewayPrefix",
		"planned private-endpoint subnet": "privateEndpointPrefix",
		"planned canary subnet":           "canary.prefix",
		"planned canary":                  "canary.image",
		"planned virtual network":         "addressSpace",
		"planned adjacent network":        "adjacentPrefixes",
		"planned gateway":                 "gatewayAddress",
		"planned Foundry account":         "foundry",
	}[resource]
	switch {
	case ok:
		return path
	case strings.HasPrefix(resource, "ruleset"):
		return plan.document.at(strings.TrimPrefix(resource, "ruleset "))
	}
	return "location"
}
