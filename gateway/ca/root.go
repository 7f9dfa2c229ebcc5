package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Root is the certificate that agents trust, with the means to sign in its name.
type Root interface {
	// Load returns the root as it is now. It is called for each intermediate, and in
	// between to notice a change. The signer is for use while ctx lasts.
	Load(ctx context.Context) (*x509.Certificate, crypto.Signer, error)
}

// Files is a root whose key lies beside it: for labs and tests.
type Files struct {
	Certificate string // PEM
	Key         string // PEM, PKCS #8, PKCS #1 or SEC 1
}

var _ Root = Files{}

// Load reads both files.
func (f Files) Load(context.Context) (*x509.Certificate, crypto.Signer, error) {
	certPEM, err := readPEM(f.Certificate)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := readPEM(f.Key)
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("ca: %s with %s: %w", f.Certificate, f.Key, err)
	}
	return pair.Leaf, pair.PrivateKey.(crypto.Signer), nil
}

// maxPEM bounds a file that is read: a root has about a kilobyte.
const maxPEM = 64 << 10

func readPEM(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if len(data) > maxPEM {
		return nil, fmt.Errorf("ca: %s: longer than %d bytes: this is no root certificate", file, maxPEM)
	}
	return data, nil
}

// ReadCertificate reads the first certificate of a PEM file.
func ReadCertificate(file string) (*x509.Certificate, error) {
	data, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	cert, err := ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("ca: %s: %w", file, err)
	}
	return cert, nil
}

// MaxRootLifetime bounds a root. Some clients refuse dates far ahead.
const MaxRootLifetime = 20 * 365 * 24 * time.Hour

// SelfSign makes the certificate of a root over a key: in Key Vault, or in a lab's file. It is
// valid from an hour before now, for agents whose clock is behind.
func SelfSign(key crypto.Signer, name string, lifetime time.Duration, now time.Time) (*x509.Certificate, error) {
	switch {
	case name == "" || len(name) > 64: // ub-common-name (RFC 5280, appendix A.1)
		return nil, errors.New("ca: give the root a name of at most 64 characters")
	case lifetime < time.Hour || lifetime > MaxRootLifetime:
		return nil, errors.New("ca: let the root live from an hour to 20 years")
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"Bulkhead"}, CommonName: name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(lifetime), IsCA: true, BasicConstraintsValid: true,
		MaxPathLen: 1, // an intermediate below it, and leaves below that
		KeyUsage:   x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	return x509.ParseCertificate(der)
}

// ParseCertificate reads the first certificate of a PEM text.
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errors.New("no certificate in it: write one in PEM")
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
		data = rest
	}
}

// Usable says why a certificate cannot be the root over a key now, or nil.
func Usable(root *x509.Certificate, public crypto.PublicKey, now time.Time) error {
	key, ok := root.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !key.Equal(public):
		return errors.New("ca: the root certificate belongs to another key: renew the certificate, or name the key's version")
	case !root.BasicConstraintsValid || !root.IsCA:
		return errors.New("ca: the root certificate is not that of an authority (basic constraints, CA:TRUE)")
	case root.KeyUsage != 0 && root.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("ca: the root certificate may not sign certificates (key usage)")
	case root.MaxPathLenZero:
		return errors.New("ca: the root certificate allows no intermediate (path length 0)")
	case now.Before(root.NotBefore):
		return fmt.Errorf("ca: the root certificate is valid from %s: check the clock", root.NotBefore.Format(time.RFC3339))
	case now.After(root.NotAfter):
		return fmt.Errorf("ca: the root certificate expired at %s: renew it", root.NotAfter.Format(time.RFC3339))
	}
	return nil
}
