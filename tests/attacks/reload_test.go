package attacks

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// readiness is what /readyz says of the ruleset.
type readiness struct {
	Ruleset struct{ Digest, Error string }
}

func (s *scene) readiness(t *testing.T) (r readiness) {
	t.Helper()
	resp, err := s.Process.Admin(within(t), "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("/readyz: %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// reload puts another ruleset in the file and waits until the gateway has seen to it.
func (s *scene) reload(t *testing.T, yaml string, done func(before, after readiness) bool) {
	t.Helper()
	before := s.readiness(t)
	if err := s.WriteRuleset(yaml); err != nil {
		t.Fatal(err)
	}
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reload", func() bool { return done(before, s.readiness(t)) })
}

func applied(before, after readiness) bool {
	return after.Ruleset.Error == "" && after.Ruleset.Digest != before.Ruleset.Digest
}

func notApplied(before, after readiness) bool {
	return after.Ruleset.Error != "" && after.Ruleset.Digest == before.Ruleset.Digest
}

// forbid takes a permission back. Flows that it covered may still end.
func (s *scene) forbid(t *testing.T, proto policy.Proto, to netip.AddrPort) {
	t.Helper()
	s.sealed(t)
	delete(s.permitted, destination{proto, to})
}

// withdrawal waits for the close of a flow that a reload ended.
func (s *scene) withdrawal(t *testing.T, dst netip.AddrPort, rule string) {
	t.Helper()
	_, err := s.WaitEvent(within(t), func(e *audit.Event) bool {
		const closes, denied = 2, 2
		return e.ClassUID == audit.NetworkActivity && e.ActivityID == closes && e.ActionID == denied && e.DstEndpoint != nil &&
			e.DstEndpoint.IP == dst.Addr().String() && e.DstEndpoint.Port == dst.Port() && e.FirewallRule != nil && e.FirewallRule.Name == rule
	})
	if err != nil {
		t.Errorf("%s is not audited as withdrawn by %s: %v", dst, rule, err)
		s.dump(t, time.Time{})
	}
}

// TestReload promotes a monitored rule, withdraws an address permit, and puts a bad ruleset in force, or tries to.
func TestReload(t *testing.T) {
	s := open(t, lab.Options{})
	s.openInfra(t)
	x := s.target(t)
	gist := netip.AddrPortFrom(lab.Gist, 443)
	web := netip.AddrPortFrom(lab.AgentInfra, 80)
	s.names[lab.GistName] = true
	s.permit(policy.TCP, x.tls())
	s.permit(policy.TCP, gist)
	s.resolve(t, s.invoice, x.name)
	s.resolve(t, s.invoice, lab.GistName)
	watched, stays, forwarded := s.stay(t, gist, lab.GistName), s.stay(t, x.tls(), x.name), s.stay(t, infra, "")
	handled := s.stay(t, web, "") // by the enforcer: a denial by name stands above the permit
	if _, err := s.WaitEvent(within(t), func(e *audit.Event) bool {
		const detected = 15
		return e.DispositionID == detected && e.DstEndpoint != nil && e.DstEndpoint.Hostname == lab.GistName && e.Unmapped.Would != nil &&
			e.Unmapped.Would.Rule == "deny-code-sharing"
	}); err != nil {
		t.Error("the monitored rule was not heard:", err)
	}

	t.Run("monitor to enforce", func(t *testing.T) {
		s.reload(t, strings.Replace(ruleset(), "action: DENY, mode: monitor", "action: DENY, mode: enforce", 1), applied)
		if got := watched.ended(); got.what != reset {
			t.Errorf("the live flow saw %q (%s)", got.what, got.detail)
		}
		s.withdrawal(t, gist, "deny-code-sharing")
		s.forbid(t, policy.TCP, gist)
		since := time.Now()
		if got := ask(t, s.invoice, "udp", lab.GatewayAddr, lab.GistName); got.what != blocked {
			t.Errorf("the question saw %q", got.what)
		}
		s.denial(t, s.invoice, since, question(lab.GistName, "deny-code-sharing", policy.ReasonRule))
		if got := s.handshake(t, s.invoice, gist, &tls.Config{ServerName: lab.GistName}, nil); got.what != refused && got.what != denied {
			t.Errorf("a new flow saw %q (%s)", got.what, got.detail)
		}
		s.sealed(t)
		for name, l := range map[string]*live{"spliced": stays, "forwarded": forwarded} {
			if got := l.use(); got.what != reached {
				t.Errorf("the %s flow that is still permitted saw %q (%s)", name, got.what, got.detail)
			}
		}
	})
	t.Run("bad ruleset", func(t *testing.T) {
		for _, bad := range []string{
			strings.Replace(ruleset(), "webGroups: [foundry-tool-calls]", "webGroups: [foundry-toolcalls]", 1),
			"version: 1\nrules: [", "",
			strings.Replace(ruleset(), "default: {action: DENY", "default: {action: PERMIT", 1),
		} {
			s.reload(t, bad, notApplied)
			if got := stays.use(); got.what != reached {
				t.Errorf("the live flow saw %q", got.what)
			}
			if got := s.handshake(t, s.invoice, x.tls(), &tls.Config{ServerName: x.name}, nil); got.what != reached {
				t.Errorf("a new flow saw %q", got.what)
			}
			if got := ask(t, s.invoice, "udp", lab.GatewayAddr, lab.GistName); got.what != blocked {
				t.Errorf("a refused question saw %q", got.what)
			}
			if got := connect(t, s.invoice, netip.AddrPortFrom(lab.Exfil, 443)); got.what != refused {
				t.Errorf("the attacker: %q", got.what)
			}
		}
		s.sealed(t)
	})
	t.Run("address permit withdrawn", func(t *testing.T) {
		s.reload(t, strings.Replace(ruleset(), "cidrs: [100.64.0.0/11]", "cidrs: [100.96.0.0/11]", 1), applied)
		if got := forwarded.use(); got.what != reset && got.what != closed {
			t.Errorf("the forwarded flow saw %q (%s)", got.what, got.detail)
		}
		if got := handled.ended(); got.what != reset {
			t.Errorf("the flow in the enforcer's hands saw %q (%s)", got.what, got.detail)
		}
		for _, to := range []netip.AddrPort{infra, web} {
			s.withdrawal(t, to, "default")
			s.forbid(t, policy.TCP, to)
			if got := connect(t, s.invoice, to); got.what != refused {
				t.Errorf("a new flow to %s saw %q", to, got.what)
			}
		}
		s.forbid(t, policy.UDP, infra)
		if got := exchange(t, s.invoice, "udp", infra, []byte(loot)); got.what != prohibited {
			t.Errorf("a new datagram saw %q", got.what)
		}
		if got := stays.use(); got.what != reached {
			t.Errorf("the flow that is still permitted saw %q", got.what)
		}
		s.sealed(t)
	})
	t.Run("permit by name withdrawn while its answer is on the way", func(t *testing.T) { race(t, s) })
}
