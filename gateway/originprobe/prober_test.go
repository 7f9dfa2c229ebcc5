package originprobe

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	source = netip.MustParseAddr("10.0.0.1")
	epoch  = time.Now()
)

func ec(t testing.TB) crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issue makes a certificate of key, signed by from, or by itself.
func issue(t testing.TB, from *party, key crypto.Signer, change func(*x509.Certificate)) *party {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "origin"}, DNSNames: []string{"api.example.com"},
		NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(time.Hour), BasicConstraintsValid: true}
	if change != nil {
		change(tmpl)
	}
	if from == nil {
		from = &party{tmpl, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, from.cert, key.Public(), from.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

func authority(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.IsCA, c.DNSNames, c.Subject.CommonName, c.KeyUsage = true, nil, name, x509.KeyUsageCertSign
	}
}

// serve is an origin: it counts its handshakes, and fails the test if it is sent anything.
func serve(t testing.TB, c *tls.Config, chain ...*party) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	crt := tls.Certificate{PrivateKey: chain[0].key}
	for _, p := range chain {
		crt.Certificate = append(crt.Certificate, p.cert.Raw)
	}
	c.Certificates = []tls.Certificate{crt}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	n := new(atomic.Int64)
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			wg.Go(func() {
				defer conn.Close()
				if conn.(*tls.Conn).Handshake() != nil {
					return
				}
				if got, err := io.ReadAll(conn); len(got) > 0 || err != nil {
					t.Errorf("the probe sent %q and ended with %v", got, err)
				}
			})
		}
	})
	return ln.Addr().(*net.TCPAddr).AddrPort(), n
}

func dial(ctx context.Context, _ netip.Addr, dst netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", dst.String())
}

type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time { return epoch.Add(time.Duration(c.Load())) }

func prober(t testing.TB, d Dialer, c *clock, roots ...*x509.Certificate) *Prober {
	t.Helper()
	p, err := New(d, c.now)
	if err != nil {
		t.Fatal(err)
	}
	p.Trust(roots)
	return p
}

func TestOrigins(t *testing.T) {
	root := issue(t, nil, ec(t), authority("root"))
	middle := issue(t, root, ec(t), authority("middle"))
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaRoot := issue(t, nil, long, authority("rsa root"))
	weakRoot := issue(t, nil, weak, authority("weak root"))
	good := issue(t, root, ec(t), nil)
	p := prober(t, dial, &clock{}, root.cert, rsaRoot.cert, weakRoot.cert)
	for name, c := range map[string]struct {
		chain          []*party
		oldest, newest uint16 // of the origin; 0: Go's
		lax            bool
		minTLS         uint16
		want           error
	}{
		"good":                     {chain: []*party{good}},
		"good 1.3":                 {chain: []*party{good}, minTLS: tls.VersionTLS13},
		"RSA 2048":                 {chain: []*party{issue(t, rsaRoot, long, nil)}},
		"complete chain":           {chain: []*party{issue(t, middle, ec(t), nil), middle}},
		"incomplete chain":         {chain: []*party{issue(t, middle, ec(t), nil)}, want: ErrCertificate},
		"expired":                  {chain: []*party{issue(t, root, ec(t), func(c *x509.Certificate) { c.NotAfter = epoch.Add(-time.Minute) })}, want: ErrCertificate},
		"not yet":                  {chain: []*party{issue(t, root, ec(t), func(c *x509.Certificate) { c.NotBefore = epoch.Add(time.Minute) })}, want: ErrCertificate},
		"self-signed":              {chain: []*party{issue(t, nil, ec(t), nil)}, want: ErrCertificate},
		"wrong host":               {chain: []*party{issue(t, root, ec(t), func(c *x509.Certificate) { c.DNSNames = []string{"b.example.com"} })}, want: ErrCertificate},
		"name only as common name": {chain: []*party{issue(t, root, ec(t), func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "api.example.com" })}, want: ErrCertificate},
		"for clients":              {chain: []*party{issue(t, root, ec(t), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}, want: ErrCertificate},
		"RSA 1024":                 {chain: []*party{issue(t, root, weak, nil)}, want: ErrCertificate},
		"RSA 1024 above":           {chain: []*party{issue(t, weakRoot, ec(t), nil)}, want: ErrCertificate},
		"SHA-1":                    {chain: []*party{issue(t, rsaRoot, ec(t), func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA })}, want: ErrCertificate},
		"1.2 only":                 {chain: []*party{good}, newest: tls.VersionTLS12, minTLS: tls.VersionTLS12},
		"1.2 for 1.3":              {chain: []*party{good}, newest: tls.VersionTLS12, minTLS: tls.VersionTLS13, want: ErrVersion},
		"1.1 for 1.2":              {chain: []*party{good}, oldest: tls.VersionTLS10, newest: tls.VersionTLS11, minTLS: tls.VersionTLS12, want: ErrVersion},
		"only the version":         {chain: []*party{issue(t, nil, ec(t), nil)}, lax: true, minTLS: tls.VersionTLS13},
	} {
		t.Run(name, func(t *testing.T) {
			origin, asked := serve(t, &tls.Config{MinVersion: c.oldest, MaxVersion: c.newest}, c.chain...)
			q := Question{netip.AddrFrom4([4]byte{10, 0, byte(origin.Port() >> 8), byte(origin.Port())}), origin, "api.example.com", !c.lax, c.minTLS}
			for range 2 {
				if err := p.Probe(context.Background(), q); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
			}
			if asked.Load() != 1 {
				t.Errorf("asked %d times, want once", asked.Load())
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	q := Question{source, ln.Addr().(*net.TCPAddr).AddrPort(), "api.example.com", true, 0}
	go func() {
		if c, err := ln.Accept(); err == nil {
			c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
		ln.Close()
	}()
	p := prober(t, dial, &clock{})
	for range 2 { // not TLS, then nobody
		if err := p.Probe(context.Background(), q); !errors.Is(err, ErrNotReady) {
			t.Fatal(err)
		}
	}
	if p.answers.Len() != 0 {
		t.Error("no answer was remembered as one")
	}
}

func TestHowLongAnswersHold(t *testing.T) {
	root := issue(t, nil, ec(t), authority("root"))
	short := issue(t, root, ec(t), func(c *x509.Certificate) { c.NotAfter = epoch.Add(time.Minute) })
	for name, c := range map[string]struct {
		of   *party
		name string
		ttl  time.Duration
	}{
		"good":      {issue(t, root, ec(t), nil), "api.example.com", goodFor},
		"ends soon": {short, "api.example.com", short.cert.NotAfter.Sub(epoch)},
		"bad":       {issue(t, root, ec(t), nil), "other.example.com", badFor},
	} {
		t.Run(name, func(t *testing.T) {
			clk := &clock{}
			p := prober(t, dial, clk, root.cert)
			origin, asked := serve(t, &tls.Config{}, c.of)
			for i, step := range []struct {
				at   time.Duration
				want int64
			}{{0, 1}, {c.ttl - 1, 1}, {c.ttl, 2}, {0, 3}} { // the last: the clock was set back
				clk.Store(int64(step.at))
				p.Probe(context.Background(), Question{source, origin, c.name, true, 0})
				if asked.Load() != step.want {
					t.Fatalf("step %d: asked %d times, want %d", i, asked.Load(), step.want)
				}
			}
			p.Trust(nil)
			if err := p.Probe(context.Background(), Question{source, origin, c.name, true, 0}); !errors.Is(err, ErrCertificate) {
				t.Errorf("the authority is trusted no more: %v", err)
			}
		})
	}
}

// TestBounds: who asks the same waits for one probe, who gives up is refused, and a
// source and all together are bounded.
func TestBounds(t *testing.T) {
	dialled, release := make(chan netip.Addr, 2*maxProbes), make(chan struct{})
	defer close(release)
	p := prober(t, func(_ context.Context, src netip.Addr, _ netip.AddrPort) (net.Conn, error) {
		dialled <- src
		<-release
		return nil, errors.New("refused")
	}, &clock{})
	q := Question{source, netip.MustParseAddrPort("192.0.2.1:443"), "api.example.com", true, 0}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for range burst {
		if err := p.Probe(gone, q); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrNotReady) {
			t.Fatal(err)
		}
	}
	if err := p.Probe(gone, q); errors.Is(err, context.Canceled) || !errors.Is(err, ErrNotReady) {
		t.Errorf("a source beyond its rate: %v", err)
	}
	for i := range maxProbes - 1 {
		q.Source = netip.AddrFrom4([4]byte{10, 1, byte(i), 1})
		if err := p.Probe(gone, q); !errors.Is(err, ErrNotReady) {
			t.Fatal(err)
		}
	}
	seen := map[netip.Addr]bool{}
	for range maxProbes {
		seen[<-dialled] = true
	}
	if len(seen) != maxProbes {
		t.Errorf("%d sources dialled in %d probes", len(seen), maxProbes)
	}
	q.Source = netip.MustParseAddr("10.2.0.1")
	if err := p.Probe(context.Background(), q); !errors.Is(err, ErrNotReady) || len(dialled) != 0 {
		t.Errorf("beyond all that may be on their way: %v", err)
	}
}

func BenchmarkProbe(b *testing.B) {
	root := issue(b, nil, ec(b), authority("root"))
	origin, _ := serve(b, &tls.Config{}, issue(b, root, ec(b), nil))
	p := prober(b, dial, &clock{}, root.cert)
	q := Question{source, origin, "api.example.com", true, tls.VersionTLS12}
	b.Run("known", func(b *testing.B) {
		for b.Loop() {
			if err := p.Probe(context.Background(), q); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("handshake", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.ask(context.Background(), q, p.trust.Load().pool); err != nil {
				b.Fatal(err)
			}
		}
	})
}
