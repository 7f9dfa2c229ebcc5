package decrypt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// certificates of origins that do not prove their name, by the host's first label.
func badCertificates(t *testing.T, s *scene) map[string]*tls.Certificate {
	t.Helper()
	ca, err := lab.NewAuthority("Nobody's")
	if err != nil {
		t.Fatal(err)
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	now := time.Now()
	sign := func(tmpl, parent *x509.Certificate, pub, signer any) []byte {
		tmpl.SerialNumber = big.NewInt(now.UnixNano())
		if tmpl.NotAfter.IsZero() {
			tmpl.NotBefore, tmpl.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	signed := func(tmpl *x509.Certificate, pub any) []byte { return sign(tmpl, s.CA.Cert, pub, s.CA.Key()) }
	leaf := func(label string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: label}, DNSNames: []string{label + ".decrypted.example"}}
	}
	out := map[string]*tls.Certificate{}

	expired, k := leaf("expired"), key()
	expired.NotBefore, expired.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour)
	out["expired"] = &tls.Certificate{Certificate: [][]byte{signed(expired, k.Public())}, PrivateKey: k}

	self, k := leaf("self-signed"), key()
	out["self-signed"] = &tls.Certificate{Certificate: [][]byte{sign(self, self, k.Public(), k)}, PrivateKey: k}

	wrong, err := s.CA.Leaf("other.decrypted.example")
	if err != nil {
		t.Fatal(err)
	}
	out["wrong-host"] = wrong
	if out["unknown-authority"], err = ca.Leaf("unknown-authority.decrypted.example"); err != nil {
		t.Fatal(err)
	}

	// Its issuer is trusted through an intermediate that it does not send.
	ik := key()
	inter := &x509.Certificate{Subject: pkix.Name{CommonName: "Lab Intermediate"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	interDER := signed(inter, ik.Public())
	parent, err := x509.ParseCertificate(interDER)
	if err != nil {
		t.Fatal(err)
	}
	k = key()
	der := sign(leaf("incomplete"), parent, k.Public(), ik)
	out["incomplete"] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
	k = key()
	out["complete"] = &tls.Certificate{Certificate: [][]byte{sign(leaf("complete"), parent, k.Public(), ik), interDER}, PrivateKey: k}

	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	out["weak-key"] = &tls.Certificate{Certificate: [][]byte{signed(leaf("weak-key"), weak.Public())}, PrivateKey: weak}
	return out
}

// TestOriginCertificates asks origins that do not prove their name, and one that does by
// way of an intermediate.
func TestOriginCertificates(t *testing.T) {
	s := shared.open(t)
	certs := badCertificates(t, s)
	o := &origin{}
	conf := &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		label, _, _ := strings.Cut(h.ServerName, ".")
		return certs[label], nil
	}}
	if _, err := mount(s.Host(lab.Internet), ":8447", conf, o); err != nil {
		t.Fatal(err)
	}
	s.both(t, func(t *testing.T, c *http.Client, proto string) {
		for label := range certs {
			host := label + ".decrypted.example"
			resp, body := do(t, c, ask(t, "GET", fmt.Sprintf("https://%s:8447/ok/%s/%s", host, label, proto[5:6]), nil))
			if label == "complete" {
				if resp.StatusCode != 200 {
					t.Errorf("%s: %s %s", label, resp.Status, body)
				}
				continue
			}
			if resp.StatusCode != 502 || !strings.Contains(body, string(policy.ReasonOriginCertificate)) {
				t.Errorf("%s: %s %s", label, resp.Status, body)
			}
			if _, err := s.WaitEvent(within(t), func(e *audit.Event) bool {
				return e.ClassUID == audit.HTTPActivity && e.StatusDetail == string(policy.ReasonOriginCertificate) && e.DstEndpoint.Hostname == host
			}); err != nil {
				t.Errorf("%s: %v", label, err)
			}
		}
	})
	for _, a := range o.all() {
		if a.sni != "complete.decrypted.example" {
			t.Errorf("a request went to an unproven origin: %+v", a)
		}
	}
}
