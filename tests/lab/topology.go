package lab

import (
	"fmt"
	"net/netip"
	"slices"
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

// firstTable is the number of the first subnet's routing table.
const firstTable = 100

// build creates the hosts and their wires, and routes as an Azure virtual network does.
func (l *Lab) build() error {
	fabric, err := l.addHost(Machine{Name: Fabric, Addrs: []netip.Addr{l.network.Subnets[0].Gate.Addr()}})
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
	for i := range l.network.Subnets {
		if err := l.addSubnet(fabric, &l.network.Subnets[i]); err != nil {
			return err
		}
	}
	if l.network.SecondArm != nil {
		if err := l.addSecondArm(fabric); err != nil {
			return err
		}
	}
	for _, p := range l.network.Space {
		if err := fabric.noRoute(0, p, unix.RTN_BLACKHOLE); err != nil {
			return err
		}
	}
	for i, s := range l.network.Subnets {
		if len(s.Table) == 0 {
			continue
		}
		if err := l.routes(fabric, s, firstTable+i); err != nil {
			return err
		}
	}
	return fabric.filter(l.network.Subnets)
}

// Join adds a subnet to a lab that is up, with its machines and what stands on them.
func (l *Lab) Join(s Subnet) error {
	fabric := l.Host(Fabric)
	l.network.Subnets = append(l.network.Subnets, s)
	// Closed before anything is in it: its routes and groups come first.
	if len(s.Machines) > 1 {
		if err := l.addSwitch(fabric, &s); err != nil {
			return err
		}
	}
	if err := fabric.filter(l.network.Subnets); err != nil {
		return err
	}
	if len(s.Table) > 0 {
		if err := l.routes(fabric, s, firstTable+len(l.network.Subnets)-1); err != nil {
			return err
		}
	}
	if err := l.addMachines(fabric, &s); err != nil {
		return err
	}
	return l.serveAgents()
}

// routes makes packets from a subnet follow its own table before the fabric's.
func (l *Lab) routes(fabric *Host, s Subnet, table int) error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := fabric.ruleFrom(s.Dev, table, family); err != nil {
			return err
		}
	}
	for _, r := range s.Table {
		var err error
		switch r.Way {
		case Direct:
			err = fabric.noRoute(table, r.Prefix, unix.RTN_THROW) // the fabric's own routes come next
		case Dropped:
			err = fabric.noRoute(table, r.Prefix, unix.RTN_BLACKHOLE)
		case Via:
			err = fabric.route(table, r.Prefix, r.Via, l.network.link(r.Via))
		case Pinned:
			err = fabric.rulePast(s.Dev, r.Prefix)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// NextHop is the address of the gateway that agents know: where their packets go and
// where they ask for names. Two-armed, it is that of the agents' side, because Azure
// drops what leaves an interface with the address of another.
func (l *Lab) NextHop() netip.Addr { return l.network.NextHop }

// Network is what the lab was built from.
func (l *Lab) Network() *Network { return l.network }

// IsAgent reports whether a host is in the agents' subnet.
func (l *Lab) IsAgent(h *Host) bool {
	s := l.network.Subnet(agentBridge)
	return s != nil && slices.ContainsFunc(s.Machines, func(m Machine) bool { return m.Name == h.Name })
}

// RouteToGateway adds a route of the agent subnet that has the gateway as its next
// hop. A test that wants the gateway to see what Azure would have delivered
// itself, such as 168.63.129.16, adds the prefix here.
func (l *Lab) RouteToGateway(p netip.Prefix) error {
	for i, s := range l.network.Subnets {
		if s.Dev == agentBridge {
			return l.Host(Fabric).route(firstTable+i, p, l.NextHop(), l.network.link(l.NextHop()))
		}
	}
	return nil
}

// addSubnet creates the machines of a subnet and joins them to the fabric: one by a cable,
// several by a switch.
func (l *Lab) addSubnet(fabric *Host, s *Subnet) error {
	if len(s.Machines) > 1 {
		if err := l.addSwitch(fabric, s); err != nil {
			return err
		}
	}
	return l.addMachines(fabric, s)
}

func (l *Lab) addSwitch(fabric *Host, s *Subnet) error {
	if err := fabric.bridge(s.Dev); err != nil || !s.Isolated {
		return err
	}
	return fabric.answerForNeighbours(s.Dev)
}

func (l *Lab) addMachines(fabric *Host, s *Subnet) error {
	for i, m := range s.Machines {
		h, err := l.addHost(m)
		if err != nil {
			return err
		}
		cable := s.Dev
		if len(s.Machines) > 1 {
			cable = fmt.Sprintf("%.12s%d", strings.TrimSuffix(s.Dev, "s"), i)
		}
		if err := connect(fabric, cable, h, "eth0"); err != nil {
			return err
		}
		if len(s.Machines) > 1 {
			if err := fabric.attach(cable, s.Dev, s.Isolated); err != nil {
				return err
			}
		}
		if err := h.address("eth0", netip.PrefixFrom(m.Addrs[0], s.Gate.Bits())); err != nil {
			return err
		}
		if err := h.route(0, defaultIPv4, s.Gate.Addr(), "eth0"); err != nil {
			return err
		}
	}
	if err := fabric.address(s.Dev, s.Gate); err != nil {
		return err
	}
	if s.Gate6.IsValid() {
		if err := fabric.address(s.Dev, s.Gate6); err != nil {
			return err
		}
	}
	for i, m := range s.Machines {
		if err := l.addAddresses(fabric, s, m); err != nil {
			return err
		}
		for _, p := range s.More {
			if i > 0 {
				break
			}
			if err := fabric.route(0, p, m.Addrs[0], s.Dev); err != nil {
				return err
			}
		}
	}
	return nil
}

// addAddresses gives a machine what it has beside its address on the link.
func (l *Lab) addAddresses(fabric *Host, s *Subnet, m Machine) error {
	h := l.Host(m.Name)
	if m.Addr6.IsValid() {
		if err := h.address("eth0", netip.PrefixFrom(m.Addr6, s.Gate6.Bits())); err != nil {
			return err
		}
		if err := h.route(0, defaultIPv6, s.Gate6.Addr(), "eth0"); err != nil {
			return err
		}
	}
	for _, a := range m.Addrs[1:] {
		if err := h.address("eth0", netip.PrefixFrom(a, 32)); err != nil {
			return err
		}
		if s.Gate.Contains(a) {
			continue
		}
		if err := fabric.route(0, netip.PrefixFrom(a, 32), m.Addrs[0], s.Dev); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) addSecondArm(fabric *Host) error {
	arm, gw := l.network.SecondArm, l.Host(Gateway)
	if err := connect(fabric, arm.Dev, gw, "eth1"); err != nil {
		return err
	}
	if err := fabric.address(arm.Dev, arm.Gate); err != nil {
		return err
	}
	if err := gw.address("eth1", arm.Addr); err != nil {
		return err
	}
	return gw.route(0, l.network.Subnet(agentBridge).Gate.Masked(), arm.Gate.Addr(), "eth1")
}

var (
	defaultIPv4 = netip.MustParsePrefix("0.0.0.0/0")
	defaultIPv6 = netip.MustParsePrefix("::/0")
)

// AttackerDomain is where the attacker's name servers are authoritative.
const AttackerDomain = "attacker.example"

// Below reports whether name is domain or below it.
func Below(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}
