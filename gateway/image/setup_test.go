package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

func TestMain(m *testing.M) {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// machine is a bare one: its own network with Azure's metadata service at the real address,
// its own /etc, /usr/bin and /usr/local/sbin, and a storage account over TLS. bulkhead-setup
// itself runs as it is. systemctl and tar are written down; the first does nothing here.
//
// What it does not prove: that cloud-init reads userData on Azure, and that the services
// there answer as these do.
type machine struct {
	t   *testing.T
	dir string

	mu       sync.Mutex
	userData []byte
	bundle   []byte
	status   int // of the storage account
	tokens   int
	fetched  int
}

// newMachine moves the calling goroutine's thread into the machine, for good.
func newMachine(t *testing.T) *machine {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread dies with its namespaces
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))

	m := &machine{t: t, dir: t.TempDir(), status: http.StatusOK}
	must(unix.Mount("tmpfs", m.dir, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(m.dir, unix.MNT_DETACH) })
	for _, part := range []string{"/etc", "/usr/bin", "/usr/local/sbin"} {
		upper, work := m.dir+"/upper"+part, m.dir+"/work"+part
		must(os.MkdirAll(upper, 0o755))
		must(os.MkdirAll(work, 0o755))
		must(unix.Mount("overlay", part, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", part, upper, work)))
	}
	must(os.MkdirAll(m.dir+"/bin", 0o755))
	for _, name := range []string{"systemctl", "tar"} {
		run := ""
		if name == "tar" {
			run = `exec /usr/bin/tar "$@"`
		}
		must(os.WriteFile(m.dir+"/bin/"+name, fmt.Appendf(nil, "#!/bin/sh\necho %s \"$@\" >>%s/calls\n%s\n", name, m.dir, run), 0o755))
	}
	must(os.WriteFile("/etc/hosts", []byte("127.0.0.1 contoso.blob.core.windows.net\n"), 0o644))

	lo, err := netlink.LinkByName("lo")
	must(err)
	must(netlink.LinkSetUp(lo))
	address, err := netlink.ParseAddr("169.254.169.254/32")
	must(err)
	must(netlink.AddrAdd(lo, address))
	listener, err := net.Listen("tcp4", "169.254.169.254:80")
	must(err)
	metadata := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(m.metadata)}}
	metadata.Start()
	t.Cleanup(metadata.Close)
	if listener, err = net.Listen("tcp4", "127.0.0.1:443"); err != nil {
		t.Fatal(err)
	}
	storage := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(m.storage)}}
	storage.TLS = selfSigned(t, "contoso.blob.core.windows.net")
	storage.StartTLS()
	t.Cleanup(storage.Close)
	must(os.WriteFile(m.dir+"/ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: storage.TLS.Certificates[0].Certificate[0]}), 0o644))
	return m
}

func (m *machine) metadata(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := r.URL.Query()
	switch {
	case r.Header.Get("Metadata") != "true":
		http.Error(w, "Required metadata header not specified", http.StatusBadRequest)
	case r.URL.Path == "/metadata/instance/compute/userData" && q.Get("format") == "text" && q.Get("api-version") == "2021-01-01":
		fmt.Fprint(w, base64.StdEncoding.EncodeToString(m.userData))
	case r.URL.Path == "/metadata/identity/oauth2/token" && q.Get("client_id") == spec().ClientID && q.Get("resource") == "https://storage.azure.com/":
		m.tokens++
		fmt.Fprint(w, `{"access_token":"a.b.c","token_type":"Bearer","expires_in":"86399"}`)
	default:
		http.Error(w, r.URL.String(), http.StatusNotFound)
	}
}

func (m *machine) storage(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer a.b.c" || r.Header.Get("x-ms-version") == "":
		http.Error(w, "AuthenticationFailed", http.StatusUnauthorized)
	case m.status != http.StatusOK:
		http.Error(w, "AuthorizationPermissionMismatch", m.status)
	case "https://"+r.Host+r.URL.Path != spec().BundleURL:
		http.Error(w, "BlobNotFound", http.StatusNotFound)
	default:
		m.fetched++
		w.Write(m.bundle)
	}
}

// release makes an archive as `make bundle` lays it out.
func release(t *testing.T, binary string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, f := range [][2]string{{"LICENSE", "Apache"}, {"bin/bulkhead", binary}, {"systemd/bulkhead-lockdown.service", "[Unit]\n"}, {"systemd/bulkhead.service", "[Unit]\n"}} {
		if err := archive.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(f[1])), Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		archive.Write([]byte(f[1]))
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// publish makes user data that names a release, and puts both where the machine finds them.
func (m *machine) publish(s Spec, binary string) {
	m.t.Helper()
	bundle := release(m.t, binary)
	digest := sha256.Sum256(bundle)
	s.BundleSHA256 = hex.EncodeToString(digest[:])
	data, err := UserData(s)
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bundle, m.userData = bundle, data
}

// setup runs bulkhead-setup and returns what it called.
func (m *machine) setup() (calls []string, err error) {
	m.t.Helper()
	os.Remove(m.dir + "/calls")
	cmd := exec.Command("bash", "-s")
	cmd.Stdin = strings.NewReader(setup)
	cmd.Dir = "/"
	// SSL_CERT_FILE stands for the public root that signs Azure's names.
	cmd.Env = []string{"PATH=" + m.dir + "/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=" + m.dir + "/ca.pem", "TMPDIR=" + m.dir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	data, _ := os.ReadFile(m.dir + "/calls")
	return slices.Collect(strings.Lines(string(data))), err
}

// tree is what the machine's folders hold beyond what they held at first.
func (m *machine) tree() map[string]string {
	out := map[string]string{}
	filepath.WalkDir(m.dir+"/upper", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			data, _ := os.ReadFile(path)
			info, _ := d.Info()
			out[strings.TrimPrefix(path, m.dir+"/upper")] = fmt.Sprintf("%o %s", info.Mode().Perm(), data)
		}
		return nil
	})
	return out
}

func same(a, b map[string]string) (differs []string) {
	for path := range a {
		if a[path] != b[path] {
			differs = append(differs, path)
		}
	}
	for path := range b {
		if _, there := a[path]; !there {
			differs = append(differs, path)
		}
	}
	return differs
}

// TestSetup is a machine's life: the first boot, nothing new, an upgrade, and all that can
// be wrong with one, which changes nothing.
func TestSetup(t *testing.T) {
	m := newMachine(t)
	m.publish(spec(), "release one")
	bare := m.tree()

	// A role that is not spread yet: nothing happens, and it is asked again.
	m.status = http.StatusForbidden
	if _, err := m.setup(); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a refused download: %v", err)
	}
	if d := same(bare, m.tree()); d != nil {
		t.Errorf("a refused download left %v", d)
	}
	m.status = http.StatusOK

	calls, err := m.setup()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"systemctl daemon-reload\n", "systemctl enable --quiet bulkhead-lockdown.service bulkhead.service\n", "systemctl restart --no-block bulkhead.service\n"}
	if len(calls) != 4 || !strings.HasPrefix(calls[0], "tar ") || !slices.Equal(calls[1:], want) {
		t.Errorf("called %q", calls)
	}
	first := m.tree()
	for _, f := range parse(t, m.userData).Files {
		if got, want := first[f.Path], strings.TrimPrefix(f.Permissions, "0")+" "+f.Content; got != want {
			t.Errorf("%s is %q", f.Path, got)
		}
	}
	for path, want := range map[string]string{
		"/usr/bin/bulkhead": "755 release one", "/etc/systemd/system/bulkhead.service": "644 [Unit]\n",
		"/etc/systemd/system/bulkhead-lockdown.service": "644 [Unit]\n", "/etc/bulkhead/user-data": "600 " + string(m.userData),
	} {
		if first[path] != want {
			t.Errorf("%s is %q", path, first[path])
		}
	}

	fetched, tokens := m.fetched, m.tokens
	if calls, err := m.setup(); err != nil || len(calls) > 0 || m.fetched != fetched || m.tokens != tokens {
		t.Errorf("nothing changed, and it called %q, took %d tokens and %d releases (%v)", calls, m.tokens-tokens, m.fetched-fetched, err)
	}

	for name, spoil := range map[string]func(){
		"another archive than the digest says": func() { m.bundle = release(t, "release evil") },
		"a torn archive":                       func() { m.bundle = m.bundle[:len(m.bundle)/2] },
		"an empty answer":                      func() { m.bundle = nil },
		"a store that is away":                 func() { m.status = http.StatusServiceUnavailable },
		"no user data":                         func() { m.userData = nil },
		"user data that is no YAML":            func() { m.userData = []byte("#cloud-config\n\t{{{") },
		"a document without files":             func() { m.userData = []byte("#cloud-config\nruncmd: [id]\n") },
	} {
		m.publish(spec(), "release two")
		m.mu.Lock()
		spoil()
		m.mu.Unlock()
		calls, err := m.setup()
		if err == nil || len(calls) > 0 {
			t.Errorf("%s: called %q, %v", name, calls, err)
		}
		if d := same(first, m.tree()); d != nil {
			t.Errorf("%s changed %v", name, d)
		}
		m.status = http.StatusOK
	}

	s := spec()
	s.Agents = s.Agents[:1]
	m.publish(s, "release two")
	if calls, err := m.setup(); err != nil || !slices.Equal(calls[1:], want) {
		t.Errorf("an upgrade: called %q, %v", calls, err)
	}
	if tree := m.tree(); tree["/usr/bin/bulkhead"] != "755 release two" || strings.Contains(tree["/etc/bulkhead/gateway.yaml"], "10.20.3.0/27") {
		t.Errorf("after the upgrade: %q, %q", tree["/usr/bin/bulkhead"], tree["/etc/bulkhead/gateway.yaml"])
	}
	if left, _ := filepath.Glob(m.dir + "/tmp.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// selfSigned is the certificate of a server with that name.
func selfSigned(t *testing.T, name string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
