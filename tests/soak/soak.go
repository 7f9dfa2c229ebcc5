package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// patience bounds one call, and what a restart may take beyond a drain. It finds what hangs, not
// what is slow: on a machine that others load, all processes may stand for seconds.
const patience = 20 * time.Second

// soak is a run.
type soak struct {
	plan   plan
	lab    *lab.Lab
	agents []*lab.Host
	began  time.Time
	calls  []*call

	// outages is odd while the gateway is down or coming up. A call is judged if it is even
	// and the same before and after.
	outages atomic.Int64
	// turn counts changes of the watched rule: 0 monitored, 1 changing, 2 enforced, 3
	// changing back, and so on. Calls that the rule is about hold turning for reading, so
	// that a change can wait for those under way.
	turn    atomic.Int64
	turning sync.RWMutex

	faults  faults
	far     *far
	trail   *trail
	health  *health
	logRead int64 // of the gateway's log

	mu         sync.Mutex
	violations []string
	more       int // violations that were not kept
}

func begin(ctx context.Context, p plan, binary, dir string) (*soak, error) {
	up, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	l, err := lab.Up(up, lab.Options{Gateway: binary, Dir: dir})
	if err != nil {
		return nil, err
	}
	s := &soak{plan: p, lab: l, agents: []*lab.Host{l.Host(lab.InvoiceAgent), l.Host(lab.ResearchAgent)}, began: time.Now(),
		trail: newTrail(l.Paths.Audit), health: &health{warm: p.Warm}}
	s.calls = s.allCalls()
	if s.far, err = newFar(l); err == nil {
		err = echoes(l)
	}
	if err == nil {
		err = s.settled(up)
	}
	if err != nil {
		return nil, errors.Join(err, l.Down())
	}
	s.health.born(time.Now())
	return s, nil
}

// soak runs traffic, faults and looks until the time is over, then ends all in good order.
func (s *soak) soak(ctx context.Context) {
	timed, cancel := context.WithTimeout(ctx, s.plan.For)
	defer cancel()
	var traffic sync.WaitGroup
	for _, h := range s.agents {
		for _, c := range s.calls {
			traffic.Go(func() { s.work(timed, h, c) })
		}
	}
	var rest sync.WaitGroup
	rest.Go(func() { s.disturb(timed) })
	rest.Go(func() { every(timed, s.plan.Sample, s.sample) })
	rest.Go(func() { every(timed, s.plan.Window, s.far.rotate(s)) })
	rest.Go(func() { every(timed, s.plan.Check, func(context.Context) { s.check() }) })
	rest.Go(func() { every(timed, s.plan.Progress, func(context.Context) { s.say() }) })
	rest.Wait()
	traffic.Wait()
	s.finish()
}

// every calls f until ctx ends. f gets a context that outlives it by a little.
func every(ctx context.Context, d time.Duration, f func(context.Context)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			call, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			f(call)
			cancel()
		case <-ctx.Done():
			return
		}
	}
}

// finish looks once more when nothing moves any longer.
func (s *soak) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.lab.Process.PID() == 0 {
		s.violation("the gateway does not run at the end")
		return
	}
	s.idle(ctx)
	if err := s.lab.Process.Stop(ctx); err != nil {
		s.violation("the last stop: %v", err)
	}
	s.far.rotate(s)(ctx)
	s.check()
	s.verify()
}

// idle waits until no flow is left in the gateway: all of them have been closed.
func (s *soak) idle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := s.flows(ctx)
		if err == nil && n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.violation("%d flows are left in the gateway when all have been closed (%v)", n, err)
			return
		}
	}
}

// check reads what has been written since the last time.
func (s *soak) check() {
	if err := s.trail.read(); err != nil {
		s.violation("the audit: %v", err)
	}
	s.readLog()
	if q := s.lab.Rogue.Queries(); len(q) > 0 {
		s.violation("the attacker's name server was asked %d times, such as for %s", len(q), q[0].Name)
	}
	if s.lab.Upstream.Asked(lab.AttackerDomain) {
		s.violation("a refused name was asked upstream")
	}
	for _, name := range []string{lab.Attacker, lab.Database} {
		if v := s.lab.Sites[name].Visits(); len(v) > 0 {
			s.violation("%s had %d visits, such as %s to %s", name, len(v), v[0].Transport, v[0].To)
		}
	}
}

// infraPort is one on which no names exist, so that the kernel forwards its flows alone.
const infraPort = 7000

var infra = netip.AddrPortFrom(lab.AgentInfra, infraPort)

// echoes answer on infraPort of the agents' infrastructure.
func echoes(l *lab.Lab) error {
	tcp, err := l.Host(lab.Platform).Listen(infra.String())
	if err != nil {
		return err
	}
	udp, err := l.Host(lab.Platform).ListenPacket(infra.String())
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				udp.WriteTo(buf[:n], from)
			}
		}
	}()
	return nil
}

const maxViolations = 50

// violation notes what should not be, and says so at once. One that repeats is told once.
func (s *soak) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.violations {
		if v == text {
			s.more++
			return
		}
	}
	if len(s.violations) == maxViolations {
		s.more++
		return
	}
	s.violations = append(s.violations, text)
	fmt.Fprintf(os.Stderr, "soak: %s VIOLATION %s\n", s.clock(), text)
}

func (s *soak) clock() string {
	d := time.Since(s.began).Round(time.Second)
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
