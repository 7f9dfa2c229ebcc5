package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

// cell is one thing that is measured.
type cell struct {
	name    string
	kind    load.Kind
	service string
	workers int
	port    uint16
	http2   bool
}

var (
	tlsLoad   = cell{"tls", load.TLS, load.TLSName, 16, load.NamePort, false}
	tlsAlone  = cell{"alone", load.TLS, load.TLSName, 1, load.NamePort, false}
	rawLoad   = cell{"raw", load.Raw, load.RawName, 16, load.NamePort, false}
	bulkOne   = cell{"bulk1", load.Bulk, load.BulkName, 1, load.NamePort, false}
	bulkEight = cell{"bulk8", load.Bulk, load.BulkName, 8, load.NamePort, false}
	// The same on a port on which addresses alone decide.
	forwardLoad  = cell{"forward raw", load.Raw, load.RawName, 16, load.AddressPort, false}
	forwardOne   = cell{"forward bulk1", load.Bulk, load.BulkName, 1, load.AddressPort, false}
	forwardEight = cell{"forward bulk8", load.Bulk, load.BulkName, 8, load.AddressPort, false}
	dnsHit       = cell{name: "hit", kind: load.DNS}
	dnsMiss      = cell{name: "miss", kind: load.DNS}
)

// byName and forwarding are the comparisons of connections.
var (
	byName     = []string{bulkhead, haproxy, nginx, squid}
	forwarding = []string{masquerade, byAddress}
	resolvers  = []string{bulkhead, stockDNS, dnsmasq}
)

// bench runs the measurements.
type bench struct {
	*scene
	opt    options
	report Report
	misses int // loads of new names so far, in questions
	fresh  int // and in handshakes
}

func (b *bench) all(ctx context.Context) error {
	b.report.Options = b.opt
	// First: no load has grown anybody's heap.
	var err error
	if b.report.Idle, err = b.idle(ctx, byName, load.Hold, load.RawName, b.opt.idle); err != nil {
		return err
	}
	if b.report.IdleDecrypting, err = b.idle(ctx, decrypters, load.HoldWeb, cachedName, idleDecrypting); err != nil {
		return err
	}
	for round := range b.opt.Rounds {
		say("round %d of %d", round+1, b.opt.Rounds)
		if err := b.round(ctx, round); err != nil {
			return err
		}
	}
	if err := b.reload(ctx); err != nil {
		return err
	}
	return b.restarts(ctx)
}

func (b *bench) round(ctx context.Context, round int) error {
	for _, set := range []struct {
		paths []string
		cells []cell
	}{
		{byName, []cell{tlsLoad, tlsAlone, rawLoad, bulkOne, bulkEight}},
		{forwarding, []cell{forwardLoad, forwardOne, forwardEight}},
		{resolvers, []cell{dnsHit, dnsMiss}},
	} {
		for _, c := range set.cells {
			for i := range set.paths {
				// Each round starts with another path, so that none always comes first.
				name := set.paths[(i+round)%len(set.paths)]
				if err := b.beside(ctx, round, c, direct, name); err != nil {
					return err
				}
			}
		}
	}
	return b.decrypted(ctx, round)
}

// beside measures a cell on one path and then on others, as ratios to the first.
func (b *bench) beside(ctx context.Context, round int, c cell, first string, others ...string) error {
	var base Sample
	for i, name := range append([]string{first}, others...) {
		s, err := b.measure(ctx, b.paths[name], c)
		if err != nil {
			return fmt.Errorf("%s on %s: %w: %s", c.name, name, err, b.paths[name].said())
		}
		if i == 0 {
			base = s
		}
		s.Round, s.Ratio, s.Foreign = round, s.Rate/base.Rate, max(s.Foreign, base.Foreign)
		b.report.Samples = append(b.report.Samples, s)
	}
	return nil
}

func (b *bench) measure(ctx context.Context, p *path, c cell) (Sample, error) {
	if err := ctx.Err(); err != nil {
		return Sample{}, err
	}
	job := p.job(c.kind, c.service)
	job.Workers, job.Port, job.HTTP2, job.Duration = c.workers, c.port, c.http2, b.opt.Cell
	var err error
	switch {
	case c.kind == load.DNS:
		err = b.questions(p, c, &job)
	case c == freshNames:
		err = b.newNames(p, &job)
	default:
		err = b.prepare(p, c.service)
	}
	if err != nil {
		return Sample{}, err
	}
	before, err := b.usage(p)
	if err != nil {
		return Sample{}, err
	}
	r, err := b.client.do(job)
	if err != nil {
		return Sample{}, err
	}
	after, err := b.usage(p)
	if err != nil {
		return Sample{}, err
	}
	if r.Count == 0 {
		return Sample{}, fmt.Errorf("nothing succeeded: %s", r.Why)
	}
	return newSample(p.name, c, r, after.sub(before)), nil
}

// questions fills in a DNS load. What is asked again and again has been asked once
// before; what is new comes from sources that have not asked for new names yet.
func (b *bench) questions(p *path, c cell, job *load.Job) error {
	job.Resolver = p.dns()
	if c == dnsMiss {
		b.misses++
		job.Questions = &load.Questions{Base: p.crowd(b.misses * missSources % 0x6000), Sources: missSources, Each: missEach,
			Tag: fmt.Sprintf("m%d", b.misses), Below: dnsSuffix, Limit: missSources * missEach}
		return nil
	}
	q := load.Questions{Base: p.crowd(0x7000), Sources: hitSources, Each: hitNames, Names: hitNames, Below: dnsSuffix, Limit: hitSources * hitNames}
	warm := *job
	warm.Questions, warm.Duration = &q, 20*time.Second
	r, err := b.client.do(warm)
	if err != nil {
		return err
	}
	if r.Count == 0 {
		return fmt.Errorf("no answer before the measurement: %s", r.Why)
	}
	unlimited := q
	unlimited.Limit = 0
	job.Questions = &unlimited
	return nil
}

// The resolver bounds what one source may ask: 200 questions a second, and 60 new names
// of one domain at once. The loads stay below that with many sources.
const (
	dnsSuffix             = "dns." + load.Domain
	hitSources, hitNames  = 500, 20
	missSources, missEach = 1024, 40
)

// usage is CPU time used so far.
type usage struct {
	at      time.Time
	gateway time.Duration // by the path's program
	ours    time.Duration // by everything of the benchmark
	machine time.Duration
}

func (u usage) sub(v usage) usage {
	return usage{u.at, u.gateway - v.gateway, u.ours - v.ours, u.machine - v.machine}
}

// foreign is the share of the machine that others used over a time.
func (u usage) foreign(elapsed time.Duration) float64 {
	return max(0, float64(u.machine-u.ours)/float64(elapsed)/float64(runtime.NumCPU()))
}

func (b *bench) usage(p *path) (u usage, err error) {
	ours, err := tree(os.Getpid())
	if err != nil {
		return u, err
	}
	for _, t := range ours {
		u.ours += t
	}
	if p.program != nil {
		if u.gateway, err = cpuOf(p.program.pid()); err != nil {
			return u, fmt.Errorf("%w: %s", err, p.program.tail())
		}
	}
	u.machine, err = machineCPU()
	u.at = time.Now()
	return u, err
}

// idle reads what connections cost that are open and do nothing, by how many they are.
func (b *bench) idle(ctx context.Context, names []string, kind load.Kind, service string, counts []int) (rows []Idle, err error) {
	for _, name := range names {
		p := b.paths[name]
		say("idle connections on %s", name)
		if err := b.prepare(p, service); err != nil {
			return nil, err
		}
		row := Idle{Path: name}
		for _, n := range counts {
			held := 0
			if n > 0 {
				job := p.job(kind, service)
				job.Count = n
				if kind == load.HoldWeb {
					job.Workers = 16 // or those that take long over each would take minutes
				}
				r, err := b.client.do(job)
				if err != nil {
					return nil, err
				}
				if held = r.Count; held < n {
					say("%s holds %d of %d connections: %s", name, held, n, r.Why)
				}
			}
			if err := pause(ctx, time.Second); err != nil { // what the last connections left behind is freed
				return nil, err
			}
			f, err := footprintOf(p.program.pid())
			if err != nil {
				return nil, err
			}
			row.At = append(row.At, Held{held, f.pss, f.fds})
		}
		if _, err := b.client.do(load.Job{Kind: load.Drop}); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// reload measures the longest time that a new connection took while a ruleset was
// replaced under live flows, and in as long a time without.
func (b *bench) reload(ctx context.Context) error {
	p := b.paths[bulkhead]
	say("reload with %d live flows", b.opt.live)
	if err := b.prepare(p, load.RawName); err != nil {
		return err
	}
	hold := p.job(load.Hold, load.RawName)
	hold.Count = b.opt.live
	held, err := b.client.do(hold)
	if err != nil {
		return err
	}
	b.report.Live, b.report.LiveWhy = held.Count, held.Why
	const length = 3 * time.Second
	for i := range b.opt.Rounds {
		for _, change := range []bool{false, true} {
			digest, err := p.readiness(ctx)
			if err != nil {
				return err
			}
			job := p.job(load.Raw, load.RawName)
			job.Workers, job.Duration = 2, length
			done := make(chan error, 1)
			if change {
				go func() { done <- b.change(ctx, p, digest.Ruleset.Digest, i) }()
			} else {
				done <- nil
			}
			r, err := b.client.do(job)
			if err != nil {
				return err
			}
			if err := <-done; err != nil {
				return err
			}
			if change {
				b.report.Reload = append(b.report.Reload, millis(r.Max))
				b.report.ReloadErrors += r.Errors
			} else {
				b.report.NoReload = append(b.report.NoReload, millis(r.Max))
			}
		}
	}
	dropped, err := b.client.do(load.Job{Kind: load.Drop})
	b.report.LiveLost = dropped.Errors
	return err
}

// change replaces the ruleset half a second into a load and waits until it is in force.
func (b *bench) change(ctx context.Context, p *path, before string, i int) error {
	if err := pause(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	if err := p.writeRuleset(0, fmt.Sprintf("66.254.%d.0/24", i)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return p.until(ctx, func(r readiness) bool { return r.Ruleset.Digest != before })
}

// restarts measures how long after its start a gateway lets the first connection
// through of an agent that resolved its name before.
func (b *bench) restarts(ctx context.Context) error {
	p := b.paths[bulkhead]
	for range b.opt.Rounds {
		if err := b.prepare(p, load.RawName); err != nil {
			return err
		}
		stopCtx, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := p.program.stop(stopCtx)
		cancel()
		if err != nil {
			return fmt.Errorf("the gateway did not end: %w", err)
		}
		start := time.Now()
		if err := p.run(b.bulkhead, "gateway", "--config", p.dir+"/gateway.yaml"); err != nil {
			return err
		}
		job := p.job(load.First, load.RawName)
		job.Duration = 30 * time.Second
		r, err := b.client.do(job)
		if err != nil {
			return fmt.Errorf("after a restart: %w: %s", err, p.program.tail())
		}
		b.report.Restart = append(b.report.Restart, millis(r.At.Sub(start)))
	}
	return nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
