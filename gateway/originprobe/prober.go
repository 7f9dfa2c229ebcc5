package originprobe

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// The errors are the refusal's reasons.
var (
	// ErrCertificate: the origin holds no valid certificate for the name (origin-certificate).
	ErrCertificate = errors.New("originprobe: no valid certificate")
	// ErrVersion: the origin negotiates only an older TLS (tls-version).
	ErrVersion = errors.New("originprobe: TLS is too old")
	// ErrNotReady: the origin could not be asked (not-ready). It is not remembered.
	ErrNotReady = errors.New("originprobe: the origin could not be asked")
)

const (
	// timeout is what a probe may take, from its dial to the end of its handshake.
	timeout = 5 * time.Second
	// goodFor is how long a good answer holds, unless a certificate ends sooner; badFor
	// how long a bad one does: short, since somebody is about to mend it.
	goodFor, badFor = 10 * time.Minute, 30 * time.Second
	// maxAnswers bounds what is remembered, about 300 bytes each; maxProbes those on their way.
	maxAnswers, maxProbes = 8192, 128
	// A source may have perSecond probes made, after burst at once.
	perSecond, burst = 10, 50
	// maxSources bounds the sources whose rate is known.
	maxSources = 4096
	// minRSA is the shortest RSA key that is valid (CA/Browser Forum, TLS Baseline
	// Requirements, section 6.1.5).
	minRSA = 2048
)

// Dialer connects to an origin on behalf of src.
type Dialer func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error)

// Question is what is asked of an origin.
type Question struct {
	Source netip.Addr     // the flow's, for its rate and the dialer
	Origin netip.AddrPort // where the flow goes: a pinned address
	Name   string         // which the flow claims, normalised
	Verify bool           // wants a valid certificate
	MinTLS uint16         // wants this version at least; 0: any
}

type key struct {
	origin netip.AddrPort
	name   string
	verify bool
	minTLS uint16
	roots  [sha256.Size]byte
}

type answer struct {
	err         error
	from, until time.Time
}

type trust struct {
	pool   *x509.CertPool
	digest [sha256.Size]byte
}

// Prober asks origins and remembers their answers. Its methods may be called
// concurrently.
type Prober struct {
	dial    Dialer
	now     func() time.Time
	system  *x509.CertPool
	trust   atomic.Pointer[trust]
	answers *lru.Cache[key, answer]
	rates   *lru.Cache[netip.Addr, *rate.Limiter]
	flights singleflight.Group
	slots   chan struct{}
}

// New returns a prober that trusts the system's roots. The clock is time.Now but in tests.
func New(dial Dialer, now func() time.Time) (*Prober, error) {
	system, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("originprobe: the system's roots: %w", err)
	}
	p := &Prober{dial: dial, now: now, system: system, slots: make(chan struct{}, maxProbes)}
	p.answers, _ = lru.New[key, answer](maxAnswers) // fails only for a size below 1
	p.rates, _ = lru.New[netip.Addr, *rate.Limiter](maxSources)
	p.Trust(nil)
	return p, nil
}

// Trust replaces the authorities that are trusted beside the system's
// (policy.Ruleset.OriginCAs). Answers under others are not used any more.
func (p *Prober) Trust(more []*x509.Certificate) {
	t := &trust{pool: p.system.Clone()}
	sum := sha256.New()
	for _, ca := range more {
		t.pool.AddCert(ca)
		one := sha256.Sum256(ca.Raw)
		sum.Write(one[:])
	}
	sum.Sum(t.digest[:0])
	p.trust.Store(t)
}

// Probe returns nil if the origin is as the question wants it, or an ErrCertificate,
// ErrVersion or ErrNotReady. It must be called only for a flow that is permitted.
func (p *Prober) Probe(ctx context.Context, q Question) error {
	if !q.Verify && q.MinTLS == 0 {
		return nil
	}
	t := p.trust.Load()
	k := key{q.Origin, q.Name, q.Verify, q.MinTLS, t.digest}
	if a, ok := p.answers.Get(k); ok && a.holds(p.now()) {
		return a.err
	}
	if !p.limiter(q.Source).AllowN(p.now(), 1) {
		return fmt.Errorf("%w: too many probes for %s", ErrNotReady, q.Source)
	}
	// Not shared between sources: that one of them gets no answer says nothing about
	// the others.
	flight := fmt.Sprintf("%v %v", q.Source, k)
	done := p.flights.DoChan(flight, func() (any, error) {
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }()
		default:
			return nil, fmt.Errorf("%w: %d probes are on their way", ErrNotReady, maxProbes)
		}
		// Not the caller's context: others wait for the same answer.
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		ends, err := p.ask(ctx, q, t.pool)
		now := p.now()
		switch {
		case err == nil:
			p.answers.Add(k, answer{nil, now, earlier(ends, now.Add(goodFor))})
		case !errors.Is(err, ErrNotReady):
			p.answers.Add(k, answer{err, now, now.Add(badFor)})
		}
		return nil, err
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotReady, context.Cause(ctx))
	}
}

// holds reports whether the answer may be used; not if the clock was set back before it.
func (a *answer) holds(now time.Time) bool { return !now.Before(a.from) && now.Before(a.until) }

func (p *Prober) limiter(src netip.Addr) *rate.Limiter {
	if l, ok := p.rates.Get(src); ok {
		return l
	}
	l := rate.NewLimiter(perSecond, burst)
	if before, ok, _ := p.rates.PeekOrAdd(src, l); ok {
		return before
	}
	return l
}

// ask makes the handshake. It returns when the first certificate of the chain ends, the
// zero time where none was looked at.
func (p *Prober) ask(ctx context.Context, q Question, roots *x509.CertPool) (ends time.Time, err error) {
	raw, err := p.dial(ctx, q.Source, q.Origin)
	if err != nil {
		return ends, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	conn := tls.Client(raw, &tls.Config{
		ServerName:             q.Name,
		RootCAs:                roots,
		Time:                   p.now,
		InsecureSkipVerify:     !q.Verify,
		MinVersion:             tls.VersionTLS10, // to learn what the origin has; nothing is sent over it
		SessionTicketsDisabled: true,
	})
	defer conn.Close() // with an alert close_notify
	var invalid *tls.CertificateVerificationError
	switch err := conn.HandshakeContext(ctx); {
	case errors.As(err, &invalid):
		return ends, fmt.Errorf("%w for %q: %w", ErrCertificate, q.Name, invalid.Err)
	case err != nil:
		return ends, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	state := conn.ConnectionState()
	if state.Version < q.MinTLS {
		return ends, fmt.Errorf("%w: the origin negotiates %s", ErrVersion, tls.VersionName(state.Version))
	}
	if !q.Verify {
		return ends, nil
	}
	for _, chain := range state.VerifiedChains {
		if end, ok := strong(chain); ok && end.After(ends) {
			ends = end
		}
	}
	if ends.IsZero() {
		return ends, fmt.Errorf("%w for %q: an RSA key of less than %d bits", ErrCertificate, q.Name, minRSA)
	}
	return ends, nil
}

// strong reports whether all keys of a chain are long enough, and when it ends.
func strong(chain []*x509.Certificate) (ends time.Time, ok bool) {
	for _, c := range chain {
		if k, rsa := c.PublicKey.(*rsa.PublicKey); rsa && k.N.BitLen() < minRSA {
			return ends, false
		}
		ends = earlier(c.NotAfter, ends)
	}
	return ends, true
}

// earlier is the earlier of two times, of which the zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
