// Package resolver is the gateway's DNS server: CoreDNS, embedded with four of its
// plugins, and ours between them.
//
// The chain is bind, pin, cache, forward. The pin plugin judges each question with
// the ruleset in force, and pins each answer, cached or not; see package
// corednsplugin/pin. This package only builds the chain, starts and stops it, and
// keeps the pins: it expires them, saves them and asks ahead where agents do not
// ask us.
//
// CoreDNS keeps its order of plugins and its registry in package variables, so a
// process has one order. Servers may be many; each names its plugin in its
// Corefile by a number.
//
// The forward plugin does not let its sockets be marked. The kernel program
// therefore permits the gateway's own questions by the upstream's address and port.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/bind"    // the address to listen on
	_ "github.com/coredns/coredns/plugin/cache"   // below the pin plugin
	_ "github.com/coredns/coredns/plugin/forward" // to the upstreams

	pinplugin "github.com/bulkhead-dev/bulkhead/corednsplugin/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Config is what a Server needs. All of it is required but where a comment says
// otherwise.
type Config struct {
	Listen   netip.AddrPort   // UDP and TCP
	Upstream []netip.AddrPort // asked at random; 1 to 15
	Agents   []netip.Prefix   // for whom names are asked ahead, in verify scope
	Rules    func() *policy.Ruleset
	Pins     *pin.Store
	Gate     pin.Gate
	Audit    audit.Recorder
	State    string      // file that pins are kept in over a restart; empty: none
	Report   func(error) // what fails behind the scenes; nil: nobody hears of it
}

// Server is a running DNS server.
type Server struct {
	config   Config
	plugin   *pinplugin.Pin
	instance *caddy.Instance
	id       uint64
	cancel   context.CancelFunc
	done     sync.WaitGroup
}

const (
	// maintainEvery is how often pins are expired and, in verify scope, asked for:
	// once in the floor of a pin.
	maintainEvery = pin.DefaultFloor
	// saveEvery is how soon new pins are on disk. A crash loses younger ones, and
	// their agents have to ask again.
	saveEvery = 500 * time.Millisecond
	// saveShare keeps saving many pins to a small part of the time.
	saveShare = 20
)

// stopTimeout is more than CoreDNS takes for questions that are under way.
const stopTimeout = 10 * time.Second

// directive places our plugin, which exists already, into a Corefile.
const directive = "bulkhead"

var (
	prepare = sync.OnceValue(func() error {
		caddy.Quiet, dnsserver.Quiet = true, true
		plugin.Register(directive, setup)
		return dnsserver.SetDirectives([]string{"bind", directive, "cache", "forward"})
	})
	plugins sync.Map // id to *pinplugin.Pin
	lastID  atomic.Uint64
)

func setup(c *caddy.Controller) error {
	c.Next()
	if !c.NextArg() {
		return c.ArgErr()
	}
	id, err := strconv.ParseUint(c.Val(), 10, 64)
	if err != nil {
		return plugin.Error(directive, err)
	}
	found, ok := plugins.Load(id)
	if !ok {
		return plugin.Error(directive, fmt.Errorf("no plugin %d", id))
	}
	p, config := found.(*pinplugin.Pin), dnsserver.GetConfig(c)
	c.OnStartup(func() error {
		p.Upstream = config.Handler("forward")
		return nil
	})
	config.AddPlugin(func(next plugin.Handler) plugin.Handler {
		p.Next = next
		return p
	})
	return nil
}

// corefile writes the server's configuration.
//
// Denials are cached for a short time only, so that a name that is being created
// becomes usable soon. The upstream is asked over UDP first whatever the client
// uses, and over TCP where an answer is truncated.
func corefile(c *Config, id uint64) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".:%d {\n\tbind %s\n\t%s %d\n", c.Listen.Port(), c.Listen.Addr(), directive, id)
	b.WriteString("\tcache {\n\t\tsuccess 9984 3600\n\t\tdenial 9984 30\n\t}\n\tforward .")
	for _, u := range c.Upstream {
		fmt.Fprintf(&b, " %s", u)
	}
	b.WriteString(" {\n\t\tprefer_udp\n\t\tmax_concurrent 1000\n\t}\n}\n")
	return b.String()
}

// Start loads the pins that were saved, and listens.
func Start(c Config) (*Server, error) {
	if !c.Listen.IsValid() || len(c.Upstream) == 0 {
		return nil, errors.New("the resolver needs an address to listen on and an upstream")
	}
	if err := prepare(); err != nil {
		return nil, err
	}
	if c.Report == nil {
		c.Report = func(error) {}
	}
	s := &Server{config: c, id: lastID.Add(1)}
	if c.State != "" {
		if err := c.Pins.LoadFile(c.State); err != nil {
			c.Report(fmt.Errorf("pins are not restored, agents have to ask again: %w", err))
		}
	}
	s.plugin = pinplugin.New(pinplugin.Options{Rules: s.rules, Pins: c.Pins, Gate: c.Gate, Audit: c.Audit})
	plugins.Store(s.id, s.plugin)
	var err error
	s.instance, err = caddy.Start(caddy.CaddyfileInput{
		Filepath: "Corefile", Contents: []byte(corefile(&c, s.id)), ServerTypeName: "dns",
	})
	if err != nil {
		plugins.Delete(s.id)
		return nil, fmt.Errorf("DNS on %s: %w", c.Listen, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.done.Go(func() { s.maintain(ctx) })
	s.done.Go(func() { s.keepSaved(ctx) })
	return s, nil
}

// rules hides a nil pointer from the interface.
func (s *Server) rules() pinplugin.Rules {
	if r := s.config.Rules(); r != nil {
		return r
	}
	return nil
}

// Ask resolves a name past the cache on behalf of a source, and pins what comes
// back. An error says that nothing was pinned.
func (s *Server) Ask(ctx context.Context, src netip.Addr, name string) error {
	return s.plugin.Ask(ctx, src, name)
}

// Stop answers what was asked already, stops listening and saves the pins.
func (s *Server) Stop() error {
	s.cancel()
	s.done.Wait()
	errs := s.instance.ShutdownCallbacks()
	errs = append(errs, s.instance.Stop())
	stopped := make(chan struct{})
	go func() {
		s.instance.Wait()
		close(stopped)
	}()
	// CoreDNS does not stop a server that is only about to serve.
	select {
	case <-stopped:
		plugins.Delete(s.id)
	case <-time.After(stopTimeout):
		errs = append(errs, fmt.Errorf("DNS on %s did not stop within %s", s.config.Listen, stopTimeout))
	}
	return errors.Join(append(errs, s.save())...)
}

func (s *Server) save() error {
	if s.config.State == "" {
		return nil
	}
	if err := s.config.Pins.SaveFile(s.config.State); err != nil {
		return fmt.Errorf("pins are not saved: %w", err)
	}
	return nil
}

// Readmit puts every pin into the gate again, after the kernel program was loaded or a reload
// changed what names may do. Before is the ruleset before that: what it had put there and the
// one in force does not want is taken out.
func (s *Server) Readmit(ctx context.Context, before *policy.Ruleset) error {
	rules := s.config.Rules()
	if rules == nil {
		return nil
	}
	var err error
	if before != nil && before != rules {
		err = s.config.Pins.Retire(ctx, s.config.Gate, before.Gate, rules.Gate)
	}
	return errors.Join(err, s.config.Pins.Readmit(ctx, s.config.Gate, rules.Gate))
}

func (s *Server) maintain(ctx context.Context) {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		if rules := s.config.Rules(); rules != nil {
			if err := s.config.Pins.Expire(ctx, s.config.Gate, rules.Gate); err != nil {
				s.config.Report(fmt.Errorf("gate keys are not revoked: %w", err))
			}
			if s.config.Pins.Scope() == policy.ScopeVerify {
				s.askAhead(ctx, rules.Document())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// keepSaved writes the pins to disk soon after they change.
func (s *Server) keepSaved(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	var saved uint64
	var rest time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changes, begin := s.config.Pins.Changes(), time.Now()
		if changes == saved || begin.Before(rest) {
			continue
		}
		if err := s.save(); err != nil {
			s.config.Report(err)
			rest = begin.Add(maintainEvery)
			continue
		}
		saved, rest = changes, begin.Add(saveShare*time.Since(begin))
	}
}
