package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// Mode says whether a rule decides or only watches.
type Mode string

const (
	ModeEnforce Mode = "enforce"
	ModeMonitor Mode = "monitor"
)

// Action is what a rule does with a flow that it matches.
type Action string

const (
	Permit Action = "PERMIT"
	Deny   Action = "DENY"
)

// Decrypt is the certificate posture of a rule.
type Decrypt string

const (
	DecryptNotAllowed Decrypt = "DECRYPT_NOT_ALLOWED"
	DecryptAllowed    Decrypt = "DECRYPT_ALLOWED"
)

// SNI says what a rule makes of TLS flows that claim no name.
type SNI string

const (
	SNIRequired SNI = "required"
	SNIOptional SNI = "optional"
)

// TLSVersion is the lowest version of TLS that a rule takes.
type TLSVersion string

const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// OriginTrust says whether an origin has to show a certificate for its name.
type OriginTrust string

const (
	OriginVerify OriginTrust = "verify"
	OriginIgnore OriginTrust = "ignore"
)

// PinScope says for whom a pin holds.
type PinScope string

const (
	ScopeSource PinScope = "source" // for the agent that asked
	ScopeShared PinScope = "shared" // for every agent, where a resolver hides the asker
	ScopeVerify PinScope = "verify" // for every agent; names are resolved ahead
)

// Tier is the cheapest machinery that can decide a flow.
type Tier string

const (
	TierKernel  Tier = "kernel"
	TierSplice  Tier = "splice"
	TierDecrypt Tier = "decrypt"
)

// Reason says in one word why a verdict fell. The ids are the same in the audit,
// in DNS extended errors, in HTTP bodies and in explain.
type Reason string

const (
	ReasonRule              Reason = "rule"
	ReasonDefault           Reason = "default"
	ReasonInvariant         Reason = "invariant"
	ReasonNotPinned         Reason = "name-not-pinned"
	ReasonAddressMismatch   Reason = "name-address-mismatch"
	ReasonPinExpired        Reason = "pin-expired"
	ReasonAuthorityMismatch Reason = "authority-mismatch"
	ReasonNoName            Reason = "no-name"
	ReasonRebind            Reason = "rebind"
	ReasonThreatAddress     Reason = "threat-address"
	ReasonThreatName        Reason = "threat-name"
	ReasonQUIC              Reason = "quic"
	ReasonNotTLS            Reason = "not-tls"
	ReasonBadClientHello    Reason = "bad-client-hello"
	ReasonBadRequest        Reason = "bad-request"
	ReasonTunnelling        Reason = "tunnelling"
	ReasonCARejected        Reason = "ca-rejected-by-client"
	ReasonOriginCertificate Reason = "origin-certificate"
	ReasonBudgetExceeded    Reason = "budget-exceeded"
	ReasonHeaderRequired    Reason = "header-required"
	ReasonRequestTooLarge   Reason = "request-too-large"
	ReasonTLSVersion        Reason = "tls-version"
	ReasonOverload          Reason = "overload"
	ReasonNotReady          Reason = "not-ready"
)

// The rule names of decisions that no rule of the document made.
const (
	RuleDefault   = "default"
	RuleInvariant = "invariant"
)

// Proto is an IP protocol number (IANA, Assigned Internet Protocol Numbers).
type Proto uint8

const (
	ICMP Proto = 1
	TCP  Proto = 6
	UDP  Proto = 17
	GRE  Proto = 47
	ESP  Proto = 50
	AH   Proto = 51
	SCTP Proto = 132
)

var protoNames = map[string]Proto{
	"icmp": ICMP, "tcp": TCP, "udp": UDP, "gre": GRE, "esp": ESP, "ah": AH, "sctp": SCTP,
}

// String gives the protocol's usual name, or its number.
func (p Proto) String() string {
	for name, n := range protoNames {
		if n == p {
			return name
		}
	}
	return strconv.Itoa(int(p))
}

// HasPorts reports whether the gateway reads ports of the protocol.
func (p Proto) HasPorts() bool { return p == TCP || p == UDP || p == SCTP }

// ParseProto reads a protocol by name or number.
func ParseProto(s string) (Proto, error) {
	if p, ok := protoNames[strings.ToLower(s)]; ok {
		return p, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("unknown protocol %q: use tcp, udp, icmp, gre, esp, ah, sctp or a number from 0 to 255", s)
	}
	return Proto(n), nil
}

// ParsePortRange reads "tcp/443", "udp/1-1024" or "icmp".
func ParsePortRange(s string) (PortRange, error) {
	name, ports, has := strings.Cut(s, "/")
	proto, err := ParseProto(name)
	if err != nil {
		return PortRange{}, err
	}
	if !has {
		if proto.HasPorts() {
			return PortRange{Proto: proto, Lo: 0, Hi: 65535}, nil
		}
		return PortRange{Proto: proto}, nil
	}
	if !proto.HasPorts() {
		return PortRange{}, fmt.Errorf("protocol %s has no ports: write %q", name, name)
	}
	lo, hi, isRange := strings.Cut(ports, "-")
	if !isRange {
		hi = lo
	}
	l, err1 := parsePort(lo)
	h, err2 := parsePort(hi)
	if err1 != nil || err2 != nil || h < l {
		return PortRange{}, fmt.Errorf("bad ports %q: write one port or a rising range, such as tcp/443 or udp/1-1024", s)
	}
	return PortRange{Proto: proto, Lo: l, Hi: h}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = fmt.Errorf("port 0 is reserved")
	}
	return uint16(n), err
}

// String is the form that ParsePortRange reads.
func (p PortRange) String() string {
	switch {
	case !p.Proto.HasPorts(), p.Lo == 0 && p.Hi == 65535:
		return p.Proto.String()
	case p.Lo == p.Hi:
		return fmt.Sprintf("%s/%d", p.Proto, p.Lo)
	}
	return fmt.Sprintf("%s/%d-%d", p.Proto, p.Lo, p.Hi)
}

// MarshalText writes the form that ParsePortRange reads.
func (p PortRange) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Contains reports whether a packet of the protocol to the port is in the range.
func (p PortRange) Contains(proto Proto, port uint16) bool {
	return p.Proto == proto && (!proto.HasPorts() || p.Lo <= port && port <= p.Hi)
}
