package packet

import (
	"fmt"
	"time"

	"github.com/google/nftables"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// The sets in which the kernel counts what it refused, see Denials.
const (
	setDenied        = "denied"          // agents: source, destination, protocol, port, cause
	setDeniedNoPorts = "denied_portless" // the same for protocols without ports
	setUnlogged      = "unlogged"        // agents: source, cause: more than one could tell apart
	setUnloggedOther = "unlogged_others" // cause: packets of others that were not logged
)

const (
	// deniedFor is how long a refused tuple is remembered after its last packet. User
	// space must read the counts more often than that.
	deniedFor = 30 * time.Second
	// A source may open this many new refused tuples; what goes beyond is counted.
	firstRate, firstBurst = 100, 1000
	// All others together are logged at this rate.
	othersRate, othersBurst = 50, 100
	// snapLen holds the longest IPv4 header and the ports.
	snapLen = 96
)

// refusal writes the chains that log, count and reject. A rule that refuses goes to
// refuse_CAUSE, which notes the cause in the packet's mark.
//
// The first packet of a tuple is logged and its tuple remembered with a counter;
// later ones are only counted there. A source that sweeps over many tuples is held
// to a rate, so it can neither drown user space nor fill the memory of others.
func (b *builder) refusal() {
	state := func(name string, key ...nftables.SetDatatype) *set {
		return b.set(set{name: name, key: key, dynamic: true, timeout: deniedFor, size: 1 << 17, kept: true})
	}
	mark := nftables.TypeMark
	denied := state(setDenied, append(append([]nftables.SetDatatype{}, typeFlow...), mark)...)
	portless := state(setDeniedNoPorts, nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetProto, mark)
	unlogged := state(setUnlogged, nftables.TypeIPAddr, mark)
	others := b.set(set{name: setUnloggedOther, key: []nftables.SetDatatype{mark}, dynamic: true, size: 64, kept: true})
	rate := state("log_rate", nftables.TypeIPAddr)
	ported := b.set(set{name: "ported", key: []nftables.SetDatatype{nftables.TypeInetProto}, elements: []element{
		{"tcp", []byte{6}}, {"udp", []byte{17}}, {"sctp", []byte{132}},
	}})

	b.reject = b.chain("reject_it", nil)
	b.reject.add(proto(policy.TCP), reset)
	b.reject.add(prohibited)

	over := b.chain("refuse_unlogged", nil)
	over.add(count(unlogged, fieldSource, fieldMark), goto_(b.reject))
	over.add(goto_(b.reject))

	tuple := func(name string, s *set, fields ...field) *chain {
		first := b.chain(name+"_first", nil)
		first.add(overRate(rate, firstRate, firstBurst, fieldSource), goto_(over))
		first.add(count(s, fields...), logged(), goto_(b.reject))
		first.add(goto_(over)) // the memory is full

		c := b.chain(name, nil)
		c.add(notIn(s, fields...), goto_(first))
		c.add(count(s, fields...), goto_(b.reject))
		c.add(goto_(b.reject))
		return c
	}
	withPorts := tuple("refuse_ported", denied, fieldSource, fieldDest, fieldProto, fieldPort, fieldMark)
	withoutPorts := tuple("refuse_portless", portless, fieldSource, fieldDest, fieldProto, fieldMark)

	refuse := b.chain("refuse", nil)
	refuse.add(in(ported, fieldProto), goto_(withPorts))
	refuse.add(goto_(withoutPorts))

	// Sources that are no agents may be anything, so none of them is remembered.
	b.others = b.chain("refuse_others", nil)
	b.others.add(withinRate(othersRate, othersBurst), logged(), goto_(b.reject))
	b.others.add(count(others, fieldMark), goto_(b.reject))
	b.others.add(goto_(b.reject))

	// A source that may be forged gets no answer: it would go to whom the address belongs,
	// and a refusal quotes the packet. An agent could have us carry data to anybody.
	b.spoofed = b.chain("refuse_forged", nil)
	b.spoofed.add(setMark(CauseSpoof.mark()))
	b.spoofed.add(withinRate(othersRate, othersBurst), logged(), drop)
	b.spoofed.add(count(others, fieldMark), drop)
	b.spoofed.add(drop)

	for c := CauseDefault; c <= CauseEgress; c++ {
		to := refuse
		switch c {
		case CauseSpoof:
			b.refuse[c] = b.spoofed
			continue
		case CauseFragment:
			to = withoutPorts // only the first fragment has ports
		case CauseIPv6:
			to = b.others
		}
		b.refuse[c] = b.chain(fmt.Sprintf("refuse_%s", underscored(c)), nil)
		b.refuse[c].add(setMark(c.mark()), goto_(to))
	}
}

func underscored(c Cause) string {
	if c == CauseNotReady {
		return "not_ready"
	}
	return c.String()
}
