package packet

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Names of the sets that other files read or change.
const (
	setGate       = "gate"
	setGateShared = "gate_shared"
)

// GateSize bounds the gate, in keys. Elements take about 150 bytes of kernel memory each.
const GateSize = 1 << 20

// gateTimeout is what an element of the gate lapses after unless it says otherwise.
const gateTimeout = 10 * time.Minute

// What one agent may ask of the resolver. Every question from a new port or to another
// address is an entry in the table of connections, and every connection a descriptor of the
// gateway; both belong to all agents. It is more than the resolver answers to one source.
const (
	questionRate, questionBurst = 500, 2000 // datagrams a second
	questionRest                = 30 * time.Second
	maxDialogues                = 100 // connections at once
)

// leaseTimeout is what the lease lapses after unless Renew says otherwise.
const leaseTimeout = time.Second

// never are the destinations that no rule permits, as the evaluator has them. The gateway's own
// addresses are told by the kernel's table of local addresses, which follows changes.
var never = policy.Unroutable()

// private are the addresses that are routed within networks but not on the
// internet (RFC 1918, RFC 6598, RFC 2544).
var private = []policy.AddrRange{
	addrRange("10.0.0.0", "10.255.255.255"), addrRange("100.64.0.0", "100.127.255.255"),
	addrRange("172.16.0.0", "172.31.255.255"), addrRange("192.168.0.0", "192.168.255.255"),
	addrRange("198.18.0.0", "198.19.255.255"),
}

// platform is what Azure's VM agent and the instance's identity talk to.
// Source: learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
// and .../virtual-machines/instance-metadata-service.
var platform = []netip.AddrPort{
	netip.MustParseAddrPort("168.63.129.16:80"), netip.MustParseAddrPort("168.63.129.16:32526"),
	netip.MustParseAddrPort("169.254.169.254:80"),
}

func addrRange(from, to string) policy.AddrRange {
	return policy.AddrRange{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}
}

// builder collects the program while it is put together.
type builder struct {
	cfg   *Config
	prog  program
	addrs map[string]*set // interval sets of classes, by content

	agents, never, egress, services, discovery *set
	gate, gateShared, connections, lease       *set
	questions, dialogues                       *set

	forward, enforce *chain
	refuse           map[Cause]*chain
	reject           *chain
	others, spoofed  *chain
}

// build generates the program for a ruleset's table.
func build(cfg *Config, table *policy.KernelTable) *program {
	b := &builder{cfg: cfg, addrs: map[string]*set{}, refuse: map[Cause]*chain{}}
	b.declareSets()
	b.refusal()
	b.admission()
	b.fragments()
	b.prerouting(table)
	b.nat()
	b.input()
	b.forwarding()
	b.output()
	return &b.prog
}

// set declares a set. One whose content the program fixes carries the content's hash in
// its name: so an installed set of that name is the same set, and can stay.
func (b *builder) set(s set) *set {
	if !s.kept {
		s.name += "_" + s.hash()
	}
	b.prog.sets = append(b.prog.sets, &s)
	return &s
}

func (b *builder) ranges(name string, r []policy.AddrRange) *set {
	return b.set(set{name: name, key: []nftables.SetDatatype{nftables.TypeIPAddr}, interval: true, ranges: r})
}

func (b *builder) chain(name string, h *hook) *chain {
	c := &chain{name: name, hook: h}
	b.prog.chains = append(b.prog.chains, c)
	return c
}

var (
	typeService = []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService}
	typeFlow    = append([]nftables.SetDatatype{nftables.TypeIPAddr}, typeService...)
)

func (b *builder) declareSets() {
	b.agents = b.ranges("agents", ranges(b.cfg.Agents))
	b.never = b.ranges("never", never)
	b.egress = b.ranges("egress", ranges(b.cfg.Egress))
	b.services = b.set(set{name: "services", key: typeService, elements: b.services4()})
	b.discovery = b.set(set{name: "neighbour_discovery", key: []nftables.SetDatatype{nftables.TypeICMP6Type}, elements: []element{
		{"nd-router-solicit", []byte{133}}, {"nd-router-advert", []byte{134}},
		{"nd-neighbor-solicit", []byte{135}}, {"nd-neighbor-advert", []byte{136}},
	}})
	b.gate = b.set(set{name: setGate, key: typeFlow, timeout: gateTimeout, size: GateSize, kept: true})
	b.gateShared = b.set(set{name: setGateShared, key: typeService, timeout: gateTimeout, size: GateSize, kept: true})
	b.lease = b.set(set{name: setLease, key: []nftables.SetDatatype{nftables.TypeNFProto}, timeout: leaseTimeout, kept: true})
	b.connections = b.set(set{name: "connections", key: []nftables.SetDatatype{nftables.TypeIPAddr}, dynamic: true, size: 1 << 16, kept: true})
	b.questions = b.set(set{name: "dns_rate", key: []nftables.SetDatatype{nftables.TypeIPAddr}, dynamic: true, timeout: questionRest, size: 1 << 16, kept: true})
	b.dialogues = b.set(set{name: "dns_connections", key: []nftables.SetDatatype{nftables.TypeIPAddr}, dynamic: true, size: 1 << 16, kept: true})
}

// services4 are the single services that the gateway itself may reach.
func (b *builder) services4() []element {
	var out []element
	for _, u := range b.cfg.Upstreams {
		out = append(out, service(u, policy.TCP), service(u, policy.UDP))
	}
	for _, p := range slices.Concat(platform, b.cfg.Services) {
		out = append(out, service(p, policy.TCP))
	}
	slices.SortFunc(out, func(a, b element) int { return slices.Compare(a.key, b.key) })
	return slices.CompactFunc(out, func(a, b element) bool { return a.text == b.text })
}

func service(a netip.AddrPort, p policy.Proto) element {
	return element{
		text: fmt.Sprintf("%s . %s . %d", a.Addr(), p, a.Port()),
		key:  serviceKey(a.Addr(), p, a.Port()),
	}
}

// serviceKey is address . protocol . port, each padded to four bytes.
func serviceKey(a netip.Addr, p policy.Proto, port uint16) []byte {
	a4 := a.As4()
	return append(a4[:], byte(p), 0, 0, 0, byte(port>>8), byte(port), 0, 0)
}

// admission marks connections that may go on.
func (b *builder) admission() {
	b.forward = b.chain("forward_it", nil)
	b.forward.add(notIn(b.lease, fieldFamily), goto_(b.refuse[CauseNotReady]))
	// The kernel does not tell of a connection that was let through as something else (see
	// noEvents). So that cannot become a flow that nobody writes down.
	b.forward.add(confirmed, notCtMark(ctForward), goto_(b.refuse[CauseNotReady]))
	b.forward.add(overConnections(b.connections, b.cfg.FlowsPerSource), goto_(b.refuse[CauseOverload]))
	b.forward.add(setCtMark(ctForward), setMark(forwardMark), accept)

	b.enforce = b.chain("enforce_it", nil)
	// Nor the other way round: a forwarded flow's end is written down with its bytes, and an agent
	// that opens the gate for it and sends a first segment in it again must not hide them.
	b.enforce.add(ctMark(ctForward), goto_(b.refuse[CauseNotReady]))
	b.enforce.add(overConnections(b.connections, b.cfg.FlowsPerSource), goto_(b.refuse[CauseOverload]))
	b.enforce.add(proto(policy.TCP), tproxy(b.cfg.Listener), setMark(redirectMark), setCtMark(ctEnforce), noEvents, accept)
	b.enforce.add(goto_(b.refuse[CauseNotReady]))
}

// fragments runs before the kernel reassembles. A datagram whose parts are refused
// is refused with its first part too: it would only wait in memory.
func (b *builder) fragments() {
	c := b.chain("fragments", &hook{nftables.ChainTypeFilter, nftables.ChainHookPrerouting, "prerouting", -450, true})
	c.add(isFragment, in(b.agents, fieldSource), goto_(b.refuse[CauseFragment]))
}

// admitted are the ways of packets whose connection was decided before; what they leave
// open is decided anew. Sources are looked at all the same: a connection's packets may be forged.
func (b *builder) admitted() (forwarded, enforced *chain) {
	forwarded = b.chain("forwarded", nil)
	forwarded.add(notIn(b.agents, fieldSource), accept) // the way back
	forwarded.add(notReturnable, goto_(b.spoofed))
	forwarded.add(proto(policy.TCP), notOpening, established, setMark(forwardMark), accept)
	forwarded.add(notProto(policy.TCP), known, setMark(forwardMark), accept)

	enforced = b.chain("enforced", nil)
	enforced.add(notIn(b.agents, fieldSource), return_)
	enforced.add(notReturnable, goto_(b.spoofed))
	enforced.add(proto(policy.TCP), tproxy(b.cfg.Listener), setMark(redirectMark), accept)
	enforced.add(goto_(b.refuse[CauseNotReady]))
	return forwarded, enforced
}

// prerouting decides every packet of an agent. Packets of others only pass: they
// are replies, for us, or refused in the forward chain. What most packets need stands
// first: they belong to connections that were admitted.
func (b *builder) prerouting(table *policy.KernelTable) {
	six := b.chain("prerouting6", nil)
	six.add(isICMPv6, in(b.discovery, fieldICMPv6), accept)
	six.add(isUnicast, goto_(b.refuse[CauseIPv6]))
	six.add(accept)

	forwarded, enforced := b.admitted()
	fresh := b.classes(table)

	c := b.chain("prerouting", &hook{nftables.ChainTypeFilter, nftables.ChainHookPrerouting, "prerouting", -150, true})
	c.add(ctMark(ctForward), jump(forwarded))
	c.add(ctMark(ctEnforce), proto(policy.TCP), notOpening, established, jump(enforced))
	// The enforcer may dial with the agent's address; the replies are for its socket.
	c.add(ctMark(ctDial), in(b.agents, fieldDest), proto(policy.TCP), transparentSocket, setMark(redirectMark), accept)
	c.add(ctMark(ctDial), accept)
	c.add(fromLo, accept)
	c.add(isIPv6, goto_(six))
	// Others: replies, or for us, or for an agent, which the forward chain refuses. What else
	// they would have forwarded ends here, before the kernel answers it with an error.
	c.add(notIn(b.agents, fieldSource), notIn(b.agents, fieldDest), isUnicast, goto_(b.spoofed))
	c.add(notIn(b.agents, fieldSource), accept)
	c.add(notReturnable, goto_(b.spoofed))
	c.add(invalid, drop)
	// An ICMP error belongs to the connection that it is about: to mark it would mark that.
	// So about flows that are not forwarded, none is.
	c.add(notProto(policy.TCP), related, goto_(b.refuse[CauseDefault]))
	c.add(proto(policy.UDP), ports(53, 53), overRate(b.questions, questionRate, questionBurst, fieldSource), goto_(b.refuse[CauseOverload]))
	c.add(proto(policy.UDP), ports(53, 53), accept)
	c.add(proto(policy.TCP), ports(53, 53), isNew, overConnections(b.dialogues, maxDialogues), goto_(b.refuse[CauseOverload]))
	c.add(proto(policy.TCP), ports(53, 53), accept)
	c.add(in(b.never, fieldDest), goto_(b.refuse[CauseInvariant]))
	c.add(notUnicast, goto_(b.refuse[CauseInvariant]))
	c.add(proto(policy.UDP), ports(443, 443), goto_(b.refuse[CauseQUIC]))
	c.add(proto(policy.UDP), ports(853, 853), goto_(b.refuse[CauseInvariant]))
	c.add(proto(policy.TCP), ports(853, 853), goto_(b.refuse[CauseInvariant]))
	c.add(proto(policy.TCP), in(b.gate, fieldSource, fieldDest, fieldProto, fieldPort), goto_(b.enforce))
	c.add(proto(policy.TCP), in(b.gateShared, fieldDest, fieldProto, fieldPort), goto_(b.enforce))
	c.rules = append(c.rules, fresh...)
	c.add(goto_(b.refuse[CauseDefault]))
}

// classes writes a chain for every class of the table and returns the rules that
// lead there. Classes do not overlap, so their order does not matter.
func (b *builder) classes(table *policy.KernelTable) []rule {
	var named []policy.Proto
	for _, class := range table.Classes {
		for _, p := range class.Ports {
			if p.Proto != policy.ProtoOther && !slices.Contains(named, p.Proto) {
				named = append(named, p.Proto)
			}
		}
	}
	slices.Sort(named)

	var leads []rule
	for i, class := range table.Classes {
		c := b.chain(fmt.Sprintf("class_%d", i+1), nil)
		if len(class.Enforce) > 0 {
			c.add(in(b.addresses(class.Enforce), fieldDest), proto(policy.TCP), goto_(b.enforce))
		}
		if len(class.Forward) > 0 {
			c.add(in(b.addresses(class.Forward), fieldDest), goto_(b.forward))
		}
		c.add(goto_(b.refuse[CauseDefault]))
		from := in(b.addresses(class.Sources), fieldSource)
		for _, p := range class.Ports {
			leads = append(leads, append(append(matchPorts(p, named), from), goto_(c)))
		}
	}
	return leads
}

// addresses is the set with that content; classes share sets.
func (b *builder) addresses(r []policy.AddrRange) *set {
	r = merge(r)
	key := make([]byte, 0, 8*len(r))
	for _, x := range r {
		from, to := x.From.As4(), x.To.As4()
		key = append(append(key, from[:]...), to[:]...)
	}
	s, ok := b.addrs[string(key)]
	if !ok {
		s = b.ranges("addresses", r)
		b.addrs[string(key)] = s
	}
	return s
}

// matchPorts matches one protocol and range, or what no class names.
func matchPorts(p policy.PortRange, named []policy.Proto) rule {
	switch {
	case p.Proto == policy.ProtoOther:
		var r rule
		for _, n := range named {
			r = append(r, notProto(n))
		}
		return r
	case p.Proto.HasPorts() && (p.Lo > 0 || p.Hi < 65535):
		return rule{proto(p.Proto), ports(p.Lo, p.Hi)}
	}
	return rule{proto(p.Proto)}
}

// nat captures DNS and hides agents.
func (b *builder) nat() {
	c := b.chain("dns", &hook{nftables.ChainTypeNAT, nftables.ChainHookPrerouting, "prerouting", -100, true})
	for _, p := range []policy.Proto{policy.UDP, policy.TCP} {
		c.add(in(b.agents, fieldSource), proto(p), ports(53, 53), noEvents, dnat(b.cfg.DNS))
	}
	c = b.chain("masquerading", &hook{nftables.ChainTypeNAT, nftables.ChainHookPostrouting, "postrouting", 100, true})
	if b.cfg.SNAT == SNATInternet {
		c.add(ctMark(ctForward), notIn(b.ranges("private", private), fieldDest), masquerade)
		return
	}
	c.add(ctMark(ctForward), masquerade)
}

// input keeps the gateway's own ports from agents. Who else may reach them is for
// the network around it to say, except that the resolver is not an open one.
func (b *builder) input() {
	c := b.chain("input", &hook{nftables.ChainTypeFilter, nftables.ChainHookInput, "input", 0, false})
	c.add(fromLo, accept)
	c.add(known, accept)
	c.add(isIPv6, isICMPv6, in(b.discovery, fieldICMPv6), accept)
	c.add(isIPv6, goto_(b.refuse[CauseIPv6]))
	c.add(mark(redirectMark), in(b.agents, fieldSource), proto(policy.TCP), accept)
	asked := b.ranges("dns_clients", merge(append(ranges(b.cfg.Agents), ranges(b.cfg.DNSClients)...)))
	for _, p := range []policy.Proto{policy.UDP, policy.TCP} {
		port := ports(b.cfg.DNS.Port(), b.cfg.DNS.Port())
		c.add(proto(p), port, in(asked, fieldSource), accept)
		c.add(proto(p), port, goto_(b.refuse[CauseSpoof]))
	}
	c.add(in(b.agents, fieldSource), goto_(b.refuse[CauseInvariant]))
	c.add(proto(policy.TCP), ports(b.cfg.Listener.Port(), b.cfg.Listener.Port()), goto_(b.refuse[CauseSpoof]))
	// Of others, TCP alone: whoever answers a forged datagram or a ping sends its
	// content on.
	c.add(proto(policy.TCP), accept)
	c.add(proto(policy.UDP), fromDHCPServer, ports(68, 68), accept)
	c.add(goto_(b.spoofed))
}

// forwarding lets through what prerouting marked, and the way back.
func (b *builder) forwarding() {
	c := b.chain("forward", &hook{nftables.ChainTypeFilter, nftables.ChainHookForward, "forward", 0, false})
	c.add(ctMark(ctForward), accept)
	c.add(isIPv6, goto_(b.refuse[CauseIPv6]))
	c.add(in(b.agents, fieldSource), goto_(b.refuse[CauseDefault]))
	// The far side of a flow that was withdrawn learns that it is over.
	c.add(in(b.agents, fieldDest), proto(policy.TCP), setMark(CauseSpoof.mark()), goto_(b.others))
	c.add(goto_(b.refuse[CauseSpoof]))
}

// output bounds what the gateway's own processes reach.
func (b *builder) output() {
	c := b.chain("output", &hook{nftables.ChainTypeFilter, nftables.ChainHookOutput, "output", 0, false})
	dialled := mark(b.cfg.EnforcerMark)
	c.add(known, accept) // their first packet came past what follows
	// No connection for an agent leads to ourselves or to metadata, whatever led the enforcer
	// to dial it.
	c.add(dialled, in(b.never, fieldDest), goto_(b.refuse[CauseEgress]))
	c.add(dialled, isIPv4, notUnicast, goto_(b.refuse[CauseEgress]))
	c.add(toLo, accept)
	c.add(dialled, isIPv4, proto(policy.TCP), setCtMark(ctDial), noEvents, accept)
	// Our refusals of packets that the kernel tracks no connection for.
	c.add(in(b.agents, fieldDest), proto(policy.ICMP), isUnreachable, accept)
	c.add(isICMPv6, icmpv6Unreachable, accept)
	c.add(in(b.services, fieldDest, fieldProto, fieldPort), noEvents, accept)
	c.add(in(b.egress, fieldDest), accept)
	c.add(isIPv4, proto(policy.UDP), fromDHCPClient, ports(67, 67), accept)
	c.add(isICMPv6, in(b.discovery, fieldICMPv6), accept)
	c.add(goto_(b.refuse[CauseEgress]))
}

var icmpv6Unreachable = cmpTerm("icmpv6 type destination-unreachable", fieldICMPv6.load(reg1), expr.CmpOpEq, []byte{1})
