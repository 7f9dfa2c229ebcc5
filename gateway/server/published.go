package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/gateway/policyblob"
)

const (
	// pollEvery is how often a published ruleset is looked at. Storage charges such questions by the
	// ten thousand, so that this costs some cents a month.
	pollEvery = 10 * time.Second
	// pollFirst is how often while there is no ruleset at all.
	pollFirst = 2 * time.Second
	// attestEvery is how often the report is written even if it says the same.
	attestEvery = 3 * time.Minute
	// attestAgain is how long a report that could not be written waits at most.
	attestAgain = 15 * time.Second
)

// nothing is the ruleset of a gateway that has none yet.
const nothing = "version: 1\nrules: []\n"

// openPublished names the blob with the ruleset, if the configuration does.
func (s *Server) openPublished() (err error) {
	if s.cfg.Policy.Blob == "" {
		return nil
	}
	s.published, err = policyblob.Open(s.cfg.Policy.Blob, s.cfg.State.Dir, s.identity, &blob.ClientOptions{ClientOptions: s.azure()})
	if s.published != nil && err != nil {
		s.log.Error("the last good ruleset cannot be used; nothing passes until one is read from the blob", "error", err)
		return nil
	}
	return err
}

// first is what the gateway starts with: a ruleset from a file, or the last good one of
// those published. Where there is none, it starts closed and waits for one. A file that cannot be
// used is an error, because somebody stands beside it.
func (s *Server) first() (*policy.Ruleset, error) {
	rules, err := s.load()
	if err == nil || s.published == nil {
		return rules.Ruleset, err
	}
	s.failed(err)
	s.empty.Store(true)
	doc, err := policy.Decode([]byte(nothing))
	if err != nil {
		return nil, err
	}
	return policy.Compile(doc, s.environment())
}

// refused says why what is published, or on disk, is not in force; empty if it is.
func (s *Server) refused() string {
	if s.published != nil {
		if err := s.published.Trouble(); err != nil {
			return err.Error()
		}
	}
	if e := s.lastErr.Load(); e != nil {
		return *e
	}
	return ""
}

// failed notes why what is published, or on disk, is not in force.
func (s *Server) failed(err error) {
	text := err.Error()
	s.lastErr.Store(&text)
}

// serial is the number of the ruleset in force, 0 where it has none.
func (s *Server) serial() uint64 {
	if s.published == nil {
		return 0
	}
	return s.published.Serial()
}

// accept keeps what is in force now for the next start.
func (s *Server) accept(v *policyblob.Version) {
	if v == nil {
		return
	}
	if err := s.published.Accept(v); err != nil {
		s.log.Warn("after a restart an older ruleset may be in force at first", "error", err)
	}
}

// poll asks for what is published, now and then.
func (s *Server) poll(ctx context.Context) {
	for {
		s.fetch(ctx)
		wait := pollEvery
		if s.empty.Load() {
			wait = pollFirst
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(wait)):
		}
	}
}

// fetch asks for what is published, if the ruleset comes from there, and puts it in force. What
// cannot be read or is a rollback leaves everything as it is, and is said once.
func (s *Server) fetch(ctx context.Context) {
	if s.published == nil {
		return
	}
	before := s.published.Trouble()
	changed, err := s.published.Fetch(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if before != nil && before.Error() == err.Error() {
			return
		}
		if errors.Is(err, policyblob.ErrRefused) {
			s.events.reload(err)
		}
		s.log.Error("the published ruleset is not in force", "error", err)
		s.tell()
	case changed:
		s.reload(ctx)
	case before != nil: // as it was before the trouble
		s.log.Info("the published ruleset can be read again")
		s.reload(ctx)
	}
}

// jitter spreads what many gateways do at an interval, by a fifth either way.
func jitter(d time.Duration) time.Duration {
	return d*4/5 + rand.N(d*2/5)
}

// attest writes what is in force into the report's blob: when that changes, and now and then.
func (s *Server) attest(ctx context.Context) {
	if s.cfg.Attestation == nil {
		return
	}
	reporter, err := policyblob.NewReporter(s.cfg.Attestation.URL, s.identity, &blob.ClientOptions{ClientOptions: s.azure()})
	if err != nil { // the URL was checked; only the SDK may know better
		s.reported(policyblob.Report{}, err)
		return
	}
	var last policyblob.Report
	for {
		now := s.report()
		if !same(now, last) || now.Time.Sub(last.Time) >= attestEvery {
			err := reporter.Write(ctx, now)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				last = now
			}
			s.reported(now, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.reportable:
		case <-time.After(jitter(attestAgain)):
		}
	}
}

// report is what is to be said now.
func (s *Server) report() policyblob.Report {
	r := s.readiness()
	report := policyblob.Report{Digest: r.Ruleset.Digest, Serial: r.Ruleset.Serial, Ready: r.Ready, Version: r.Version,
		Time: time.Now().UTC().Truncate(time.Second), Error: r.Ruleset.Error}
	if !r.Ready {
		report.Error = r.Why
	}
	if s.ca != nil {
		intermediate, root := s.ca.Chain()
		report.Intermediate, report.Root = armored(intermediate), armored(root)
	}
	return report
}

// armored is a certificate in PEM; empty for none.
func armored(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func same(a, b policyblob.Report) bool {
	a.Time = b.Time
	return a == b
}

// Attestation is what /readyz says of the reports to those who deployed the gateway.
type Attestation struct {
	Written time.Time `json:"written,omitzero"` // the last one
	Error   string    `json:"error,omitempty"`  // why none has been since
}

// reported notes how it went; the data plane does not depend on it.
func (s *Server) reported(r policyblob.Report, err error) {
	log := s.log.Named("attestation")
	now := Attestation{Written: r.Time}
	before := s.attestation.Load()
	if err != nil {
		now = Attestation{Error: err.Error()}
		if before != nil {
			now.Written = before.Written
		}
		if before == nil || before.Error != now.Error {
			log.Error("the report cannot be written; whoever deploys waits for it", "error", err)
		}
	} else if before == nil || before.Error != "" {
		log.Info("reports are written", "url", s.cfg.Attestation.URL)
	}
	s.attestation.Store(&now)
}
