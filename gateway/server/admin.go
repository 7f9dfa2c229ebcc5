package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
)

var (
	decisionsTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: "bulkhead", Name: "decisions_total", Help: "Decisions that the audit took, by stage, verdict and reason.",
	}, []string{"stage", "verdict", "reason"})
	bytesTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: "bulkhead", Name: "flow_bytes_total", Help: "Bytes of permitted flows that have ended, from (out) and to (in) agents.",
	}, []string{"direction"})
	reloadsTotal = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: "bulkhead", Name: "ruleset_reloads_total", Help: "Reloads of the ruleset, by result.",
	}, []string{"result"})
	programRestored = promauto.NewCounter(prometheus.CounterOpts{
		Namespace: "bulkhead", Name: "kernel_program_restored_total", Help: "Times that somebody else changed the kernel program and it was put back.",
	})
	rulesetBad = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: "bulkhead", Name: "ruleset_refused", Help: "1 while the ruleset on disk or published is refused and an older one is in force.",
	})
)

// counters feed the metrics. No label takes a name or an address.
type counters struct{}

// recorded counts a record. What the audit did not take was not done, but for the end of a flow.
func (counters) recorded(r *audit.Record, taken bool) {
	if r.Activity == audit.Close && r.Decision.Permitted() {
		bytesTotal.WithLabelValues("out").Add(float64(r.BytesOut))
		bytesTotal.WithLabelValues("in").Add(float64(r.BytesIn))
		return
	}
	if taken {
		decisionsTotal.WithLabelValues(r.Decision.Stage.String(), string(r.Decision.Verdict), string(r.Decision.Reason)).Add(float64(max(r.Count, 1)))
	}
}

func (counters) reload(err error) {
	if err != nil {
		reloadsTotal.WithLabelValues("refused").Inc()
		rulesetBad.Set(1)
		return
	}
	reloadsTotal.WithLabelValues("applied").Inc()
	rulesetBad.Set(0)
}

// unchanged notes that what is in force is what is on disk, again.
func (counters) unchanged() { rulesetBad.Set(0) }

// Readiness is the body of /readyz.
type Readiness struct {
	Ready   bool    `json:"ready"`
	Why     string  `json:"why,omitempty"` // not ready
	Version string  `json:"version"`
	Ruleset Ruleset `json:"ruleset"`
	Pins    int     `json:"pins"`
	// Data is where feeds and service tags are fetched from, how old they are, and why they may be; absent where none is fetched.
	Data []feeds.Source `json:"data,omitempty"`
	// Decryption is the authority that signs for decrypted names; absent without one.
	Decryption *Decryption `json:"decryption,omitempty"`
	// Budgets says why budgets may grant nothing, or less than they hold.
	Budgets string `json:"budgets,omitempty"`
	// Egress are the names that the gateway itself should reach and that do not resolve, with what was answered.
	Egress []string `json:"egress,omitempty"`
	// Attestation is how the reports to the deployer go; absent where there are none.
	Attestation *Attestation `json:"attestation,omitempty"`
	// AuditKey is the fingerprint of the key that signs the audit's checkpoints.
	AuditKey string `json:"auditKey"`
}

// Ruleset is what is in force, and why the one on disk may not be.
type Ruleset struct {
	Digest  string   `json:"digest"`           // empty: there is none yet
	Serial  uint64   `json:"serial,omitempty"` // that it was published under
	Rules   int      `json:"rules"`
	Error   string   `json:"error,omitempty"`   // why the one on disk, or published, is not in force
	Missing []string `json:"missing,omitempty"` // feeds and service tags without data
}

func (s *Server) readiness() Readiness {
	r := Readiness{Ready: s.ready.Load() && !s.draining.Load(), Version: s.version, AuditKey: s.audit.Fingerprint()}
	if !r.Ready {
		r.Why = "starting or draining"
		if f := s.failure.Load(); f != nil {
			r.Why = *f
		}
	}
	if err := s.audit.Healthy(); err != nil {
		r.Ready, r.Why = false, err.Error()
	}
	if rules := s.rules.Load(); rules != nil && !s.empty.Load() {
		r.Ruleset = Ruleset{Digest: rules.Digest(), Serial: s.serial(), Rules: len(rules.Document().Rules), Missing: rules.Missing()}
	}
	r.Ruleset.Error = s.refused()
	r.Attestation = s.attestation.Load()
	r.Egress = s.unresolved.list()
	_, r.Pins = s.pins.Len()
	r.Data = s.data.Sources()
	r.Decryption = s.decryption()
	if err := s.budgets.Ready(); err != nil {
		r.Budgets = err.Error()
	}
	return r
}

// serveAdmin answers health, readiness and metrics. The kernel program keeps agents
// away from it.
func (s *Server) serveAdmin(ctx context.Context, faults chan<- error) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := s.readiness()
		w.Header().Set("Content-Type", "application/json")
		if !r.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(r)
	})
	mux.HandleFunc("GET /flows", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(s.activity())
	})
	metrics := promhttp.Handler()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		s.measureDecryption()
		s.measureData()
		metrics.ServeHTTP(w, r)
	})
	ln, err := net.Listen("tcp4", s.cfg.Admin.Listen.String())
	if err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	context.AfterFunc(ctx, func() { srv.Close() })
	go func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			faults <- fmt.Errorf("admin: %w", err)
		}
	}()
	return nil
}
