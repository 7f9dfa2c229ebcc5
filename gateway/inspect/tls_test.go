package inspect

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const site = "good.example"

// authorityCert is a certificate authority for tests.
type authorityCert struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue signs a certificate; a nil parent makes it a self-signed authority.
func issue(t testing.TB, parent *authorityCert, key crypto.Signer, change func(*x509.Certificate)) *authorityCert {
	t.Helper()
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test " + serial.String()},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true,
	}
	if parent == nil {
		tmpl.IsCA = true
	}
	if change != nil {
		change(tmpl)
	}
	signer, signed := key, tmpl
	if parent != nil {
		signer, signed = parent.key, parent.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, signed, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authorityCert{cert, key}
}

func (a *authorityCert) leaf(t testing.TB, name string) tls.Certificate {
	c := issue(t, a, ecKey(t), func(c *x509.Certificate) { c.DNSNames = []string{name} })
	return tls.Certificate{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key}
}

func (a *authorityCert) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issuer is a Certificates with one leaf.
type issuer struct {
	leaf tls.Certificate
	root atomic.Pointer[x509.Certificate]
	err  error
}

func (i *issuer) Leaf(context.Context, string) (*tls.Certificate, *x509.Certificate, error) {
	return &i.leaf, i.root.Load(), i.err
}

// rig is a Server that decrypts, between a client that trusts front and origins that back vouches for.
type rig struct {
	front, back *authorityCert
	issuer      *issuer
	server      *Server
	gate        *fakeGate
	source      netip.Addr // of the next flow
	rejected    atomic.Int64
	accepted    atomic.Pointer[x509.Certificate] // the root of the last handshake
	flows       sync.WaitGroup
}

func newRig(t testing.TB) *rig {
	r := &rig{front: issue(t, nil, ecKey(t), nil), back: issue(t, nil, ecKey(t), nil)}
	r.issuer = &issuer{leaf: r.front.leaf(t, site)}
	r.issuer.root.Store(r.front.cert)
	r.server = New(t.Logf)
	r.server.Decrypt(Decryption{
		Certificates: r.issuer, OriginCAs: func() []*x509.Certificate { return []*x509.Certificate{r.back.cert} },
		Secrets: secrets{}, Rejected: func(policy.Flow) { r.rejected.Add(1) },
		Accepted: func(_ policy.Flow, root *x509.Certificate) { r.accepted.Store(root) },
	})
	r.gate = &fakeGate{permit: map[string]bool{site: true, "other.example": true}, obligations: policy.Obligations{VerifyOrigin: true}}
	t.Cleanup(func() {
		r.server.Close()
		r.flows.Wait()
	})
	return r
}

type secrets struct{}

func (secrets) Secret(_ context.Context, url string) (string, error) {
	if strings.HasSuffix(url, "/token") {
		return "s3cret", nil
	}
	return "", errors.New("no such secret")
}

// serve makes an origin with a certificate.
func (r *rig) serve(t testing.TB, cert tls.Certificate, h2 bool, change func(*tls.Config), h http.HandlerFunc) {
	o := httptest.NewUnstartedServer(h)
	o.EnableHTTP2 = h2
	o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	if change != nil {
		change(o.TLS)
	}
	o.Config.ErrorLog = log.New(io.Discard, "", 0)
	o.StartTLS()
	t.Cleanup(o.Close)
	r.gate.origin = o.Listener.Addr().String()
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s %s %q", r.Proto, r.Method, r.Host, r.RequestURI, body)
}

// patience ends what would hang, on a machine however loaded.
const patience = 5 * time.Minute

// raw opens a flow that will be decrypted.
func (r *rig) raw(t testing.TB) net.Conn {
	t.Helper()
	client, _ := r.within(t, context.Background())
	return client
}

// within opens a flow that ends with a context, and tells when it has.
func (r *rig) within(t testing.TB, ctx context.Context) (client net.Conn, ended <-chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r.flows.Add(1)
	facts := policy.Flow{Src: r.source, Port: 443, Name: site}
	over := make(chan struct{})
	go func() {
		defer r.flows.Done()
		defer close(over)
		defer server.Close() // what the enforcer does in the end
		if serve := r.server.ServeTLS(ctx, server, facts, r.gate); serve != nil {
			serve()
		}
	}()
	t.Cleanup(func() { client.Close() })
	_ = client.SetDeadline(time.Now().Add(patience))
	return client, over
}

func (r *rig) dial(t testing.TB, protos ...string) *tls.Conn {
	c := tls.Client(r.raw(t), &tls.Config{ServerName: site, RootCAs: r.front.pool(), NextProtos: protos})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// client is a real HTTP client whose every connection is a decrypted flow.
func (r *rig) client(t testing.TB, h2 bool) *http.Client {
	tr := &http.Transport{
		ForceAttemptHTTP2: h2, DisableCompression: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			protos := []string{protoHTTP1}
			if h2 {
				protos = []string{protoH2, protoHTTP1}
			}
			c := tls.Client(r.raw(t), &tls.Config{ServerName: site, RootCAs: r.front.pool(), NextProtos: protos})
			return c, c.Handshake()
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func do(t testing.TB, c *http.Client, r *http.Request) (int, string, *http.Response) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp
}

func post(t testing.TB, path, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "https://"+site+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Both sides speak the same protocol, whichever side knows less.
func TestProtocolIsMirrored(t *testing.T) {
	for _, tc := range []struct {
		client, origin bool
		want           string
	}{{true, true, "HTTP/2.0"}, {true, false, "HTTP/1.1"}, {false, true, "HTTP/1.1"}, {false, false, "HTTP/1.1"}} {
		r := newRig(t)
		r.serve(t, r.back.leaf(t, site), tc.origin, nil, echo)
		status, body, resp := do(t, r.client(t, tc.client), post(t, "/a%2Fb?c=d", "hello"))
		if want := tc.want + ` POST good.example /a%2Fb?c=d "hello"`; status != 200 || body != want || resp.Proto != tc.want {
			t.Errorf("%+v: %d %s over %s", tc, status, body, resp.Proto)
		}
	}
}

// An origin that cannot prove its name is answered for with 502, and gets no request.
func TestOriginCertificates(t *testing.T) {
	r := newRig(t)
	other := issue(t, nil, ecKey(t), nil)
	between := issue(t, r.back, ecKey(t), func(c *x509.Certificate) { c.IsCA = true })
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	pair := func(a *authorityCert) tls.Certificate {
		return tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
	}
	named := func(c *x509.Certificate) { c.DNSNames = []string{site} }
	complete := between.leaf(t, site)
	complete.Certificate = append(complete.Certificate, between.cert.Raw)
	for _, tc := range []struct {
		name string
		cert tls.Certificate
		ok   bool
	}{
		{"good", r.back.leaf(t, site), true},
		{"complete chain", complete, true},
		{"expired", pair(issue(t, r.back, ecKey(t), func(c *x509.Certificate) { named(c); c.NotAfter = time.Now().Add(-time.Hour) })), false},
		{"self-signed", pair(issue(t, nil, ecKey(t), named)), false},
		{"unknown authority", other.leaf(t, site), false},
		{"wrong host", r.back.leaf(t, "other.example"), false},
		{"incomplete chain", between.leaf(t, site), false},
		{"weak key", pair(issue(t, r.back, short, named)), false},
	} {
		for _, h2 := range []bool{false, true} {
			var asked atomic.Int64
			r.serve(t, tc.cert, h2, nil, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
			r.gate.obligations.VerifyOrigin = true
			client := r.client(t, h2)
			status, body, _ := do(t, client, post(t, "/", ""))
			if tc.ok && status == 200 {
				continue
			}
			if tc.ok || status != 502 || !strings.Contains(body, `"reason":"origin-certificate"`) || asked.Load() != 0 {
				t.Errorf("%s, HTTP/2 %v: %d %s, %d requests", tc.name, h2, status, body, asked.Load())
			}
			r.gate.obligations.VerifyOrigin = false
			if status, body, _ = do(t, client, post(t, "/", "")); status != 200 {
				t.Errorf("%s is not to be looked at: %d %s", tc.name, status, body)
			}
		}
	}
}

func TestClientCertificateDemanded(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r := newRig(t)
		r.serve(t, r.back.leaf(t, site), true, func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, version }, echo)
		status, body, _ := do(t, r.client(t, true), post(t, "/", ""))
		if status != 502 || !strings.Contains(body, "client certificate") {
			t.Errorf("%d %s", status, body)
		}
	}
}

func TestMinTLS(t *testing.T) {
	r := newRig(t)
	r.gate.obligations.MinTLS = tls.VersionTLS13
	r.serve(t, r.back.leaf(t, site), true, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, echo)
	if status, body, _ := do(t, r.client(t, true), post(t, "/", "")); status != 403 || !strings.Contains(body, "tls-version") {
		t.Errorf("%d %s", status, body)
	}
}

// The name in the hello is every request's authority.
func TestAuthorityOfDecrypted(t *testing.T) {
	r := newRig(t)
	r.serve(t, r.back.leaf(t, site), false, nil, echo)
	for raw, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n":                                                             "421",
		"GET https://other.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n":                                         "421",
		"GET http://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n":                                           "400",
		"GET https://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n":                                          "200",
		"GET / HTTP/1.1\r\nHost: good.example:8443\r\n\r\n":                                                         "421",
		"CONNECT other.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n":                                          "400",
		"GET / HTTP/1.1\r\nHost: good.example\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n":                       "400",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                                          "400",
		"POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": "400",
		"POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n":                     "400",
		"GET / HTTP/1.1\r\nHost: good.example\r\nX: a\r\n b\r\n\r\n":                                                "400",
	} {
		c := r.dial(t, protoHTTP1)
		if _, err := io.WriteString(c, raw); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || !strings.HasPrefix(resp.Status, want) {
			t.Errorf("%q: %v %v, want %s", raw, resp, err, want)
		}
	}
	h2 := newRig(t)
	h2.serve(t, h2.back.leaf(t, site), true, nil, echo)
	client := h2.client(t, true)
	req := post(t, "/", "")
	req.Host = "other.example"
	if status, body, resp := do(t, client, req); status != 421 || resp.ProtoMajor != 2 || !strings.Contains(body, "authority-mismatch") {
		t.Errorf("coalesced: %d %s", status, body)
	}
	if status, body, _ := do(t, client, post(t, "/", "")); status != 200 {
		t.Errorf("after it: %d %s", status, body)
	}
	if n := len(h2.gate.log()); h2.gate.dials() != 1 {
		t.Errorf("%d connections to the origin, %d events", h2.gate.dials(), n)
	}
}

func (g *fakeGate) dials() (n int) {
	for _, e := range g.log() {
		if e.what == "dial" {
			n++
		}
	}
	return n
}

// fails waits for the flows to end and returns why they failed.
func (r *rig) fails() (reasons []policy.Reason) {
	r.flows.Wait()
	for _, e := range r.gate.log() {
		if e.what == "fail" {
			reasons = append(reasons, e.reason)
		}
	}
	return reasons
}

// TestAccepted has the root change while a client looks at the certificate of the one before: that is
// the one which the client has shown to trust.
func TestAccepted(t *testing.T) {
	r := newRig(t)
	r.serve(t, r.back.leaf(t, site), true, nil, echo)
	c := tls.Client(r.raw(t), &tls.Config{ServerName: site, RootCAs: r.front.pool(), VerifyConnection: func(tls.ConnectionState) error {
		r.issuer.root.Store(r.back.cert)
		return nil
	}})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	r.flows.Wait()
	if got := r.accepted.Load(); got != r.front.cert {
		t.Errorf("the root that was accepted is said to be %v", got)
	}
}

func TestClientRejectsCertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r := newRig(t)
		r.serve(t, r.back.leaf(t, site), true, nil, echo)
		c := tls.Client(r.raw(t), &tls.Config{ServerName: site, RootCAs: r.back.pool(), MaxVersion: version})
		if err := c.Handshake(); err == nil {
			t.Fatal("trusted")
		}
		c.Close()
		if got := r.fails(); len(got) != 1 || got[0] != policy.ReasonCARejected || r.rejected.Load() != 1 {
			t.Errorf("failed for %v, reported %d times", got, r.rejected.Load())
		}
	}
}

func TestNoCertificate(t *testing.T) {
	r := newRig(t)
	r.issuer.err = errors.New("the vault is away")
	c := r.raw(t)
	if b, _ := io.ReadAll(c); len(b) != 0 { // the enforcer answers
		t.Errorf("sent %x", b)
	}
	if got := r.fails(); len(got) != 1 || got[0] != policy.ReasonNotReady || r.gate.dials() != 0 {
		t.Errorf("failed for %v after %d dials", got, r.gate.dials())
	}
}

// A hello with another name than was judged gets nothing.
func TestNameOfHello(t *testing.T) {
	r := newRig(t)
	c := tls.Client(r.raw(t), &tls.Config{ServerName: "other.example", InsecureSkipVerify: true})
	if err := c.Handshake(); err == nil {
		t.Error("answered")
	}
	if r.gate.dials() != 0 {
		t.Error("dialled")
	}
}

func TestResumption(t *testing.T) {
	r := newRig(t)
	r.serve(t, r.back.leaf(t, site), false, nil, echo)
	cache := tls.NewLRUClientSessionCache(4)
	for i := range 3 {
		c := tls.Client(r.raw(t), &tls.Config{ServerName: site, RootCAs: r.front.pool(), ClientSessionCache: cache})
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		if resumed := c.ConnectionState().DidResume; resumed != (i > 0) {
			t.Errorf("connection %d: resumed %v", i, resumed)
		}
		c.Close()
	}
}

// More requests at once than a connection takes wait their turn.
func TestManyStreams(t *testing.T) {
	r := newRig(t)
	r.serve(t, r.back.leaf(t, site), true, nil, echo)
	client := r.client(t, true)
	post := func(body string) {
		resp, err := client.Post("https://"+site+"/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || !strings.HasSuffix(string(b), fmt.Sprintf("%q", body)) {
			t.Errorf("%s: %v", b, err)
		}
	}
	post("first") // from here on there is a connection for the others to share
	var wg sync.WaitGroup
	for i := range maxStreams {
		wg.Go(func() {
			for j := range 10 {
				post(fmt.Sprint(i, " ", j))
			}
		})
	}
	wg.Wait()
}

// Large bodies pass both ways in the memory of their buffers, and so do unread ones.
func TestMemoryIsBounded(t *testing.T) {
	const size = 512 << 20
	for _, h2 := range []bool{false, true} {
		r := newRig(t)
		r.serve(t, r.back.leaf(t, site), h2, nil, func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			_, _ = io.CopyN(w, zeros{}, n)
		})
		var top atomic.Uint64
		before := heap()
		watch := func(n int64) {
			if n%(64<<20) < 32<<10 {
				top.Store(max(top.Load(), heap())) // what lives: garbage says what other tests left
			}
		}
		req, _ := http.NewRequest(http.MethodPost, "https://"+site+"/", &counting{r: io.LimitReader(zeros{}, size), watch: watch})
		resp, err := r.client(t, h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, &counting{r: resp.Body, watch: watch})
		if err != nil || n != size {
			t.Errorf("%d bytes: %v", n, err)
		}
		if top.Load() > before+32<<20 {
			t.Errorf("HTTP/2 %v: %d MiB of heap", h2, top.Load()>>20)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counting struct {
	r     io.Reader
	n     int64
	watch func(int64)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.watch(c.n)
	return n, err
}

func TestObligations(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newRig(t)
		r.serve(t, r.back.leaf(t, site), h2, nil, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, r.Header["Authorization"], r.Header["X-Set"])
		})
		o := &r.gate.obligations
		o.Headers = []policy.Header{
			{Name: "Authorization", Secret: "https://v.example/secrets/token", Prefix: "Bearer "}, {Name: "X-Set", Set: "ours"}, {Name: "X-Tenant", Require: []string{"a"}},
		}
		o.MaxRequestBytes = 10
		client := r.client(t, h2)
		send := func(body string, streamed bool, tenants ...string) (int, string) {
			req := post(t, "/", body)
			if streamed {
				req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), -1
			}
			req.Header["X-Tenant"] = tenants
			req.Header["Authorization"] = []string{"agent's", "own"}
			status, answer, _ := do(t, client, req)
			return status, answer
		}
		for _, tc := range []struct {
			body     string
			streamed bool
			tenants  []string
			status   int
			want     string
		}{
			{"0123456789", false, []string{"a"}, 200, "[Bearer s3cret] [ours]"},
			{"0123456789", true, []string{"a"}, 200, "[Bearer s3cret] [ours]"},
			{"0123456789a", false, []string{"a"}, 413, "request-too-large"},
			{strings.Repeat("x", 100), true, []string{"a"}, 413, "request-too-large"},
			{"", false, nil, 403, "header-required"},
			{"", false, []string{"a", "a"}, 403, "header-required"},
		} {
			if status, body := send(tc.body, tc.streamed, tc.tenants...); status != tc.status || !strings.Contains(body, tc.want) {
				t.Errorf("HTTP/2 %v, %+v: %d %s", h2, tc, status, body)
			}
		}
		o.Headers[0].Secret = "https://v.example/secrets/gone"
		if status, body := send("", false, "a"); status != 403 || !strings.Contains(body, "not-ready") {
			t.Errorf("without the secret: %d %s", status, body)
		}
	}
}

func TestMCP(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"search"},{"name":"delete"}]}}`
	r := newRig(t)
	var coding atomic.Value
	r.serve(t, r.back.leaf(t, site), true, nil, func(w http.ResponseWriter, r *http.Request) {
		coding.Store(r.Header.Get("Accept-Encoding"))
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: "+list+"\n\n")
		case r.URL.Path == "/gzip":
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(body)
		case bytes.Contains(body, []byte("tools/list")):
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, list)
		default:
			_, _ = w.Write(body)
		}
	})
	r.gate.obligations.MCP = true
	client := r.client(t, true)
	call := func(id int, tool string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q}}`, id, tool)
	}
	for _, tc := range []struct {
		path, body, kind string
		status           int
		want             string
	}{
		{"/mcp", call(1, "search"), "application/json", 200, call(1, "search")},
		{"/mcp", call(7, "delete"), "application/json", 200, `{"jsonrpc":"2.0","id":7,"error":{"code":-32040`},
		{"/mcp", "[" + call(1, "search") + "," + call(2, "delete") + "]", "application/json", 200, `[{"jsonrpc":"2.0","id":1,"error"`},
		{"/mcp", call(1, "search"), "text/plain", 400, "bad-request"},
		{"/mcp", "{", "application/json", 400, "bad-request"},
		{"/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "application/json", 200, `"tools":[{"name":"search"}]`},
		{"/gzip", call(1, "search"), "application/json", 200, "compressed"},
	} {
		req := post(t, tc.path, tc.body)
		req.Header.Set("Content-Type", tc.kind)
		req.Header.Set("Accept-Encoding", "gzip")
		if status, body, _ := do(t, client, req); status != tc.status || !strings.Contains(body, tc.want) || strings.Contains(body, `"name":"delete"}]`) {
			t.Errorf("%s: %d %s, want %d %s", tc.body, status, body, tc.status, tc.want)
		}
		if c := coding.Load(); c != nil && c != "identity" {
			t.Errorf("the origin was offered %s", c)
		}
	}
	req, _ := http.NewRequest(http.MethodGet, "https://"+site+"/mcp", nil)
	if status, body, _ := do(t, client, req); status != 200 || !strings.HasPrefix(body, "data: ") || strings.Contains(body, "delete") {
		t.Errorf("stream: %d %s", status, body)
	}
	compressed := post(t, "/mcp", call(1, "search"))
	compressed.Header.Set("Content-Type", "application/json")
	compressed.Header.Set("Content-Encoding", "gzip")
	if status, body, _ := do(t, client, compressed); status != 400 {
		t.Errorf("a compressed call: %d %s", status, body)
	}
	withBody, _ := http.NewRequest(http.MethodGet, "https://"+site+"/mcp", strings.NewReader(call(1, "delete")))
	if status, body, _ := do(t, client, withBody); status != 400 {
		t.Errorf("a call in a GET: %d %s", status, body)
	}
	var answer refusal
	req = post(t, "/", `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"delete"}}`) // expects no answer
	req.Header.Set("Content-Type", "application/json")
	if status, body, _ := do(t, client, req); status != 403 || json.Unmarshal([]byte(body), &answer) != nil || answer.Reason != policy.ReasonDefault {
		t.Errorf("a forbidden notification: %d %s", status, body)
	}
}
