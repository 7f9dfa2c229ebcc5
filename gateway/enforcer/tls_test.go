package enforcer

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/inspect"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// selfSigned is a certificate for the lab's names, which is its own authority.
func selfSigned(t *testing.T) (*tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"api.github.com", "mcp.example.com"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, cert
}

// leaf is an authority with one certificate, or none.
type leaf struct{ cert *tls.Certificate }

func (l *leaf) Leaf(context.Context, string) (*tls.Certificate, *x509.Certificate, error) {
	if l.cert == nil {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return l.cert, nil, nil
}

// tlsLab is a lab that decrypts.
type tlsLab struct {
	*lab
	roots  *x509.CertPool
	issuer *leaf
}

func newTLSLab(t *testing.T) *tlsLab {
	cert, ca := selfSigned(t)
	l := &tlsLab{roots: x509.NewCertPool(), issuer: &leaf{cert}}
	l.roots.AddCert(ca)
	h := inspect.New(t.Logf)
	h.Decrypt(inspect.Decryption{Certificates: l.issuer, OriginCAs: func() []*x509.Certificate { return []*x509.Certificate{ca} }})
	t.Cleanup(func() { h.Close() })
	l.lab = newLab(t, func(o *Options) { o.HTTP, o.TLS = h, h })
	l.pin(t, agent, "api.github.com", github)
	l.pin(t, agent, "mcp.example.com", evil)
	o := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.Host+" "+r.RequestURI)
		if r.Header.Get("Accept") == "text/event-stream" { // a stream that only its client ends
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}))
	o.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	o.EnableHTTP2 = true
	o.StartTLS()
	t.Cleanup(o.Close)
	for _, addr := range []string{"140.82.112.5:443", "45.9.148.1:443"} {
		at := netip.MustParseAddrPort(addr)
		l.world.hosts[at] = o.Listener.Addr().String()
	}
	return l
}

// open makes a decrypted connection to mcp.example.com.
func (l *tlsLab) open(t *testing.T, protos ...string) *tls.Conn {
	t.Helper()
	c := tls.Client(l.dial(t, agent, evil, 443), &tls.Config{ServerName: "mcp.example.com", RootCAs: l.roots, NextProtos: protos})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDecryptedRequests(t *testing.T) {
	for _, tc := range []struct {
		name, raw string
		status    int
		rule      string
		reason    policy.Reason
	}{
		{"permitted", "POST /x/../mcp?q=secret HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\n\r\n", 200, "allow-mcp", policy.ReasonRule},
		{"other method", "GET /mcp HTTP/1.1\r\nHost: mcp.example.com\r\n\r\n", 403, "default", policy.ReasonDefault},
		{"other path", "POST /admin HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\n\r\n", 403, "default", policy.ReasonDefault},
		{"ambiguous path", "POST /mcp%2f..%2fadmin HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\n\r\n", 400, "invariant", policy.ReasonBadRequest},
		{"other host", "POST /mcp HTTP/1.1\r\nHost: api.github.com\r\nContent-Length: 0\r\n\r\n", 421, "invariant", policy.ReasonAuthorityMismatch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newTLSLab(t)
			c := l.open(t, "http/1.1")
			status, body := request(t, c, bufio.NewReader(c), tc.raw)
			if status != tc.status {
				t.Fatal(status, body)
			}
			c.Close()
			end := l.log.wait(t, audit.Close)
			if end.Decision.Tier != policy.TierDecrypt || end.Host != "mcp.example.com" || end.BytesOut == 0 || end.BytesIn == 0 {
				t.Errorf("closed as %+v", end)
			}
			activity := audit.Open
			if tc.status != 200 {
				activity = audit.Refuse
			} else if body != "POST mcp.example.com /mcp?q=secret" {
				t.Errorf("sent on: %s", body)
			}
			found := false
			l.log.mu.Lock()
			defer l.log.mu.Unlock()
			for _, r := range l.log.records {
				if r.Class == audit.HTTPActivity && r.Activity == activity {
					found = true
					if r.Decision.Rule != tc.rule || r.Decision.Reason != tc.reason || strings.Contains(r.HTTP.Path, "secret") {
						t.Errorf("audited as %+v %+v", r, r.HTTP)
					}
				}
			}
			if !found {
				t.Errorf("not in the audit: %+v", l.log.records)
			}
		})
	}
}

// Requests of one HTTP/2 connection are judged side by side.
func TestConcurrentRequests(t *testing.T) {
	l := newTLSLab(t)
	tr := &http.Transport{ForceAttemptHTTP2: true, MaxConnsPerHost: 1, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return l.open(t, "h2"), nil }}
	defer tr.CloseIdleConnections()
	done := make(chan string)
	for i := range 50 {
		path := [...]string{"/mcp", "/admin"}[i%2]
		go func() {
			req, _ := http.NewRequest(http.MethodPost, "https://mcp.example.com"+path, nil)
			resp, err := (&http.Client{Transport: tr}).Do(req)
			if err != nil {
				done <- err.Error()
				return
			}
			resp.Body.Close()
			if want := map[string]int{"/mcp": 200, "/admin": 403}[path]; resp.StatusCode != want {
				done <- path + ": " + resp.Status
				return
			}
			done <- ""
		}()
	}
	for range 50 {
		if s := <-done; s != "" {
			t.Error(s)
		}
	}
}

// A reload counts for the next request, and resets what is not to be, or not to be decrypted, any more.
func TestDecryptedReload(t *testing.T) {
	const post = "POST /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: 0\r\n\r\n"
	for what, change := range map[string]*strings.Replacer{
		"denied":          strings.NewReplacer("{host: mcp.example.com,", "{host: other.example.com,"),
		"not to be read":  strings.NewReplacer("mcp, urls: [{host: mcp.example.com, methods: [POST], paths: [/mcp]}]", "mcp, fqdns: [mcp.example.com]", "ports: [tcp/443, tcp/80], action: PERMIT, decrypt: DECRYPT_ALLOWED", "ports: [tcp/443, tcp/80], action: PERMIT"),
		"another request": strings.NewReplacer("paths: [/mcp]", "paths: [/other]"),
	} {
		t.Run(what, func(t *testing.T) {
			l := newTLSLab(t)
			c := l.open(t, "http/1.1")
			br := bufio.NewReader(c)
			if status, body := request(t, c, br, post); status != 200 {
				t.Fatal(status, body)
			}
			l.log.find(t, answered) // else the request counts as under way
			l.rules.Store(compile(t, change.Replace(rules)))
			n := l.Rejudge(t.Context())
			if what == "another request" {
				if status, _ := request(t, c, br, post); n != 0 || status != 403 {
					t.Errorf("%d withdrawn, then %d", n, status)
				}
				return
			}
			if n != 1 {
				t.Fatalf("%d withdrawn", n)
			}
			wantReset(t, c.NetConn())
		})
	}
}

// A stream that was permitted ends with its permit, though its name stays permitted.
func TestReloadEndsRequests(t *testing.T) {
	for what, tc := range map[string]struct {
		change *strings.Replacer
		half   bool // the client has ended its own side
		ends   bool
	}{
		"another path":   {strings.NewReplacer("paths: [/mcp]", "paths: [/other]"), false, true},
		"another method": {strings.NewReplacer("methods: [POST]", "methods: [GET]"), false, true},
		"half-open":      {strings.NewReplacer("paths: [/mcp]", "paths: [/other]"), true, true},
		"one path more":  {strings.NewReplacer("paths: [/mcp]", "paths: [/mcp, /other]"), false, false},
	} {
		t.Run(what, func(t *testing.T) {
			l := newTLSLab(t)
			c := l.open(t, "http/1.1")
			if _, err := io.WriteString(c, "POST /mcp HTTP/1.1\r\nHost: mcp.example.com\r\nAccept: text/event-stream\r\nContent-Length: 0\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, len("POST"))); err != nil {
				t.Fatal(err)
			}
			if tc.half {
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			l.rules.Store(compile(t, tc.change.Replace(rules)))
			if n := l.Rejudge(t.Context()); (n == 1) != tc.ends {
				t.Fatalf("%d withdrawn", n)
			}
			if tc.ends {
				wantReset(t, c.NetConn())
				l.log.wait(t, audit.Close)
			}
		})
	}
}

func TestNoCertificateToShow(t *testing.T) {
	l := newTLSLab(t)
	l.issuer.cert = nil
	c := l.dial(t, agent, evil, 443)
	if _, err := c.Write(firstFlight("mcp.example.com")); err != nil {
		t.Fatal(err)
	}
	wantAlert(t, c)
	if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != policy.ReasonNotReady || r.Decision.Rule != "allow-mcp" || l.world.dialled() != 0 {
		t.Errorf("%+v, %d dials", r, l.world.dialled())
	}
}

func TestRejectedCertificate(t *testing.T) {
	l := newTLSLab(t)
	c := tls.Client(l.dial(t, agent, evil, 443), &tls.Config{ServerName: "mcp.example.com", RootCAs: x509.NewCertPool()})
	if err := c.Handshake(); err == nil {
		t.Fatal("trusted")
	}
	c.Close()
	if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != policy.ReasonCARejected || r.Host != "mcp.example.com" {
		t.Errorf("%+v", r)
	}
	l.log.wait(t, audit.Close) // of the flow that its name opened
}
