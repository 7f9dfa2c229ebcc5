package policy

import "net/netip"

// Stage is how much of a flow is known.
type Stage uint8

const (
	StageDNS     Stage = iota // a question: source and name, no destination yet
	StagePacket               // the first packet: addresses, protocol, port
	StageName                 // the name that the flow claims, or that it claims none
	StageRequest              // one HTTP request: method and path, then its message
)

// String is the stage's name in audit events and explanations.
func (s Stage) String() string {
	return [...]string{"dns", "packet", "name", "request"}[s]
}

// PinState says what the gateway's own resolver has to do with a destination.
type PinState uint8

const (
	PinNone  PinState = iota // the address was given for no name
	PinMatch                 // at the name stage: for the claimed name; at the packet stage: for some name
	PinOther                 // the address was given, but not for the claimed name
)

// Wire is what the first bytes of a TCP flow turned out to be.
type Wire uint8

const (
	WireUnknown Wire = iota // not read yet
	WireTLS                 // a ClientHello
	WireHTTP                // an HTTP/1 request
	WireOther               // neither, or nothing came
)

// Flow is the facts about one flow, as far as Stage says they are known.
//
// At StageName and StageRequest, Name is the normalised name that the flow claims,
// empty if it claims none, and Pin relates Dst to that name. PinnedNames are all names
// that Dst was given for to this source; they stand in for the missing name of
// a TLS flow where a rule says `sni: optional`.
type Flow struct {
	Stage       Stage
	Src, Dst    netip.Addr
	Proto       Proto
	Port        uint16
	Name        string
	Pin         PinState
	PinnedNames []string
	Wire        Wire
	Method      string
	Path        string // normalised, see NormalizePath
	RPC         *RPC   // of the request's body; nil: not read
}

// RPC is one JSON-RPC message in the body of a POST, as the Model Context Protocol
// sends them (MCP 2025-06-18, Transports). A batch is several, each decided by itself:
// the request is permitted if all are.
//
// An `mcp` entry of a web group matches, on its host and paths: GET, DELETE, HEAD and OPTIONS,
// which carry no message (the answers' stream, the session's end); every message that
// is not a call of a tool; and tools/call where the entry allows the tool.
//
// Names compare byte for byte. Where two readers might take a message differently (it
// is Malformed, the method is spelled like tools/call but is not, the tool's name holds
// anything but printable ASCII and the entry does not spell that very name out) it matches
// no PERMIT, and every DENY.
type RPC struct {
	Method string // empty in a response, such as the answer to a question of the server
	Tool   string // params.name of tools/call
	// Malformed says that the body is not what every parser reads as the same message.
	Malformed bool
}

// methodCall is the method that calls a tool.
const methodCall = "tools/call"

// Fact is what a decision still waits for.
type Fact string

const (
	PendingName    Fact = "name"
	PendingRequest Fact = "request"
	PendingMessage Fact = "message" // the body of a POST, see RPC
)

// Decision is the answer to one question about one flow.
type Decision struct {
	Verdict Action  // PERMIT also while something is pending
	Rule    string  // the rule that decided, RuleDefault or RuleInvariant; empty while pending
	Mode    Mode    // of what decided
	Decrypt Decrypt // posture of the rule that decided
	Tier    Tier    // where the flow runs, or was refused
	Stage   Stage   // the stage that decided
	Pending Fact    // empty once decided
	Reason  Reason
	Would   *Would // set where a monitored rule or default matched
	Log     bool   // whether the deciding rule wants single events
	// MCP says that a permit rests on an `mcp` entry: lists of tools in the answer are to
	// be cut to those that may be called, which is asked with an RPC for each.
	MCP bool
	// Index is the deciding rule's place in priority order, -1 for none.
	Index int
}

// Would is the verdict that would have fallen if every monitored rule and the
// default were enforced.
type Would struct {
	Rule    string `json:"rule"`
	Verdict Action `json:"verdict"`
}

// Permitted reports whether the flow may go on.
func (d *Decision) Permitted() bool { return d.Verdict == Permit }

// Detected reports whether a monitored rule or default would have refused what was
// permitted.
func (d *Decision) Detected() bool {
	return d.Verdict == Permit && d.Would != nil && d.Would.Verdict == Deny
}
