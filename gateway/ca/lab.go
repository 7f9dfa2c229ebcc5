package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// MaxRootLifetime bounds a lab's root. Some clients refuse dates far ahead.
const MaxRootLifetime = 20 * 365 * 24 * time.Hour

// Init makes a root whose key is in a file, for a lab. The two files must not exist: a
// root that agents trust is not replaced by accident.
func (f Files) Init(name string, lifetime time.Duration, now time.Time) (*x509.Certificate, error) {
	switch {
	case name == "" || len(name) > 64: // ub-common-name (RFC 5280, appendix A.1)
		return nil, errors.New("ca: give the root a name of at most 64 characters")
	case lifetime < time.Hour || lifetime > MaxRootLifetime:
		return nil, errors.New("ca: let the root live from an hour to 20 years")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"Bulkhead"}, CommonName: name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(lifetime), IsCA: true, BasicConstraintsValid: true,
		MaxPathLen: 1, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if err := create(f.Key, 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}); err != nil {
		return nil, err
	}
	if err := create(f.Certificate, 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		os.Remove(f.Key) // ours, of a moment ago: without its certificate it is of no use
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// create writes a file that must not exist.
func create(file string, mode os.FileMode, block *pem.Block) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("ca: %w", err)
	}
	if err := errors.Join(pem.Encode(f, block), f.Sync(), f.Close()); err != nil {
		os.Remove(file)
		return fmt.Errorf("ca: %w", err)
	}
	return nil
}
