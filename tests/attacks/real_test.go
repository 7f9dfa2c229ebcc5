package attacks

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

const (
	urllib = `import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=8).read().decode())`
	httpClient = `import http.client, json, socket, ssl, sys
name, addr = sys.argv[1:3]
class At(http.client.HTTPSConnection):
    def connect(self):
        self.sock = ssl.create_default_context().wrap_socket(socket.create_connection((addr, 443), 8), server_hostname=name)
c = At(name); c.request("GET", "/"); print(c.getresponse().read().decode())`
	fetch      = `fetch(process.argv[1], {signal: AbortSignal.timeout(8000)}).then(r => r.text()).then(t => console.log(t)).catch(e => { console.error(e, e.cause); process.exit(1) })`
	tlsConnect = `const [name, host] = process.argv.slice(1);
const s = require('tls').connect({host, port: 443, servername: name}, () => s.end('GET / HTTP/1.1\r\nHost: ' + name + '\r\nConnection: close\r\n\r\n'));
s.on('data', d => process.stdout.write(d)).on('error', e => { console.error(e); process.exit(1) })`
)

// TestClients runs the programs that agents are made of. What is approved works with
// them unchanged; what is refused fails at once, with an error that says what happened.
func TestClients(t *testing.T) {
	s := shared.open(t)
	run := func(t *testing.T, argv ...string) (string, error) {
		t.Helper()
		if _, err := exec.LookPath(argv[0]); err != nil {
			t.Fatalf("%v: `make deps` installs it", err)
		}
		cmd := s.invoice.Command(within(t), argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader("")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, tc := range []struct {
		name string
		// open fetches a URL; at speaks to an address for a name that is not the address's.
		open func(name string) []string
		at   func(name, addr string) []string
		// says is what the client reports of the alert, and of the name that does not resolve.
		says, unresolved string
	}{
		{"curl, HTTP/1.1",
			func(n string) []string { return []string{"curl", "-sS", "--fail", "--http1.1", "https://" + n + "/"} },
			func(n, a string) []string {
				return []string{"curl", "-sS", "--http1.1", "--resolve", n + ":443:" + a, "https://" + n + "/"}
			}, "access denied", "Could not resolve host"},
		{"curl, HTTP/2",
			func(n string) []string { return []string{"curl", "-sS", "--fail", "--http2", "https://" + n + "/"} },
			func(n, a string) []string {
				return []string{"curl", "-sS", "--http2", "--resolve", n + ":443:" + a, "https://" + n + "/"}
			}, "access denied", "Could not resolve host"},
		{"Python",
			func(n string) []string { return []string{"python3", "-c", urllib, "https://" + n + "/"} },
			func(n, a string) []string { return []string{"python3", "-c", httpClient, n, a} },
			"ACCESS_DENIED", "Name or service not known"},
		{"Node",
			func(n string) []string { return []string{"node", "-e", fetch, "https://" + n + "/"} },
			func(n, a string) []string { return []string{"node", "-e", tlsConnect, n, a} },
			"access denied", "ENOTFOUND"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := s.target(t)
			s.permit(policy.TCP, x.tls())
			out, err := run(t, tc.open(x.name)...)
			if err != nil || !strings.Contains(out, `"host":"`+x.name+`"`) {
				t.Errorf("approved: %v: %s", err, out)
			}
			if strings.Contains(tc.name, "HTTP/2") && !strings.Contains(out, "HTTP/2.0") {
				t.Errorf("not HTTP/2: %s", out)
			}
			s.forbid(t, policy.TCP, x.tls())
			if out, err := run(t, tc.at(lab.ExfilName, x.addr.String())...); err == nil || !strings.Contains(out, tc.says) {
				t.Errorf("another name: %v: %s", err, out)
			}
			if out, err := run(t, tc.open(lab.ExfilName)...); err == nil || !strings.Contains(out, tc.unresolved) {
				t.Errorf("a name that nobody permits: %v: %s", err, out)
			}
			s.sealed(t)
		})
	}
	t.Run("curl, HTTP in clear", func(t *testing.T) {
		x := s.target(t)
		s.permit(policy.TCP, x.http())
		if out, err := run(t, "curl", "-sS", "--fail", "http://"+x.name+"/"); err != nil {
			t.Errorf("approved: %v: %s", err, out)
		}
		s.forbid(t, policy.TCP, x.http())
		out, err := run(t, "curl", "-sS", "-H", "Host: "+lab.ExfilName, "http://"+x.name+"/")
		if err != nil || !strings.Contains(out, `"error":"egress denied"`) || !strings.Contains(out, `"rule":"`+byInternet+`"`) {
			t.Errorf("another Host: %v: %s", err, out)
		}
		s.sealed(t)
	})
	t.Run("openssl", func(t *testing.T) {
		x := s.target(t)
		s.resolve(t, s.invoice, x.name)
		s.permit(policy.TCP, x.tls())
		client := func(name string) (string, error) {
			return run(t, "openssl", "s_client", "-brief", "-connect", x.tls().String(), "-servername", name, "-CAfile", s.Paths.Trust)
		}
		if out, err := client(x.name); err != nil || !strings.Contains(out, "Verification: OK") {
			t.Errorf("approved: %v: %s", err, out)
		}
		s.forbid(t, policy.TCP, x.tls())
		if out, err := client(lab.ExfilName); err == nil || !strings.Contains(out, "access denied") {
			t.Errorf("another name: %v: %s", err, out)
		}
		s.sealed(t)
	})
	t.Run("Go", func(t *testing.T) {
		x := s.target(t)
		s.permit(policy.TCP, x.tls())
		client := s.invoice.HTTPClient(s.Lab)
		resp, err := client.Get(fmt.Sprintf("https://%s/", x.name))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || resp.TLS.CurveID != tls.X25519MLKEM768 {
			t.Errorf("approved: %s %s %s", resp.Status, resp.Proto, resp.TLS.CurveID)
		}
		s.forbid(t, policy.TCP, x.tls())
		client.Transport.(*http.Transport).TLSClientConfig.ServerName = lab.ExfilName
		if _, err := client.Get(fmt.Sprintf("https://%s/", x.name)); err == nil || failed(err).what != denied {
			t.Errorf("another name: %v", err)
		}
		s.sealed(t)
	})
}
