package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

var (
	caExpiry = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: "bulkhead", Name: "ca_intermediate_expiry_timestamp_seconds", Help: "When the intermediate certificate for decrypted flows expires; 0: there is none.",
	})
	caRejected = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: "bulkhead", Name: "ca_rejected_handshakes_total", Help: "Clients that did not take the certificate of a decrypted flow.",
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
		if root, err = ca.NewVault(c.KeyVault, c.Key, c.File, s.identity, &azkeys.ClientOptions{ClientOptions: s.azure()}); err != nil {
			return nil, err
		}
	}
	log := s.log.Named("ca")
	var err error
	if s.proofs, err = ca.OpenProofs(filepath.Join(s.cfg.State.Dir, "proofs.json")); err != nil {
		log.Warn("what agents were known to trust is forgotten", "error", err)
	}
	s.rejections = ca.NewRejections()
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
	// Proof is the first handshake that an agent completed under the root: until then nobody has
	// shown that an agent's image trusts it.
	Proof *ca.Proof `json:"proof,omitempty"`
	// Rejected are the names whose clients did not take the certificate, the most frequent first.
	Rejected []ca.Rejection `json:"rejected,omitempty"`
}

// shownRejections is how many names the report lists.
const shownRejections = 20

// proven notes a client that took our certificate, which was made under root.
func (s *Server) proven(f policy.Flow, root *x509.Certificate) {
	if err := s.proofs.Prove(root, f.Name, f.Src, time.Now()); err != nil {
		s.log.Named("ca").Warn(err.Error())
	}
}

// rejected notes a client that did not.
func (s *Server) rejected(f policy.Flow) {
	caRejected.Inc()
	s.rejections.Add(f.Name, f.Src, time.Now())
}

// decryption is nil where nothing is decrypted.
func (s *Server) decryption() *Decryption {
	if s.ca == nil {
		return nil
	}
	d := &Decryption{Expires: s.ca.Expires(), Rejected: s.rejections.List(shownRejections)}
	if root := s.ca.Root(); root != nil {
		d.Root = root.Subject.String()
		if proof, ok := s.proofs.Find(root); ok {
			d.Proof = &proof
		}
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
