package packet

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Table is the kernel program of the network namespace that the process runs in.
// Its methods may be called from any number of goroutines.
type Table struct {
	gate gate

	mu      sync.Mutex // one transaction of the whole program at a time
	cfg     Config
	current *policy.KernelTable
	stamp   stamp // of what Load left in the kernel
}

var _ pin.Gate = (*Table)(nil)

// Open takes over the network namespace: it checks what the kernel can do, loads the
// program, and only then turns forwarding on. A program that an earlier process left
// is kept until the first Load, so that a restart cuts no flow; without one,
// nothing is permitted until then.
func Open(cfg Config) (*Table, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := Probe(); err != nil {
		return nil, err
	}
	c, err := dial()
	if err != nil {
		return nil, err
	}
	old, err := listing(c)
	if err != nil {
		return nil, err
	}
	t := &Table{cfg: cfg, current: &policy.KernelTable{}}
	if p := build(&cfg, t.current); len(old.chains) == 0 || !p.fits(old) {
		if err := p.install(); err != nil {
			return nil, err
		}
	}
	if err := prepareHost(cfg.Agents); err != nil {
		return nil, err
	}
	t.gate.start()
	return t, nil
}

// Lockdown loads the program with nothing permitted and the gate shut, ends the flows that
// the kernel forwards, and leaves forwarding itself as it is. It is for the time
// before the network comes up at boot.
func Lockdown(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if err := Probe(); err != nil {
		return err
	}
	c, err := dial()
	if err != nil {
		return err
	}
	c.DelTable(c.AddTable(kernelTable()))
	p := build(&cfg, &policy.KernelTable{})
	t := c.AddTable(kernelTable())
	if err := p.write(c, t, &loaded{}); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("loading the kernel program: %w", explain(err))
	}
	_, err = sweep(context.Background(), func(Conn) bool { return false })
	return err
}

// Text is the program for a ruleset's table in the syntax of nft(8).
func Text(cfg Config, table *policy.KernelTable) (string, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return "", err
	}
	return build(&cfg, table).String(), nil
}

// Load puts a ruleset in force. On an error the program before stays, whole.
// Connections that were admitted go on; see Sweep.
func (t *Table) Load(table *policy.KernelTable) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.loadLocked(&t.cfg, table)
}

func (t *Table) loadLocked(cfg *Config, table *policy.KernelTable) error {
	p := build(cfg, table)
	if err := p.install(); err != nil {
		return err
	}
	t.cfg, t.current, t.stamp = *cfg, table, stamp{}
	s, err := takeStamp()
	if err != nil {
		return err
	}
	// Somebody may have been faster than the stamp, and theirs is not to be taken for ours.
	if rules := strings.Count(s.rules, "\n"); rules != p.size() {
		return fmt.Errorf("%w: %d of %d rules", ErrProgramChanged, rules, p.size())
	}
	t.stamp = s
	return nil
}

// SetEgress replaces Config.Egress and Config.Services, for names whose addresses change.
func (t *Table) SetEgress(prefixes []netip.Prefix, services []netip.AddrPort) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	cfg := t.cfg
	cfg.Egress, cfg.Services = prefixes, services
	if err := cfg.check(); err != nil {
		return err
	}
	return t.loadLocked(&cfg, t.current)
}

// Close stops what the Table runs. The program stays in the kernel: closed is the
// resting state.
func (t *Table) Close() error {
	t.gate.stop()
	return nil
}
