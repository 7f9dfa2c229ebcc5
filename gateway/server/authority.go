package server

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

var (
	caExpiry = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: "bulkhead", Name: "ca_intermediate_expiry_timestamp_seconds", Help: "When the intermediate certificate for decrypted flows expires; 0: there is none.",
	})
	caTrouble = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: "bulkhead", Name: "ca_trouble", Help: "1 while the root cannot be read, or does not sign.",
	})
)

// firstIntermediate is how long the start waits for a vault.
const firstIntermediate = 10 * time.Second

// authority opens the root, if the configuration names one. A vault that does not answer
// is asked again later, because there may be flows to splice; a lab's files
// that cannot be used are an error.
func (s *Server) authority(ctx context.Context, rules *policy.Ruleset) (*ca.Authority, error) {
	c := s.cfg.CA
	if c == nil {
		return nil, nil
	}
	var root ca.Root = ca.Files{Certificate: c.File, Key: c.KeyFile}
	if c.KeyVault != "" {
		var err error
		if root, err = ca.NewVault(c.KeyVault, c.Key, c.File, nil, nil); err != nil {
			return nil, err
		}
	}
	log := s.log.Named("ca")
	ctx, cancel := context.WithTimeout(ctx, firstIntermediate)
	defer cancel()
	a, err := ca.New(ctx, ca.Options{Root: root, Names: rules.DecryptNames(),
		Logf: func(format string, args ...any) { log.Warn(fmt.Sprintf(format, args...)) }})
	if err != nil {
		return nil, err
	}
	if err := a.Trouble(); err != nil && c.KeyVault == "" {
		a.Close()
		return nil, err
	}
	return a, nil
}

// Decryption is what /readyz says of the authority behind decrypted flows.
type Decryption struct {
	Root    string    `json:"root,omitempty"`    // subject of the root that agents must trust
	Expires time.Time `json:"expires,omitzero"`  // of the intermediate
	Trouble string    `json:"trouble,omitempty"` // why it may not be renewed
}

// decryption is nil where nothing is decrypted.
func (s *Server) decryption() *Decryption {
	if s.ca == nil {
		return nil
	}
	d := &Decryption{Expires: s.ca.Expires()}
	if root := s.ca.Root(); root != nil {
		d.Root = root.Subject.String()
	}
	if err := s.ca.Trouble(); err != nil {
		d.Trouble = err.Error()
	}
	return d
}

// measureDecryption keeps the metrics in step.
func (s *Server) measureDecryption() {
	d := s.decryption()
	if d == nil {
		return
	}
	caExpiry.Set(0)
	if !d.Expires.IsZero() {
		caExpiry.Set(float64(d.Expires.Unix()))
	}
	caTrouble.Set(0)
	if d.Trouble != "" {
		caTrouble.Set(1)
	}
}
