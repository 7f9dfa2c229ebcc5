package audit

import (
	"net/netip"
	"strings"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// The OCSF numbers that the log writes.
const (
	actionAllowed  = 1
	actionDenied   = 2
	actionObserved = 3

	dispositionAllowed  = 1
	dispositionBlocked  = 2
	dispositionDetected = 15
	dispositionLogged   = 17

	severityInformational = 1
	severityLow           = 2
	severityMedium        = 3
	severityHigh          = 4

	statusSuccess = 1
	statusFailure = 2

	activityOther = 99

	dnsQuery   = 1
	dnsTraffic = 6 // question and answer in one event

	findingCreate = 1

	directionOutbound = 2

	ocsfVersion = "1.6.0"
)

var httpActivities = map[string]int{
	"CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8, "PATCH": 9,
}

// rcodes are OCSF's rcode_id, which are IANA's numbers, and its captions.
var rcodes = map[string]struct {
	id      int
	caption string
}{
	"NOERROR": {0, "NoError"}, "FORMERR": {1, "FormError"}, "SERVFAIL": {2, "ServError"},
	"NXDOMAIN": {3, "NXDomain"}, "NOTIMP": {4, "NotImp"}, "REFUSED": {5, "Refused"},
	"YXDOMAIN": {6, "YXDomain"}, "YXRRSET": {7, "YXRRSet"}, "NXRRSET": {8, "NXRRSet"},
	"NOTAUTH": {9, "NotAuth"}, "NOTZONE": {10, "NotZone"}, "BADVERS": {16, "BADVERS"},
}

const rcodeOther = 99

// hostile are the reasons that do not come from a mistake: something tried to get
// past the ruleset, or talked to what is known to be bad.
var hostile = map[policy.Reason]bool{
	policy.ReasonThreatAddress: true, policy.ReasonThreatName: true,
	policy.ReasonAddressMismatch: true, policy.ReasonAuthorityMismatch: true,
	policy.ReasonRebind: true, policy.ReasonTunnelling: true,
}

// renderer turns records into events. It is everything that an event says and a
// record does not.
type renderer struct {
	version  string
	workload func(netip.Addr) string
	uid      func() string
	now      func() time.Time
}

// blank is an event with what every class has in common.
func (r *renderer) blank(class Class, at time.Time) *Event {
	category := 4
	if class == DetectionFinding {
		category = 2
	}
	return &Event{
		CategoryUID: category, ClassUID: class, SeverityID: severityInformational, StatusID: statusSuccess,
		Time: millis(at),
		Metadata: Metadata{
			Product:  Product{Name: "Bulkhead", VendorName: "Bulkhead", Version: r.version},
			Profiles: []string{"security_control"}, UID: r.uid(), Version: ocsfVersion,
		},
		Unmapped: Unmapped{Hash: genesis, PrevHash: genesis},
	}
}

func (r *renderer) event(rec *Record) *Event {
	at := rec.Time
	if at.IsZero() {
		at = r.now()
	}
	e := r.blank(classOf(rec), at)
	d := &rec.Decision
	e.ActionID, e.DispositionID = actionAllowed, dispositionAllowed
	switch {
	case !d.Permitted():
		e.ActionID, e.DispositionID, e.StatusID = actionDenied, dispositionBlocked, statusFailure
		e.SeverityID = severityMedium
	case d.Detected():
		e.DispositionID, e.SeverityID = dispositionDetected, severityLow
	}
	if hostile[d.Reason] {
		e.SeverityID, e.IsAlert = severityHigh, true
	}
	if rec.Count > 1 {
		e.Count = rec.Count
	}
	e.Message = bounded(rec.Message, maxMessage)
	e.StatusDetail = bounded(string(d.Reason), maxLabel)
	e.FirewallRule = &FirewallRule{Name: bounded(ruleOf(d), maxLabel)}
	host := bounded(rec.Host, maxName)
	e.SrcEndpoint = endpoint(rec.Src, "")
	e.DstEndpoint = endpoint(rec.Dst, host)
	e.ConnectionInfo = connection(rec)
	if rec.BytesIn != 0 || rec.BytesOut != 0 || rec.Activity == Close {
		in, out := count(rec.BytesIn), count(rec.BytesOut)
		e.Traffic = &Traffic{Bytes: count(in + out), BytesIn: in, BytesOut: out}
	}
	if rec.Duration > 0 {
		e.Duration = rec.Duration.Milliseconds()
		e.StartTime, e.EndTime = max(e.Time-e.Duration, 0), e.Time
	}
	e.Unmapped.Stage = d.Stage.String()
	e.Unmapped.Tier = d.Tier
	e.Unmapped.Mode = d.Mode
	if d.Would != nil {
		e.Unmapped.Would = &policy.Would{Rule: bounded(d.Would.Rule, maxLabel), Verdict: d.Would.Verdict}
	}
	e.Unmapped.PolicyDigest = bounded(rec.Digest, maxLabel)
	e.Unmapped.Pin = pinEvidence(rec.Pin)
	e.Unmapped.Workload = r.workloadOf(rec.Src.Addr())

	switch e.ClassUID {
	case DNSActivity:
		dns(e, rec.DNS, host)
	case HTTPActivity:
		http(e, rec.HTTP, host)
	case DetectionFinding:
		e.ActivityID = findingCreate
		finding(e, e.StatusDetail)
	default:
		e.ActivityID = int(activityOf(rec))
	}
	e.TypeUID = int(e.ClassUID)*100 + e.ActivityID
	return e
}

// classOf holds the class to the four of the format; a record that names none is
// network activity.
func classOf(rec *Record) Class {
	switch rec.Class {
	case HTTPActivity, DNSActivity, DetectionFinding:
		return rec.Class
	}
	return NetworkActivity
}

func activityOf(rec *Record) Activity {
	switch {
	case rec.Activity != 0:
		return rec.Activity
	case rec.Decision.Permitted():
		return Open
	}
	return Refuse
}

func ruleOf(d *policy.Decision) string {
	if d.Rule == "" {
		return policy.RuleDefault
	}
	return d.Rule
}

func (r *renderer) workloadOf(src netip.Addr) string {
	if r.workload != nil && src.IsValid() {
		if name := r.workload(src); name != "" {
			return bounded(name, maxLabel)
		}
	}
	if !src.IsValid() {
		return ""
	}
	return src.WithZone("").String()
}

func endpoint(at netip.AddrPort, host string) *Endpoint {
	e := Endpoint{Hostname: host, Port: at.Port()}
	if at.Addr().IsValid() {
		e.IP = at.Addr().WithZone("").String() // a zone is text of unknown length
	}
	if e == (Endpoint{}) {
		return nil
	}
	return &e
}

func connection(rec *Record) *ConnectionInfo {
	version := 0
	switch src := rec.Src.Addr().Unmap(); {
	case src.Is4():
		version = 4
	case src.Is6():
		version = 6
	}
	return &ConnectionInfo{
		DirectionID: directionOutbound, ProtocolName: rec.Proto.String(), ProtocolNum: int(rec.Proto), ProtocolVerID: version,
	}
}

func pinEvidence(p *Pin) *PinEvidence {
	if p == nil {
		return nil
	}
	e := &PinEvidence{
		Question: bounded(p.Question, maxName), Bound: bounded(p.Bound, maxName),
		Time: millis(p.Asked), TTL: max(int64(p.TTL/time.Second), 0),
	}
	if p.Answer.IsValid() {
		e.Answer = p.Answer.WithZone("").String()
	}
	return e
}

func dns(e *Event, d *DNS, host string) {
	e.ActivityID = dnsQuery
	e.Query = &DNSQuery{Class: "IN", Hostname: host}
	if d == nil {
		return
	}
	e.Query.Type = bounded(d.Type, maxLabel)
	if d.Rcode != "" {
		e.ActivityID = dnsTraffic
		code, known := rcodes[strings.ToUpper(d.Rcode)]
		if !known {
			code.id, code.caption = rcodeOther, bounded(d.Rcode, maxLabel)
		}
		e.Rcode, e.RcodeID = code.caption, &code.id
	}
	for _, a := range d.Answers[:min(len(d.Answers), maxAnswers)] {
		e.Answers = append(e.Answers, DNSAnswer{Rdata: bounded(a, maxName), Type: e.Query.Type})
	}
}

func http(e *Event, h *HTTP, host string) {
	e.ActivityID = activityOther
	e.HTTPRequest = &HTTPRequest{URL: URL{Hostname: host}}
	if h == nil {
		return
	}
	if id, known := httpActivities[h.Method]; known {
		e.ActivityID = id
	}
	e.HTTPRequest.HTTPMethod = bounded(h.Method, maxMethod)
	path, _, _ := strings.Cut(h.Path, "?") // queries carry secrets
	e.HTTPRequest.URL.Path = bounded(path, maxPath)
	if h.Status != 0 {
		e.HTTPResponse = &HTTPResponse{Code: h.Status}
	}
	e.Unmapped.Tool = bounded(h.Tool, maxLabel)
}

func finding(e *Event, kind string) {
	title := e.Message
	if title == "" {
		title = kind
	}
	e.FindingInfo = &FindingInfo{CreatedTime: e.Time, Title: title, Types: []string{kind}, UID: e.Metadata.UID}
	if e.SrcEndpoint != nil || e.DstEndpoint != nil {
		e.Evidences = []Evidence{{ConnectionInfo: e.ConnectionInfo, DstEndpoint: e.DstEndpoint, SrcEndpoint: e.SrcEndpoint}}
	}
}

// count keeps a number within what every JSON reader holds exactly (RFC 8785 takes
// numbers as doubles).
func count(n int64) int64 { return min(max(n, 0), 1<<53-1) }

func millis(t time.Time) int64 { return count(t.UnixMilli()) }
