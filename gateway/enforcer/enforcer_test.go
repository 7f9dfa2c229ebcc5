package enforcer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

var (
	agent    = netip.MustParseAddr("10.20.1.4")
	neighbor = netip.MustParseAddr("10.20.1.5")
	github   = netip.MustParseAddr("140.82.112.5")
	github2  = netip.MustParseAddr("140.82.112.6")
	platform = netip.MustParseAddr("20.1.2.3")
	evil     = netip.MustParseAddr("45.9.148.1")
	ledger   = netip.MustParseAddr("45.9.200.1") // permitted by address alone
)

const rules = `
version: 1
mode: enforce
default: {action: DENY, mode: enforce}
smartGroups:
  - {name: agents, cidrs: [10.20.1.0/24]}
  - {name: ledger, cidrs: [45.9.200.0/24]}
webGroups:
  - {name: tools, fqdns: [api.github.com]}
  - {name: platform, fqdns: [mcr.microsoft.com, "*.data.mcr.microsoft.com"]}
  - {name: paste, fqdns: [paste.example.com]}
  - {name: mcp, urls: [{host: mcp.example.com, methods: [POST], paths: [/mcp]}]}
rules:
  - {name: deny-paste, priority: 1, sources: [agents], webGroups: [paste], action: DENY}
  - {name: allow-tools, priority: 2, sources: [agents], webGroups: [tools], ports: [tcp/443, tcp/80], action: PERMIT, decrypt: DECRYPT_ALLOWED}
  - {name: allow-platform, priority: 3, sources: [agents], webGroups: [platform], ports: [tcp/443], sni: optional, action: PERMIT}
  - {name: allow-mcp, priority: 4, sources: [agents], webGroups: [mcp], ports: [tcp/443, tcp/80], action: PERMIT, decrypt: DECRYPT_ALLOWED}
  - {name: allow-ledger, priority: 5, sources: [agents], destinations: [ledger], action: PERMIT}
`

func compile(t testing.TB, text string) *policy.Ruleset {
	t.Helper()
	doc, err := policy.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := policy.Compile(doc, policy.Environment{Agents: []netip.Prefix{netip.MustParsePrefix("10.20.1.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// log is an audit in memory.
type log struct {
	mu      sync.Mutex
	records []audit.Record
	fail    error
	changed chan struct{} // closed and replaced at every record
}

func (l *log) Record(r audit.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.records = append(l.records, r)
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

func (l *log) Submit(rec audit.Record, done func(error)) { done(l.Record(rec)) }

// wait returns the first record of a flow's activity.
func (l *log) wait(t testing.TB, activity audit.Activity) audit.Record {
	t.Helper()
	return l.find(t, func(r *audit.Record) bool { return r.Activity == activity && !answered(r) })
}

// find waits for a record that fits.
func (l *log) find(t testing.TB, fits func(*audit.Record) bool) audit.Record {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		changed := l.changed
		for _, r := range l.records {
			if fits(&r) {
				l.mu.Unlock()
				return r
			}
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no such event: %+v", l.records)
		}
	}
}

// answered tells the end of a request from that of its flow.
func answered(r *audit.Record) bool {
	return r.Class == audit.HTTPActivity && r.Activity == audit.Close
}

func (l *log) count(activity audit.Activity) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.Activity == activity && !answered(&r) {
			n++
		}
	}
	return n
}

// clock is a time that tests set.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// resolver asks an authority that a test wrote, and pins.
type resolver struct {
	pins    *pin.Store
	mu      sync.Mutex
	answers map[string][]netip.Addr
	asked   atomic.Int64
}

// answer is what a name has from now on; nothing: it is gone.
func (r *resolver) answer(name string, addrs ...netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if delete(r.answers, name); len(addrs) > 0 {
		r.answers[name] = addrs
	}
}

func (r *resolver) Ask(_ context.Context, src netip.Addr, name string) error {
	r.asked.Add(1)
	r.mu.Lock()
	addrs, ok := r.answers[name]
	r.mu.Unlock()
	if !ok {
		return errors.New("no such name")
	}
	answers := make([]pin.Answer, len(addrs))
	for i, a := range addrs {
		answers[i] = pin.Answer{Addr: a, TTL: time.Minute, Bound: name}
	}
	return r.pins.Add(src, name, answers)
}

// world maps the addresses that agents mean to servers on loopback.
type world struct {
	mu    sync.Mutex
	hosts map[netip.AddrPort]string
	dials []netip.AddrPort
}

func (w *world) Dial(ctx context.Context, _ netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	w.mu.Lock()
	to, ok := w.hosts[dst]
	w.dials = append(w.dials, dst)
	w.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("%s: %w", dst, syscall.ECONNREFUSED)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func (w *world) Begin(_ netip.Addr, dst netip.AddrPort) (int, error) {
	w.mu.Lock()
	to, ok := w.hosts[dst]
	w.dials = append(w.dials, dst)
	w.mu.Unlock()
	if !ok {
		return -1, fmt.Errorf("%s: %w", dst, syscall.ECONNREFUSED)
	}
	return NetDialer{}.Begin(netip.Addr{}, netip.MustParseAddrPort(to))
}

func (w *world) dialled() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.dials)
}

// intercept is a Listener that plays the kernel: connections come with the ends that the
// test says.
type intercept struct {
	ln    *net.TCPListener
	conns chan Conn
	errs  chan error
	once  sync.Once
	done  chan struct{}
}

func (i *intercept) Accept() (Conn, error) {
	select {
	case err := <-i.errs: // before connections
		return Conn{}, err
	default:
	}
	select {
	case c := <-i.conns:
		return c, nil
	case err := <-i.errs:
		return Conn{}, err
	case <-i.done:
		return Conn{}, net.ErrClosed
	}
}

func (i *intercept) Close() error {
	i.once.Do(func() { close(i.done) })
	return i.ln.Close()
}

// lab is a Server with everything around it.
type lab struct {
	*Server
	ln    *intercept
	log   *log
	pins  *pin.Store
	res   *resolver
	world *world
	clock *clock
	rules atomic.Pointer[policy.Ruleset]
}

// noHTTP fails flows that should not have come to it.
type noHTTP struct{}

func (noHTTP) ServeFlow(_ context.Context, c net.Conn, _ policy.Flow, _ Gate) { c.Close() }

func newLab(t testing.TB, change func(*Options)) *lab {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{
		ln:    &intercept{ln: tcp.(*net.TCPListener), conns: make(chan Conn), errs: make(chan error, 8), done: make(chan struct{})},
		log:   &log{changed: make(chan struct{})},
		world: &world{hosts: map[netip.AddrPort]string{}},
		clock: &clock{},
	}
	l.pins = pin.New(pin.Options{Now: l.clock.now})
	l.res = &resolver{pins: l.pins, answers: map[string][]netip.Addr{}}
	l.rules.Store(compile(t, rules))
	opt := Options{
		Ruleset: l.rules.Load, Pins: l.pins, Resolver: l.res, Audit: l.log, HTTP: noHTTP{}, Dialer: l.world, Logf: t.Logf,
	}
	if change != nil {
		change(&opt)
	}
	l.Server = New(opt)
	served := make(chan error, 1)
	go func() { served <- l.Serve(t.Context(), l.ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = l.Shutdown(ctx)
		if err := <-served; err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return l
}

func (l *lab) pin(t testing.TB, src netip.Addr, name string, addrs ...netip.Addr) {
	t.Helper()
	l.res.answers[name] = addrs
	if err := l.res.Ask(t.Context(), src, name); err != nil {
		t.Fatal(err)
	}
}

// dial opens a connection from src that means dst.
func (l *lab) dial(t testing.TB, src, dst netip.Addr, port uint16) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.ln.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.ln.ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.(*net.TCPConn).SetLinger(0) // it is gone, and does not only have no more to ask
		c.Close()
	})
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	l.ln.conns <- Conn{TCPConn: s, Src: netip.AddrPortFrom(src, 40000), Dst: netip.AddrPortFrom(dst, port)}
	return c.(*net.TCPConn)
}

// host makes addr:port a server that handles each connection by serve.
func (l *lab) host(t testing.TB, addr netip.Addr, port uint16, serve func(*net.TCPConn)) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c.(*net.TCPConn))
		}
	}()
	l.world.mu.Lock()
	l.world.hosts[netip.AddrPortFrom(addr, port)] = ln.Addr().String()
	l.world.mu.Unlock()
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"api.github.com"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// tlsEcho answers over TLS with what it is sent.
func tlsEcho(c *net.TCPConn) {
	defer c.Close()
	tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate()}})
	_, _ = io.Copy(tc, tc)
	_ = tc.CloseWrite()
}

// echo answers with what it is sent.
func echo(c *net.TCPConn) {
	defer c.Close()
	_, _ = io.Copy(c, c)
}

func client(c net.Conn, sni string) *tls.Conn {
	return tls.Client(c, &tls.Config{ServerName: sni, InsecureSkipVerify: true}) // the lab has no CA
}

// talk sends a message over TLS, ends its side and reads the answer.
func talk(c net.Conn, sni string) (string, error) {
	defer c.Close()
	tc := client(c, sni)
	if _, err := io.WriteString(tc, "hello"); err != nil {
		return "", err
	}
	if err := tc.CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(tc)
	return string(b), err
}

// firstFlight is what a real client sends first.
func firstFlight(sni string) []byte {
	c1, c2 := net.Pipe()
	go func() { _ = client(c1, sni).Handshake() }()
	buf := make([]byte, 16<<10)
	n, _ := c2.Read(buf)
	c2.Close()
	return buf[:n]
}

// wantAlert reads an access_denied alert and a clean end.
func wantAlert(t *testing.T, c net.Conn) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, accessDenied) {
		t.Errorf("got % x, %v; want an access_denied alert and FIN", got, err)
	}
}

// wantReset reads a RST.
func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %d bytes, %v; want a reset", n, err)
	}
}
