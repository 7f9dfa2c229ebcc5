package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// reportAge is how old a gateway's last word about itself may be; it writes one every
	// three minutes.
	reportAge = 15 * time.Minute
	// clockSkew is how far a gateway's clock may be off: certificates and tokens are
	// refused beyond some minutes.
	clockSkew = 2 * time.Minute
	// sessionsPerCore is how many agent sessions one core is planned for.
	sessionsPerCore = 250
)

const (
	srcCustomRoles = "Azure RBAC documentation, custom-roles"
	srcSizing      = "limits.flows and limits.flowsPerSource in docs/reference/configuration.md"
	srcNSG         = "Azure Virtual Network documentation, network-security-groups-overview"
	srcAttested    = "follows from the contract of the gateway's report"
)

var gatewayGuards = []Guard{{
	ID: "GW-01", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartRouteTables, PartNICs, PartNSGs, PartLoadBalancers},
	Condition: "the gateway's interface forwards, has a static address, and its security groups let in Azure's probes and agents' packets to any destination",
	Why:       "Azure drops what an interface without IP forwarding sends on for others, a dynamic address may move away from under the route, and probes come from 168.63.129.16.",
	Source:    srcRouting + "; " + srcHostAddress,
	Fix:       "set enableIPForwarding and the static allocation, and allow AzureLoadBalancer and the agents' prefix inbound before any deny",
	check:     forwards,
}, {
	ID: "GW-02", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartGatewayReports, PartRuleset},
	Condition: "each gateway says, within the last quarter of an hour and by a right clock, that it is ready and enforces the published ruleset",
	Why:       "A route to a gateway says nothing of what that gateway enforces; its own report, in a blob only it can write, does.",
	Source:    srcAttested,
	Fix:       "read the report's error, and `bulkhead status` on the gateway; a ruleset that it refused leaves the last good one in force",
	check:     attested,
}, {
	ID: "GW-03", Severity: Warn, When: Before, Static: true, Needs: []Part{PartVMs, PartNICs, PartVNets, PartRouteTables, PartLoadBalancers},
	Condition: "the gateway has two cores or more, one for every 250 expected sessions, and accelerated networking",
	Why:       "A gateway that is full refuses what it cannot hold: it fails closed, and agents fail with it.",
	Source:    srcSizing,
	Fix:       "choose a larger size, such as Standard_D4s_v5",
	check:     capacity,
}, {
	ID: "GW-04", Severity: Fail, When: Continuous, Needs: []Part{PartVNets, PartRouteTables, PartNICs, PartNSGs, PartLoadBalancers},
	Condition: "nothing on the internet may open a connection to the gateway",
	Why:       "A Standard public address is closed until a security group opens it, so one rule is enough to expose the machine that every flow passes.",
	Source:    srcNSG,
	Fix:       "remove the rule; administer the gateway by Azure Bastion or serial console",
	check:     inbound,
}, {
	ID: "GW-05", Severity: Fail, When: Before, Needs: []Part{PartDeployer, PartVNets, PartAccounts},
	Condition: "the deployer may make the role by which the gateway reads service tags, where the program does",
	Why:       "No built-in role reads service tags and nothing else, so the program makes one in the subscription. Without the right to, an update ends half-way.",
	Source:    srcCustomRoles,
	Fix:       "deploy as Owner or User Access Administrator of the subscription, set gateway.serviceTags.roleDefinitionId to a role that somebody else has made, or set gateway.serviceTags.source to none",
	check:     definesRole,
}}

// definesRole judges by what the deployer holds in the resource group. Whether that is so in the whole subscription, where
// the role is made, Azure does not say there.
func definesRole(v *view) {
	switch {
	case !v.plan.DefinesRole:
		v.notApplicable("the program makes no role")
		return
	case v.bound():
		v.notApplicable("the spoke is in use; no role is to be made")
		return
	}
	const action = "Microsoft.Authorization/roleDefinitions/write"
	if !v.deployerMay(action) {
		v.found("deployer in "+v.inv.Scope.ResourceGroup, "no right to make a role", action)
	}
}

func forwards(v *view) {
	nics := v.gatewayNICs()
	if len(nics) == 0 {
		v.notApplicable("the gateway does not exist yet")
		return
	}
	for _, n := range nics {
		if !n.Forwarding {
			v.found(n.ID, "enableIPForwarding: false", "true")
		}
		if n.Allocation != "Static" {
			v.found(n.ID, "private address by "+n.Allocation+" allocation", "Static")
		}
		for _, g := range v.groupsOf(n) {
			if r := decides(g, "AzureLoadBalancer", "168.63.129.16/32"); v.balancer() != nil && r != nil && !strings.EqualFold(r.Access, "Allow") {
				v.found(g.ID+" "+r.Name, "the load balancer's probes denied", "an earlier rule that allows AzureLoadBalancer inbound")
			}
			for _, p := range v.agentPrefixes() {
				if !p.prefix.Addr().Is4() {
					continue
				}
				want := "a rule that allows " + p.prefix.String() + " inbound, to any destination, protocol and port"
				// Azure's own rule for the virtual network lets in only what also goes to it.
				switch r := decides(g, "", p.prefix.String()); {
				case r == nil:
					v.found(g.ID, "no rule for packets of "+p.prefix.String(), want)
				case !strings.EqualFold(r.Access, "Allow"):
					v.found(g.ID+" "+r.Name, "packets of "+p.prefix.String()+" denied", want)
				}
			}
		}
	}
}

// groupsOf are the security groups in front of an interface: its own and its subnet's.
func (v *view) groupsOf(n *NIC) []*NSG {
	var out []*NSG
	if g := v.nsg(n.NSG); g != nil {
		out = append(out, g)
	}
	if _, s := v.subnet(n.Subnet); s != nil {
		if g := v.nsg(s.NSG); g != nil {
			out = append(out, g)
		}
	}
	return out
}

// decides returns the first inbound rule that allows everything from a source, by its tag or
// its prefix, or denies some of it; nil where Azure's own rules decide.
func decides(g *NSG, tag, prefix string) *NSGRule {
	rules := slices.Clone(g.Rules)
	slices.SortFunc(rules, func(a, b NSGRule) int { return a.Priority - b.Priority })
	want := netip.MustParsePrefix(prefix)
	for i, r := range rules {
		if !strings.EqualFold(r.Direction, "Inbound") {
			continue
		}
		deny := strings.EqualFold(r.Access, "Deny")
		from := slices.ContainsFunc(r.Sources, func(s string) bool {
			p, err := netip.ParsePrefix(s)
			return s == "*" || s == "VirtualNetwork" && tag == "" || s == tag || err == nil && (contains(p, want) || deny && p.Overlaps(want))
		})
		whole := r.Protocol == "*" && slices.Contains(r.Ports, "*") && slices.Contains(r.Destinations, "*")
		if from && (deny || whole || tag != "") {
			return &rules[i]
		}
	}
	return nil
}

func attested(v *view) {
	if len(v.inv.GatewayReports) == 0 {
		if v.agent == nil {
			v.notApplicable("no gateway has reported yet, and there is no agent subnet")
		} else {
			v.found(v.agent.ID, "no report of a gateway", "a report in the storage account's attestation container")
		}
		return
	}
	deployed, err := v.deployedDigest()
	if err != nil {
		v.missing("the published ruleset: " + err.Error())
		return
	}
	for _, r := range v.inv.GatewayReports {
		switch skew := r.Time.Sub(r.Written).Abs(); {
		case r.Error != "":
			v.found(r.Gateway, r.Error, "no error")
		case !r.Ready:
			v.found(r.Gateway, "not ready", "ready")
		case r.Digest != deployed:
			v.found(r.Gateway, "ruleset "+r.Digest, deployed)
		case v.inv.Taken.Sub(r.Written) > reportAge:
			v.found(r.Gateway, "a report of "+r.Written.UTC().Format(time.RFC3339), "one within "+reportAge.String()+" before "+v.inv.Taken.UTC().Format(time.RFC3339))
		case skew > clockSkew:
			v.found(r.Gateway, "a clock that is off by "+skew.String(), "at most "+clockSkew.String())
		}
	}
}

func capacity(v *view) {
	judge := func(resource, size string) {
		cores, ok := coresOf(size)
		if !ok {
			return
		}
		if want := max(2, (v.plan.Sessions+sessionsPerCore-1)/sessionsPerCore); cores < want {
			v.found(resource, fmt.Sprintf("%s, %d cores for %d sessions", size, cores, v.plan.Sessions), fmt.Sprintf("%d cores", want))
		}
	}
	var seen bool
	for _, n := range v.gatewayNICs() {
		seen = true
		if !n.Accelerated {
			v.found(n.ID, "no accelerated networking", "enableAcceleratedNetworking: true")
		}
		for _, m := range v.inv.VMs {
			if same(m.ID, n.VM) {
				judge(m.ID, m.Size)
			}
		}
	}
	if !seen && v.plan.VMSize != "" {
		seen = true
		judge("planned gateway", v.plan.VMSize)
	}
	if !seen {
		v.notApplicable("there is no gateway, and no size is planned")
	}
}

// coresOf reads the cores in the name of a size, such as Standard_D4s_v5: the first number.
func coresOf(size string) (int, bool) {
	_, name, _ := strings.Cut(size, "_")
	from := strings.IndexAny(name, "0123456789")
	if from < 0 {
		return 0, false
	}
	to := from
	for to < len(name) && name[to] >= '0' && name[to] <= '9' {
		to++
	}
	n, err := strconv.Atoi(name[from:to])
	return n, err == nil
}

func inbound(v *view) {
	nics := v.gatewayNICs()
	if len(nics) == 0 {
		v.notApplicable("the gateway does not exist yet")
		return
	}
	for _, n := range nics {
		groups := v.groupsOf(n)
		if len(groups) == 0 {
			v.found(n.ID, "no network security group", "one that denies what comes from the internet")
		}
		for _, g := range groups {
			for _, r := range g.Rules {
				open := slices.ContainsFunc(r.Sources, func(s string) bool {
					p, err := netip.ParsePrefix(s)
					return s == "*" || strings.EqualFold(s, "Internet") || err == nil && !slices.ContainsFunc(private, func(in netip.Prefix) bool { return contains(in, p) }) && !contains(sharedSpace, p)
				})
				if open && strings.EqualFold(r.Direction, "Inbound") && strings.EqualFold(r.Access, "Allow") {
					v.found(g.ID+" "+r.Name, "inbound from "+strings.Join(r.Sources, ", "), "private sources only")
				}
			}
		}
	}
}
