package enforcer

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// looks answers for origins as a test says, and remembers what it was asked.
type looks struct {
	reason policy.Reason
	at     netip.Addr // the only origin that the reason is about; zero: all are
	asked  chan string
}

func (o *looks) Probe(_ context.Context, _ netip.Addr, origin netip.AddrPort, name string, _ bool, _ uint16) (policy.Reason, string) {
	o.asked <- name + " at " + origin.String()
	if o.at.IsValid() && o.at != origin.Addr() {
		return "", ""
	}
	return o.reason, "as the test says"
}

// asking is the ruleset with one more field in the permit of tools.
func asking(t *testing.T, field string) string {
	t.Helper()
	const permit = "webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT"
	if !strings.Contains(rules, permit) {
		t.Fatal("the ruleset has changed: this test no longer tests what it says")
	}
	return strings.Replace(rules, permit, permit+", "+field, 1)
}

// TestPosture holds that what a rule asks of origin and client is seen to before anything is sent.
func TestPosture(t *testing.T) {
	for _, tc := range []struct {
		what, rules string
		origins     *looks
		reason      policy.Reason // empty: permitted
	}{
		{"a good origin", asking(t, `originCertificate: verify, minTLS: "1.2"`), &looks{}, ""},
		{"a bad certificate", asking(t, "originCertificate: verify"), &looks{reason: policy.ReasonOriginCertificate}, policy.ReasonOriginCertificate},
		{"an old origin", asking(t, `minTLS: "1.3"`), &looks{reason: policy.ReasonTLSVersion}, policy.ReasonTLSVersion},
		{"nobody to ask", asking(t, "originCertificate: verify"), nil, policy.ReasonNotReady},
		{"a budget that nobody keeps", asking(t, "budget: {bytesOut: 1000000, window: 24h}"), &looks{}, policy.ReasonNotReady},
	} {
		t.Run(tc.what, func(t *testing.T) {
			l := newLab(t, func(o *Options) {
				if tc.origins != nil {
					tc.origins.asked = make(chan string, 8)
					o.Origins = tc.origins
				}
			})
			l.rules.Store(compile(t, tc.rules))
			l.host(t, github, 443, tlsEcho)
			l.pin(t, agent, "api.github.com", github)
			got, err := talk(l.dial(t, agent, github, 443), "api.github.com")
			if tc.reason == "" {
				if err != nil || got != "hello" || <-tc.origins.asked != "api.github.com at 140.82.112.5:443" {
					t.Fatal(got, err)
				}
				return
			}
			if err == nil {
				t.Fatal("permitted")
			}
			if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != tc.reason || r.Decision.Rule == policy.RuleInvariant {
				t.Errorf("%+v", r.Decision)
			}
			if l.world.dialled() > 0 {
				t.Error("the destination was dialled")
			}
		})
	}
}

// TestPostureElsewhere holds that the address which a flow falls back to is looked at as well:
// the good answer was that of another.
func TestPostureElsewhere(t *testing.T) {
	origins := &looks{reason: policy.ReasonOriginCertificate, at: github2, asked: make(chan string, 8)}
	l := newLab(t, func(o *Options) { o.Origins = origins })
	l.rules.Store(compile(t, asking(t, "originCertificate: verify")))
	l.host(t, github2, 443, tlsEcho) // github refuses
	l.pin(t, agent, "api.github.com", github, github2)
	if got, err := talk(l.dial(t, agent, github, 443), "api.github.com"); err == nil {
		t.Fatal("permitted: ", got)
	}
	r := l.log.wait(t, audit.Close)
	if r.Decision.Permitted() || r.Decision.Reason != policy.ReasonOriginCertificate || r.Decision.Rule != "allow-tools" || r.BytesOut != 0 {
		t.Errorf("%+v", r)
	}
	if first, second := <-origins.asked, <-origins.asked; first != "api.github.com at 140.82.112.5:443" || second != "api.github.com at 140.82.112.6:443" {
		t.Error(first, second)
	}
}
