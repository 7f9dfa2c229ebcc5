// Package server runs a gateway: it puts the kernel program, the resolver, the
// enforcer and the audit together, in the order in which nothing is open before it is
// governed, and keeps the ruleset in force.
//
// The order matters. The kernel program comes first, with nothing permitted. The audit
// is opened before anything that decides. The resolver and the enforcer come up before
// the program hands them packets. Only then is the ruleset loaded. On the way down the
// program stays: closed stays closed.
package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/hashicorp/go-hclog"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/budget"
	"github.com/bulkhead-dev/bulkhead/gateway/ca"
	"github.com/bulkhead-dev/bulkhead/gateway/config"
	"github.com/bulkhead-dev/bulkhead/gateway/enforcer"
	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
	"github.com/bulkhead-dev/bulkhead/gateway/inspect"
	"github.com/bulkhead-dev/bulkhead/gateway/packet"
	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/gateway/policyblob"
	"github.com/bulkhead-dev/bulkhead/gateway/resolver"
	"github.com/bulkhead-dev/bulkhead/gateway/secrets"
	"github.com/bulkhead-dev/bulkhead/gateway/selftest"
)

const (
	// drainTime is how long flows may go on after SIGTERM. Azure gives a stopping
	// machine longer than this.
	drainTime = 20 * time.Second
	// liveness is how often the pin store hears which agents have live flows; far
	// below the hour after which it forgets idle ones.
	liveness = time.Minute
)

// Server is a running gateway.
type Server struct {
	cfg      *config.Config
	log      hclog.Logger
	version  string
	dns      netip.AddrPort
	gateway  []netip.Addr           // its own addresses
	identity azcore.TokenCredential // for Azure's services; nil where none is asked

	rules   atomic.Pointer[policy.Ruleset]
	lastErr atomic.Pointer[string] // of the last reload, nil if it went well
	// published is where the ruleset comes from, nil for a file; empty says that none came yet.
	published *policyblob.Source
	empty     atomic.Bool
	ready     atomic.Bool
	failure   atomic.Pointer[string] // of the self-test
	audit     *audit.Log
	ca        *ca.Authority // nil: nothing is decrypted
	// proofs and rejections say which roots agents have trusted, and for which names they did not.
	proofs     *ca.Proofs
	rejections *ca.Rejections
	origins    origins
	egress     egress
	unresolved unresolved // names among it without an address
	discover   Discover
	data       *feeds.Keeper // where feeds and service tags come from
	budgets    *budget.Ledger
	pins       *pin.Store
	table      *packet.Table
	resolver   *resolver.Server
	enforcer   *enforcer.Server
	reloads    sync.Mutex
	draining   atomic.Bool
	ledger     ledger
	// unwritten, news, reportable and provable wake the lease, the service manager's informer, the
	// deployer's and the self-test.
	unwritten, news, reportable, provable chan struct{}
	attestation                           atomic.Pointer[Attestation]
	auditFaults                           *terse
	events                                counters
	denials                               denials
}

// Run runs a gateway until ctx ends, then lets flows end and returns. An error says
// what could not start, in one line.
func Run(ctx context.Context, cfg *config.Config, log hclog.Logger, version string, discover Discover) error {
	s := &Server{cfg: cfg, log: log, version: version, discover: discover, egress: egress{moved: make(chan struct{}, 1)}, unwritten: make(chan struct{}, 1), news: make(chan struct{}, 1),
		reportable: make(chan struct{}, 1), provable: make(chan struct{}, 1), auditFaults: newTerse(time.Now), ledger: newLedger()}
	rules, err := s.prepare()
	if err != nil {
		return err
	}
	defer func() {
		if s.audit != nil {
			s.audit.Close()
		}
	}()
	background, stop := context.WithCancel(context.Background())
	defer stop()
	faults := make(chan error, 8)
	if err := s.start(background, rules, faults); err != nil {
		return err
	}
	go s.prove(background)
	go s.notify(background)
	go s.attest(background)
	go s.watch(background)
	if s.published != nil {
		go s.poll(background)
	}
	select {
	case <-ctx.Done():
		err = nil
	case err = <-faults:
	}
	s.draining.Store(true)
	s.stopping()
	log.Info("draining", "longest", drainTime)
	s.stop()
	return err
}

// prepare does all that can fail without having changed anything.
func (s *Server) prepare() (*policy.Ruleset, error) {
	var err error
	if s.dns, err = s.cfg.Listen(); err != nil {
		return nil, err
	}
	if s.gateway, err = ownAddresses(); err != nil {
		return nil, err
	}
	if err := s.identify(); err != nil {
		return nil, err
	}
	if err := s.openPublished(); err != nil {
		return nil, err
	}
	s.openData()
	rules, err := s.first()
	if err != nil {
		return nil, err
	}
	if err := packet.Probe(); err != nil {
		return nil, err
	}
	for _, dir := range []string{s.cfg.State.Dir, filepath.Dir(s.cfg.Audit.File)} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("cannot make the directory: %w", err)
		}
	}
	return rules, nil
}

// start brings everything up, closed first.
func (s *Server) start(ctx context.Context, rules *policy.Ruleset, faults chan<- error) error {
	var err error
	if s.audit, err = audit.New(audit.Options{File: s.cfg.Audit.File, State: s.cfg.State.Dir, Version: s.version, Workload: s.workload}); err != nil {
		return err
	}
	kernel := PacketConfig(s.cfg, s.dns)
	first := s.firstEgress(ctx, rules)
	kernel.Egress, kernel.Services = first.prefixes, first.services
	if s.table, err = packet.Open(kernel); err != nil {
		return err
	}
	s.pins = pin.New(pin.Options{Scope: s.cfg.DNS.PinScope, PerSource: pinsPerSource(s.cfg, rules)}) // apply keeps it in step
	s.rules.Store(rules)
	if s.resolver, err = resolver.Start(s.resolverConfig()); err != nil {
		return err
	}
	listener, err := enforcer.Listen(ctx, enforcerAddr, packet.EnforcerMark)
	if err != nil {
		return err
	}
	if s.ca, err = s.authority(ctx, rules); err != nil {
		return err
	}
	if s.budgets, err = budget.Open(filepath.Join(s.cfg.State.Dir, "budgets"), time.Now); err != nil {
		return err
	}
	opt, err := s.enforcerOptions(rules)
	if err != nil {
		return err
	}
	s.enforcer = enforcer.New(opt)
	go func() { faults <- s.enforcer.Serve(ctx, listener) }()
	go func() { faults <- s.table.Denials(ctx, s.denied) }()
	go func() { faults <- s.table.Flows(ctx, s.forwarded) }()
	if err := s.serveAdmin(ctx, faults); err != nil {
		return err
	}
	if err := s.apply(ctx, rules); err != nil {
		return err
	}
	go s.lease(ctx)
	go s.guard(ctx)
	go s.keepAlive(ctx)
	go s.resolveEgress(ctx)
	return nil
}

// gateShare is the part of the kernel's gate that the pins of one agent may fill.
const gateShare = 8

// pinsPerSource is the configured bound, or less where a pin takes so many keys (one for
// each port on which flows carry names) that one agent could fill the gate for all.
func pinsPerSource(cfg *config.Config, rules *policy.Ruleset) int {
	ports := 0
	for _, p := range rules.NamePorts() {
		ports += int(p.Hi) - int(p.Lo) + 1
	}
	if cfg.DNS.PinScope != policy.ScopeSource {
		return cfg.Limits.PinsPerSource // all agents share one set of pins
	}
	return min(cfg.Limits.PinsPerSource, packet.GateSize/gateShare/ports)
}

// enforcerAddr is where the kernel hands flows to.
var enforcerAddr = netip.MustParseAddrPort("127.0.0.1:14433")

// PacketConfig is the kernel program's part of a configuration.
func PacketConfig(cfg *config.Config, dns netip.AddrPort) packet.Config {
	c := packet.Config{Agents: cfg.Agents, DNS: dns, DNSClients: cfg.DNS.Clients, SNAT: packet.SNAT(cfg.SNAT),
		Listener: enforcerAddr, EnforcerMark: packet.EnforcerMark,
		FlowsPerSource: uint32(cfg.Limits.FlowsPerSource)}
	for _, u := range cfg.DNS.Upstream {
		c.Upstreams = append(c.Upstreams, u.AddrPort)
	}
	for _, e := range cfg.Destinations() {
		if e.Name == "" {
			c.Egress = append(c.Egress, e.Prefix)
		}
	}
	return c
}

func (s *Server) resolverConfig() resolver.Config {
	c := resolver.Config{Listen: s.dns, Rules: s.rules.Load, Pins: s.pins, Gate: s.table, Audit: s.recorder(), Agents: s.cfg.Agents,
		State:  filepath.Join(s.cfg.State.Dir, "pins"),
		Report: func(err error) { s.log.Named("dns").Warn(err.Error()) }}
	for _, u := range s.cfg.DNS.Upstream {
		c.Upstream = append(c.Upstream, u.AddrPort)
	}
	return c
}

func (s *Server) enforcerOptions(rules *policy.Ruleset) (opt enforcer.Options, err error) {
	log := s.log.Named("enforcer")
	faults := newTerse(time.Now)
	logf := func(format string, args ...any) {
		if ok, more := faults.say(); ok {
			log.Warn(fmt.Sprintf(format, args...), "unsaid", more)
		}
	}
	dialer := enforcer.NetDialer{Mark: packet.EnforcerMark}
	if s.cfg.SNAT == string(packet.SNATInternet) {
		dialer.KeepSource = func(dst netip.Addr) bool { return !policy.IsInternet(dst) }
	}
	if s.origins, err = newOrigins(dialer); err != nil {
		return opt, err
	}
	s.origins.Trust(rules.OriginCAs())
	chain := inspect.New(logf)
	opt = enforcer.Options{
		Ruleset:  s.rules.Load,
		Pins:     s.pins,
		Resolver: s.resolver,
		Audit:    s.recorder(),
		HTTP:     chain,
		Origins:  s.origins,
		Budgets:  s.budgets,
		Dialer:   dialer,
		Limits: enforcer.Limits{Flows: s.affordable(s.cfg.Limits.Flows), FlowsPerSource: s.cfg.Limits.FlowsPerSource,
			HelloTimeout: s.cfg.Limits.HelloTimeout},
		Logf: logf,
	}
	if s.ca != nil {
		secrets := secrets.New(s.identity, &azsecrets.ClientOptions{ClientOptions: s.azure()}, time.Now)
		chain.Decrypt(inspect.Decryption{Certificates: s.ca, Secrets: secrets,
			OriginCAs: func() []*x509.Certificate { return s.rules.Load().OriginCAs() },
			Accepted:  s.proven, Rejected: s.rejected})
		opt.TLS = chain
	}
	return opt, nil
}

// stop lets flows end and saves what the next run needs. The kernel program stays.
func (s *Server) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := s.renew(); err != nil { // draining: no new forwarded flow that nobody would write down
		s.log.Warn("draining", "error", err)
	}
	if err := s.enforcer.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("draining", "error", err)
	}
	if err := s.resolver.Stop(); err != nil {
		s.log.Warn("resolver", "error", err)
	}
	if s.ca != nil {
		s.ca.Close()
	}
	if err := s.budgets.Close(); err != nil {
		s.log.Warn("budgets", "error", err)
	}
	s.reconcile(ctx) // what the kernel began last may not have been read
	s.table.Close()
}

// workload names a source in the audit.
func (s *Server) workload(src netip.Addr) string {
	if test, err := selftest.Source(s.cfg.Agents); err == nil && src == test {
		return "self-test"
	}
	return s.cfg.Workload(src)
}

// keepAlive keeps the pins of agents with live flows.
func (s *Server) keepAlive(ctx context.Context) {
	tick := time.NewTicker(liveness)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.enforcer.KeepAlive()
		}
	}
}
