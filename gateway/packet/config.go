package packet

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// The numbers that the program shares with the rest of the gateway. Marks are
// packet marks unless said otherwise.
const (
	// EnforcerMark is the SO_MARK that the enforcer's dialled sockets carry unless
	// Config says otherwise.
	EnforcerMark = 0x42481
	// forwardMark takes packets of forwarded flows through the fence.
	forwardMark = 0x42483
	// redirectMark sends a packet that TPROXY gave a socket to routeTable.
	redirectMark = 0x42482
	// routeTable holds one route: everything is local.
	routeTable = 4248
	// rulePriority places the lookup of routeTable; any number between the tables
	// local (0) and main (32766) does.
	rulePriority = 4248
	// logGroup is the nflog group of refused packets.
	logGroup = 4248
	// tableName is the nftables table, of family inet.
	tableName = "bulkhead"
)

// Connection marks: what was decided about a connection's first packet.
const (
	ctForward = 0x42483 // forwarded by the kernel
	ctEnforce = 0x42484 // handed to the enforcer
	ctDial    = 0x42485 // dialled by the enforcer
)

// SNAT says whose address forwarded flows show to their destination.
type SNAT string

const (
	// SNATAll hides every agent behind the gateway's address.
	SNATAll SNAT = "all"
	// SNATInternet keeps the agent's address towards private destinations; they
	// must then be routed back through the gateway.
	SNATInternet SNAT = "internet"
)

// Config is what the program needs to know about the gateway. IPv4 throughout.
type Config struct {
	// Agents are the prefixes whose packets are governed. Required.
	Agents []netip.Prefix
	// DNS is where the gateway's resolver listens; agents' port 53 leads there.
	// Required. An unspecified address means the address the packet came in on.
	DNS netip.AddrPort
	// DNSClients may ask the resolver although they are no agents.
	DNSClients []netip.Prefix
	// Upstreams are the resolvers that the gateway may ask, over UDP and TCP.
	Upstreams []netip.AddrPort
	// Egress is what the gateway itself may reach beside; see also Table.SetEgress.
	Egress []netip.Prefix
	// Services are single TCP ports that it may reach beside.
	Services []netip.AddrPort
	// SNAT defaults to SNATAll.
	SNAT SNAT
	// Listener is the enforcer's transparent listener; default 127.0.0.1:14433.
	Listener netip.AddrPort
	// EnforcerMark defaults to the constant of that name.
	EnforcerMark uint32
	// FlowsPerSource bounds the connections that one agent may have at once; default
	// 2000. All of them together are bounded by the kernel's nf_conntrack_max: its
	// connection counters walk every connection they count.
	FlowsPerSource uint32
}

// withDefaults fills in what was left out and refuses what cannot be meant.
func (c Config) withDefaults() (Config, error) {
	if c.SNAT == "" {
		c.SNAT = SNATAll
	}
	if !c.Listener.IsValid() {
		c.Listener = netip.MustParseAddrPort("127.0.0.1:14433")
	}
	if c.EnforcerMark == 0 {
		c.EnforcerMark = EnforcerMark
	}
	if c.FlowsPerSource == 0 {
		c.FlowsPerSource = 2000
	}
	return c, c.check()
}

func (c *Config) check() error {
	if len(c.Agents) == 0 {
		return errors.New("agents: empty; name the prefixes whose packets the gateway governs, such as 10.20.1.0/24")
	}
	for key, list := range map[string][]netip.Prefix{"agents": c.Agents, "dns.clients": c.DNSClients, "egress": c.Egress} {
		for i, p := range list {
			if !p.IsValid() || !p.Addr().Is4() {
				return fmt.Errorf("%s[%d]: %v is not an IPv4 prefix", key, i, p)
			}
		}
	}
	for i, a := range c.Upstreams {
		if !a.Addr().Is4() || a.Port() == 0 {
			return fmt.Errorf("dns.upstream[%d]: %v is not an IPv4 address with a port", i, a)
		}
	}
	for i, a := range c.Services {
		if !a.Addr().Is4() || a.Port() == 0 {
			return fmt.Errorf("services[%d]: %v is not an IPv4 address with a port", i, a)
		}
	}
	switch {
	case !c.DNS.Addr().Is4() || c.DNS.Port() == 0:
		return fmt.Errorf("dns.listen: %v is not an IPv4 address with a port", c.DNS)
	case c.DNS.Addr().IsLoopback():
		// The kernel takes a packet from the wire to 127.0.0.0/8 for a martian.
		return fmt.Errorf("dns.listen: agents cannot reach %v; use an address of the gateway's NIC", c.DNS)
	case c.SNAT != SNATAll && c.SNAT != SNATInternet:
		return fmt.Errorf("snat: %q is neither %q nor %q", c.SNAT, SNATAll, SNATInternet)
	case !c.Listener.Addr().Is4() || c.Listener.Port() == 0:
		return fmt.Errorf("listener: %v is not an IPv4 address with a port", c.Listener)
	case c.EnforcerMark == redirectMark:
		return fmt.Errorf("enforcer mark %#x is the redirect mark; choose another", c.EnforcerMark)
	}
	return nil
}

// ranges turns prefixes into merged ranges.
func ranges(prefixes []netip.Prefix) []policy.AddrRange {
	out := make([]policy.AddrRange, 0, len(prefixes))
	for _, p := range prefixes {
		from := toUint(p.Masked().Addr())
		out = append(out, policy.AddrRange{From: fromUint(from), To: fromUint(from | uint32(1<<(32-p.Bits())-1))})
	}
	return merge(out)
}
