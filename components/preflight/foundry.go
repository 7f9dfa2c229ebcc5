package preflight

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

const (
	srcCapabilityHosts = "Azure AI Foundry documentation, agents/concepts/capability-hosts"
	srcManagedNetwork  = "Azure AI Foundry documentation, how-to/managed-virtual-network"
	srcFAQ             = "Azure AI Foundry documentation, agents/faq"
)

// Providers are the resource providers that a subscription with a Foundry spoke needs.
//
// Source: Azure AI Foundry documentation, agents/how-to/virtual-networks.
var Providers = []string{"Microsoft.KeyVault", "Microsoft.CognitiveServices", "Microsoft.Storage", "Microsoft.MachineLearningServices",
	"Microsoft.Search", "Microsoft.Network", "Microsoft.App", "Microsoft.ContainerService"}

// outside are the kinds of tools that never enter the virtual network, with the way that they
// take instead, written without what joins words and without a final "preview".
//
// Source: Azure AI Foundry documentation, how-to/configure-private-link, "Agent tools with
// network isolation" (March 2026).
var outside = map[string]string{
	"codeinterpreter":     "Microsoft's backbone",
	"function":            "Microsoft's backbone",
	"functioncalling":     "Microsoft's backbone",
	"binggrounding":       "a public endpoint",
	"bingcustomsearch":    "a public endpoint",
	"websearch":           "a public endpoint",
	"sharepointgrounding": "a public endpoint",
	"filesearch":          "no supported way",
	"browserautomation":   "no supported way",
	"computeruse":         "no supported way",
	"imagegeneration":     "no supported way",
	"fabricdataagent":     "no supported way",
	"logicapps":           "no supported way",
}

var foundryGuards = []Guard{{
	ID: "FND-01", Severity: Fail, When: Drift, Needs: []Part{PartVNets, PartAccounts},
	Condition: "the account's agents are injected into the agent subnet, not into a network of Microsoft's, and its public access is disabled",
	Why:       "Only packets that start in the agent subnet come to the gateway, and an account open to the public is used past the spoke.",
	Source:    srcSamples,
	Fix:       "an injection cannot be changed: create a new account with networkInjections for this subnet; set publicNetworkAccess to Disabled",
	check:     injected,
}, {
	ID: "FND-02", Severity: Fail, When: Before, Needs: []Part{PartVNets, PartAccounts},
	Condition: "the account does not exist yet, or exists with exactly this injection",
	Why:       "Network injection can only be given at the account's creation.",
	Source:    srcNetworkingOptions + "; " + srcManagedNetwork,
	Fix:       "choose another name for the account, or delete and purge it",
	check: func(v *view) {
		a := v.account()
		if a == nil {
			return
		}
		identical := len(a.Injections) == 1 && a.Injections[0].Scenario == "agent" && !a.Injections[0].ManagedNetwork &&
			v.agent != nil && same(a.Injections[0].Subnet, v.agent.ID)
		if !identical {
			v.found(a.ID, "an account with another injection, or none", "no account of this name, or one that is injected into the agent subnet")
		}
	},
}, {
	ID: "FND-03", Severity: Fail, When: Before, Needs: []Part{PartVNets, PartAccounts, PartDeletedAccounts, PartEnvironments},
	Condition: "no deleted account holds the account's name, and no link of a deleted one holds the subnet",
	Why:       "A deleted account keeps its name and its link to the subnet until it is purged, and the link may stay for some time after.",
	Source:    srcSamples + "; microsoft-foundry/foundry-samples issue 153 (seen in deployments)",
	Fix:       "purge the account and wait some 20 minutes; a link that stays needs another subnet",
	check:     leftovers,
}, {
	ID: "FND-04", Severity: Fail, When: Before, Needs: []Part{PartVNets, PartAccounts},
	Condition: "each scope has at most one capability host, none between states, and the account's is for the agent subnet",
	Why:       "A capability host cannot be updated, a second one is refused with 409, and while one is being made everything else is.",
	Source:    srcCapabilityHosts,
	Fix:       "wait until it has settled, or delete the project's host, then the account's, then create them again",
	check:     capabilityHosts,
}, {
	ID: "FND-05", Severity: Fail, When: Before, Needs: []Part{PartProviders},
	Condition: "the resource providers of a Foundry spoke are registered",
	Why:       "Without one of them the account's provisioning fails late.",
	Source:    srcVirtualNetworks,
	Fix:       "az provider register --namespace NAMESPACE --wait",
	check: func(v *view) {
		for _, want := range Providers {
			i := slices.IndexFunc(v.inv.Providers, func(p ResourceProvider) bool { return strings.EqualFold(p.Namespace, want) })
			state := "NotRegistered"
			if i >= 0 {
				state = v.inv.Providers[i].State
			}
			if state != "Registered" {
				v.found("provider "+want, state, "Registered")
			}
		}
	},
}, {
	ID: "FND-06", Severity: Fail, When: Before, Needs: []Part{PartAccounts, PartPrivateEndpoints},
	Condition: "in the standard setup each project has exactly one connection for Cosmos DB, Storage and Search, each with an approved private endpoint",
	Why:       "The project's capability host takes exactly one of each, and reaches it only by its private endpoint.",
	Source:    srcCapabilityHosts + "; " + srcSamples,
	Fix:       "remove the connections that are too many, and approve the private endpoints",
	check:     standardSetup,
}, {
	ID: "FND-07", Severity: Fail, When: Before, Needs: []Part{PartDeployer, PartVNets, PartAccounts},
	Condition: "the deployer may assign roles in the resource group",
	Why:       "The project's and the gateway's identities get their roles in the same deployment.",
	Source:    srcFAQ,
	Fix:       "give the deployer Role Based Access Control Administrator on the resource group",
	check: func(v *view) {
		if v.bound() {
			v.notApplicable("the spoke is in use; no role is to be assigned")
			return
		}
		const action = "Microsoft.Authorization/roleAssignments/write"
		if !v.deployerMay(action) {
			v.found("deployer in "+v.inv.Scope.ResourceGroup, "no right to assign roles", action)
		}
	},
}, {
	ID: "FND-08", Severity: Warn, When: Drift, Needs: []Part{PartAgents},
	Condition: "no agent has tools that never enter the virtual network",
	Why:       "No gateway in the network sees their traffic: Microsoft runs them behind its own endpoints.",
	Source:    srcPrivateLink,
	Fix:       "use a tool that goes through the subnet (MCP, OpenAPI, Azure Functions, A2A), or forbid these with Azure Policy",
	check: func(v *view) {
		for _, a := range v.inv.Agents {
			for _, t := range a.Tools {
				kind := strings.TrimSuffix(strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(t)), "preview")
				if way := outside[kind]; way != "" {
					v.found("agent "+a.Name+" of "+a.Project, t+", by "+way, "tools whose traffic crosses the agent subnet")
				}
			}
		}
	},
}, {
	ID: "FND-09", Severity: Warn, When: Drift, Needs: []Part{PartVNets, PartAccounts},
	Condition: "no other account of the subscription runs agents outside of a virtual network of yours",
	Why:       "What runs in Microsoft's managed network, or without any, leaves by ways that no gateway of yours sees.",
	Source:    srcManagedNetwork,
	Fix:       "create these accounts anew with an injection into a contained subnet, or forbid them with Azure Policy",
	check: func(v *view) {
		for _, a := range v.inv.Accounts {
			managed := slices.ContainsFunc(a.Injections, func(i Injection) bool { return i.ManagedNetwork })
			switch own := v.account(); {
			case own != nil && same(own.ID, a.ID): // FND-01's
			case managed || a.ManagedNetwork != "":
				v.found(a.ID, "agents in Microsoft's managed network "+a.ManagedNetwork, "an injection into a contained subnet")
			case len(a.Injections) == 0 && len(a.CapabilityHosts) > 0:
				v.found(a.ID, "agents without a network of yours", "an injection into a contained subnet")
			}
		}
	},
}, {
	ID: "IMM-01", Severity: Fail, When: Before, Needs: []Part{PartVNets, PartAccounts},
	Condition: "once agents live in the subnet, the plan changes neither network, subnet, prefix, delegation, region nor account",
	Why:       "A capability host fixes its subnet for life; a replacement deletes the subnet under running agents, and Azure refuses that halfway.",
	Source:    srcVirtualNetworks + "; " + srcCapabilityHosts,
	Fix:       "build a second spoke beside this one and move the agents, or delete the project's capability host, the account's, and purge the account first",
	check:     immutable,
}, {
	ID: "IMM-02", Severity: Warn, When: Before, Needs: []Part{PartVNets, PartAccounts, PartRouteTables},
	Condition: "once agents live in the subnet, the plan keeps the gateway's address",
	Why:       "While the address changes, routes lead nowhere, and whether a capability host looks at its routes again is not documented.",
	Source:    "Azure Container Apps documentation, use-azure-firewall; " + srcReasoned,
	Fix:       "keep the address, or put a load balancer with it in front of the new gateway",
	check: func(v *view) {
		if !v.planMeetsBound() {
			return
		}
		t := v.agentTable()
		if _, err := netip.ParseAddr(v.plan.GatewayAddress); t == nil || err != nil {
			return
		}
		for _, r := range t.Routes {
			if r.Prefix == "0.0.0.0/0" && r.Hop == HopAppliance && r.Address != v.plan.GatewayAddress {
				v.found("planned gateway", v.plan.GatewayAddress, r.Address+", where the agents' routes lead")
			}
		}
	},
}}

func injected(v *view) {
	a := v.account()
	if a == nil {
		v.notApplicable("the account does not exist yet")
		return
	}
	want := "the agent subnet"
	if v.agent != nil {
		want = v.agent.ID
	}
	switch {
	case len(a.Injections) != 1:
		v.found(a.ID, fmt.Sprintf("%d network injections", len(a.Injections)), "one, into "+want)
	case a.Injections[0].ManagedNetwork:
		v.found(a.ID, "injection into Microsoft's managed network", want)
	case a.Injections[0].Scenario != "agent":
		v.found(a.ID, "injection for the scenario "+a.Injections[0].Scenario, "agent")
	case v.agent == nil || !same(a.Injections[0].Subnet, v.agent.ID):
		v.found(a.ID, "injection into "+a.Injections[0].Subnet, want)
	}
	if a.PublicAccess {
		v.found(a.ID, "publicNetworkAccess: Enabled", "Disabled")
	}
}

func leftovers(v *view) {
	for _, d := range v.inv.DeletedAccounts {
		if name := v.accountName(); name != "" && strings.EqualFold(d.Name, name) && v.account() == nil {
			v.found("account "+name, "a deleted account of that name in "+d.Location, "a free name")
		}
	}
	if v.agent == nil || len(v.agent.Associations) == 0 {
		return
	}
	held := slices.ContainsFunc(v.inv.Accounts, func(a Account) bool {
		return slices.ContainsFunc(a.Injections, func(i Injection) bool { return same(i.Subnet, v.agent.ID) }) ||
			slices.ContainsFunc(a.CapabilityHosts, func(h CapabilityHost) bool { return same(h.Subnet, v.agent.ID) })
	}) || slices.ContainsFunc(v.inv.Environments, func(e ManagedEnvironment) bool { return same(e.Subnet, v.agent.ID) })
	if !held {
		v.found(v.agent.ID, "link "+v.agent.Associations[0].Name+" of no account that still exists", "no service association link")
	}
}

func capabilityHosts(v *view) {
	a := v.account()
	if a == nil {
		v.notApplicable("the account does not exist yet")
		return
	}
	settled := func(resource string, hosts []CapabilityHost) {
		if len(hosts) > 1 {
			v.found(resource, fmt.Sprintf("%d capability hosts", len(hosts)), "at most one")
		}
		for _, h := range hosts {
			if h.State != "Succeeded" {
				v.found(h.ID, h.State, "Succeeded")
			}
		}
	}
	settled(a.ID, a.CapabilityHosts)
	for _, h := range a.CapabilityHosts {
		if h.Subnet != "" && (v.agent == nil || !same(h.Subnet, v.agent.ID)) {
			v.found(h.ID, "customerSubnet "+h.Subnet, "the agent subnet")
		}
	}
	for _, p := range a.Projects {
		settled(p.ID, p.CapabilityHosts)
	}
}

func standardSetup(v *view) {
	a := v.account()
	if a == nil {
		v.notApplicable("the account does not exist yet")
		return
	}
	applies := false
	for _, p := range a.Projects {
		brings := slices.ContainsFunc(p.CapabilityHosts, func(h CapabilityHost) bool { return len(h.VectorStores)+len(h.Storage)+len(h.Threads) > 0 })
		if !brings && !v.plan.StandardSetup {
			continue
		}
		applies = true
		for _, category := range []string{"CosmosDB", "AzureStorageAccount", "CognitiveSearch"} {
			var mine []Connection
			for _, c := range p.Connections {
				if strings.EqualFold(c.Category, category) {
					mine = append(mine, c)
				}
			}
			if len(mine) != 1 {
				v.found(p.ID, fmt.Sprintf("%d connections of category %s", len(mine), category), "exactly one")
			}
			for _, c := range mine {
				if !slices.ContainsFunc(v.inv.PrivateEndpoints, func(e PrivateEndpoint) bool { return same(e.Target, c.Target) && e.State == "Approved" }) {
					v.found(p.ID+" connection "+c.Name, "no approved private endpoint of "+path.Base(c.Target), "one")
				}
			}
		}
	}
	if !applies {
		v.notApplicable("the platform manages the project's data")
	}
}

// planMeetsBound says whether there is a plan for a subnet that agents live in.
func (v *view) planMeetsBound() bool {
	switch {
	case v.inv.Plan == nil:
		v.notApplicable(nothingPlanned)
	case !v.bound():
		v.notApplicable("no agents live in the subnet yet")
	default:
		return true
	}
	return false
}

func immutable(v *view) {
	if !v.planMeetsBound() {
		return
	}
	differs := func(what, planned, made string) {
		if planned != "" && !strings.EqualFold(planned, made) {
			v.found(what, planned, made+", which agents depend on")
		}
	}
	a := v.account()
	if v.agent == nil {
		v.found("planned agent subnet", "a new subnet", a.ID+" lives in "+a.CapabilityHosts[0].Subnet)
		return
	}
	differs("planned virtual network", v.plan.VNetName, path.Base(v.vnet.ID))
	differs("planned region", region(v.plan.Location), region(v.vnet.Location))
	if p := v.plan.AgentPrefix; p != "" && !(len(v.agent.Prefixes) == 1 && v.agent.Prefixes[0].String() == p) {
		v.found("planned agent subnet", p, fmt.Sprintf("%v, which agents depend on", v.agent.Prefixes))
	}
	if d := v.plan.Delegation; d != "" && !slices.Equal(v.agent.Delegations, []string{d}) {
		v.found("planned agent subnet", "delegation to "+d, strings.Join(v.agent.Delegations, ", ")+", which agents depend on")
	}
	for _, made := range v.vnet.Prefixes {
		if len(v.plan.VNetPrefixes) > 0 && !slices.ContainsFunc(planned("", v.plan.VNetPrefixes...), func(n named) bool { return contains(n.prefix, made) }) {
			v.found("planned virtual network", strings.Join(v.plan.VNetPrefixes, ", "), made.String()+" too, which the network has")
		}
	}
	if a != nil && v.plan.AccountName != "" {
		differs("planned account", v.plan.AccountName, path.Base(a.ID))
	}
}
