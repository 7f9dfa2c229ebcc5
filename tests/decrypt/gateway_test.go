package decrypt

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// reload puts another ruleset in force.
func (s *scene) reload(t *testing.T, yaml string) {
	t.Helper()
	before := s.digest(t)
	if err := s.WriteRuleset(yaml); err != nil {
		t.Fatal(err)
	}
	if err := s.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	for tick := time.NewTicker(20 * time.Millisecond); s.digest(t) == before; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the ruleset is not in force")
		}
	}
}

func (s *scene) digest(t *testing.T) string {
	t.Helper()
	resp, err := s.Process.Admin(within(t), "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var ready struct {
		Ruleset struct{ Digest, Error string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&ready); err != nil || ready.Ruleset.Error != "" {
		t.Fatal(err, ready.Ruleset.Error)
	}
	return ready.Ruleset.Digest
}

// live is something open on a decrypted flow; read returns when more has come, or it is over.
type live struct {
	name string
	read func() error
}

// streams opens a stream of events with both versions of HTTP and a WebSocket.
func (s *scene) streams(t *testing.T) []live {
	t.Helper()
	var out []live
	for _, h2 := range []bool{false, true} {
		resp, err := s.client(t, h2).Do(ask(t, "GET", s.base()+"/ok/events", nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		r := bufio.NewReader(resp.Body)
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		out = append(out, live{"events, " + resp.Proto, func() error { _, err := io.ReadAll(r); return err }})
	}
	ws, _, err := websocket.Dial(within(t), s.base()+"/ok/ws", &websocket.DialOptions{HTTPClient: s.client(t, false)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	return append(out, live{"WebSocket", func() error { _, _, err := ws.Read(within(t)); return err }})
}

// TestReload narrows a rule and takes it back while flows are open.
func TestReload(t *testing.T) {
	s := open(t, lab.Options{})
	open := s.streams(t)
	c := s.client(t, true)
	if resp, _ := do(t, c, ask(t, "GET", s.base()+"/ok/before", nil)); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}

	s.reload(t, strings.Replace(ruleset(), `paths: ["/ok", "/ok/**"]`, `paths: ["/ok/events", "/ok/ws"]`, 1))
	if resp, _ := do(t, c, ask(t, "GET", s.base()+"/ok/narrowed", nil)); resp.StatusCode != 403 {
		t.Errorf("a request on a connection from before: %s", resp.Status)
	}
	// Streams that are permitted as before go on.
	for range 2 {
		select {
		case s.origin.next <- struct{}{}:
		case <-within(t).Done():
			t.Fatal("a stream ended although it is permitted")
		}
	}

	s.reload(t, strings.Replace(ruleset(), "  - {name: judge, ", "  #", 1))
	for _, l := range open {
		if err := l.read(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want a reset", l.name, err)
		}
	}
	if _, err := c.Do(ask(t, "GET", s.base()+"/ok/after", nil)); err == nil {
		t.Error("a request after the rule is gone was answered")
	}
	const closes = 2
	if _, err := s.WaitEvent(within(t), func(e *audit.Event) bool {
		return e.ClassUID == audit.NetworkActivity && e.ActivityID == closes && e.ActionID == blocked && e.DstEndpoint.Hostname == apiName
	}); err != nil {
		s.dump(t)
		t.Error("no flow is audited as withdrawn:", err)
	}
	for _, path := range []string{"/ok/narrowed", "/ok/after"} {
		if got := s.origin.seen(path); len(got) > 0 {
			t.Errorf("%s arrived", path)
		}
	}
}

// TestDistrust has clients that do not trust the gateway's root. Each is refused, each time, and the
// audit says why; none of them is ever let through to the origin's own certificate.
func TestDistrust(t *testing.T) {
	s := shared.open(t)
	only := filepath.Join(t.TempDir(), "only-the-labs.pem")
	if err := os.WriteFile(only, s.CA.PEM, 0o644); err != nil {
		t.Fatal(err)
	}
	py, pyArgs := python(t, "web.py")
	js, jsArgs := node(t, "web.js")
	without := []string{"SSL_CERT_FILE=" + only, "CURL_CA_BUNDLE=" + only, "REQUESTS_CA_BUNDLE=" + only, "NODE_EXTRA_CA_CERTS=" + only}
	for i, tc := range []struct {
		name string
		args []string
	}{
		{"curl, TLS 1.2", []string{"curl", "-sS", "--tls-max", "1.2"}},
		{"curl, TLS 1.3", []string{"curl", "-sS", "--http2"}},
		{"curl, again", []string{"curl", "-sS"}},
		{"python", append([]string{py}, pyArgs...)},
		{"node", append([]string{js}, jsArgs...)},
		{"java", []string{"java", "clients/java/Web.java"}},
	} {
		host := fmt.Sprintf("distrust%d.decrypted.example", i) // so that none is counted with another
		url := "https://" + host + ":8443"
		if strings.HasPrefix(tc.name, "curl") {
			url += "/ok"
		}
		out, err := s.run(t, "env", append(append(without[:len(without):len(without)], tc.args...), url)...)
		if err == nil {
			t.Errorf("%s: %s", tc.name, out)
		}
		if _, err := s.WaitEvent(within(t), func(e *audit.Event) bool {
			return e.StatusDetail == string(policy.ReasonCARejected) && e.DispositionID == blocked && e.DstEndpoint.Hostname == host
		}); err != nil {
			s.dump(t)
			t.Errorf("%s: %v\n%.200s", tc.name, err, out)
		}
		for _, a := range s.origin.all() {
			if a.sni == host {
				t.Errorf("%s: arrived: %+v", tc.name, a)
			}
		}
	}
}

// TestCanary tries out, from an agent's host, whether it trusts the root.
func TestCanary(t *testing.T) {
	s := shared.open(t)
	root := filepath.Join(s.Paths.Dir, "root.crt")
	only := filepath.Join(t.TempDir(), "only-the-labs.pem")
	if err := os.WriteFile(only, s.CA.PEM, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		host, store, want string
		fails             bool
	}{
		{apiName, "", "trusted", false},
		{apiName, only, "untrusted", true},
		{splicedName, "", "not-decrypted", true},
		{"nobody.example", "", "unreachable", true},
	} {
		args := []string{"ca", "canary", "--root", root, "--host", tc.host, "--json"}
		if tc.store != "" {
			args = append(args, "--store", tc.store)
		}
		out, err := s.run(t, gatewayBinary, args...)
		var found struct{ State string }
		if jerr := json.NewDecoder(strings.NewReader(out)).Decode(&found); jerr != nil || found.State != tc.want || (err != nil) != tc.fails {
			t.Errorf("%s: %v %v\n%s", tc.host, jerr, err, out)
		}
	}
}

// TestNoAuthority runs a gateway that has a ruleset which decrypts, and nothing to decrypt with: what a
// rule has to see requests for is refused, and what it need not is not looked into.
func TestNoAuthority(t *testing.T) {
	s := open(t, lab.Options{Configure: func(c map[string]any) { delete(c, "ca") }})
	c := s.client(t, true)
	if _, err := c.Do(ask(t, "GET", "https://"+apiName+"/ok", nil)); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("%v", err)
	}
	if _, err := s.WaitEvent(within(t), func(e *audit.Event) bool {
		return e.StatusDetail == string(policy.ReasonNotReady) && e.DispositionID == blocked && e.DstEndpoint.Hostname == apiName
	}); err != nil {
		t.Error(err)
	}
	resp, _ := do(t, c, ask(t, "GET", "https://"+lab.ToolName+"/", nil))
	if chain := resp.TLS.VerifiedChains[0]; resp.StatusCode != http.StatusOK || !chain[len(chain)-1].Equal(s.CA.Cert) {
		t.Errorf("%s, with the certificate of %s", resp.Status, chain[len(chain)-1].Subject)
	}
	if s.arrived(apiName, "/") {
		t.Error("a request arrived unjudged")
	}
}
