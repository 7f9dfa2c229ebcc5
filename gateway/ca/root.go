package ca

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
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
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("ca: %s: no certificate in it: write one in PEM", file)
		}
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("ca: %s: %w", file, err)
			}
			return cert, nil
		}
		data = rest
	}
}

// usable says why a root cannot sign an intermediate now, or nil.
func usable(root *x509.Certificate, signer crypto.Signer, now time.Time) error {
	type public interface{ Equal(crypto.PublicKey) bool }
	key, ok := root.PublicKey.(public)
	switch {
	case !ok || !key.Equal(signer.Public()):
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
