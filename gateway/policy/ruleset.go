package policy

import (
	"crypto/x509"
	"net/netip"
	"reflect"

	"github.com/gaissmai/bart"
)

// Ruleset is a compiled, immutable document. Its methods may be called from any
// number of goroutines.
//
// Every dimension of matching (source, destination, port, name) is a table from a
// value to the set of rules it satisfies. A decision intersects those sets, so its
// cost does not grow with names or prefixes.
type Ruleset struct {
	doc              *Document
	env              Environment
	digest           string
	rules            []rule // in priority order
	defaultMonitored bool
	watches          bool // something is monitored
	in               *interner

	enforced    bitset // rules that decide
	permits     bitset
	byNames     bitset // rules with web groups
	threats     bitset // rules with a threat group among their destinations
	threatNames bitset // of those, the ones whose feeds hold names
	allAgents   bitset // rules that apply to a question of all agents together

	srcAny, srcInternet bitset
	dstAny, dstInternet bitset
	src, dst            *bart.Table[uint32]

	fqdns, hosts, bad *nameTable // web group names, hosts of requests, threat names
	requests          *requestTable
	originCAs         []*x509.Certificate

	namePorts   []PortRange
	protoPorts  map[Proto]*portTable
	otherProtos uint32

	// blockers lists, for each permit by name, the earlier denies that refuse
	// everything which it could permit, so that resolving for it would be idle.
	// badBlockers do so for the names in their threat feeds.
	blockers, badBlockers []bitset
	ancestors             map[string]struct{} // names above resolvable names
	direct                []direct
}

// Document returns the document that the ruleset was compiled from.
func (r *Ruleset) Document() *Document { return r.doc }

// Digest identifies the document: "sha256:" and the hash of its canonical form.
func (r *Ruleset) Digest() string { return r.digest }

// NamePorts returns the TCP ports on which flows carry names.
func (r *Ruleset) NamePorts() []PortRange { return r.namePorts }

// OriginCAs returns the authorities that the document names to verify origins with,
// beside those of the system.
func (r *Ruleset) OriginCAs() []*x509.Certificate { return r.originCAs }

// Question is the answer to a DNS question.
type Question struct {
	Decision
	// NoData says that a refused name is the ancestor of a resolvable one: it
	// gets NODATA, because NXDOMAIN would deny the names below it too (RFC 8020).
	NoData bool
	// Direct says that the name is in `resolve`: it is answered and not pinned,
	// because agents reach it without the gateway.
	Direct bool
	// Exact says that the ruleset spells the name out, so asking for it can tell nobody
	// anything. Names that only a wildcard holds are of the asker's choice.
	Exact bool

	// What was asked and where it stands in the tables, for Answer.
	src   netip.Addr
	name  string
	asked asked
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

// Data returns the service tags and feeds that the ruleset was compiled with.
func (r *Ruleset) Data() Data { return r.env.Data }

// SameData reports whether two rulesets of the same document were compiled with the
// same data and environment, so that they decide alike.
func (r *Ruleset) SameData(o *Ruleset) bool { return reflect.DeepEqual(r.env, o.env) }
