package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
	"github.com/bulkhead-dev/bulkhead/gateway/packet"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/gateway/policyblob"
)

// settle is how long a changed file is left alone before it is read, so that an editor
// which writes in steps is read once.
const settle = 200 * time.Millisecond

// candidate is a ruleset that may be put in force, and where it comes from.
type candidate struct {
	*policy.Ruleset
	version *policyblob.Version // nil: from a file
}

// load reads and compiles the ruleset with the data of its groups. What has errors
// is refused as a whole.
func (s *Server) load() (candidate, error) {
	c := candidate{}
	from, hint := s.cfg.Policy.File, "; see `bulkhead policy check "+s.cfg.Policy.File+"`"
	var data []byte
	var err error
	if s.published == nil {
		data, err = os.ReadFile(from)
	} else if c.version = s.published.Latest(); c.version != nil {
		data, from, hint = c.version.Document, fmt.Sprintf("serial %d", c.version.Serial), ""
	} else if err = s.published.Trouble(); err == nil {
		err = errors.New("none has been read yet")
	}
	if err != nil {
		return c, fmt.Errorf("ruleset: %w", err)
	}
	c.Ruleset, err = s.compile(data)
	if bad := new(diagnosed); errors.As(err, &bad) {
		return c, fmt.Errorf("%s: %w%s", from, err, hint)
	} else if err != nil {
		return c, fmt.Errorf("%s: %w", from, err)
	}
	return c, nil
}

// diagnosed is what `policy check` would say, too.
type diagnosed struct{ policy.Diagnostic }

func (d *diagnosed) Error() string { return d.Diagnostic.String() }

// environment is what a ruleset is checked and compiled for.
func (s *Server) environment() policy.Environment {
	return policy.Environment{Agents: s.cfg.Agents, Gateway: s.gateway, PinScope: s.cfg.DNS.PinScope, DNSClients: s.cfg.DNS.Clients}
}

func (s *Server) compile(data []byte) (*policy.Ruleset, error) {
	doc, err := policy.Decode(data)
	if err != nil {
		return nil, errors.New(firstLine(err.Error()))
	}
	env := s.environment()
	var problems []feeds.Problem
	// A feed that can no longer be read keeps what it held: it must not open what it closed.
	var last policy.Data
	if inForce := s.rules.Load(); inForce != nil {
		last = inForce.Data()
	}
	env.Data, problems, err = feeds.Load(doc, feeds.Options{Dir: s.cfg.Feeds.Dir, ServiceTagsFile: s.cfg.ServiceTags.File, Discovered: s.discovered(), Last: last})
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		s.log.Warn("data of a group", "problem", p.String())
	}
	for _, d := range policy.Check(doc, env) {
		if d.Severity == policy.SeverityError {
			return nil, &diagnosed{d}
		}
		s.log.Warn("ruleset", "diagnostic", d.String())
	}
	r, err := policy.Compile(doc, env)
	if err != nil {
		return nil, err
	}
	for _, m := range r.Missing() {
		s.log.Warn("a group matches nothing, for want of data", "missing", m)
	}
	return r, nil
}

func firstLine(s string) string {
	line, rest, more := strings.Cut(s, "\n")
	if more {
		line += fmt.Sprintf(" (and %d more)", strings.Count(rest, "\n")+1)
	}
	return line
}

// reload puts the ruleset on disk, or the newest that was published, in force. A bad one
// changes nothing.
func (s *Server) reload(ctx context.Context) {
	s.reloads.Lock()
	defer s.reloads.Unlock()
	s.reloadLocked(ctx)
}

// reloadData puts data in force that has been fetched. A ruleset that is still to come reads it by itself.
func (s *Server) reloadData(ctx context.Context) {
	s.reloads.Lock()
	defer s.reloads.Unlock()
	if !s.empty.Load() {
		s.reloadLocked(ctx)
	}
}

func (s *Server) reloadLocked(ctx context.Context) {
	defer s.tell()
	rules, err := s.load()
	if err == nil {
		if old := s.rules.Load(); !s.empty.Load() && old.Digest() == rules.Digest() && old.SameData(rules.Ruleset) {
			s.accept(rules.version)
			s.lastErr.Store(nil)
			s.events.unchanged()
			return
		}
		err = s.apply(ctx, rules.Ruleset)
	}
	s.events.reload(err)
	if err != nil {
		s.failed(err)
		if s.empty.Load() {
			s.log.Error("ruleset refused; nothing passes until there is a good one", "error", err)
		} else {
			s.log.Error("ruleset refused; the last good one stays in force", "error", err)
		}
		return
	}
	s.accept(rules.version)
	s.lastErr.Store(nil)
	s.log.Info("ruleset in force", "digest", rules.Digest(), "rules", len(rules.Document().Rules), "serial", s.serial())
	if s.empty.Swap(false) {
		s.provable <- struct{}{} // once: there is something to test now
	}
}

// apply puts a compiled ruleset in force: in the kernel first, because what it
// refuses there needs no further decision; then for everybody who asks; then for the
// flows that are already there, and for those that pins let in. With an error the
// ruleset before stays in force.
func (s *Server) apply(ctx context.Context, rules *policy.Ruleset) error {
	if err := s.table.Load(rules.Flatten()); err != nil {
		return fmt.Errorf("the kernel did not take the program: %w", err)
	}
	before := s.rules.Swap(rules)
	s.pins.SetPerSource(pinsPerSource(s.cfg, rules))
	if s.ca != nil {
		s.ca.SetNames(rules.DecryptNames())
	}
	s.origins.Trust(rules.OriginCAs())
	s.follow(ctx, rules)
	withdrawn := s.enforcer.Rejudge(ctx)
	swept := s.sweep(ctx, rules)
	if withdrawn+swept > 0 {
		s.log.Info("flows withdrawn", "enforcer", withdrawn, "kernel", swept)
	}
	// Last, because it takes long where pins are many and flows must end soon.
	if err := s.resolver.Readmit(ctx, before); err != nil {
		// Closed, not open: what is missing in the gate is refused until it is asked for
		// again, and what is too much there is refused by the enforcer.
		s.log.Error("pins and the kernel's gate do not agree; agents may have to resolve again", "error", err)
	}
	return nil
}

// sweep ends forwarded flows that are no longer permitted, and does not give up: each
// of them is an open path.
func (s *Server) sweep(ctx context.Context, rules *policy.Ruleset) (swept int) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		n, err := s.table.Sweep(ctx, s.keep(rules))
		swept += n
		if err == nil {
			return swept
		}
		s.log.Error("flows that are no longer permitted may still go on; trying again", "error", err)
		select {
		case <-ctx.Done():
			return swept
		case <-time.After(wait):
		}
	}
}

// keep says which connections that the kernel forwards may go on.
func (s *Server) keep(rules *policy.Ruleset) func(packet.Conn) bool {
	return func(c packet.Conn) bool {
		d := rules.Decide(&policy.Flow{Stage: policy.StagePacket, Src: c.Src.Addr(), Dst: c.Dst.Addr(), Proto: c.Proto, Port: c.Dst.Port()})
		permitted := d.Permitted() && d.Tier == policy.TierKernel
		s.ledger.withdraw(c, d, rules.Digest(), !permitted)
		return permitted
	}
}

// watch reloads on SIGHUP, when the ruleset's file or its data change, and once every
// refresh interval.
func (s *Server) watch(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	refresh := time.NewTicker(max(s.cfg.ServiceTags.Refresh, time.Minute))
	defer refresh.Stop()
	watcher, err := fsnotify.NewWatcher()
	var changes <-chan fsnotify.Event
	var lost <-chan error
	if err == nil {
		defer watcher.Close()
		for _, dir := range s.watchedDirs() {
			// One that is not there yet is looked at every refresh interval.
			if missing := watcher.Add(dir); missing != nil && !errors.Is(missing, fs.ErrNotExist) {
				err = errors.Join(err, missing)
			}
		}
		changes, lost = watcher.Events, watcher.Errors
	}
	if err != nil {
		s.log.Warn("changes of the ruleset or its data are not noticed; send SIGHUP", "error", err)
	}
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			s.data.Hurry()
			s.fetch(ctx)
			s.reload(ctx)
		case <-refresh.C:
			s.reload(ctx)
		case <-s.data.Changed():
			s.reloadData(ctx)
		case change, open := <-changes:
			switch {
			case !open:
				changes = nil
			case s.concerns(change.Name):
				quiet = time.After(settle)
			}
		case <-lost: // changes, most likely; unread, it would hold up the rest
			if quiet == nil {
				quiet = time.After(settle)
			}
		case <-quiet:
			quiet = nil
			s.reload(ctx)
		}
	}
}

// watchedDirs are where the ruleset and its data lie: directories, not files, because editors
// and mounted volumes replace files.
func (s *Server) watchedDirs() []string {
	var dirs []string
	if s.cfg.Policy.File != "" {
		dirs = append(dirs, filepath.Dir(s.cfg.Policy.File))
	}
	if s.cfg.Feeds.Dir != "" {
		dirs = append(dirs, filepath.Clean(s.cfg.Feeds.Dir))
	}
	if s.cfg.ServiceTags.File != "" {
		dirs = append(dirs, filepath.Dir(s.cfg.ServiceTags.File))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// concerns reports whether a changed file is the ruleset or data of its groups. A volume that
// Kubernetes mounts changes all its files at once by one link, ..data.
func (s *Server) concerns(changed string) bool {
	changed = filepath.Clean(changed)
	switch {
	case filepath.Base(changed) == "..data", s.cfg.Policy.File != "" && changed == filepath.Clean(s.cfg.Policy.File):
		return true
	case s.cfg.ServiceTags.File != "" && changed == filepath.Clean(s.cfg.ServiceTags.File):
		return true
	}
	return s.cfg.Feeds.Dir != "" && filepath.Dir(changed) == filepath.Clean(s.cfg.Feeds.Dir) && s.isFeed(filepath.Base(changed))
}

// isFeed reports whether the ruleset in force reads a file of that name that somebody else puts there. Others in the folder
// may change all the time: the audit, say.
func (s *Server) isFeed(file string) bool {
	rules := s.rules.Load()
	if rules == nil {
		return true
	}
	if feeds.Fetched(file) {
		return false
	}
	stem := strings.TrimSuffix(file, filepath.Ext(file))
	for _, g := range rules.Document().ThreatGroups {
		for _, f := range g.Feeds {
			if f.Name == file || f.Name == stem {
				return true
			}
		}
	}
	return false
}

// ownAddresses are the addresses of this machine, which agents may reach for DNS
// only.
func ownAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("cannot list the gateway's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			out = append(out, p.Addr())
		}
	}
	if len(out) == 0 {
		return nil, errors.New("this machine has no IPv4 address: bring its network up first")
	}
	return out, nil
}
