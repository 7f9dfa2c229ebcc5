package pin

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"

	pins "github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

var log = clog.NewWithPlugin(name)

// sweepEvery is how often pins that are gone make room, and how much of the state a crash may cost.
const sweepEvery = time.Minute

func init() { plugin.Register(name, setup) }

func setup(c *caddy.Controller) error {
	s, err := parse(c)
	if err != nil {
		return plugin.Error(name, err)
	}
	p := s.plugin()
	keep := &keeper{pins: p.Pins, file: s.state, every: sweepEvery}
	c.OnStartup(keep.start)
	// The next instance loads what this one saved.
	c.OnRestart(keep.save)
	c.OnShutdown(keep.stop)
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		p.Next = next
		return p
	})
	return nil
}

// settings is what a Corefile says.
type settings struct {
	rules *policy.Ruleset
	scope policy.PinScope
	state string
}

func (s *settings) plugin() *Pin {
	return New(Options{
		Rules: func() Rules { return s.rules },
		Pins:  pins.New(pins.Options{Scope: s.scope}),
	})
}

func parse(c *caddy.Controller) (*settings, error) {
	s := &settings{scope: policy.ScopeSource}
	var env policy.Environment
	file := ""
	for c.Next() {
		if file != "" {
			return nil, plugin.ErrOnce
		}
		args := c.RemainingArgs()
		if len(args) != 1 {
			return nil, c.ArgErr()
		}
		file = absolute(c, args[0])
		for c.NextBlock() {
			if err := s.parseProperty(c, &env); err != nil {
				return nil, err
			}
		}
	}
	if s.scope == policy.ScopeShared && len(env.DNSClients) == 0 {
		return nil, errors.New("scope shared needs clients: the resolvers that ask for all agents")
	}
	env.PinScope = s.scope
	var err error
	s.rules, err = load(file, env)
	return s, err
}

func (s *settings) parseProperty(c *caddy.Controller, env *policy.Environment) error {
	property, args := c.Val(), c.RemainingArgs()
	switch property {
	case "agents", "clients":
		list := &env.Agents
		if property == "clients" {
			list = &env.DNSClients
		}
		if len(args) == 0 {
			return c.ArgErr()
		}
		for _, a := range args {
			p, err := netip.ParsePrefix(a)
			if err != nil {
				return c.Errf("%s: %q is not a prefix such as 10.20.1.0/24", property, a)
			}
			*list = append(*list, p.Masked())
		}
	case "scope":
		if len(args) != 1 {
			return c.ArgErr()
		}
		s.scope = policy.PinScope(args[0])
		if s.scope != policy.ScopeSource && s.scope != policy.ScopeShared {
			return c.Errf("scope %q: use source or shared", args[0])
		}
	case "state":
		if len(args) != 1 {
			return c.ArgErr()
		}
		s.state = absolute(c, args[0])
	default:
		return c.Errf("unknown property %q: use agents, clients, scope or state", property)
	}
	return nil
}

// absolute reads a path as other plugins do: relative to the root plugin's setting.
func absolute(c *caddy.Controller, path string) string {
	if root := dnsserver.GetConfig(c).Root; root != "" && !filepath.IsAbs(path) {
		return filepath.Join(root, path)
	}
	return path
}

// load reads and compiles a ruleset. One with errors is not used.
func load(file string, env policy.Environment) (*policy.Ruleset, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	doc, err := policy.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, d := range policy.Check(doc, env) {
		if d.Severity == policy.SeverityError {
			return nil, fmt.Errorf("%s: %s", file, d)
		}
		log.Warningf("%s: %s", file, d)
	}
	rules, err := policy.Compile(doc, env)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return rules, nil
}

// keeper drops pins that are gone, from time to time, and keeps the others in a file if there is one.
type keeper struct {
	pins  *pins.Store
	file  string // empty: none
	every time.Duration
	quit  chan struct{}
	done  sync.WaitGroup
}

func (k *keeper) start() error {
	if k.file != "" {
		if err := k.pins.LoadFile(k.file); err != nil {
			log.Warningf("Pins are not restored: %v", err)
		}
	}
	k.quit = make(chan struct{})
	k.done.Go(func() {
		tick := time.NewTicker(k.every)
		defer tick.Stop()
		for {
			select {
			case <-k.quit:
				return
			case <-tick.C:
				k.pins.Sweep()
				if err := k.save(); err != nil {
					log.Errorf("Pins are not saved: %v", err)
				}
			}
		}
	})
	return nil
}

func (k *keeper) save() error {
	if k.file == "" {
		return nil
	}
	return k.pins.SaveFile(k.file)
}

func (k *keeper) stop() error {
	if k.quit == nil {
		return nil
	}
	close(k.quit)
	k.done.Wait()
	k.quit = nil
	return k.save()
}
