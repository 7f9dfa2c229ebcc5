package attacks

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// sight is what an agent saw of what it tried.
type sight struct {
	what string
	// rule and reason, where the refusal says them.
	rule, reason string
	detail       string
}

// What an agent may see.
const (
	reached    = "reached"
	silence    = "silence"
	refused    = "connection refused" // RST for its SYN
	reset      = "connection reset"   // RST later
	closed     = "closed"
	prohibited = "ICMP prohibited"
	denied     = "TLS access_denied"
	blocked    = "NXDOMAIN, blocked"
	noData     = "NODATA"
	servfail   = "SERVFAIL"
	noAnswer   = "no server" // the process is gone
)

// status is an HTTP answer that is not 200.
func status(code int) string { return "HTTP " + strconv.Itoa(code) }

// bypass is one attack.
type bypass struct {
	name string
	from *lab.Host // nil: the invoice agent
	try  func(*testing.T) sight
	want string // what the agent must see
	// The event that the audit must hold.
	event event
	// permits is what the twin may reach, beside what others may.
	permits []netip.AddrPort
	// twin is of the same shape, and permitted.
	twin func(*testing.T) sight
}

// event is what is asked of an audit event. Zero fields are not.
type event struct {
	class  audit.Class // zero: Network Activity
	dst    netip.AddrPort
	proto  policy.Proto // zero: TCP
	host   string
	rule   string
	reason policy.Reason
	stage  policy.Stage
}

const (
	byInternet = "default-deny-internet"
	byEastWest = "deny-east-west"
)

// play runs attacks one after the other.
func (s *scene) play(t *testing.T, attacks ...bypass) {
	t.Helper()
	for _, b := range attacks {
		t.Run(b.name, func(t *testing.T) { s.one(t, b) })
	}
}

func (s *scene) one(t *testing.T, b bypass) {
	t.Helper()
	if b.from == nil {
		b.from = s.invoice
	}
	start := time.Now()
	got := b.try(t)
	if got.what != b.want {
		t.Errorf("the agent saw %q (%s), want %q", got.what, got.detail, b.want)
	}
	s.sealed(t)
	e := s.denial(t, b.from, start, b.event)
	if got.rule != "" && e.FirewallRule != nil && (got.rule != e.FirewallRule.Name || got.reason != e.StatusDetail) {
		t.Errorf("the agent was told %s, %s; the audit says %s, %s", got.rule, got.reason, e.FirewallRule.Name, e.StatusDetail)
	}
	if b.twin == nil {
		t.Fatal("an attack without a permitted twin proves nothing")
	}
	for _, p := range b.permits {
		s.permit(policy.TCP, p)
	}
	if got := b.twin(t); got.what != reached {
		t.Errorf("the permitted twin saw %q (%s)", got.what, got.detail)
	}
	s.sealed(t)
}

// denial waits for the event of a refusal and holds it to want.
func (s *scene) denial(t *testing.T, from *lab.Host, since time.Time, want event) audit.Event {
	t.Helper()
	if want.class == 0 {
		want.class = audit.NetworkActivity
	}
	if want.proto == 0 {
		want.proto = policy.TCP
	}
	if want.rule == "" || want.reason == "" {
		t.Fatal("an attack without the rule and the reason that refuse it")
	}
	e, err := s.WaitEvent(within(t), func(e *audit.Event) bool {
		const denied = 2
		return e.ClassUID == want.class && e.ActionID == denied && e.Time >= since.UnixMilli() && e.SrcEndpoint != nil &&
			e.SrcEndpoint.IP == from.Addr.String() && s.about(e, &want)
	})
	if err != nil {
		t.Errorf("no denial of %+v in the audit: %v", want, err)
		s.dump(t, since)
		return e
	}
	rule := ""
	if e.FirewallRule != nil {
		rule = e.FirewallRule.Name
	}
	if rule != want.rule || e.StatusDetail != string(want.reason) || e.Unmapped.Stage != want.stage.String() || e.DispositionID != 2 {
		t.Errorf("audited as rule %s, reason %s, stage %s, disposition %d; want %s, %s, %s, 2",
			rule, e.StatusDetail, e.Unmapped.Stage, e.DispositionID, want.rule, want.reason, want.stage)
	}
	if !strings.HasPrefix(e.Unmapped.PolicyDigest, "sha256:") || e.Unmapped.Workload != from.Name {
		t.Errorf("audited under digest %q for workload %q", e.Unmapped.PolicyDigest, e.Unmapped.Workload)
	}
	return e
}

// about reports whether an event is about the flow or question.
func (s *scene) about(e *audit.Event, want *event) bool {
	if want.class == audit.DNSActivity {
		return e.Query != nil && e.Query.Hostname == want.host
	}
	d := e.DstEndpoint
	return d != nil && d.IP == want.dst.Addr().String() && d.Port == want.dst.Port() && d.Hostname == want.host &&
		e.ConnectionInfo != nil && e.ConnectionInfo.ProtocolName == want.proto.String()
}

// dump shows what the audit holds instead.
func (s *scene) dump(t *testing.T, since time.Time) {
	t.Helper()
	events, err := s.Events()
	if err != nil {
		t.Error(err)
	}
	for _, e := range events {
		if e.Time >= since.UnixMilli() {
			rule := ""
			if e.FirewallRule != nil {
				rule = e.FirewallRule.Name
			}
			t.Logf("audit: class %d activity %d action %d %+v -> %+v %+v query %+v rule %s reason %s stage %s %s", e.ClassUID, e.ActivityID, e.ActionID,
				e.SrcEndpoint, e.DstEndpoint, e.ConnectionInfo, e.Query, rule, e.StatusDetail, e.Unmapped.Stage, e.Message)
		}
	}
}

// denialOf finds the refusal of packets from a source to a destination.
func denialOf(src string, dst netip.AddrPort) func(*audit.Event) bool {
	const denied = 2
	return func(e *audit.Event) bool {
		return e.ClassUID == audit.NetworkActivity && e.ActionID == denied && e.SrcEndpoint != nil && e.SrcEndpoint.IP == src &&
			e.DstEndpoint != nil && e.DstEndpoint.IP == dst.Addr().String() && e.DstEndpoint.Port == dst.Port() && e.FirewallRule != nil
	}
}
