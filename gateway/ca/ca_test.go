package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// root writes a new root to a directory.
func root(t testing.TB, dir string, change func(*x509.Certificate)) Files {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := Files{Certificate: filepath.Join(dir, "root.crt"), Key: filepath.Join(dir, "root.key")}
	writeRoot(t, f.Certificate, key, change)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return f
}

func writeRoot(t testing.TB, file string, key *ecdsa.PrivateKey, change func(*x509.Certificate)) {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "Contoso Bulkhead Root"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func write(t testing.TB, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, opt Options) *Authority {
	t.Helper()
	a, err := New(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	if err := a.Ready(); err != nil {
		t.Fatal(err)
	}
	return a
}

// trouble is what an authority has with a root that cannot be used. It has no leaves.
func trouble(t *testing.T, r Root) error {
	t.Helper()
	a, err := New(t.Context(), Options{Root: r, Names: []string{"a.example"}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, _, err := a.Leaf(t.Context(), "a.example"); !errors.Is(err, ErrNotReady) || a.Root() != nil {
		t.Errorf("a leaf from nothing: %v", err)
	}
	return a.Trouble()
}

func pool(a *Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Root())
	return p
}

// TestHandshake has a client that trusts the root shake hands with a server that holds a leaf.
func TestHandshake(t *testing.T) {
	a := open(t, Options{Root: root(t, t.TempDir(), nil), Names: []string{"api.github.com", "*.contoso.com"}})
	for _, name := range []string{"api.github.com", "mcp.contoso.com", "a.b.contoso.com"} {
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() {
			defer server.Close()
			s := tls.Server(server, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				leaf, _, err := a.Leaf(h.Context(), h.ServerName)
				return leaf, err
			}})
			done <- s.Handshake()
		}()
		c := tls.Client(client, &tls.Config{ServerName: name, RootCAs: pool(a)})
		err := c.Handshake()
		client.Close()
		if err := errors.Join(err, <-done); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		leaf := c.ConnectionState().PeerCertificates[0]
		if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != name || len(leaf.IPAddresses)+len(leaf.EmailAddresses)+len(leaf.URIs) > 0 || leaf.IsCA {
			t.Errorf("%s: the leaf is for %q, %v, CA %v", name, leaf.DNSNames, leaf.IPAddresses, leaf.IsCA)
		}
	}
	for _, name := range []string{"github.com", "contoso.com", "login.microsoftonline.com", "x.api.github.com", "", "127.0.0.1"} {
		if _, _, err := a.Leaf(t.Context(), name); !errors.Is(err, ErrName) {
			t.Errorf("a leaf for %q: %v", name, err)
		}
	}
}

// TestConstraints forges leaves with the intermediate's own key, as a thief of the
// gateway's memory could, and has Go and OpenSSL judge them.
func TestConstraints(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: run `make deps`")
	}
	a := open(t, Options{Root: root(t, t.TempDir(), nil), Names: []string{"api.github.com", "*.contoso.com", "mcp*.tools.example"}})
	i := a.current.Load()
	for _, tc := range []struct {
		what   string
		change func(*x509.Certificate)
		good   bool
	}{
		{"a name of the ruleset", func(c *x509.Certificate) { c.DNSNames = []string{"api.github.com"} }, true},
		{"a name that the glob widens to", func(c *x509.Certificate) { c.DNSNames = []string{"other.tools.example"} }, true},
		{"another name", func(c *x509.Certificate) { c.DNSNames = []string{"login.microsoftonline.com"} }, false},
		{"the parent", func(c *x509.Certificate) { c.DNSNames = []string{"github.com"} }, false},
		{"a name with the domain as its end", func(c *x509.Certificate) { c.DNSNames = []string{"evilcontoso.com"} }, false},
		{"one good and one bad name", func(c *x509.Certificate) { c.DNSNames = []string{"api.github.com", "gist.github.com"} }, false},
		{"an address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(140, 82, 121, 6)} }, false},
		{"an IPv6 address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2603::1")} }, false},
		{"a mailbox", func(c *x509.Certificate) {
			c.DNSNames, c.EmailAddresses = []string{"api.github.com"}, []string{"root@contoso.com"}
		}, false},
	} {
		t.Run(tc.what, func(t *testing.T) {
			tmpl := &x509.Certificate{SerialNumber: serial(), NotBefore: i.cert.NotBefore, NotAfter: i.cert.NotAfter,
				KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
			tc.change(tmpl)
			der, err := x509.CreateCertificate(rand.Reader, tmpl, i.cert, a.key.Public(), i.key)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			intermediates := x509.NewCertPool()
			intermediates.AddCert(i.cert)
			_, err = cert.Verify(x509.VerifyOptions{Roots: pool(a), Intermediates: intermediates})
			if (err == nil) != tc.good {
				t.Errorf("Go: %v", err)
			}
			if out, err := openssl(t, a, der); (err == nil) != tc.good {
				t.Errorf("OpenSSL: %v: %s", err, out)
			}
		})
	}
	t.Run("an authority below it", func(t *testing.T) {
		tmpl := &x509.Certificate{SerialNumber: serial(), NotBefore: i.cert.NotBefore, NotAfter: i.cert.NotAfter, IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "another"}}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, i.cert, a.key.Public(), i.key)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := openssl(t, a, der, "-purpose", "sslserver"); err == nil {
			// A CA certificate may itself be shown as a server's; what it signs may not.
			t.Logf("OpenSSL takes it as an end: %s", out)
		}
		sub, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		leaf := &x509.Certificate{SerialNumber: serial(), NotBefore: i.cert.NotBefore, NotAfter: i.cert.NotAfter, DNSNames: []string{"api.github.com"}}
		der, err = x509.CreateCertificate(rand.Reader, leaf, sub, a.key.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		cert, _ := x509.ParseCertificate(der)
		between := x509.NewCertPool()
		between.AddCert(i.cert)
		between.AddCert(sub)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool(a), Intermediates: between}); err == nil {
			t.Error("a chain with a second intermediate verifies")
		}
	})
}

// openssl verifies a leaf against the authority's root and intermediate.
func openssl(t *testing.T, a *Authority, leaf []byte, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	i := a.current.Load()
	for name, der := range map[string][]byte{"root": i.root.Raw, "intermediate": i.cert.Raw, "leaf": leaf} {
		write(t, filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	args = append([]string{"verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", filepath.Join(dir, "root"), "-untrusted", filepath.Join(dir, "intermediate")}, args...)
	out, err := exec.Command("openssl", append(args, filepath.Join(dir, "leaf"))...).CombinedOutput()
	return string(out), err
}

func TestUnusableRoots(t *testing.T) {
	for _, tc := range []struct {
		what, want string
		change     func(*x509.Certificate)
	}{
		{"no authority", "not that of an authority", func(c *x509.Certificate) { c.IsCA = false; c.KeyUsage = 0 }},
		{"may not sign", "key usage", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }},
		{"no room below", "path length 0", func(c *x509.Certificate) { c.MaxPathLenZero = true }},
		{"expired", "expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }},
		{"not valid yet", "check the clock", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }},
	} {
		t.Run(tc.what, func(t *testing.T) {
			if err := trouble(t, root(t, t.TempDir(), tc.change)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("another key", func(t *testing.T) {
		a, b := root(t, t.TempDir(), nil), root(t, t.TempDir(), nil)
		a.Key = b.Key
		if trouble(t, a) == nil {
			t.Error("taken")
		}
	})
	t.Run("no files", func(t *testing.T) {
		if err := trouble(t, Files{"absent", "absent"}); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("endless file", func(t *testing.T) {
		if _, err := ReadCertificate("/dev/zero"); err == nil || !strings.Contains(err.Error(), "longer") {
			t.Error(err)
		}
	})
}

// TestNamesChange follows a reload: what is new waits for its intermediate, what went
// is refused at once.
func TestNamesChange(t *testing.T) {
	a := open(t, Options{Root: root(t, t.TempDir(), nil), Names: []string{"old.example"}})
	if _, _, err := a.Leaf(t.Context(), "old.example"); err != nil {
		t.Fatal(err)
	}
	before := a.current.Load()
	a.SetNames([]string{"old.example"})
	a.SetNames([]string{"new.example"})
	if _, _, err := a.Leaf(t.Context(), "old.example"); !errors.Is(err, ErrName) {
		t.Errorf("a name that is decrypted no more: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		_, _, err := a.Leaf(ctx, "new.example")
		if err == nil {
			break
		}
		if !errors.Is(err, ErrNotReady) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if now := a.current.Load(); now == before || now.cert.PermittedDNSDomains[0] != "new.example" {
		t.Errorf("the intermediate permits %q", now.cert.PermittedDNSDomains)
	}
}

// flaky is a root that can be taken away.
type flaky struct {
	Files
	mu  sync.Mutex
	err error
}

func (f *flaky) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *flaky) Load(ctx context.Context) (*x509.Certificate, crypto.Signer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, nil, f.err
	}
	return f.Files.Load(ctx)
}

// TestRenewal lets a day pass with the root away, and then has it back.
func TestRenewal(t *testing.T) {
	c := &clock{now: time.Now()}
	away := errors.New("the vault is away")
	f := &flaky{Files: root(t, t.TempDir(), nil)}
	a := open(t, Options{Root: f, Names: []string{"a.example"}, Now: c.Now})
	first := a.current.Load()
	renew := func() error { return a.renew(t.Context()) }

	c.add(lifetime / 4)
	if err := renew(); err != nil || a.current.Load() != first {
		t.Fatalf("renewed too early, or %v", err)
	}
	c.add(lifetime/4 + time.Minute)
	f.set(away)
	if err := renew(); !errors.Is(err, away) {
		t.Fatal(err)
	}
	if _, _, err := a.Leaf(t.Context(), "a.example"); err != nil || a.Ready() != nil || a.Trouble() == nil {
		t.Fatalf("half way, while the root is away: leaf %v, ready %v, trouble %v", err, a.Ready(), a.Trouble())
	}
	c.add(lifetime / 2)
	if _, _, err := a.Leaf(t.Context(), "a.example"); !errors.Is(err, ErrNotReady) || !errors.Is(a.Ready(), away) {
		t.Fatalf("after its end: leaf %v, ready %v", err, a.Ready())
	}
	f.set(nil)
	if err := renew(); err != nil || a.current.Load() == first {
		t.Fatal(err)
	}
	if _, _, err := a.Leaf(t.Context(), "a.example"); err != nil || a.Trouble() != nil {
		t.Fatal(err, a.Trouble())
	}
}

// TestRootChanges replaces the files under a running authority.
func TestRootChanges(t *testing.T) {
	dir := t.TempDir()
	a := open(t, Options{Root: root(t, dir, nil), Names: []string{"a.example"}})
	before := a.Root()
	root(t, dir, nil)
	if err := a.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	leaf, _, err := a.Leaf(t.Context(), "a.example")
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	between.AddCert(a.current.Load().cert)
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: pool(a), Intermediates: between, DNSName: "a.example"}); err != nil || a.Root().Equal(before) {
		t.Errorf("%v", err)
	}
}

func TestSubtrees(t *testing.T) {
	many := make([]string, 0, 300)
	for i := range 300 {
		many = append(many, "host"+string(rune('a'+i%26))+string(rune('a'+i/26))+".svc.contoso.com")
	}
	for _, tc := range []struct {
		what     string
		patterns []string
		want     string
	}{
		{"none", nil, "invalid"},
		{"every name", []string{"a.example", "*"}, ""},
		{"exact, wildcard, glob", []string{"api.github.com", "*.contoso.com", "gsm*eh.bus.example"}, "api.github.com bus.example contoso.com"},
		{"below another", []string{"*.contoso.com", "a.b.contoso.com"}, "contoso.com"},
		{"too many", many, "svc.contoso.com"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			if got := strings.Join(subtrees(tc.patterns), " "); got != tc.want {
				t.Errorf("%s", got)
			}
		})
	}
}

// TestConcurrentLeaves asks for few names from many goroutines while the names change.
func TestConcurrentLeaves(t *testing.T) {
	a := open(t, Options{Root: root(t, t.TempDir(), nil), Names: []string{"*.example"}})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 100 {
				if g == 0 {
					a.SetNames([]string{"*.example", "n" + string(rune('a'+n%26)) + ".test"})
				}
				name := string(rune('a'+n%5)) + ".example"
				leaf, _, err := a.Leaf(t.Context(), name)
				if err != nil || leaf.Leaf.DNSNames[0] != name {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkLeaf(b *testing.B) {
	a := open(b, Options{Root: root(b, b.TempDir(), nil), Names: []string{"*.example"}})
	i := a.current.Load()
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			if _, err := i.issue("a.example", a.key); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("kept", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := a.Leaf(b.Context(), "a.example"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
