package audit

import (
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Event is one line of the log: an OCSF 1.6 event of class Network Activity, DNS
// Activity, HTTP Activity or Detection Finding, with the security_control profile.
//
// The fields of each type stand in the order of their JSON names. That is what
// makes the encoding canonical (RFC 8785), and a test holds it.
//
// Source of names and numbers: https://schema.ocsf.io/1.6.0
type Event struct {
	ActionID       int             `json:"action_id"` // 1 allowed, 2 denied, 3 observed
	ActivityID     int             `json:"activity_id"`
	Answers        []DNSAnswer     `json:"answers,omitempty"`
	CategoryUID    int             `json:"category_uid"` // 4 network activity, 2 findings
	ClassUID       Class           `json:"class_uid"`
	ConnectionInfo *ConnectionInfo `json:"connection_info,omitempty"`
	Count          int             `json:"count,omitempty"` // occurrences this event stands for; 0 is one
	DispositionID  int             `json:"disposition_id"`  // 1 allowed, 2 blocked, 15 detected, 17 logged
	DstEndpoint    *Endpoint       `json:"dst_endpoint,omitempty"`
	Duration       int64           `json:"duration,omitempty"` // ms
	EndTime        int64           `json:"end_time,omitempty"` // ms since 1970, of the last occurrence counted
	Evidences      []Evidence      `json:"evidences,omitempty"`
	FindingInfo    *FindingInfo    `json:"finding_info,omitempty"`
	FirewallRule   *FirewallRule   `json:"firewall_rule,omitempty"`
	HTTPRequest    *HTTPRequest    `json:"http_request,omitempty"`
	HTTPResponse   *HTTPResponse   `json:"http_response,omitempty"`
	IsAlert        bool            `json:"is_alert,omitempty"`
	Message        string          `json:"message,omitempty"`
	Metadata       Metadata        `json:"metadata"`
	Query          *DNSQuery       `json:"query,omitempty"`
	Rcode          string          `json:"rcode,omitempty"`
	RcodeID        *int            `json:"rcode_id,omitempty"`
	SeverityID     int             `json:"severity_id"` // 1 informational, 2 low, 3 medium, 4 high
	SrcEndpoint    *Endpoint       `json:"src_endpoint,omitempty"`
	StartTime      int64           `json:"start_time,omitempty"` // ms since 1970
	StatusDetail   string          `json:"status_detail,omitempty"`
	StatusID       int             `json:"status_id"` // 1 success, 2 failure
	Time           int64           `json:"time"`      // ms since 1970
	Traffic        *Traffic        `json:"traffic,omitempty"`
	TypeUID        int             `json:"type_uid"` // class_uid * 100 + activity_id
	Unmapped       Unmapped        `json:"unmapped"`
}

// Endpoint is one end of a flow.
type Endpoint struct {
	Hostname string `json:"hostname,omitempty"`
	IP       string `json:"ip,omitempty"`
	Port     uint16 `json:"port,omitempty"`
}

// ConnectionInfo is the transport of a flow. DirectionID is 2, outbound.
type ConnectionInfo struct {
	DirectionID   int    `json:"direction_id"`
	ProtocolName  string `json:"protocol_name"`
	ProtocolNum   int    `json:"protocol_num"`
	ProtocolVerID int    `json:"protocol_ver_id,omitempty"` // 4 or 6
}

// FirewallRule is the rule that decided, or `default` or `invariant`.
type FirewallRule struct {
	Name string `json:"name"`
}

// Metadata tells events apart and says who wrote them.
type Metadata struct {
	Product  Product  `json:"product"`
	Profiles []string `json:"profiles"`
	UID      string   `json:"uid"`     // 128 random bits, in hex
	Version  string   `json:"version"` // of OCSF
}

// Product is this gateway and its version.
type Product struct {
	Name       string `json:"name"`
	VendorName string `json:"vendor_name"`
	Version    string `json:"version"`
}

// DNSQuery is the question.
type DNSQuery struct {
	Class    string `json:"class"`
	Hostname string `json:"hostname"`
	Type     string `json:"type,omitempty"`
}

// DNSAnswer is one address that was given.
type DNSAnswer struct {
	Rdata string `json:"rdata"`
	Type  string `json:"type,omitempty"`
}

// HTTPRequest is a request, without its query.
type HTTPRequest struct {
	HTTPMethod string `json:"http_method,omitempty"`
	URL        URL    `json:"url"`
}

// URL is where a request went.
type URL struct {
	Hostname string `json:"hostname,omitempty"`
	Path     string `json:"path,omitempty"`
}

// HTTPResponse is what the agent was answered.
type HTTPResponse struct {
	Code int `json:"code"`
}

// Traffic is what a flow carried, in bytes, seen from the agent.
type Traffic struct {
	Bytes    int64 `json:"bytes"`
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
}

// FindingInfo is the head of a Detection Finding.
type FindingInfo struct {
	CreatedTime int64    `json:"created_time"`
	Title       string   `json:"title"`
	Types       []string `json:"types"`
	UID         string   `json:"uid"`
}

// Evidence repeats the endpoints where OCSF wants them in a Detection Finding.
type Evidence struct {
	ConnectionInfo *ConnectionInfo `json:"connection_info,omitempty"`
	DstEndpoint    *Endpoint       `json:"dst_endpoint,omitempty"`
	SrcEndpoint    *Endpoint       `json:"src_endpoint,omitempty"`
}

// Unmapped is what OCSF has no place for: how the verdict came about, and the
// event's place in the chain.
type Unmapped struct {
	Checkpoint   *Statement    `json:"checkpoint,omitempty"`
	Hash         string        `json:"hash"`
	Mode         policy.Mode   `json:"mode,omitempty"`
	Notice       NoticeKind    `json:"notice,omitempty"`
	Pin          *PinEvidence  `json:"pin,omitempty"`
	PolicyDigest string        `json:"policy_digest,omitempty"`
	PrevHash     string        `json:"prev_hash"`
	Seq          uint64        `json:"seq"`
	Stage        string        `json:"stage"`
	Tier         policy.Tier   `json:"tier,omitempty"`
	Tool         string        `json:"tool,omitempty"` // that an MCP message calls
	Workload     string        `json:"workload,omitempty"`
	Would        *policy.Would `json:"would,omitempty"`
}

// The stages that events of the log itself carry, beside those of policy.Stage.
const (
	StageCheckpoint = "checkpoint"
	StageLog        = "log"
)

// PinEvidence is the answer that tied a name to the address of a flow.
type PinEvidence struct {
	Answer   string `json:"answer"`
	Bound    string `json:"bound,omitempty"` // the owner name whose TTL was the lowest
	Question string `json:"question"`
	Time     int64  `json:"time"` // of the answer, ms since 1970
	TTL      int64  `json:"ttl"`  // seconds
}
