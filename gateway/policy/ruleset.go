package policy

import (
	"net/netip"
)

// Ruleset is a compiled, immutable document. Its methods may be called from any
// number of goroutines.
type Ruleset struct {
	doc *Document
	env Environment
}

// Document returns the document that the ruleset was compiled from.
func (r *Ruleset) Document() *Document { return r.doc }

// Question is the answer to a DNS question.
type Question struct {
	Decision
	// NoData says that a refused name is the ancestor of a resolvable one: it
	// gets NODATA, because NXDOMAIN would deny the names below it too (RFC 8020).
	NoData bool
	// Direct says that the name is in `resolve`: it is answered and not pinned,
	// because agents reach it without the gateway.
	Direct bool
}

// ProtoPort is a protocol and one port.
type ProtoPort struct {
	Proto Proto
	Port  uint16
}

// AddrRange is an inclusive range of IPv4 addresses.
type AddrRange struct{ From, To netip.Addr }

// ProtoOther stands, in a KernelClass, for every protocol that no class names.
const ProtoOther Proto = 0

// KernelTable is the ruleset as far as addresses alone decide it: what the kernel
// program is generated from. What is in no class is refused at its first packet,
// unless the gate holds it.
type KernelTable struct {
	// NamePorts are the TCP ports on which names exist.
	NamePorts []PortRange
	Classes   []KernelClass
}

// KernelClass says, for packets from Sources with a protocol and port in Ports,
// which destinations the kernel forwards and which it hands to the enforcer
// whether or not they are pinned. Ranges are disjoint and sorted. Classes do not
// overlap in (source, port).
type KernelClass struct {
	Sources []AddrRange
	Ports   []PortRange
	Forward []AddrRange
	Enforce []AddrRange
}
