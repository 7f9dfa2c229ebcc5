package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/gateway/selftest"
)

const (
	// selfTestEvery is how often a gateway that passed is tested again.
	selfTestEvery = 15 * time.Second
	// selfTestAgain is how long a gateway that failed its self-test waits before the
	// next one.
	selfTestAgain = 5 * time.Second
	// selfTestName is under a domain that nobody can have (RFC 6761).
	selfTestName = "self-test.bulkhead.invalid"
)

var (
	// neverPermitted is Azure's metadata service, which no rule can permit.
	neverPermitted = netip.MustParseAddrPort("169.254.169.254:80")
	// anycastPCP is the Port Control Protocol's anycast address (RFC 7723): part of
	// the internet, so that ordinary permits cover it, and never a web server. The
	// self-test's handshake with it ends at the enforcer.
	anycastPCP = netip.MustParseAddr("192.0.0.9")
)

// prove tests the gateway for as long as it runs. It is ready while the last test
// passed; where one fails, the routes and settings that somebody may have changed are
// put back before the next.
func (s *Server) prove(ctx context.Context) {
	for {
		err := s.selfTest(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := selfTestEvery
		if err == nil {
			s.failure.Store(nil)
			if !s.ready.Swap(true) {
				rules := s.rules.Load()
				s.log.Info("ready", "agents", s.cfg.Agents, "dns", s.dns, "ruleset", rules.Digest(), "rules", len(rules.Document().Rules))
			}
		} else {
			s.unready(errors.Join(err, s.table.Restore()))
			wait = selfTestAgain
		}
		s.tell()
		select {
		case <-ctx.Done():
			return
		case <-s.provable:
		case <-time.After(wait):
		}
	}
}

// unready says why the gateway is not.
func (s *Server) unready(err error) {
	text := err.Error()
	s.failure.Store(&text)
	s.ready.Store(false)
	s.log.Error("not ready", "error", err)
	s.tell()
}

// tell has the service manager and those who deploy told at once.
func (s *Server) tell() {
	for _, c := range []chan struct{}{s.news, s.reportable} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// selfTest proves with packets of a made-up agent that what must be refused is refused,
// and that what may be permitted reaches the enforcer.
func (s *Server) selfTest(ctx context.Context) error {
	if s.empty.Load() {
		return fmt.Errorf("no ruleset yet, so nothing passes: %s", s.refused())
	}
	src, err := selftest.Source(s.cfg.Agents)
	if err != nil {
		return err
	}
	wire, err := selftest.Open(src)
	if err != nil {
		return err
	}
	defer wire.Close()
	if answer, err := wire.Dial(ctx, neverPermitted); err != nil || answer != selftest.Refused {
		return selfTestFailed(fmt.Sprintf("a connection to %s must be refused", neverPermitted), string(answer), err)
	}
	rules := s.rules.Load()
	if q := rules.Question(src, selfTestName); !q.Permitted() {
		if rcode, err := wire.Ask(ctx, s.dns, selfTestName); err != nil || rcode != dns.RcodeNameError {
			return selfTestFailed("a question for "+selfTestName+" must be answered NXDOMAIN", dns.RcodeToString[rcode], err)
		}
	}
	return s.selfTestPermit(ctx, wire, src, rules)
}

// selfTestPermit pins a permitted name to an address and connects to it. A ruleset
// without such a name has nothing to test here.
func (s *Server) selfTestPermit(ctx context.Context, wire *selftest.Wire, src netip.Addr, rules *policy.Ruleset) error {
	name, ports := permittedName(rules, src)
	if name == "" {
		return nil
	}
	var keys []pin.GateKey
	for _, p := range ports {
		keys = append(keys, pin.GateKey{Src: s.pins.Owner(src), Dst: anycastPCP, Proto: p.Proto, Port: p.Port})
	}
	dst := netip.AddrPortFrom(anycastPCP, ports[0].Port)
	if err := s.table.Admit(ctx, keys, time.Minute); err != nil {
		return fmt.Errorf("self-test: the kernel's gate: %w", err)
	}
	defer s.table.Revoke(context.WithoutCancel(ctx), keys)
	answer, err := wire.Dial(ctx, dst)
	if err != nil || answer != selftest.Accepted {
		return selfTestFailed("a connection to an address of "+name+" must be accepted", string(answer), err)
	}
	return nil
}

// permittedName finds a name that the ruleset lets an agent reach through the enforcer.
func permittedName(rules *policy.Ruleset, src netip.Addr) (string, []policy.ProtoPort) {
	for _, g := range rules.Document().WebGroups {
		for _, name := range g.FQDNs {
			if q := rules.Question(src, name); !q.Permitted() {
				continue // a pattern is no name and asks nothing
			}
			if ports := rules.Gate(src, anycastPCP, name); len(ports) > 0 {
				return name, ports
			}
		}
	}
	return "", nil
}

func selfTestFailed(want, got string, err error) error {
	if err != nil {
		return fmt.Errorf("self-test: %s: %w", want, err)
	}
	if got == "" {
		return errors.New("self-test: " + want)
	}
	return fmt.Errorf("self-test: %s, and met %s", want, got)
}
