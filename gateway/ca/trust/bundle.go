package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
)

// SystemBundles are where distributions keep their roots: Debian, Alpine; RHEL; SUSE.
var SystemBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
}

// maxBundle bounds a bundle that is read; Mozilla's roots are a quarter of a megabyte.
const maxBundle = 8 << 20

// Password is that of every PKCS #12 trust store: Java's default. It keeps nothing secret,
// because certificates are none.
const Password = pkcs12.DefaultPassword

// Bundle is a list of trusted roots.
type Bundle []*x509.Certificate

// Read reads every certificate of a PEM file. One that cannot be read is an error: a
// bundle that lost roots would break what has nothing to do with us.
func Read(file string) (Bundle, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err != nil {
		return nil, err
	}
	b, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return b, nil
}

// System reads the roots of this machine.
func System() (Bundle, error) {
	for _, file := range SystemBundles {
		if _, err := os.Stat(file); err == nil {
			return Read(file)
		}
	}
	return nil, fmt.Errorf("this system has no bundle of roots (looked for %q): name one", SystemBundles)
}

func parse(data []byte) (Bundle, error) {
	if len(data) > maxBundle {
		return nil, fmt.Errorf("longer than %d bytes: this is no bundle of roots", maxBundle)
	}
	var b Bundle
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a block of type %q: a bundle holds certificates only", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(b)+1, err)
		}
		b = append(b, c)
	}
	if len(b) == 0 {
		return nil, errors.New("no certificate in it: write them in PEM")
	}
	return b, nil
}

// With returns the roots of both, each once, b's first.
func (b Bundle) With(other Bundle) Bundle {
	var out Bundle
	seen := map[string]bool{}
	for _, list := range []Bundle{b, other} {
		for _, c := range list {
			if !seen[string(c.Raw)] {
				seen[string(c.Raw)] = true
				out = append(out, c)
			}
		}
	}
	return out
}

// PEM writes the roots one after another, each under its subject, as a comment.
func (b Bundle) PEM() []byte {
	var out bytes.Buffer
	for _, c := range b {
		fmt.Fprintf(&out, "# %q\n", c.Subject.String()) // quoted: a name may hold a line break
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return out.Bytes()
}

// PKCS12 writes the roots as a trust store for Java 12 and later (go-pkcs12, Modern2023).
// Java keeps one entry for each alias, whatever its case, and some roots share a subject; so
// each alias has the root's fingerprint in it.
func (b Bundle) PKCS12() ([]byte, error) {
	entries := make([]pkcs12.TrustStoreEntry, 0, len(b))
	for _, c := range b {
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: c, FriendlyName: c.Subject.CommonName + " " + ca.Fingerprint(c)})
	}
	return pkcs12.Modern2023.EncodeTrustStoreEntries(entries, Password)
}

func (b Bundle) pool() *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range b {
		p.AddCert(c)
	}
	return p
}
