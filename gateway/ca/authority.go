package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lifetime is an intermediate's. It is replaced at half of it.
	lifetime = 24 * time.Hour
	// backdate is for agents whose clock is behind.
	backdate = time.Hour
	// watchEvery is how often the root is looked at for a change.
	watchEvery = 5 * time.Minute
	// issueTimeout bounds one attempt, the vault's Retry-After included.
	issueTimeout = time.Minute
	// After a failure the vault is asked again after retryFirst, and then after twice as long
	// each time, up to retryLongest. An intermediate lasts for hundreds of attempts.
	retryFirst   = time.Second
	retryLongest = 2 * time.Minute
	// longestThrottle bounds what a vault may ask for: well within what is left of an
	// intermediate that is due for renewal.
	longestThrottle = time.Hour
)

// Options are an Authority's parts.
type Options struct {
	Root Root
	// Names are the patterns of the names to vouch for, as SetNames takes them.
	Names []string
	Now   func() time.Time     // nil: time.Now
	Logf  func(string, ...any) // nil: discarded
}

// Authority issues leaves. All methods may be called by any goroutine.
type Authority struct {
	opt    Options
	key    *ecdsa.PrivateKey // of all leaves
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{}

	current atomic.Pointer[intermediate]
	names   atomic.Pointer[names] // what the ruleset decrypts now
	mu      sync.Mutex
	err     error // of the last attempt; nil if it went well
}

// New returns an Authority that issues intermediates until Close. The first attempt is
// made before New returns; where it fails, Trouble says why, and others follow: a
// gateway whose vault is away still has flows to splice. ctx bounds that attempt.
func New(ctx context.Context, opt Options) (*Authority, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logf == nil {
		opt.Logf = func(string, ...any) {}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	background, cancel := context.WithCancel(context.Background())
	a := &Authority{opt: opt, key: key, cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	a.names.Store(newNames(opt.Names))
	go a.run(background, a.renew(ctx))
	return a, nil
}

// SetNames says which names leaves may be made for from now on. A new intermediate
// that is constrained to them follows at once; until then, names that only the new set holds
// are ErrNotReady.
func (a *Authority) SetNames(patterns []string) {
	set := newNames(patterns)
	if set.equal(a.names.Load()) {
		return
	}
	a.names.Store(set)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Root is the certificate that the present intermediate was signed with, nil as long as
// there is none.
func (a *Authority) Root() *x509.Certificate {
	if i := a.current.Load(); i != nil {
		return i.root
	}
	return nil
}

// Chain is the present intermediate, which leaves are signed with, and the root that signed it;
// nil both as long as there is none.
func (a *Authority) Chain() (intermediate, root *x509.Certificate) {
	if i := a.current.Load(); i != nil {
		return i.cert, i.root
	}
	return nil, nil
}

// Expires is when the present intermediate does; zero as long as there is none.
func (a *Authority) Expires() (at time.Time) {
	if i := a.current.Load(); i != nil {
		at = i.cert.NotAfter
	}
	return at
}

// Ready returns nil while leaves can be issued, and otherwise why not. An attempt to
// renew that failed is no reason while the present intermediate is valid.
func (a *Authority) Ready() error {
	if a.current.Load().valid(a.opt.Now()) {
		return nil
	}
	if why := a.Trouble(); why != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, why)
	}
	return ErrNotReady
}

// Trouble is why the last attempt to look at the root or to renew failed, nil if it did
// not.
func (a *Authority) Trouble() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Close stops renewing.
func (a *Authority) Close() {
	a.cancel()
	<-a.done
}

// run renews intermediates, in time and when the names or the root change.
func (a *Authority) run(ctx context.Context, err error) {
	defer close(a.done)
	retry := time.Duration(0)
	for {
		if err != nil {
			retry = min(max(2*retry, retryFirst), retryLongest)
			a.opt.Logf("%v; what is decrypted goes on until %s", err, a.Expires().Format(time.RFC3339))
		} else {
			retry = 0
		}
		pause := watchEvery
		if retry > 0 {
			pause = pauseAfter(err, retry)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.wake:
			timer.Stop()
		case <-timer.C:
		}
		if err = a.renew(ctx); ctx.Err() != nil {
			return
		}
	}
}

// pauseAfter is how long to leave a root alone that failed: as long as the vault says, and
// a random while longer, so that many gateways do not ask together.
func pauseAfter(err error, retry time.Duration) time.Duration {
	pause := retry/2 + mathrand.N(retry)
	var t *throttled
	if errors.As(err, &t) {
		pause += t.after
	}
	return pause
}

// renew looks at the root and issues an intermediate if the present one is not right
// any more.
func (a *Authority) renew(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	set := a.names.Load()
	defer func() {
		a.mu.Lock()
		a.err = err
		a.mu.Unlock()
	}()
	root, signer, err := a.opt.Root.Load(ctx)
	if err != nil {
		return err
	}
	now := a.opt.Now()
	if err := Usable(root, signer.Public(), now); err != nil {
		return err
	}
	old := a.current.Load()
	if old != nil && old.root.Equal(root) && old.names == set && old.fresh(now) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: root.Subject.Organization, CommonName: "Bulkhead gateway " + now.UTC().Format("2006-01-02 15:04")},
		NotBefore: later(now.Add(-backdate), root.NotBefore), NotAfter: earlier(now.Add(lifetime), root.NotAfter),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	constrain(t, set.patterns)
	der, err := x509.CreateCertificate(rand.Reader, t, root, key.Public(), signer)
	if err != nil {
		return fmt.Errorf("ca: issue an intermediate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("ca: issue an intermediate: %w", err)
	}
	if err := cert.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("ca: the root's signature is wrong: %w", err)
	}
	if old != nil && !old.root.Equal(root) {
		a.opt.Logf("the root certificate has changed; agents must trust %q, serial %x", root.Subject, root.SerialNumber)
	}
	a.current.Store(newIntermediate(root, cert, key, set))
	return nil
}

// serial is 127 random bits: positive, and at most 20 octets (RFC 5280, section 4.1.2.2).
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
