package preflight

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// mutation is one change of the good inventory after which a guard no longer holds.
type mutation struct {
	guard, name string
	// prepare makes the question arise, where it does not in the good inventory. With it
	// alone the guard passes.
	prepare func(*Inventory)
	change  func(*Inventory)
	// also are the other guards that the change trips.
	also []string
}

// unbound is the good spoke before any account uses it.
func unbound(i *Inventory) {
	i.Accounts = []Account{}
	for s := range i.VNets[0].Subnets {
		i.VNets[0].Subnets[s].Associations = nil
	}
}

func agents(i *Inventory) *Subnet { return &i.VNets[0].Subnets[1] }
func document(i *Inventory, r ...string) {
	i.Ruleset.Document = strings.NewReplacer(r...).Replace(i.Ruleset.Document)
}
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// move puts the good spoke's agents into another prefix, with all that names it.
func move(i *Inventory, to string) {
	p := prefix(to)
	i.Plan.AgentPrefix = to
	i.Plan.VNetPrefixes = append(i.Plan.VNetPrefixes, to)
	agents(i).Prefixes = []netip.Prefix{p}
	i.VNets[0].Prefixes = append(i.VNets[0].Prefixes, p)
	i.RouteTables[0].Routes = append(i.RouteTables[0].Routes, Route{"moved", to, HopAppliance, "10.20.0.4"})
	i.NSGs[1].Rules[0].Sources = []string{to}
	i.EffectiveRoutes[0].Routes[0].Prefixes = append(i.EffectiveRoutes[0].Routes[0].Prefixes, to)
	document(i, "10.20.1.0/24", to)
	publish(i)
}

// publish has the planned ruleset in force.
func publish(i *Inventory) {
	i.Ruleset.Deployed = i.Ruleset.Document
	i.GatewayReports[0].Digest, _ = newView(i, false).deployedDigest()
}

// The data actions of Key Vault Crypto User, Key Vault Secrets Officer and Storage Blob Data Contributor, as Azure's
// list of built-in roles has them: what a deployer has whom the program grants nothing.
var (
	userOfKeys = Permission{DataActions: []string{"Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/update/action",
		"Microsoft.KeyVault/vaults/keys/backup/action", "Microsoft.KeyVault/vaults/keys/encrypt/action", "Microsoft.KeyVault/vaults/keys/decrypt/action",
		"Microsoft.KeyVault/vaults/keys/wrap/action", "Microsoft.KeyVault/vaults/keys/unwrap/action", "Microsoft.KeyVault/vaults/keys/sign/action",
		"Microsoft.KeyVault/vaults/keys/verify/action"}}
	officerOfSecrets   = Permission{DataActions: []string{"Microsoft.KeyVault/vaults/secrets/*"}}
	contributorOfBlobs = Permission{DataActions: []string{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete",
		"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read", "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
		"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/move/action", "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action"}}
)

var mutations = []mutation{
	{guard: "NET-00", name: "host bits", change: func(i *Inventory) { i.Plan.GatewayPrefix = "10.20.0.4/27" }},
	{guard: "NET-00", name: "no address", change: func(i *Inventory) { i.Plan.GatewayAddress = "gateway" }},
	{guard: "NET-01", name: "other case", change: func(i *Inventory) { agents(i).Delegations = []string{"Microsoft.app/environments"} }},
	{guard: "NET-01", name: "two", change: func(i *Inventory) { agents(i).Delegations = append(agents(i).Delegations, "Microsoft.Web/serverFarms") }},
	{guard: "NET-01", name: "planned", change: func(i *Inventory) { i.Plan.Delegation = "Microsoft.app/environments" }, also: []string{"IMM-01"}},
	{guard: "NET-02", name: "a /28", change: func(i *Inventory) {
		i.Plan.AgentPrefix = "10.20.1.0/28"
		agents(i).Prefixes = []netip.Prefix{prefix("10.20.1.0/28")}
	}, also: []string{"NET-12"}},
	{guard: "NET-03", name: "public", change: func(i *Inventory) { move(i, "20.1.1.0/24") }, also: []string{"GW-04", "RUL-12"}},
	{guard: "NET-03", name: "shared address space", prepare: func(i *Inventory) { i.Plan.AllowSharedAddressSpace = true; move(i, "100.101.1.0/24") },
		change: func(i *Inventory) { i.Plan.AllowSharedAddressSpace = false }, also: []string{"RUL-12"}},
	{guard: "NET-04", name: "planned neighbour", change: func(i *Inventory) { i.Plan.AdjacentPrefixes = []string{"172.16.0.0/12"} }},
	{guard: "NET-04", name: "peered", change: func(i *Inventory) {
		i.VNets[0].Peerings[0].Prefixes = append(i.VNets[0].Peerings[0].Prefixes, prefix("192.0.2.0/25"))
		i.RouteTables[0].Routes = append(i.RouteTables[0].Routes, Route{"x", "192.0.2.0/25", HopNone, ""})
	}},
	{guard: "NET-05", name: "Docker's bridge", change: func(i *Inventory) { i.Plan.VNetPrefixes = append(i.Plan.VNetPrefixes, "172.17.8.0/24") }},
	{guard: "NET-06", name: "region", change: func(i *Inventory) {
		i.Plan.Location, i.VNets[0].Location, i.Accounts[0].Location, i.NICs[0].Location = "koreacentral", "koreacentral", "koreacentral", "koreacentral"
	}},
	{guard: "NET-07", name: "account", change: func(i *Inventory) { i.Accounts[0].Location = "westus" }},
	{guard: "NET-07", name: "gateway", change: func(i *Inventory) { i.NICs[0].Location = "westus" }},
	{guard: "NET-07", name: "planned account", change: func(i *Inventory) { i.Plan.AccountLocation = "westus" }},
	{guard: "NET-08", name: "account", change: func(i *Inventory) {
		i.Accounts = append(i.Accounts, Account{ID: "/x/accounts/other", Injections: []Injection{{Scenario: "agent", Subnet: agents(i).ID}}})
	}},
	{guard: "NET-08", name: "environment", change: func(i *Inventory) { i.Environments[0].Subnet = strings.ToUpper(agents(i).ID) }},
	{guard: "NET-09", name: "interface", change: func(i *Inventory) { i.NICs = append(i.NICs, NIC{ID: "/x/networkInterfaces/vm", Subnet: agents(i).ID}) }},
	{guard: "NET-09", name: "private endpoint", change: func(i *Inventory) {
		i.PrivateEndpoints = append(i.PrivateEndpoints, PrivateEndpoint{ID: "/x/privateEndpoints/p", Subnet: agents(i).ID})
	}},
	{guard: "NET-09", name: "the gateway's", change: func(i *Inventory) { i.Plan.GatewayPrefix, i.Plan.GatewayAddress = i.Plan.AgentPrefix, "10.20.1.4" },
		also: []string{"RTE-01", "RTE-02", "RTE-05", "RTE-09", "DNS-01", "IMM-02"}},
	{guard: "NET-10", name: "dual stack", change: func(i *Inventory) { agents(i).Prefixes = append(agents(i).Prefixes, prefix("fd00:20::/64")) },
		also: []string{"NET-13", "RTE-09", "IMM-01"}},
	{guard: "NET-11", name: "overlap", change: func(i *Inventory) { i.Plan.AdjacentPrefixes = []string{"10.20.128.0/17"} }},
	{guard: "NET-12", name: "sessions", change: func(i *Inventory) { i.Plan.Sessions = 240 }},
	{guard: "NET-13", name: "outside", change: func(i *Inventory) { i.Plan.CanaryPrefix = "10.21.0.0/27" }},
	{guard: "NET-13", name: "overlap", change: func(i *Inventory) { i.Plan.CanaryPrefix = "10.20.1.64/27" }},
	{guard: "NET-14", name: "Azure's own", change: func(i *Inventory) {
		i.Plan.GatewayPrefix, i.VNets[0].Subnets[0].Prefixes[0] = "10.20.0.4/30", prefix("10.20.0.4/30")
	}},

	{guard: "RTE-01", name: "no table", change: func(i *Inventory) { agents(i).RouteTable = "" }, also: []string{"RTE-03", "RTE-05", "RTE-09"}},
	{guard: "RTE-01", name: "no default", change: func(i *Inventory) { i.RouteTables[0].Routes = i.RouteTables[0].Routes[1:] }, also: []string{"RTE-09"}},
	{guard: "RTE-01", name: "to the internet", change: func(i *Inventory) { i.RouteTables[0].Routes[0] = Route{"everything", "0.0.0.0/0", HopInternet, ""} }, also: []string{"RTE-09"}},
	{guard: "RTE-01", name: "to nobody", prepare: func(i *Inventory) {}, change: func(i *Inventory) { i.NICs[0].Address = "10.20.0.9" }},
	{guard: "RTE-02", name: "tag", change: func(i *Inventory) {
		i.RouteTables[0].Routes = append(i.RouteTables[0].Routes, Route{"aad", "AzureActiveDirectory", HopInternet, ""})
	}, also: []string{"RTE-09"}},
	{guard: "RTE-02", name: "unknown tag", change: func(i *Inventory) {
		i.RouteTables[0].Routes = append(i.RouteTables[0].Routes, Route{"s", "Sql", HopInternet, ""})
	}, also: []string{"RTE-09"}},
	{guard: "RTE-02", name: "local, not declared", change: func(i *Inventory) {
		i.RouteTables[0].Routes = append(i.RouteTables[0].Routes, Route{"c", "10.20.3.0/24", HopLocal, ""})
	}, also: []string{"RTE-09"}},
	{guard: "RTE-03", name: "propagation", change: func(i *Inventory) { i.RouteTables[0].PropagateDisable = false }},
	{guard: "RTE-04", name: "service endpoint", change: func(i *Inventory) { agents(i).ServiceEndpoints = []string{"Microsoft.CognitiveServices"} }, also: []string{"RTE-09"}},
	{guard: "RTE-05", name: "peering", change: func(i *Inventory) { i.RouteTables[0].Routes = slices.Delete(i.RouteTables[0].Routes, 2, 3) }, also: []string{"RTE-09"}},
	{guard: "RTE-05", name: "a peering that is not connected yet", change: func(i *Inventory) { // no packet goes there so far: RTE-09 holds
		i.VNets[0].Peerings[0].State = "Initiated"
		i.RouteTables[0].Routes = slices.Delete(i.RouteTables[0].Routes, 2, 3)
	}, also: []string{"RTE-10"}},
	{guard: "RTE-05", name: "own", change: func(i *Inventory) { i.RouteTables[0].Routes = slices.Delete(i.RouteTables[0].Routes, 1, 2) }, also: []string{"RTE-09"}},
	{guard: "RTE-06", name: "elsewhere", change: func(i *Inventory) {
		i.VNets[0].Subnets[3].Delegations = nil
		i.PrivateEndpoints = append(i.PrivateEndpoints, PrivateEndpoint{ID: "/x/privateEndpoints/db", Subnet: i.VNets[0].Subnets[3].ID, Group: "sqlServer", State: "Approved",
			Addresses: []netip.Addr{netip.MustParseAddr("10.20.3.9")}})
		i.EffectiveRoutes[0].Routes = append(i.EffectiveRoutes[0].Routes, EffectiveRoute{"Default", "Active", []string{"10.20.3.9/32"}, "InterfaceEndpoint", nil})
	}},
	{guard: "RTE-07", name: "no way out", change: func(i *Inventory) { i.VNets[0].Subnets[0].NATGateway = "" }},
	{guard: "RTE-07", name: "dropped", change: func(i *Inventory) {
		i.VNets[0].Subnets[0].RouteTable = "/x/routeTables/none"
		i.RouteTables = append(i.RouteTables, RouteTable{ID: "/x/routeTables/none", Routes: []Route{{"none", "0.0.0.0/0", HopNone, ""}}})
	}, also: []string{"RTE-10"}},
	{guard: "RTE-07", name: "loop", change: func(i *Inventory) {
		i.VNets[0].Subnets[0].RouteTable = "/x/routeTables/loop"
		i.RouteTables = append(i.RouteTables, RouteTable{ID: "/x/routeTables/loop", Routes: []Route{{"back", "0.0.0.0/0", HopAppliance, "10.20.0.4"}}})
	}, also: []string{"RTE-10"}},
	{guard: "RTE-08", name: "before its gateway", change: func(i *Inventory) { i.GatewayReports[0].Ready = false }, also: []string{"GW-02"}},
	{guard: "RTE-09", name: "learned", prepare: func(i *Inventory) {
		i.RouteTables[0].PropagateDisable = false
	}, change: func(i *Inventory) {
		i.EffectiveRoutes[0].Routes = append(i.EffectiveRoutes[0].Routes, EffectiveRoute{"VirtualNetworkGateway", "Active", []string{"192.168.0.0/16"}, "VirtualNetworkGateway", nil})
	}, also: []string{"RTE-03"}},
	{guard: "RTE-10", name: "other answer", change: func(i *Inventory) { i.EffectiveRoutes[0].Routes[1].Hop = "VirtualNetworkGateway" }},
	{guard: "RTE-11", name: "NAT gateway", change: func(i *Inventory) { agents(i).NATGateway = i.VNets[0].Subnets[0].NATGateway }},
	{guard: "RTE-11", name: "Azure's default", change: func(i *Inventory) { agents(i).DefaultOutbound = nil }},

	{guard: "DNS-01", name: "Azure's", change: func(i *Inventory) { i.VNets[0].DNSServers = nil }},
	{guard: "DNS-01", name: "a second one", change: func(i *Inventory) {
		i.VNets[0].DNSServers = append(i.VNets[0].DNSServers, netip.MustParseAddr("8.8.8.8"))
	}},
	{guard: "DNS-01", name: "forwarding, but pinned by source", prepare: func(i *Inventory) {
		forwarding(i)
		i.Plan.PinScope = "shared"
	}, change: func(i *Inventory) { i.Plan.PinScope = "source" }},
	{guard: "DNS-01", name: "forwarding around the gateway", prepare: func(i *Inventory) {
		forwarding(i)
		i.Plan.PinScope = "shared"
	}, change: func(i *Inventory) { i.DNSForwarding[0].Rules[0].Targets = []netip.Addr{netip.MustParseAddr("8.8.8.8")} }},
	{guard: "DNS-02", name: "no group", change: func(i *Inventory) { agents(i).NSG = "" }},
	{guard: "DNS-02", name: "allowed before", change: func(i *Inventory) {
		i.NSGs[0].Rules = append(i.NSGs[0].Rules, NSGRule{"allow-azure-dns", 90, "Outbound", "Allow", "*", []string{"*"}, []string{"AzurePlatformDNS"}, []string{"*"}})
	}},
	{guard: "DNS-02", name: "another port", change: func(i *Inventory) { i.NSGs[0].Rules[0].Ports = []string{"1-52"} }},
	{guard: "DNS-02", name: "some agents", change: func(i *Inventory) { i.NSGs[0].Rules[0].Sources = []string{"10.20.1.0/25"} }},
	{guard: "DNS-02", name: "one rule each, one gone", prepare: func(i *Inventory) {
		udp, tcp := i.NSGs[0].Rules[0], i.NSGs[0].Rules[0]
		udp.Protocol, tcp.Protocol, tcp.Priority = "Udp", "Tcp", 101
		i.NSGs[0].Rules = []NSGRule{udp, tcp}
	}, change: func(i *Inventory) { i.NSGs[0].Rules = i.NSGs[0].Rules[:1] }},
	{guard: "DNS-02", name: "UDP only", change: func(i *Inventory) { i.NSGs[0].Rules[0].Protocol = "Udp" }},
	{guard: "DNS-02", name: "named by address", change: func(i *Inventory) { i.NSGs[0].Rules[0].Destinations = []string{"168.63.129.16"} }},
	{guard: "DNS-02", name: "policy allows everything first", change: func(i *Inventory) {
		i.DNSPolicies[0].Rules = append(i.DNSPolicies[0].Rules, DNSPolicyRule{50, "Alert", true, []string{"."}})
	}},
	{guard: "DNS-02", name: "policy blocks, but is off", change: func(i *Inventory) {
		for r := range i.DNSPolicies[0].Rules {
			i.DNSPolicies[0].Rules[r].Enabled = false
		}
	}},
	{guard: "DNS-03", name: "no zone", change: func(i *Inventory) { i.PrivateZones = i.PrivateZones[1:] }},
	{guard: "DNS-03", name: "no link", change: func(i *Inventory) { i.PrivateZones[3].Links = []string{} }},
	{guard: "DNS-03", name: "no record", change: func(i *Inventory) { i.PrivateZones[3].Records = nil }},
	{guard: "DNS-04", name: "shadow", change: func(i *Inventory) {
		i.PrivateZones = append(i.PrivateZones, PrivateZone{ID: "/x/privateDnsZones/github.com", Name: "github.com", Links: []string{i.VNets[0].ID}})
	}},
	{guard: "DNS-04", name: "twice", change: func(i *Inventory) {
		z := i.PrivateZones[0]
		z.ID = "/x/privateDnsZones/" + z.Name
		i.PrivateZones = append(i.PrivateZones, z)
	}},

	{guard: "GW-01", name: "no forwarding", change: func(i *Inventory) { i.NICs[0].Forwarding = false }},
	{guard: "GW-01", name: "dynamic", change: func(i *Inventory) { i.NICs[0].Allocation = "Dynamic" }},
	{guard: "GW-01", name: "agents to the network only", change: func(i *Inventory) { i.NSGs[1].Rules[0].Destinations = []string{"VirtualNetwork"} }},
	{guard: "GW-01", name: "only Azure's own rules", change: func(i *Inventory) { i.NSGs[1].Rules = []NSGRule{} }},
	{guard: "GW-01", name: "half of the agents", change: func(i *Inventory) {
		i.NSGs[1].Rules = append(i.NSGs[1].Rules, NSGRule{"quarantine", 90, "Inbound", "Deny", "Tcp", []string{"10.20.1.128/25"}, []string{"*"}, []string{"443"}})
	}},
	{guard: "GW-01", name: "agents shut out", change: func(i *Inventory) { i.NSGs[1].Rules = i.NSGs[1].Rules[1:] }},
	{guard: "GW-01", name: "probes shut out", prepare: func(i *Inventory) {
		i.LoadBalancers = []LoadBalancer{{ID: "/x/loadBalancers/lb", SKU: "Standard", Frontends: []string{"10.20.0.4"}, HAPorts: true, Backends: []string{i.NICs[0].ID}}}
		i.NICs[0].Address = "10.20.0.5"
	}, change: func(i *Inventory) { i.NSGs[1].Rules = slices.Delete(i.NSGs[1].Rules, 1, 2) }},
	{guard: "GW-02", name: "another ruleset", change: func(i *Inventory) { i.GatewayReports[0].Digest = "sha256:00" }},
	{guard: "GW-02", name: "silent", change: func(i *Inventory) { i.Taken = i.Taken.Add(3 * time.Hour) }},
	{guard: "GW-02", name: "clock", change: func(i *Inventory) { i.GatewayReports[0].Time = i.GatewayReports[0].Time.Add(-10 * time.Minute) }},
	{guard: "GW-02", name: "refused", change: func(i *Inventory) { i.GatewayReports[0].Error = "POL-00: unknown key" }},
	{guard: "GW-03", name: "one core", change: func(i *Inventory) { i.VMs[0].Size = "Standard_B1s" }},
	{guard: "GW-03", name: "not accelerated", change: func(i *Inventory) { i.NICs[0].Accelerated = false }},
	{guard: "GW-05", name: "administers access alone", prepare: func(i *Inventory) { unbound(i); i.Plan.DefinesRole = true },
		change: func(i *Inventory) {
			i.Deployer.Permissions[0].NotActions = []string{"Microsoft.Authorization/roleDefinitions/*"}
		}},
	{guard: "GW-04", name: "SSH", change: func(i *Inventory) {
		i.NSGs[1].Rules = append(i.NSGs[1].Rules, NSGRule{"ssh", 200, "Inbound", "Allow", "Tcp", []string{"203.0.113.0/24"}, []string{"*"}, []string{"22"}})
	}},
	{guard: "GW-04", name: "no group", change: func(i *Inventory) { i.VNets[0].Subnets[0].NSG = "" }},

	{guard: "RUL-01", name: "a name is missing", change: func(i *Inventory) { document(i, "agent365.svc.cloud.microsoft, ", "") }},
	{guard: "RUL-02", name: "decrypted", change: func(i *Inventory) {
		document(i, "fqdns: [api.github.com]", "fqdns: [api.github.com, login.windows.net]")
	}, also: []string{"RUL-11", "CA-03"}},
	{guard: "RUL-03", name: "no permit", change: func(i *Inventory) {
		document(i, "destinations: [agent-infra], action: PERMIT", "destinations: [agent-infra], action: DENY")
	}},
	{guard: "RUL-04", name: "monitored default", change: func(i *Inventory) {
		document(i, "default: {action: DENY, mode: enforce}", "default: {action: DENY, mode: monitor}")
	}, also: []string{"RUL-11"}},
	{guard: "RUL-04", name: "silent denials", change: func(i *Inventory) {
		document(i, "destinations: [internet], action: DENY", "destinations: [internet], action: DENY, log: false")
	}},
	{guard: "RUL-04", name: "everything", change: func(i *Inventory) {
		i.Ruleset.Document += "  - {name: no-zero-trust, priority: 9, sources: [foundry-agents], destinations: [internet], action: PERMIT}\n"
	}, also: []string{"RUL-07", "RUL-08"}},
	{guard: "RUL-05", name: "tag without names", change: func(i *Inventory) {
		document(i, "destinations: [aca-svctag], webGroups: [aca-requirements-fqdns], sni: optional, ports: [tcp/443], action: PERMIT, decrypt: DECRYPT_NOT_ALLOWED,\n     allow: [{check: POL-06, reason: \"as above\"}]}",
			"destinations: [aca-svctag], ports: [tcp/443], action: PERMIT}")
	}, also: []string{"RUL-11"}},
	{guard: "RUL-05", name: "old", change: func(i *Inventory) { i.Ruleset.ServiceTagsTaken = i.Taken.Add(-8 * 24 * time.Hour) }},
	{guard: "RUL-05", name: "unknown tag", change: func(i *Inventory) { document(i, "AzureActiveDirectory]", "AzureActiveDirectroy]") }},
	{guard: "RUL-06", name: "anybody's blobs", change: func(i *Inventory) {
		document(i, "fqdns: [api.github.com]", `fqdns: [api.github.com, "*.blob.core.windows.net"]`)
	}, also: []string{"RUL-11", "CA-03"}},
	{guard: "RUL-07", name: "unused group", change: func(i *Inventory) {
		document(i, "webGroups:\n", "webGroups:\n  - {name: nobody, fqdns: [example.com]}\n")
	}},
	{guard: "RUL-08", name: "unreadable", change: func(i *Inventory) { document(i, "webGroups: [foundry-tool-calls]", "webGroups: [tool-calls]") }},
	{guard: "RUL-08", name: "another error", change: func(i *Inventory) { document(i, "100.64.0.0/11", "10.99.0.0/16, 100.64.0.0/11") }, also: []string{"RUL-11"}},
	{guard: "RUL-09", name: "old gateway", change: func(i *Inventory) { i.Plan.GatewayVersion = "0.0.9" }},
	{guard: "RUL-10", name: "half the subnet", change: func(i *Inventory) {
		document(i, "foundry-agents,        cidrs: [10.20.1.0/24]", "foundry-agents, cidrs: [10.20.1.0/25]")
	}},
	{guard: "RUL-11", name: "a new host", change: func(i *Inventory) { document(i, "fqdns: [api.github.com]", "fqdns: [api.github.com, api.contoso.com]") }, also: []string{"CA-03"}},
	{guard: "RUL-12", name: "none seen", prepare: func(i *Inventory) {
		move(i, "192.168.1.0/24")
		document(i, "100.64.0.0/11", "10.99.0.4/32, 100.64.0.0/11")
		publish(i)
	}, change: func(i *Inventory) { document(i, "10.99.0.4/32, ", "") }},

	{guard: "CA-01", name: "exportable", change: func(i *Inventory) { i.Vaults[0].Keys[0].Exportable = true }},
	{guard: "CA-01", name: "decrypts too", change: func(i *Inventory) { i.Vaults[0].Keys[0].Operations = []string{"sign", "decrypt"} }},
	{guard: "CA-01", name: "small", change: func(i *Inventory) { i.Vaults[0].Keys[0].Type, i.Vaults[0].Keys[0].Size = "RSA", 1024 }},
	{guard: "CA-01", name: "reads secrets", change: func(i *Inventory) {
		i.RoleAssignments = append(i.RoleAssignments, RoleAssignment{"/x/a4", i.VMs[0].Identities[0], "/x/4633458b-17de-408a-b874-0445c86b69e6", i.Vaults[0].ID})
	}},
	{guard: "CA-01", name: "owns the group", change: func(i *Inventory) {
		i.RoleAssignments = append(i.RoleAssignments, RoleAssignment{"/x/a4", i.VMs[0].Identities[0], "/x/b24988ac-6180-42a0-ab88-20f7382dd24c", "/subscriptions/00000000-0000-0000-0000-000000000001"})
	}},
	{guard: "CA-01", name: "every key", change: func(i *Inventory) { i.RoleAssignments[0].Scope = i.Vaults[0].ID }},
	{guard: "CA-02", name: "no purge protection", change: func(i *Inventory) { i.Vaults[0].PurgeProtection = false }},
	{guard: "CA-02", name: "name held", prepare: func(i *Inventory) { i.Vaults, i.RoleAssignments = []Vault{}, []RoleAssignment{} },
		change: func(i *Inventory) { i.DeletedVaults = []DeletedResource{{"kv-agents-7d2984", "eastus2"}} }},
	{guard: "RUL-13", name: "another registry", prepare: func(i *Inventory) {
		i.Plan.CanaryPrefix, i.Plan.CanaryImageHost = "10.20.3.0/27", "mcr.microsoft.com"
		document(i, "10.20.1.0/24", "10.20.0.0/16")
		publish(i)
	}, change: func(i *Inventory) { i.Plan.CanaryImageHost = "contoso.azurecr.io" }},
	{guard: "CA-03", name: "other names", change: func(i *Inventory) {
		document(i, "mcp.contoso.com", "mcp.fabrikam.com")
	}, also: []string{"RUL-11"}},
	{guard: "CA-03", name: "another root", change: func(i *Inventory) { i.GatewayReports[0].Root = i.GatewayReports[0].Intermediate }},
	{guard: "CA-03", name: "ended", change: func(i *Inventory) {
		r := &i.GatewayReports[0]
		r.Time, r.Written, i.Taken = r.Time.Add(24*time.Hour), r.Written.Add(24*time.Hour), i.Taken.Add(24*time.Hour)
	}},
	{guard: "CA-03", name: "not PEM", change: func(i *Inventory) { i.GatewayReports[0].Intermediate = "certificate" }},
	{guard: "CA-04", name: "failed", change: func(i *Inventory) { i.Canaries[0].State = "Failed" }},
	{guard: "CA-04", name: "never ran", change: func(i *Inventory) { i.Canaries = []Canary{} }},
	{guard: "CA-05", name: "no data", prepare: unbound, change: func(i *Inventory) { i.Deployer.Permissions = i.Deployer.Permissions[:1] }},
	{guard: "CA-05", name: "all but one of the roles", prepare: func(i *Inventory) {
		unbound(i)
		i.Deployer.Permissions = append(i.Deployer.Permissions[:1], userOfKeys, officerOfSecrets, contributorOfBlobs)
	}, change: func(i *Inventory) { i.Deployer.Permissions = slices.Delete(i.Deployer.Permissions, 2, 3) }},
	{guard: "CA-05", name: "not", prepare: unbound, change: func(i *Inventory) {
		i.Deployer.Permissions[1].NotDataActions = []string{"Microsoft.KeyVault/vaults/keys/sign/*"}
	}},
	{guard: "STO-01", name: "shared key", change: func(i *Inventory) { i.StorageAccounts[0].SharedKey = true }},
	{guard: "STO-01", name: "open", change: func(i *Inventory) { i.StorageAccounts[0].DefaultAction = "Allow" }},
	{guard: "STO-01", name: "anonymous", change: func(i *Inventory) { i.StorageAccounts[0].AnonymousAccess = true }},
	{guard: "STO-01", name: "agents", change: func(i *Inventory) { i.StorageAccounts[0].Subnets = append(i.StorageAccounts[0].Subnets, agents(i).ID) }},
	{guard: "ACR-01", name: "Basic", change: func(i *Inventory) {
		i.Registries[0].SKU, i.Registries[0].DedicatedDataEndpoints = "Basic", false
		i.PrivateEndpoints = slices.DeleteFunc(i.PrivateEndpoints, func(e PrivateEndpoint) bool { return e.Group == "registry" })
		i.EffectiveRoutes[0].Routes = i.EffectiveRoutes[0].Routes[:len(i.EffectiveRoutes[0].Routes)-1]
	}},

	{guard: "FND-01", name: "public", change: func(i *Inventory) { i.Accounts[0].PublicAccess = true }},
	{guard: "FND-01", name: "another subnet", change: func(i *Inventory) { i.Accounts[0].Injections[0].Subnet = i.VNets[0].Subnets[3].ID }, also: []string{"FND-02"}},
	{guard: "FND-02", name: "no injection", change: func(i *Inventory) { i.Accounts[0].Injections = []Injection{} }, also: []string{"FND-01"}},
	{guard: "FND-02", name: "managed network", change: func(i *Inventory) { i.Accounts[0].Injections[0].ManagedNetwork = true }, also: []string{"FND-01"}},
	{guard: "FND-03", name: "deleted", prepare: unbound, change: func(i *Inventory) { i.DeletedAccounts = []DeletedResource{{"foundry-contoso", "eastus2"}} }},
	{guard: "FND-03", name: "link left", prepare: unbound, change: func(i *Inventory) { agents(i).Associations = []Association{{Name: "legionservicelink"}} }},
	{guard: "FND-04", name: "between states", change: func(i *Inventory) { i.Accounts[0].Projects[0].CapabilityHosts[0].State = "Creating" }},
	{guard: "FND-04", name: "another subnet", change: func(i *Inventory) { i.Accounts[0].CapabilityHosts[0].Subnet = i.VNets[0].Subnets[3].ID }},
	{guard: "FND-04", name: "two", change: func(i *Inventory) {
		i.Accounts[0].CapabilityHosts = append(i.Accounts[0].CapabilityHosts, i.Accounts[0].CapabilityHosts[0])
	}},
	{guard: "FND-05", name: "not registered", change: func(i *Inventory) { i.Providers[6].State = "NotRegistered" }},
	{guard: "FND-05", name: "absent", change: func(i *Inventory) { i.Providers = i.Providers[1:] }},
	{guard: "FND-06", name: "two stores", change: func(i *Inventory) {
		p := &i.Accounts[0].Projects[0]
		p.Connections = append(p.Connections, p.Connections[1])
	}},
	{guard: "FND-06", name: "pending", change: func(i *Inventory) { i.PrivateEndpoints[1].State = "Pending" }},
	{guard: "FND-07", name: "contributor", prepare: unbound, change: func(i *Inventory) { i.Deployer.Permissions[0].NotActions = []string{"Microsoft.Authorization/*/Write"} }},
	{guard: "FND-08", name: "code interpreter", change: func(i *Inventory) { i.Agents[0].Tools = append(i.Agents[0].Tools, "code_interpreter") }},
	{guard: "FND-09", name: "managed network", change: func(i *Inventory) {
		i.Accounts = append(i.Accounts, Account{ID: "/x/accounts/other", Injections: []Injection{{Scenario: "agent", ManagedNetwork: true}}, ManagedNetwork: "AllowInternetOutbound"})
	}},
	{guard: "FND-09", name: "no network", change: func(i *Inventory) {
		i.Accounts = append(i.Accounts, Account{ID: "/x/accounts/other", CapabilityHosts: []CapabilityHost{{ID: "/x/h"}}})
	}},
	{guard: "IMM-01", name: "prefix", change: func(i *Inventory) { i.Plan.AgentPrefix = "10.20.4.0/24" }, also: []string{"RUL-03", "RUL-10", "GW-01"}},
	{guard: "IMM-01", name: "prefix, with a link alone", prepare: func(i *Inventory) { i.Accounts[0].CapabilityHosts = nil },
		change: func(i *Inventory) { i.Plan.AgentPrefix = "10.20.4.0/24" }, also: []string{"RUL-03", "RUL-10", "GW-01"}},
	{guard: "IMM-01", name: "region", change: func(i *Inventory) { i.Plan.Location = "westus" }, also: []string{"NET-07"}},
	{guard: "IMM-01", name: "network", change: func(i *Inventory) { i.Plan.VNetName = "vnet-new" }},
	{guard: "IMM-01", name: "account", change: func(i *Inventory) { i.Scope.Account, i.Plan.AccountName = "foundry-contoso", "foundry-new" }},
	{guard: "IMM-02", name: "next hop", change: func(i *Inventory) { i.Plan.GatewayAddress = "10.20.0.6" },
		also: []string{"RTE-01", "RTE-02", "RTE-05", "RTE-09", "DNS-01"}},
}

// forwarding sends every question of the network to the gateway by Azure's own resolver.
func forwarding(i *Inventory) {
	i.VNets[0].DNSServers = nil
	i.DNSForwarding = []DNSForwarding{{ID: "/x/dnsForwardingRulesets/all", Links: []string{i.VNets[0].ID},
		Rules: []DNSForwardingRule{{".", true, []netip.Addr{netip.MustParseAddr("10.20.0.4")}}}}}
}
