package decrypt

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// clients is where `make deps` puts the libraries that agents are written with.
const clients = "../../bin/clients"

// python and node are commands with those libraries.
func python(t testing.TB, script string, args ...string) (string, []string) {
	t.Helper()
	return installed(t, filepath.Join(clients, "python/bin/python")), append([]string{filepath.Join("clients/python", script)}, args...)
}

func node(t testing.TB, script string, args ...string) (string, []string) {
	t.Helper()
	modules := installed(t, filepath.Join(clients, "node/node_modules"))
	return "env", append([]string{"NODE_PATH=" + modules, "node", filepath.Join("clients/node", script)}, args...)
}

// installed fails the test if a client is not there: a test that skips proves nothing.
func installed(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(abs)
	}
	if err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	return abs
}

func (s *scene) base() string { return "https://" + apiName + ":8443" }

// judged fails the test if a refused path came to the origin, or a permitted one did not.
func (s *scene) judged(t testing.TB, good, bad string) {
	t.Helper()
	if len(s.origin.seen(good)) == 0 {
		t.Errorf("%s did not arrive", good)
	}
	if got := s.origin.seen(bad); len(got) != 0 {
		t.Errorf("arrived although it was refused: %+v", got)
	}
}

func TestPython(t *testing.T) {
	s := shared.open(t)
	name, args := python(t, "web.py", s.base())
	out, err := s.run(t, name, args...)
	if want := "requests 1.1 200 403\nhttpx HTTP/1.1 200 403\nhttpx HTTP/2 200 403\n"; err != nil || out != want {
		t.Fatalf("%v\n%s", err, out)
	}
	s.judged(t, "/ok/requests", "/no/")
	s.judged(t, "/ok/httpx", "/no/")
}

func TestNode(t *testing.T) {
	s := shared.open(t)
	name, args := node(t, "web.js", s.base())
	out, err := s.run(t, name, args...)
	if want := "fetch 200 403\nhttp2 200 403 200\nws 4 1000\nws Unexpected server response: 403\n"; err != nil || out != want {
		t.Fatalf("%v\n%s", err, out)
	}
	s.judged(t, "/ok/fetch", "/no/")
	s.judged(t, "/ok/node-h2-again", "/no/")
}

func TestJava(t *testing.T) {
	s := shared.open(t)
	if _, err := exec.LookPath("java"); err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	store := filepath.Join(t.TempDir(), "trust.p12")
	if out, err := s.run(t, gatewayBinary, "ca", "bundle", "--root", filepath.Join(s.Paths.Dir, "root.crt"), "--format", "pkcs12", "--out", store); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	out, err := s.run(t, "java", "-Djavax.net.ssl.trustStore="+store, "-Djavax.net.ssl.trustStorePassword=changeit", "clients/java/Web.java", s.base())
	if want := "HTTP_1_1 200 403\nHTTP_2 200 403\n"; err != nil || out != want {
		t.Fatalf("%v\n%s", err, out)
	}
	s.judged(t, "/ok/java", "/no/")
}
