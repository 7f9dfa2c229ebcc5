package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

var (
	freshNames    = cell{"fresh", load.Handshakes, cachedName, 16, load.NamePort, false}
	cachedNames   = cell{"cached", load.Handshakes, cachedName, 16, load.NamePort, false}
	requestsMany  = cell{"h1 16", load.Requests, cachedName, 16, load.NamePort, false}
	requestsOne   = cell{"h1 1", load.Requests, cachedName, 1, load.NamePort, false}
	streamsMany   = cell{"h2 16", load.Requests, cachedName, 16, load.NamePort, true}
	streamsOne    = cell{"h2 1", load.Requests, cachedName, 1, load.NamePort, true}
	downloadOne   = cell{"download 1", load.Download, cachedName, 1, load.NamePort, false}
	downloadEight = cell{"download 8", load.Download, cachedName, 8, load.NamePort, false}
	// The same as requestsMany, as ratios to one rule instead of to direct.
	requestsURLs = cell{"URL rules", load.Requests, cachedName, 16, load.NamePort, false}
)

// idleDecrypting is how many decrypted connections are open when memory is read.
var idleDecrypting = []int{0, 1000}

// decrypted measures what decrypts. A cell is measured once on the direct path and then on all
// others: with one before each it would take twice as long.
func (b *bench) decrypted(ctx context.Context, round int) error {
	for _, c := range []cell{freshNames, cachedNames, requestsMany, requestsOne, streamsMany, streamsOne, downloadOne, downloadEight} {
		names := decrypters
		if c.http2 {
			names = withHTTP2
		}
		k := round % len(names) // each round starts with another path
		if err := b.beside(ctx, round, c, direct, slices.Concat(names[k:], names[:k])...); err != nil {
			return err
		}
	}
	return b.beside(ctx, round, requestsURLs, decrypting, manyURLs)
}

// How many agents ask for names that are new to a path, and for how many each: in all more than
// a path takes within one measurement, and for each fewer than the resolver allows at once.
const newNameSources, newNamesEach = 250, 40

// newNames fills in a load of names that this path has not seen, and has its agents ask
// for them, where the path asks for that.
func (b *bench) newNames(p *path, job *load.Job) error {
	b.fresh++
	q := &load.Questions{Base: p.crowd(b.fresh * newNameSources % 0x6000), Sources: newNameSources, Each: newNamesEach,
		Tag: fmt.Sprintf("f%d", b.fresh), Below: load.WebName, Limit: newNameSources * newNamesEach}
	job.Questions = q
	if !p.resolver.IsValid() {
		return nil
	}
	r, err := b.client.do(load.Job{Kind: load.DNS, Resolver: p.resolver, Questions: q, Duration: 20 * time.Second})
	if err == nil && r.Errors > 0 {
		err = fmt.Errorf("%d of %d new names have no answer: %s", r.Errors, q.Limit, r.Why)
	}
	return err
}

// decrypts reports whether a path ends TLS.
func (p *path) decrypts() bool { return p.name == manyURLs || slices.Contains(decrypters, p.name) }

// tryDecrypting has one of each thing done once, and sees that the certificate which
// agents are shown is not the origin's.
func (s *scene) tryDecrypting(p *path) error {
	if err := s.prepare(p, cachedName); err != nil {
		return err
	}
	kinds := []load.Job{{Kind: load.Handshakes}, {Kind: load.Requests}, {Kind: load.Download}}
	if slices.Contains(withHTTP2, p.name) {
		kinds = append(kinds, load.Job{Kind: load.Requests, HTTP2: true})
	}
	deadline := time.Now().Add(20 * time.Second) // it may not listen yet
	for _, k := range kinds {
		job := p.job(k.Kind, cachedName)
		job.HTTP2, job.Workers, job.Duration = k.HTTP2, 1, 20*time.Millisecond
		r, err := s.client.do(job)
		for ; k.Kind == load.Handshakes && (err != nil || r.Count == 0 || r.Errors > 0) && time.Now().Before(deadline); r, err = s.client.do(job) {
			time.Sleep(20 * time.Millisecond)
		}
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", k.Kind, err)
		case r.Count == 0 || r.Errors > 0:
			return fmt.Errorf("%s: %d done, %d failed: %s", k.Kind, r.Count, r.Errors, r.Why)
		case r.Issuer == p.trust.cert.Subject.CommonName:
			return errors.New("agents are shown the origin's own certificate")
		}
	}
	return nil
}
