package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Registers: single values use the first 16-byte register, concatenations the
// 4-byte ones, one for each part.
const (
	reg1     = unix.NFT_REG_1
	reg2     = unix.NFT_REG_2
	regParts = unix.NFT_REG32_00
)

// field is a value that a packet carries.
type field struct {
	text string
	key  nftables.SetDatatype
	load func(reg uint32) expr.Any
	ipv4 bool
}

var (
	fieldSource = field{"ip saddr", nftables.TypeIPAddr, payload(expr.PayloadBaseNetworkHeader, 12, 4), true}
	fieldDest   = field{"ip daddr", nftables.TypeIPAddr, payload(expr.PayloadBaseNetworkHeader, 16, 4), true}
	fieldProto  = field{"meta l4proto", nftables.TypeInetProto, meta(expr.MetaKeyL4PROTO), false}
	fieldPort   = field{"th dport", nftables.TypeInetService, payload(expr.PayloadBaseTransportHeader, 2, 2), false}
	fieldMark   = field{"meta mark", nftables.TypeMark, meta(expr.MetaKeyMARK), false}
	fieldICMPv6 = field{"icmpv6 type", nftables.TypeICMP6Type, payload(expr.PayloadBaseTransportHeader, 0, 1), false}
)

func payload(base expr.PayloadBase, offset, length uint32) func(uint32) expr.Any {
	return func(reg uint32) expr.Any {
		return &expr.Payload{DestRegister: reg, Base: base, Offset: offset, Len: length}
	}
}

func meta(key expr.MetaKey) func(uint32) expr.Any {
	return func(reg uint32) expr.Any { return &expr.Meta{Key: key, Register: reg} }
}

// host is a number in the byte order of the machine, which marks and states have.
func host(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func cmpTerm(text string, load expr.Any, op expr.CmpOp, data []byte) term {
	return term{text: text, exprs: []expr.Any{load, &expr.Cmp{Op: op, Register: reg1, Data: data}}}
}

var (
	isIPv4   = cmpTerm("meta nfproto ipv4", &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1}, expr.CmpOpEq, []byte{unix.NFPROTO_IPV4})
	isIPv6   = cmpTerm("meta nfproto ipv6", &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1}, expr.CmpOpEq, []byte{unix.NFPROTO_IPV6})
	isICMPv6 = cmpTerm("meta l4proto ipv6-icmp", &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1}, expr.CmpOpEq, []byte{unix.IPPROTO_ICMPV6})
	fromLo   = cmpTerm(`iifname "lo"`, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1}, expr.CmpOpEq, ifname("lo"))
	toLo     = cmpTerm(`oifname "lo"`, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1}, expr.CmpOpEq, ifname("lo"))

	// notReturnable: the source's route does not lead back through the interface
	// that the packet came in on.
	notReturnable = term{text: "fib saddr . iif oif missing", exprs: []expr.Any{
		&expr.Fib{Register: reg1, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: host(0)},
	}}
	// notUnicast: local, broadcast, multicast, by the kernel's table of addresses.
	notUnicast = fibTerm("fib daddr type != unicast", expr.CmpOpNeq, unix.RTN_UNICAST)
	isUnicast  = fibTerm("fib daddr type unicast", expr.CmpOpEq, unix.RTN_UNICAST)

	transparentSocket = term{text: "socket transparent 1", exprs: []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{1}},
	}}
	// notOpening: no bare SYN. A first segment is judged anew even if the kernel
	// remembers a connection between the same ends.
	notOpening = term{text: "tcp flags & (syn | ack) != syn", exprs: []expr.Any{
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 1, Mask: []byte{0x12}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: []byte{0x02}},
	}}
	// isFragment: an offset, or more to come.
	isFragment = term{text: "ip frag-off & 0x3fff != 0x0", ipv4: true, exprs: []expr.Any{
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 2, Mask: []byte{0x3f, 0xff}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: []byte{0, 0}},
	}}
	isUnreachable = cmpTerm("icmp type destination-unreachable",
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, expr.CmpOpEq, []byte{3})
	fromDHCPServer = cmpTerm("udp sport 67", &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}, expr.CmpOpEq, be16(67))
	fromDHCPClient = cmpTerm("udp sport 68", &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}, expr.CmpOpEq, be16(68))

	isNew       = ctState("new", expr.CtStateBitNEW)
	established = ctState("established", expr.CtStateBitESTABLISHED)
	known       = ctState("established,related", expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	related     = ctState("related", expr.CtStateBitRELATED)
	invalid     = ctState("invalid", expr.CtStateBitINVALID)
	// confirmed: an earlier packet of the connection was let through
	// (IPS_CONFIRMED of linux/netfilter/nf_conntrack_common.h).
	confirmed = ctBits("ct status confirmed", expr.CtKeySTATUS, 1<<3)
)

func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

func fibTerm(text string, op expr.CmpOp, kind uint32) term {
	return cmpTerm(text, &expr.Fib{Register: reg1, FlagDADDR: true, ResultADDRTYPE: true}, op, host(kind))
}

func ctState(names string, bits uint32) term { return ctBits("ct state "+names, expr.CtKeySTATE, bits) }

func ctBits(text string, key expr.CtKey, bits uint32) term {
	return term{text: text, exprs: []expr.Any{
		&expr.Ct{Key: key, Register: reg1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: host(bits), Xor: host(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: host(0)},
	}}
}

func proto(p policy.Proto) term { return protoTerm(p, "", expr.CmpOpEq) }

func notProto(p policy.Proto) term { return protoTerm(p, "!= ", expr.CmpOpNeq) }

func protoTerm(p policy.Proto, not string, op expr.CmpOp) term {
	name := p.String()
	return cmpTerm("meta l4proto "+not+name, fieldProto.load(reg1), op, []byte{byte(p)})
}

// ports matches the destination port of a protocol that has ports.
func ports(lo, hi uint16) term {
	load := fieldPort.load(reg1)
	if lo == hi {
		return cmpTerm(fmt.Sprintf("th dport %d", lo), load, expr.CmpOpEq, be16(lo))
	}
	return term{text: fmt.Sprintf("th dport %d-%d", lo, hi), exprs: []expr.Any{load,
		&expr.Cmp{Op: expr.CmpOpGte, Register: reg1, Data: be16(lo)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: reg1, Data: be16(hi)},
	}}
}

func ctMark(n uint32) term { return ctMarkTerm(n, "", expr.CmpOpEq) }

func notCtMark(n uint32) term { return ctMarkTerm(n, "!= ", expr.CmpOpNeq) }

func ctMarkTerm(n uint32, not string, op expr.CmpOp) term {
	return cmpTerm(fmt.Sprintf("ct mark %s0x%08x", not, n), &expr.Ct{Key: expr.CtKeyMARK, Register: reg1}, op, host(n))
}

func setCtMark(n uint32) term {
	return term{text: fmt.Sprintf("ct mark set 0x%08x", n), exprs: []expr.Any{
		&expr.Immediate{Register: reg1, Data: host(n)},
		&expr.Ct{Key: expr.CtKeyMARK, Register: reg1, SourceRegister: true},
	}}
}

// noEvents keeps a new connection out of conntrack's events, which cost a message for its
// beginning and one for its end. The kernel takes no empty choice for none
// (nft_ct_set_eval), so it is that of connections which a helper expects: there are none.
var noEvents = term{text: "ct event set related", exprs: []expr.Any{
	&expr.Immediate{Register: reg1, Data: host(1 << 1)}, // IPCT_RELATED, linux/netfilter/nf_conntrack_common.h
	&expr.Ct{Key: expr.CtKeyEVENTMASK, Register: reg1, SourceRegister: true},
}}

func mark(n uint32) term {
	return cmpTerm(fmt.Sprintf("meta mark 0x%08x", n), fieldMark.load(reg1), expr.CmpOpEq, host(n))
}

func setMark(n uint32) term {
	return term{text: fmt.Sprintf("meta mark set 0x%08x", n), exprs: []expr.Any{
		&expr.Immediate{Register: reg1, Data: host(n)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg1, SourceRegister: true},
	}}
}

// load puts fields where a lookup or an update of a set reads its key.
func load(fields []field) (text string, reg uint32, exprs []expr.Any, ipv4 bool) {
	reg = reg1
	if len(fields) > 1 {
		reg = regParts
	}
	texts := make([]string, len(fields))
	for i, f := range fields {
		texts[i] = f.text
		exprs = append(exprs, f.load(reg+uint32(i)))
		ipv4 = ipv4 || f.ipv4
	}
	return strings.Join(texts, " . "), reg, exprs, ipv4
}

func in(s *set, fields ...field) term    { return lookup(s, " @", false, fields) }
func notIn(s *set, fields ...field) term { return lookup(s, " != @", true, fields) }

func lookup(s *set, op string, invert bool, fields []field) term {
	text, reg, exprs, ipv4 := load(fields)
	return term{text: text + op + s.name, ipv4: ipv4,
		exprs: append(exprs, &expr.Lookup{SourceRegister: reg, SetName: s.name, Invert: invert})}
}

// count adds the packet's key to a set of counters, or counts it again.
func count(s *set, fields ...field) term {
	return update(s, fields, "counter", &expr.Counter{})
}

// overRate matches when packets with this key come faster than the rate.
func overRate(s *set, rate uint64, burst uint32, fields ...field) term {
	return update(s, fields, fmt.Sprintf("limit rate over %d/second burst %d packets", rate, burst),
		&expr.Limit{Type: expr.LimitTypePkts, Rate: rate, Unit: expr.LimitTimeSecond, Burst: burst, Over: true})
}

func update(s *set, fields []field, stateText string, state expr.Any) term {
	text, reg, exprs, ipv4 := load(fields)
	lapse := ""
	if s.timeout > 0 {
		lapse = " timeout " + seconds(s.timeout)
	}
	return term{text: fmt.Sprintf("update @%s { %s%s %s }", s.name, text, lapse, stateText), ipv4: ipv4,
		exprs: append(exprs, &expr.Dynset{
			SrcRegKey: reg, SetName: s.name, Operation: unix.NFT_DYNSET_OP_UPDATE,
			Timeout: s.timeout.Truncate(time.Second), Exprs: []expr.Any{state},
		})}
}

// overConnections matches when a source has more connections than that.
func overConnections(s *set, n uint32) term {
	text, reg, exprs, ipv4 := load([]field{fieldSource})
	return term{text: fmt.Sprintf("add @%s { %s ct count over %d }", s.name, text, n), ipv4: ipv4,
		exprs: append(exprs, &expr.Dynset{
			SrcRegKey: reg, SetName: s.name, Operation: unix.NFT_DYNSET_OP_ADD,
			Exprs: []expr.Any{&expr.Connlimit{Count: n, Flags: expr.NFT_CONNLIMIT_F_INV}},
		})}
}

func withinRate(rate uint64, burst uint32) term {
	return term{text: fmt.Sprintf("limit rate %d/second burst %d packets", rate, burst), exprs: []expr.Any{
		&expr.Limit{Type: expr.LimitTypePkts, Rate: rate, Unit: expr.LimitTimeSecond, Burst: burst}}}
}

// logged sends the packet's headers to user space.
func logged() term {
	return term{text: fmt.Sprintf("log prefix %q group %d snaplen %d queue-threshold 1", tableName, logGroup, snapLen), exprs: []expr.Any{&expr.Log{
		Key:   1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_QTHRESHOLD,
		Group: logGroup, Snaplen: snapLen, QThreshold: 1, Data: []byte(tableName),
	}}}
}

// tproxy gives the packet to the listener's socket, or to the one that accepted
// the connection; without a socket the rule ends here and the next one is tried.
func tproxy(to netip.AddrPort) term {
	addr := to.Addr().As4()
	return term{text: "tproxy ip to " + to.String(), exprs: []expr.Any{
		&expr.Immediate{Register: reg1, Data: addr[:]},
		&expr.Immediate{Register: reg2, Data: be16(to.Port())},
		&expr.TProxy{Family: unix.NFPROTO_IPV4, TableFamily: unix.NFPROTO_INET, RegAddr: reg1, RegPort: reg2},
	}}
}

func dnat(to netip.AddrPort) term {
	if to.Addr().IsUnspecified() {
		return term{text: fmt.Sprintf("redirect to :%d", to.Port()), exprs: []expr.Any{
			&expr.Immediate{Register: reg1, Data: be16(to.Port())},
			&expr.Redir{RegisterProtoMin: reg1},
		}}
	}
	addr := to.Addr().As4()
	return term{text: "dnat ip to " + to.String(), ipv4: true, exprs: []expr.Any{
		&expr.Immediate{Register: reg1, Data: addr[:]},
		&expr.Immediate{Register: reg2, Data: be16(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, RegProtoMin: reg2, Specified: true},
	}}
}

var (
	masquerade = term{text: "masquerade", exprs: []expr.Any{&expr.Masq{}}}
	accept     = verdict("accept", expr.VerdictAccept, "")
	drop       = verdict("drop", expr.VerdictDrop, "")
	return_    = verdict("return", expr.VerdictReturn, "")
	reset      = term{text: "reject with tcp reset", exprs: []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
	prohibited = term{text: "reject with icmpx admin-prohibited", exprs: []expr.Any{
		&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}}
)

func jump(c *chain) term  { return verdict("jump "+c.name, expr.VerdictJump, c.name) }
func goto_(c *chain) term { return verdict("goto "+c.name, expr.VerdictGoto, c.name) }

func verdict(text string, kind expr.VerdictKind, chain string) term {
	return term{text: text, exprs: []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}}
}
