package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// call is one thing that each agent does over and over, and how it went.
type call struct {
	name  string
	every time.Duration
	do    func(ctx context.Context, h *lab.Host) error
	// forbidden calls must fail in any weather; the others may while the gateway is down,
	// unless they always must succeed.
	forbidden, always bool
	refusal           trace // of a forbidden call, without the source

	mu                  sync.Mutex
	ok, failed, excused int
}

// errExcused is the result of a call that cannot be judged, because what it should
// see changed meanwhile.
var errExcused = errors.New("the ruleset changed meanwhile")

// allCalls is the traffic of one agent: about 60 flows a second.
func (s *soak) allCalls() []*call {
	at := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	to := func(p policy.Proto, dst netip.AddrPort) trace { return trace{proto: p, dst: dst} }
	const often, now, seldom = 100 * time.Millisecond, 250 * time.Millisecond, 3 * time.Second
	permitted := []*call{
		{name: "tls, name resolved", every: now, do: s.tool},
		{name: "tls, address remembered", every: often, do: s.remembered},
		{name: "tls, 15 s session", every: seldom, do: s.session},
		{name: "tls, 4 MiB", every: seldom, do: s.bulk},
		{name: "http, keep-alive", every: 2 * now, do: s.mirror},
		{name: "http, server-sent events", every: 2 * now, do: s.stream},
		{name: "dns, permitted", every: now, do: s.lookups},
		{name: "forwarded tcp", every: now, do: s.forwarded("tcp")},
		{name: "forwarded udp", every: now, do: s.forwarded("udp")},
		{name: "forwarded tcp, whole run", every: time.Second, do: s.steady(), always: true},
		{name: "watched rule", every: 2 * now, do: s.watched},
	}
	forbidden := []*call{
		{name: "forbidden name", do: s.askFor(lab.ExfilName), refusal: trace{name: lab.ExfilName}},
		{name: "forbidden address", do: s.reach("tcp", at(lab.Exfil, 443)), refusal: to(policy.TCP, at(lab.Exfil, 443))},
		{name: "threat address", do: s.reach("tcp", at(lab.Malicious, 443)), refusal: to(policy.TCP, at(lab.Malicious, 443))},
		{name: "forbidden port", do: s.reach("tcp", at(lab.GitHub, 22)), refusal: to(policy.TCP, at(lab.GitHub, 22))},
		{name: "database next door", do: s.reach("tcp", at(lab.DatabaseIP, 5432)), refusal: to(policy.TCP, at(lab.DatabaseIP, 5432))},
		{name: "forged SNI", do: s.forgedSNI, refusal: to(policy.TCP, at(lab.Agent365, 443))},
		{name: "forged Host", do: s.forgedHost, refusal: to(policy.TCP, at(lab.Mirror, 80))},
		{name: "udp", do: s.reach("udp", at(lab.Exfil, 4444)), refusal: to(policy.UDP, at(lab.Exfil, 4444))},
		{name: "quic", do: s.reach("udp", at(lab.GitHub, 443)), refusal: to(policy.UDP, at(lab.GitHub, 443))},
		{name: "another resolver, udp", do: s.otherResolver("udp", "secret-u.t."+lab.AttackerDomain), refusal: trace{name: "secret-u.t." + lab.AttackerDomain}},
		{name: "another resolver, tcp", do: s.otherResolver("tcp", "secret-t.t."+lab.AttackerDomain), refusal: trace{name: "secret-t.t." + lab.AttackerDomain}},
	}
	for _, c := range forbidden {
		c.forbidden, c.every = true, 2*now
	}
	return append(permitted, forbidden...)
}

// work makes one kind of call from one agent until ctx ends. The last one is not cut off.
func (s *soak) work(ctx context.Context, h *lab.Host, c *call) {
	wait := time.NewTimer(rand.N(c.every)) // not all at once
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		before := s.outages.Load()
		err := c.do(ctx, h)
		calm := before%2 == 0 && before == s.outages.Load()
		s.judge(h, c, err, calm)
		wait.Reset(max(c.every-time.Since(began), 0))
	}
}

func (s *soak) judge(h *lab.Host, c *call, err error, calm bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, errExcused):
		c.excused++
	case c.forbidden && err == nil:
		c.failed++
		s.violation("%s of %s got through", c.name, h.Name)
	case c.forbidden || err == nil:
		c.ok++
	case calm || c.always:
		c.failed++
		s.violation("%s of %s at %s: %v", c.name, h.Name, s.clock(), err)
	default:
		c.excused++
	}
}

// settled returns once everything works from both agents, as after a start. It leaves a
// pin for what agents remember.
func (s *soak) settled(ctx context.Context) error {
	for _, h := range s.agents {
		for _, do := range []func(context.Context, *lab.Host) error{s.tool, s.mirror, s.forwarded("tcp"), s.resolveForged} {
			if err := until(ctx, func() error { return do(ctx, h) }); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		}
	}
	return nil
}

// until tries again until f succeeds or ctx ends.
func until(ctx context.Context, f func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}
