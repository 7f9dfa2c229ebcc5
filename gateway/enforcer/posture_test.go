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
	asked  chan string
}

func (o *looks) Probe(_ context.Context, _ netip.Addr, origin netip.AddrPort, name string, _ bool, _ uint16) (policy.Reason, string) {
	o.asked <- name + " at " + origin.String()
	return o.reason, "as the test says"
}

// TestPosture holds that what a rule asks of origin and client is seen to before anything is sent.
func TestPosture(t *testing.T) {
	with := func(field string) string {
		return strings.Replace(rules, "webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT", "webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT, "+field, 1)
	}
	for _, tc := range []struct {
		what, rules string
		origins     *looks
		reason      policy.Reason // empty: permitted
	}{
		{"a good origin", with(`originCertificate: verify, minTLS: "1.2"`), &looks{}, ""},
		{"a bad certificate", with("originCertificate: verify"), &looks{reason: policy.ReasonOriginCertificate}, policy.ReasonOriginCertificate},
		{"an old origin", with(`minTLS: "1.3"`), &looks{reason: policy.ReasonTLSVersion}, policy.ReasonTLSVersion},
		{"nobody to ask", with("originCertificate: verify"), nil, policy.ReasonNotReady},
		{"a budget that nobody keeps", with("budget: {bytesOut: 1000000, window: 24h}"), &looks{}, policy.ReasonNotReady},
	} {
		t.Run(tc.what, func(t *testing.T) {
			if tc.rules == rules {
				t.Fatal("the ruleset has changed: this test no longer tests what it says")
			}
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
