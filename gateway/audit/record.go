package audit

import (
	"net/netip"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Class is an OCSF 1.6 class_uid.
type Class int

const (
	NetworkActivity  Class = 4001
	HTTPActivity     Class = 4002
	DNSActivity      Class = 4003
	DetectionFinding Class = 2004
)

// Activity is what happened, as OCSF's Network Activity numbers it.
type Activity int

const (
	Open   Activity = 1
	Close  Activity = 2
	Refuse Activity = 5
)

// Record is one decision, or the end of one permitted flow, as the data plane
// saw it.
type Record struct {
	Class    Class
	Activity Activity
	Time     time.Time
	Src, Dst netip.AddrPort // Dst is zero for a question; port 0 where the protocol has none
	Proto    policy.Proto
	Host     string // normalised name, empty for none
	Decision policy.Decision
	Digest   string // of the ruleset that decided
	Pin      *Pin   // which answer tied the name to the address
	DNS      *DNS
	HTTP     *HTTP
	// At the end of a flow: bytes from and to the agent, and how long it lived.
	BytesOut, BytesIn int64
	Duration          time.Duration
	// Count is how often this happened where the data plane counted for itself
	// (the kernel's log of refused packets); 0 is once.
	Count int
	// Repeat says that a permitted question changed nothing: its decision and its
	// evidence are those of an earlier event. It is counted where the log still has
	// that event at hand, and is an event of its own otherwise.
	Repeat bool
	// Message is for a person; empty is fine.
	Message string
}

// Pin is the evidence that a name was resolved to an address.
type Pin struct {
	Question string        `json:"question"`
	Answer   netip.Addr    `json:"answer"`
	Asked    time.Time     `json:"asked"`
	TTL      time.Duration `json:"-"`
	Bound    string        `json:"bound"` // the owner name whose TTL was the lowest
}

// DNS is what a DNS Activity event adds.
type DNS struct {
	Type    string   // A, AAAA, …
	Rcode   string   // NOERROR, NXDOMAIN, …
	Answers []string // addresses that were given
}

// HTTP is what an HTTP Activity event adds. The query of a URL is never written.
type HTTP struct {
	Method, Path string
	Status       int    // that the agent was answered with; 0: not yet
	Tool         string // that an MCP message calls
}

// Recorder takes records. An error means that the record could not be made
// durable; whoever asked must then refuse what it was about to permit.
type Recorder interface {
	Record(Record) error
	// Submit is Record without the wait: done is called exactly once with what Record
	// would have returned, by a goroutine of the log or before Submit returns. Neither
	// Submit nor done may block. done may submit another record, but not wait for one.
	Submit(rec Record, done func(error))
}
