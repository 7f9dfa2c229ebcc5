package enforcer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/budget"
	"github.com/bulkhead-dev/bulkhead/gateway/enforcer/relay"
	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Pins tells which names were resolved to a destination; *pin.Store is one.
type Pins interface {
	Lookup(src, addr netip.Addr, name string) pin.Match
	Names(src, addr netip.Addr) []string
	Addrs(src netip.Addr, name string) []netip.Addr
	Touch(src netip.Addr)
}

// Resolver asks for a name again on behalf of src and pins the answer. An error
// means that nothing was pinned.
type Resolver interface {
	Ask(ctx context.Context, src netip.Addr, name string) error
}

// Gate is what an [HTTP] or [TLS] implementation asks of the flow that it serves. It is an
// alias, so that the implementation need not know this package. Its methods may be called
// concurrently.
type Gate = interface {
	// Judge decides one request, by its normalised authority (empty: none), method
	// and path as sent, without the query, and says what has to be done to it. Where the permit
	// is pending a message it is asked again with all that the body holds. A permit is in the
	// audit when Judge returns. The path is the one to send: where a rule depends on it, that is the
	// judged form.
	Judge(ctx context.Context, name, method, path string, messages []policy.RPC) (policy.Decision, policy.Obligations, string)
	// Callable reports whether the ruleset permits the call of a tool. Nothing is written down.
	Callable(name, method, path, tool string) bool
	// Refuse writes down that a request was refused and answered with status.
	Refuse(d policy.Decision, name, method, path string, status int, message string)
	// Answered writes down how a permitted request ended: the status of its answer, the bytes of both
	// bodies, and how long it took.
	Answered(ctx context.Context, d policy.Decision, name, method, path string, status int, out, in int64, took time.Duration)
	// Fail writes down that the flow ended before it had a request.
	Fail(d policy.Decision, message string)
	// Dial connects to the flow's own destination, whatever the request says.
	Dial(ctx context.Context) (net.Conn, error)
}

// HTTP serves the requests of one plain HTTP connection until it ends.
type HTTP interface {
	ServeFlow(ctx context.Context, client net.Conn, facts policy.Flow, gate Gate)
}

// Limits bound what agents can hold at once.
type Limits struct {
	Flows          int           // of all agents, 0: 20,000
	FlowsPerSource int           // of one agent, 0: 2,000
	HelloTimeout   time.Duration // from accept until the flow has said what it is, 0: 5 s
}

// Options are a Server's parts. Those without a default in their comment are required.
type Options struct {
	Ruleset  func() *policy.Ruleset // the one in force
	Pins     Pins
	Resolver Resolver
	Audit    audit.Recorder
	HTTP     HTTP
	TLS      TLS            // nil: nothing is decrypted, and what depends on it is refused
	Origins  Origins        // nil: flows whose rule asks for a look at the origin are refused
	Budgets  *budget.Ledger // nil: what a budget bounds is refused
	Dialer   Dialer
	Limits   Limits
	Now      func() time.Time     // nil: time.Now
	Logf     func(string, ...any) // for faults of our own; nil: discarded
}

// Server enforces the ruleset on the connections of its listeners.
type Server struct {
	opt    Options
	base   context.Context // of every flow
	stop   context.CancelFunc
	engine *relay.Engine
	work   workers
	peeks  atomic.Int64  // bytes bound in large peeks
	gen    atomic.Uint64 // of the ruleset; Rejudge moves it on

	mu        sync.Mutex
	closing   bool
	listeners map[Listener]struct{}
	flows     map[*flow]struct{}
	perSource map[netip.Addr]int
	wg        sync.WaitGroup // of flows
}

// New returns a Server without listeners.
func New(opt Options) *Server {
	if opt.Limits.Flows == 0 {
		opt.Limits.Flows = 20_000
	}
	if opt.Limits.FlowsPerSource == 0 {
		opt.Limits.FlowsPerSource = 2_000
	}
	if opt.Limits.HelloTimeout == 0 {
		opt.Limits.HelloTimeout = 5 * time.Second
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logf == nil {
		opt.Logf = func(string, ...any) {}
	}
	base, stop := context.WithCancel(context.Background())
	return &Server{
		opt: opt, base: base, stop: stop, engine: relay.New(), work: newWorkers(base.Done()),
		listeners: map[Listener]struct{}{}, flows: map[*flow]struct{}{}, perSource: map[netip.Addr]int{},
	}
}

// ErrClosed is what Serve returns after Shutdown.
var ErrClosed = errors.New("enforcer: server closed")

// Serve accepts connections until ctx ends or Shutdown is called, and closes the
// listener. Flows that it accepted live on.
func (s *Server) Serve(ctx context.Context, ln Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		ln.Close()
		return ErrClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer func() {
		stop()
		ln.Close()
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
	}()

	var pause time.Duration
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(conn)
			continue
		case ctx.Err() != nil:
			return nil
		case s.isClosing():
			return ErrClosed
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("enforcer: accept: %w", err)
		}
		// Out of descriptors or memory, most likely (EMFILE, ENFILE, ENOBUFS).
		// Connections wait in the backlog until flows have ended.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.opt.Logf("accept: %v; next try in %s", err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		case <-s.base.Done():
		}
	}
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// accept starts a flow, or refuses it for want of room.
func (s *Server) accept(c Conn) {
	f := &flow{
		srv: s, client: c.TCPConn, src: c.Src, dst: c.Dst, start: s.opt.Now(),
		facts: policy.Flow{Stage: policy.StagePacket, Src: c.Src.Addr(), Dst: c.Dst.Addr(), Proto: policy.TCP, Port: c.Dst.Port()},
	}
	ctx, cancel := context.WithCancel(s.base)
	f.cancel = cancel
	if !s.enter(f) {
		cancel()
		v := verdict{facts: f.facts, digest: s.opt.Ruleset().Digest()}.refuse(policy.ReasonOverload)
		reset(f.client)
		f.refused(v, "too many flows at once")
		return
	}
	s.work.run(func() { f.own(func() bool { return f.run(ctx) }) })
}

// own runs stages of a flow in this goroutine. The flow leaves the table at their end, unless the
// relay has it.
func (f *flow) own(stages func() (handed bool)) {
	handed := false
	defer func() {
		if !handed {
			f.srv.leave(f)
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			f.fault(p)
		}
	}()
	handed = stages()
}

// survive is deferred in what the relay's loop calls on behalf of a flow.
func (f *flow) survive() {
	if p := recover(); p != nil {
		f.fault(p)
		f.srv.leave(f)
	}
}

// fault ends a flow whose handling failed. It must not end all others; and the flow that
// met it is not let through.
func (f *flow) fault(p any) {
	f.reset()
	f.srv.opt.Logf("flow %s to %s: panic: %v\n%s", f.src, f.dst, p, debug.Stack())
	f.refused(verdict{facts: f.facts, digest: f.srv.opt.Ruleset().Digest()}.refuse(policy.ReasonNotReady), "fault in the gateway")
}

// enter puts a flow into the table if there is room for it.
func (s *Server) enter(f *flow) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := f.src.Addr()
	if s.closing || len(s.flows) >= s.opt.Limits.Flows || s.perSource[src] >= s.opt.Limits.FlowsPerSource {
		return false
	}
	s.flows[f] = struct{}{}
	s.perSource[src]++
	s.wg.Add(1)
	return true
}

// leave takes a flow out of the table, once.
func (s *Server) leave(f *flow) {
	f.cancel()
	if f.client != nil {
		f.client.Close()
	}
	s.mu.Lock()
	if _, here := s.flows[f]; !here {
		s.mu.Unlock()
		return
	}
	delete(s.flows, f)
	src := f.src.Addr()
	if s.perSource[src]--; s.perSource[src] == 0 {
		delete(s.perSource, src)
	}
	s.mu.Unlock()
	s.wg.Done()
}

// snapshot returns the flows in the table.
func (s *Server) snapshot() []*flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	flows := make([]*flow, 0, len(s.flows))
	for f := range s.flows {
		flows = append(flows, f)
	}
	return flows
}

// Rejudge goes through the live flows after the ruleset in force has changed, resets
// those that are no longer permitted, and returns how many that were. A flow that
// is being decided meanwhile is decided under the new ruleset.
func (s *Server) Rejudge(ctx context.Context) (withdrawn int) {
	s.gen.Add(1)
	rs := s.opt.Ruleset()
	for _, f := range s.snapshot() {
		if ctx.Err() != nil {
			break
		}
		if f.rejudge(rs) {
			withdrawn++
		}
	}
	return withdrawn
}

// KeepAlive tells the pin store that agents with live flows are not idle. Call it more
// often than pins of idle sources are forgotten.
func (s *Server) KeepAlive() {
	s.mu.Lock()
	sources := make([]netip.Addr, 0, len(s.perSource))
	for src := range s.perSource {
		sources = append(sources, src)
	}
	s.mu.Unlock()
	for _, src := range sources {
		s.opt.Pins.Touch(src)
	}
}

// Shutdown stops accepting and waits for the flows to end. When ctx ends first, the
// rest is reset, and its error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for ln := range s.listeners {
		ln.Close()
	}
	s.mu.Unlock()
	defer s.engine.Close()
	defer s.stop()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.stop()
	for _, f := range s.snapshot() {
		f.reset()
	}
	<-done
	return ctx.Err()
}
