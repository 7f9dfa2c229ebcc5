package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

var (
	// ErrNotReady says that there is no valid intermediate for a name, or not yet.
	ErrNotReady = errors.New("ca: no valid intermediate")
	// ErrName says that the ruleset does not decrypt a name.
	ErrName = errors.New("ca: not a name that the ruleset decrypts")
)

// maxLeaves bounds the leaves that are kept, about 2 KB each.
const maxLeaves = 4096

// intermediate is one with all that was made from it.
type intermediate struct {
	root, cert *x509.Certificate
	key        *ecdsa.PrivateKey
	names      *names
	leaves     *lru.Cache[string, *tls.Certificate]
	making     singleflight.Group // by name
}

func newIntermediate(root, cert *x509.Certificate, key *ecdsa.PrivateKey, set *names) *intermediate {
	leaves, _ := lru.New[string, *tls.Certificate](maxLeaves) // fails only for a size below 1
	return &intermediate{root: root, cert: cert, key: key, names: set, leaves: leaves}
}

// valid reports whether leaves can be made from i; nil is none.
func (i *intermediate) valid(now time.Time) bool {
	return i != nil && !now.Before(i.cert.NotBefore) && now.Before(i.cert.NotAfter)
}

// fresh reports whether half of its life is still to come, or all that the root
// leaves it.
func (i *intermediate) fresh(now time.Time) bool {
	return i.valid(now) && (i.cert.NotAfter.Sub(now) > lifetime/2 || i.cert.NotAfter.Equal(i.root.NotAfter))
}

// Leaf returns a certificate for a normalised name and no other, with its key and
// the intermediate behind it, and the root that signed that one: by the time that a client has
// taken the certificate, Root may be another. It makes a certificate if there is none. The error is
// ErrName, ErrNotReady, or why it could not be made.
func (a *Authority) Leaf(ctx context.Context, name string) (leaf *tls.Certificate, root *x509.Certificate, err error) {
	i := a.current.Load()
	if !i.valid(a.opt.Now()) {
		return nil, nil, a.Ready()
	}
	set := a.names.Load()
	if set == i.names {
		if leaf, ok := i.leaves.Get(name); ok {
			return leaf, i.root, nil
		}
	}
	switch {
	case !set.hold(name):
		return nil, nil, fmt.Errorf("%w: %q", ErrName, name)
	case !i.names.hold(name):
		return nil, nil, fmt.Errorf("%w: %q is new, and the intermediate for it is not issued yet", ErrNotReady, name)
	}
	made, err, _ := i.making.Do(name, func() (any, error) {
		if leaf, ok := i.leaves.Get(name); ok {
			return leaf, nil
		}
		leaf, err := i.issue(name, a.key)
		if err == nil {
			i.leaves.Add(name, leaf)
		}
		return leaf, err
	})
	if err != nil {
		return nil, nil, err
	}
	return made.(*tls.Certificate), i.root, ctx.Err()
}

func (i *intermediate) issue(name string, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	t := &x509.Certificate{
		// No subject: RFC 5280, section 4.2.1.6 has the name in the critical alternative name.
		SerialNumber: serial(), DNSNames: []string{name},
		NotBefore: i.cert.NotBefore, NotAfter: i.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, i.cert, key.Public(), i.key)
	if err != nil {
		return nil, fmt.Errorf("ca: leaf for %q: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("ca: leaf for %q: %w", name, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, i.cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}
