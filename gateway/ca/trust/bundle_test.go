package trust

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
)

// lab makes a root.
func lab(t testing.TB, name string) (ca.Files, Bundle) {
	t.Helper()
	dir := t.TempDir()
	f := ca.Files{Certificate: filepath.Join(dir, "root.crt"), Key: filepath.Join(dir, "root.key")}
	root, err := f.Init(name, 24*time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return f, Bundle{root}
}

func equal(a, b Bundle) bool {
	return slices.EqualFunc(a, b, func(x, y *x509.Certificate) bool { return x.Equal(y) })
}

func TestBundle(t *testing.T) {
	_, ours := lab(t, "Contoso lab\n-----BEGIN CERTIFICATE-----")
	_, one := lab(t, "one")
	_, two := lab(t, "one") // another root of the same name
	all := one.With(two).With(ours).With(one)
	if len(all) != 3 || !equal(all[:1], one) || !equal(all[2:], ours) {
		t.Fatalf("%d roots", len(all))
	}
	file := filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(file, all.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Read(file)
	if err != nil || !equal(got, all) {
		t.Errorf("read back: %d roots, %v", len(got), err)
	}
	store, err := all.PKCS12()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pkcs12.DecodeTrustStore(store, Password); err != nil || !equal(got, all) {
		t.Errorf("key store: %d roots, %v", len(got), err)
	}
	// OpenSSL is another reader of the same bytes. It prints the aliases, of which Java
	// keeps one entry each.
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: run `make deps`")
	}
	cmd := exec.Command("openssl", "pkcs12", "-nokeys", "-passin", "pass:"+Password)
	cmd.Stdin = bytes.NewReader(store)
	out, err := cmd.Output()
	aliases := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if alias, ok := strings.CutPrefix(strings.TrimSpace(line), "friendlyName:"); ok {
			aliases[strings.ToLower(alias)] = true
		}
	}
	if err != nil || len(aliases) != len(all) {
		t.Errorf("OpenSSL reads %d aliases, %v", len(aliases), err)
	}
}

func TestBadBundles(t *testing.T) {
	_, ours := lab(t, "ours")
	for _, tc := range []struct{ what, text, want string }{
		{"nothing", "", "no certificate"},
		{"no PEM", "hello", "no certificate"},
		{"a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "certificates only"},
		{"a broken one", string(ours.PEM()) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 2"},
		{"too long", strings.Repeat(" ", maxBundle+1), "longer"},
	} {
		if b, err := parse([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %d roots, %v", tc.what, len(b), err)
		}
	}
	if _, err := Read("/dev/zero"); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("endless file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	_, ours := lab(f, "ours")
	f.Add(ours.PEM())
	f.Add([]byte("# x\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parse(data)
		if err != nil {
			return
		}
		if again, err := parse(b.PEM()); err != nil || !equal(again, b) {
			t.Errorf("%d roots, read back as %d: %v", len(b), len(again), err)
		}
	})
}
