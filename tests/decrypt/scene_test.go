package decrypt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// Names of the scene; all lead to one address of the internet.
const (
	apiName     = "api.decrypted.example" // whose requests are judged: see ruleset
	splicedName = "www.spliced.example"   // permitted, and nobody looks inside
)

// ruleset is the lab's, with the scene's names and the authority of its origins.
func ruleset() string {
	return strings.NewReplacer(
		"threatGroups:\n", `  - name: judged
    urls: [{host: "*.decrypted.example", methods: [GET, POST, PUT], paths: ["/ok", "/ok/**"]},
           {host: `+grpcName+`, methods: [POST], paths: ["/grpc.testing.TestService/UnaryCall", "/grpc.testing.TestService/Streaming*", "/grpc.testing.TestService/FullDuplexCall"]}]
    mcp: [{host: `+mcpName+`, allowTools: [echo]}, {host: `+mcpName+`, paths: [/sse, /messages, /messages/], allowTools: [echo]}]
  - name: spliced
    fqdns: [`+splicedName+`]
threatGroups:
`,
		"rules:\n", `originCAs: [{name: lab, pem: LABCA}]
rules:
  - {name: judge,  priority: 1, sources: [foundry-agents], webGroups: [judged], ports: [tcp/443, tcp/8443-8449], action: PERMIT, decrypt: DECRYPT_ALLOWED}
  - {name: splice, priority: 2, sources: [foundry-agents], webGroups: [spliced], ports: [tcp/443], action: PERMIT}
`,
	).Replace(lab.Ruleset)
}

// scene is a lab whose gateway decrypts.
type scene struct {
	*lab.Lab
	agent    *lab.Host
	internet *lab.Website // on port 443
	origin   *origin      // on port 8443
	attacker *lab.Capture // of all that comes to the attacker
}

func newScene(opt lab.Options) (*scene, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	opt.Gateway, opt.Decrypt = gatewayBinary, true
	if opt.Ruleset == "" {
		opt.Ruleset = ruleset()
	}
	l, err := lab.Up(ctx, opt)
	if err != nil {
		return nil, err
	}
	s := &scene{Lab: l, agent: l.Host(lab.InvoiceAgent), internet: l.Sites[lab.Internet], origin: &origin{next: make(chan struct{})}}
	if s.attacker, err = l.Host(lab.Attacker).Capture(); err != nil {
		return nil, errors.Join(err, l.Down())
	}
	if _, err := mount(l.Host(lab.Internet), ":8443", l.CA.ServerConfig(), s.origin); err != nil {
		return nil, errors.Join(err, l.Down())
	}
	for _, name := range []string{"*.decrypted.example", splicedName} {
		if err := s.Upstream.Add(fmt.Sprintf("%s. 60 IN A %s", name, lab.Contoso)); err != nil {
			return nil, errors.Join(err, l.Down())
		}
	}
	return s, nil
}

// sharedScene is a lab that the tests share which leave the gateway alone.
type sharedScene struct {
	s    *scene
	seen map[string]bool // the tests that it was used by
}

var shared sharedScene

// open brings the shared lab up when the first test needs it. A test that comes a second time
// (-count) finds a new one, for it would take its own traces for those of an attack.
func (x *sharedScene) open(t *testing.T) *scene {
	t.Helper()
	if x.seen[t.Name()] {
		x.down()
		x.s = nil
	}
	if x.s == nil {
		s, err := newScene(lab.Options{})
		if err != nil {
			t.Fatal(err)
		}
		x.s, x.seen = s, map[string]bool{}
	}
	x.seen[t.Name()] = true
	x.s.logOn(t)
	return x.s
}

func (x *sharedScene) down() {
	if x.s != nil {
		if err := x.s.Down(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// open brings up a lab for one test, which may do to its gateway what it likes.
func open(t *testing.T, opt lab.Options) *scene {
	t.Helper()
	s, err := newScene(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Down(); err != nil {
			t.Error(err)
		}
	})
	s.logOn(t)
	return s
}

// logOn shows what the gateway logged if the test fails.
func (s *scene) logOn(t *testing.T) {
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(s.Paths.Log); err == nil {
				t.Logf("the gateway's log ends:\n%s", log[max(0, len(log)-3000):])
			}
		}
	})
}

// run runs a program on the agent's host and returns what it printed.
func (s *scene) run(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	out, err := s.agent.Command(within(t), name, args...).CombinedOutput()
	return string(out), err
}

// request waits for the event of a request.
func (s *scene) request(t testing.TB, host, method, path string) *audit.Event {
	t.Helper()
	e, err := s.WaitEvent(within(t), func(e *audit.Event) bool {
		return e.ClassUID == audit.HTTPActivity && e.HTTPRequest != nil && e.HTTPRequest.URL.Hostname == host &&
			e.HTTPRequest.HTTPMethod == method && e.HTTPRequest.URL.Path == path
	})
	if err != nil {
		s.dump(t)
		t.Fatalf("%s %s%s: %v", method, host, path, err)
	}
	return &e
}

// dump shows the end of the audit.
func (s *scene) dump(t testing.TB) {
	if log, err := os.ReadFile(s.Paths.Audit); err == nil {
		t.Logf("the audit ends:\n%s", log[max(0, len(log)-8000):])
	}
}

// arrived reports whether a request for a path came to the internet.
func (s *scene) arrived(host, path string) bool {
	for _, v := range s.internet.Visits() {
		if v.SNI == host && strings.HasPrefix(v.Path, path) {
			return true
		}
	}
	return false
}
