package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// The lab's hosts.
const (
	InvoiceAgent     = "invoice-agent"
	ResearchAgent    = "research-agent"
	Gateway          = "gateway"
	PrivateEndpoints = "private-endpoints"
	Database         = "db"
	Platform         = "platform" // what Azure itself offers: DNS, wire server, metadata, agent infrastructure
	Internet         = "internet"
	Attacker         = "attacker"
	Fabric           = "fabric" // the virtual network's router
)

// Addresses of the lab. The public ones are globally reachable by IANA's registry,
// because the ruleset treats others differently; no packet leaves the machine.
var (
	AgentSubnet = netip.MustParsePrefix("10.20.1.0/24")
	GatewayAddr = netip.MustParseAddr("10.20.0.4")
	WireServer  = netip.MustParseAddr("168.63.129.16")
	Metadata    = netip.MustParseAddr("169.254.169.254")
	AgentInfra  = netip.MustParseAddr("100.64.0.10")
	DatabaseIP  = netip.MustParseAddr("10.30.4.10")

	OpenAI = netip.MustParseAddr("10.20.2.5") // private endpoint
	Search = netip.MustParseAddr("10.20.2.6") // private endpoint

	GitHub   = netip.MustParseAddr("140.82.121.6")
	GitHub2  = netip.MustParseAddr("140.82.121.5")
	Gist     = netip.MustParseAddr("140.82.121.4")
	Login    = netip.MustParseAddr("20.190.151.7")
	Registry = netip.MustParseAddr("150.171.70.10")
	Agent365 = netip.MustParseAddr("52.123.128.14")
	Contoso  = netip.MustParseAddr("45.79.14.9")
	Mirror   = netip.MustParseAddr("45.79.14.20")
	Storage  = netip.MustParseAddr("20.60.40.4")

	// Azure routes IPv6 only where a subnet is dual-stack. The lab's are, so that a test
	// can show that the gateway is no hole even there.
	GatewayIPv6 = netip.MustParseAddr("2603:1030:20::4")
	AgentIPv6   = netip.MustParseAddr("2603:1030:20:1::20")
	ExfilIPv6   = netip.MustParseAddr("2a0e:b107:66::66")

	Exfil     = netip.MustParseAddr("45.146.10.66")
	Malicious = netip.MustParseAddr("45.146.10.99") // in the lab's threat feed
)

// The names behind those addresses.
const (
	OpenAIName    = "contoso.openai.azure.com"
	ToolName      = "api.github.com"
	GistName      = "gist.github.com"
	MCPName       = "mcp.contoso.com"
	MirrorName    = "packages.contoso.com"
	StorageName   = "contosobulkhead.blob.core.windows.net"
	LoginName     = "login.microsoftonline.com"
	ExfilName     = "exfil.attacker.example"
	MaliciousName = "c2.attacker.example"
)

const agentTable = 100 // the routing table of the agent subnet

// site is a host that hangs off the fabric by a cable of its own.
type site struct {
	name  string
	cable string         // the fabric's end
	gate  netip.Prefix   // the fabric's address and the prefix of the link
	addrs []netip.Addr   // the host's addresses, the first of them on the link
	more  []netip.Prefix // what the fabric routes there besides
	gate6 netip.Prefix   // the same for IPv6, on the hosts that have it
	addr6 netip.Addr
}

func sites() []site {
	return []site{
		{name: Gateway, cable: "to-gateway", gate: netip.MustParsePrefix("10.20.0.1/24"), addrs: []netip.Addr{GatewayAddr},
			gate6: netip.MustParsePrefix("2603:1030:20::1/64"), addr6: GatewayIPv6},
		{name: PrivateEndpoints, cable: "to-endpoints", gate: netip.MustParsePrefix("10.20.2.1/24"), addrs: []netip.Addr{OpenAI, Search}},
		{name: Database, cable: "to-spoke", gate: netip.MustParsePrefix("10.30.4.1/24"), addrs: []netip.Addr{DatabaseIP}},
		{name: Platform, cable: "to-platform", gate: netip.MustParsePrefix("10.255.1.1/24"),
			addrs: []netip.Addr{netip.MustParseAddr("10.255.1.2"), WireServer, Metadata, AgentInfra}},
		{name: Attacker, cable: "to-attacker", gate: netip.MustParsePrefix("10.255.2.1/24"),
			addrs: []netip.Addr{netip.MustParseAddr("10.255.2.2"), Exfil, Malicious},
			gate6: netip.MustParsePrefix("2a0e:b107:66::1/64"), addr6: ExfilIPv6},
		{name: Internet, cable: "to-internet", gate: netip.MustParsePrefix("10.255.3.1/24"),
			addrs: []netip.Addr{netip.MustParseAddr("10.255.3.2"), GitHub, GitHub2, Gist, Login, Registry, Agent365, Contoso, Mirror, Storage},
			// Whatever nobody else has ends here, where a capture sees it.
			more: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}},
	}
}

var agents = []struct {
	name string
	addr netip.Addr
}{
	{InvoiceAgent, netip.MustParseAddr("10.20.1.20")},
	{ResearchAgent, netip.MustParseAddr("10.20.1.21")},
}

// secondArm is the gateway's agent-facing link, where it has two.
var secondArm = struct{ gate, addr netip.Prefix }{netip.MustParsePrefix("10.20.3.1/24"), netip.MustParsePrefix("10.20.3.4/24")}

// build creates the hosts and their wires, and routes as an Azure virtual network does.
func (l *Lab) build(twoArm bool) error {
	fabric, err := l.addHost(Fabric, netip.MustParseAddr("10.20.1.1"))
	if err != nil {
		return err
	}
	for _, set := range []struct{ key, value string }{
		{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"}, // it delivers forged sources too
		{"ipv4/conf/all/send_redirects", "0"}, {"ipv4/conf/default/send_redirects", "0"},
		{"ipv4/ip_forward", "1"}, {"ipv6/conf/all/forwarding", "1"},
	} {
		if err := fabric.Sysctl("net/"+set.key, set.value); err != nil {
			return err
		}
	}
	for _, s := range sites() {
		if err := l.addSite(fabric, s); err != nil {
			return err
		}
	}
	if err := l.addAgents(fabric); err != nil {
		return err
	}
	if twoArm {
		if err := l.addSecondArm(fabric); err != nil {
			return err
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := fabric.ruleFrom(agentBridge, agentTable, family); err != nil {
			return err
		}
	}
	if err := l.azureRoutes(fabric); err != nil {
		return err
	}
	if err := fabric.route(agentTable, defaultIPv6, GatewayIPv6, "to-gateway"); err != nil {
		return err
	}
	// The route table of the agent subnet: the default, and one route per peered
	// prefix, because peering is more specific than the default.
	for _, p := range []string{"0.0.0.0/0", "10.30.0.0/16"} {
		if err := l.RouteToGateway(netip.MustParsePrefix(p)); err != nil {
			return err
		}
	}
	return nil
}

// hop is where the agent subnet's route table points.
type hop struct {
	addr netip.Addr
	dev  string // the fabric's end of the cable
}

func nextHop(twoArm bool) hop {
	if twoArm {
		return hop{secondArm.addr.Addr(), "to-gateway1"}
	}
	return hop{GatewayAddr, "to-gateway"}
}

// NextHop is the address of the gateway that agents know: where their packets go and
// where they ask for names. Two-armed, it is that of the agents' side, because Azure
// drops what leaves an interface with the address of another.
func (l *Lab) NextHop() netip.Addr { return l.nextHop.addr }

// RouteToGateway adds a route of the agent subnet that has the gateway as its next
// hop. A test that wants the gateway to see what Azure would have delivered
// itself, such as 168.63.129.16, adds the prefix here.
func (l *Lab) RouteToGateway(p netip.Prefix) error {
	return l.Host(Fabric).route(agentTable, p, l.nextHop.addr, l.nextHop.dev)
}

// azureRoutes are the system routes that no default route overrides.
func (l *Lab) azureRoutes(fabric *Host) error {
	for _, r := range []struct{ prefix, dev string }{
		{"10.20.0.0/24", "to-gateway"},
		{"10.20.1.0/24", agentBridge},
		{"10.20.2.0/24", "to-endpoints"},
		{"2603:1030:20:1::/64", agentBridge},
	} {
		if err := fabric.route(agentTable, netip.MustParsePrefix(r.prefix), netip.Addr{}, r.dev); err != nil {
			return err
		}
	}
	for _, a := range []netip.Addr{WireServer, Metadata} {
		if err := fabric.route(agentTable, netip.PrefixFrom(a, 32), netip.MustParseAddr("10.255.1.2"), "to-platform"); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) addSite(fabric *Host, s site) error {
	h, err := l.addHost(s.name, s.addrs[0])
	if err != nil {
		return err
	}
	if err := connect(fabric, s.cable, h, "eth0"); err != nil {
		return err
	}
	if err := fabric.address(s.cable, s.gate); err != nil {
		return err
	}
	if err := h.address("eth0", netip.PrefixFrom(s.addrs[0], s.gate.Bits())); err != nil {
		return err
	}
	if err := h.route(0, netip.MustParsePrefix("0.0.0.0/0"), s.gate.Addr(), "eth0"); err != nil {
		return err
	}
	if s.gate6.IsValid() {
		if err := dualStack(fabric, s.cable, s.gate6, h, s.addr6); err != nil {
			return err
		}
	}
	for _, p := range s.more {
		if err := fabric.route(0, p, s.addrs[0], s.cable); err != nil {
			return err
		}
	}
	for _, a := range s.addrs[1:] {
		if err := h.address("eth0", netip.PrefixFrom(a, 32)); err != nil {
			return err
		}
		if s.gate.Contains(a) {
			continue
		}
		if err := fabric.route(0, netip.PrefixFrom(a, 32), s.addrs[0], s.cable); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) addSecondArm(fabric *Host) error {
	gw := l.Host(Gateway)
	if err := connect(fabric, "to-gateway1", gw, "eth1"); err != nil {
		return err
	}
	if err := fabric.address("to-gateway1", secondArm.gate); err != nil {
		return err
	}
	if err := gw.address("eth1", secondArm.addr); err != nil {
		return err
	}
	return gw.route(0, AgentSubnet, secondArm.gate.Addr(), "eth1")
}

const agentBridge = "agents"

func (l *Lab) addAgents(fabric *Host) error {
	if err := fabric.bridge(agentBridge); err != nil {
		return err
	}
	gate := netip.PrefixFrom(fabric.Addr, AgentSubnet.Bits())
	if err := fabric.address(agentBridge, gate); err != nil {
		return err
	}
	for i, a := range agents {
		h, err := l.addHost(a.name, a.addr)
		if err != nil {
			return err
		}
		cable := fmt.Sprintf("agent%d", i)
		if err := connect(fabric, cable, h, "eth0"); err != nil {
			return err
		}
		if err := fabric.attach(cable, agentBridge); err != nil {
			return err
		}
		if err := h.address("eth0", netip.PrefixFrom(a.addr, AgentSubnet.Bits())); err != nil {
			return err
		}
		if err := h.route(0, netip.MustParsePrefix("0.0.0.0/0"), gate.Addr(), "eth0"); err != nil {
			return err
		}
	}
	return dualStack(fabric, agentBridge, netip.MustParsePrefix("2603:1030:20:1::1/64"), l.Host(InvoiceAgent), AgentIPv6)
}

var defaultIPv6 = netip.MustParsePrefix("::/0")

// dualStack gives a host IPv6 on its link, with the fabric as its router.
func dualStack(fabric *Host, cable string, gate netip.Prefix, h *Host, addr netip.Addr) error {
	if err := fabric.address(cable, gate); err != nil {
		return err
	}
	if err := h.address("eth0", netip.PrefixFrom(addr, gate.Bits())); err != nil {
		return err
	}
	return h.route(0, defaultIPv6, gate.Addr(), "eth0")
}

// AttackerDomain is where the attacker's name servers are authoritative.
const AttackerDomain = "attacker.example"

// Below reports whether name is domain or below it.
func Below(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}
