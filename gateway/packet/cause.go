package packet

import "fmt"

// Cause says which part of the program refused a packet.
type Cause uint8

const (
	CauseDefault   Cause = iota + 1 // no address permit and no pin: the ruleset knows which rule denies
	CauseInvariant                  // what no rule may permit
	CauseQUIC                       // UDP 443, refused so that clients fall back to TCP at once
	CauseFragment                   // fragments: all but the first carry no ports
	CauseSpoof                      // a source outside agents, or an agent's from elsewhere
	CauseIPv6                       // no egress over IPv6
	CauseOverload                   // too many connections
	CauseNotReady                   // nobody listens where the enforcer should
	CauseEgress                     // the gateway's own traffic, to where it has no business
)

var causeNames = map[Cause]string{
	CauseDefault: "default", CauseInvariant: "invariant", CauseQUIC: "quic", CauseFragment: "fragment",
	CauseSpoof: "spoof", CauseIPv6: "ipv6", CauseOverload: "overload", CauseNotReady: "not-ready", CauseEgress: "egress",
}

// String is the cause's short name.
func (c Cause) String() string {
	if s, ok := causeNames[c]; ok {
		return s
	}
	return fmt.Sprintf("cause(%d)", uint8(c))
}

// causeMark is the packet mark by which a refused packet carries its cause through
// the chains that log, count and reject it.
const causeMark = 0x42480000

func (c Cause) mark() uint32 { return causeMark | uint32(c) }

func causeOf(mark uint32) (Cause, bool) {
	c := Cause(mark)
	_, known := causeNames[c]
	return c, known && c.mark() == mark
}
