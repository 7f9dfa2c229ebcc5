// Package front is where Azure's clients arrive at the twin, under Azure's own names.
//
// The official clients hold a service to its name: Key Vault's refuse a challenge for
// vault.azure.net from any other host. So the twin does not move the services to a
// loopback URL, it moves the way there. The clients take a proxy from HTTPS_PROXY and
// roots from SSL_CERT_FILE, as they do in any enterprise: the proxy here ends TLS for the
// names that the twin serves, with certificates of one throw-away authority, and refuses
// every other name. What runs under [Front.Environment] needs no back door, keeps the URLs
// that it would have in Azure, and reaches nothing outside.
//
// A laboratory that has its own DNS needs no proxy: [Front.Serve] takes connections from
// any listener, such as port 443 inside a namespace.
package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Site is a service of Azure's that the twin has.
type Site interface {
	http.Handler
	// Known says whether a host exists, as DNS would.
	Known(host string) bool
}

// Options of a front.
type Options struct {
	// Client is the address that requests through the proxy are said to come from: the
	// deployer's public one, which firewalls of accounts and vaults know. The zero value:
	// the connection's own.
	Client netip.Addr
}

// Front takes connections and hands each to the site of the name that it is for.
type Front struct {
	opt    Options
	ca     *authority
	caFile string
	proxy  net.Listener
	server *http.Server
	tunnel *queue
	relay  *http.Server
	serve  sync.WaitGroup

	mu       sync.Mutex
	sites    []site
	faults   []*Fault
	requests []string
}

type site struct {
	suffix string
	Site
}

// Start listens for the proxy's clients on loopback, and writes the authority's certificate
// to a file in dir.
func Start(dir string, opt Options) (*Front, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	f := &Front{opt: opt, ca: ca, caFile: filepath.Join(dir, "twin-ca.pem"), tunnel: newQueue()}
	if err := os.WriteFile(f.caFile, ca.pem(), 0o644); err != nil {
		return nil, err
	}
	if f.proxy, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0) // handshakes that a test breaks on purpose
	f.server = &http.Server{Handler: http.HandlerFunc(f.answer), TLSConfig: ca.config(f.known), ErrorLog: quiet, ReadHeaderTimeout: 10 * time.Second}
	f.relay = &http.Server{Handler: http.HandlerFunc(f.connect), ErrorLog: quiet, ReadHeaderTimeout: 10 * time.Second}
	f.serve.Go(func() { f.relay.Serve(f.proxy) })
	f.Serve(f.tunnel)
	return f, nil
}

// Serve takes TLS connections from l until the front is closed.
func (f *Front) Serve(l net.Listener) { f.serve.Go(func() { f.server.ServeTLS(l, "", "") }) }

// Close ends every connection.
func (f *Front) Close() error {
	err := errors.Join(f.relay.Close(), f.tunnel.Close(), f.server.Close())
	f.serve.Wait()
	return err
}

// Handle gives the hosts whose name ends in suffix, such as .vault.azure.net, to a site.
func (f *Front) Handle(suffix string, s Site) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sites = append(f.sites, site{suffix, s})
}

// CAFile is the authority's certificate, for SSL_CERT_FILE.
func (f *Front) CAFile() string { return f.caFile }

// Proxy is for HTTPS_PROXY.
func (f *Front) Proxy() *url.URL { return &url.URL{Scheme: "http", Host: f.proxy.Addr().String()} }

// Environment is what a process needs to find the twin. Go reads these variables once: a
// test sets them before its first request (TestMain).
func (f *Front) Environment() []string {
	return []string{"SSL_CERT_FILE=" + f.caFile, "HTTPS_PROXY=" + f.Proxy().String(), "NO_PROXY=127.0.0.1,localhost"}
}

// Client is a client in the test's own process that finds the twin without them.
func (f *Front) Client() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = http.ProxyURL(f.Proxy())
	t.TLSClientConfig = f.ca.client()
	return &http.Client{Transport: t}
}

// Certify writes a certificate for a loopback address, and its key, into dir: for a server
// that ends TLS itself and is asked only by the twin.
func (f *Front) Certify(dir string) (certificate, key string, err error) { return f.ca.write(dir) }

// Requests lists what arrived, as "METHOD https://host/path", oldest first.
func (f *Front) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

func (f *Front) site(host string) Site {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sites {
		if strings.HasSuffix(host, s.suffix) {
			return s.Site
		}
	}
	return nil
}

func (f *Front) known(host string) bool {
	s := f.site(host)
	return s != nil && s.Known(host)
}

const maxRequests = 10_000

func (f *Front) answer(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	f.mu.Lock()
	if len(f.requests) < maxRequests {
		f.requests = append(f.requests, r.Method+" https://"+host+r.URL.Path)
	}
	f.mu.Unlock()
	s := f.site(host)
	if s == nil || !s.Known(host) || r.TLS.ServerName != "" && r.TLS.ServerName != host {
		http.Error(w, "twin: no such host: "+host, http.StatusMisdirectedRequest)
		return
	}
	if fault := f.fault(host, r); fault != nil {
		fault.answer(w)
		return
	}
	s.ServeHTTP(w, r)
}

// connect is the proxy: CONNECT to a name that the twin has, and nothing else.
func (f *Front) connect(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	switch {
	case r.Method != http.MethodConnect || err != nil || port != "443":
		http.Error(w, "twin: only CONNECT to port 443", http.StatusMethodNotAllowed)
		return
	case !f.known(host):
		http.Error(w, "twin: no such host: "+host, http.StatusBadGateway)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if buffered.Reader.Buffered() > 0 {
		conn.Close() // a client that talks before it was let through
		return
	}
	if _, err := fmt.Fprint(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		conn.Close()
		return
	}
	if f.opt.Client.IsValid() {
		conn = from{conn, &net.TCPAddr{IP: f.opt.Client.AsSlice(), Port: conn.RemoteAddr().(*net.TCPAddr).Port}}
	}
	f.tunnel.put(conn)
}

// from is a connection that is said to come from elsewhere.
type from struct {
	net.Conn
	remote net.Addr
}

func (c from) RemoteAddr() net.Addr { return c.remote }

// queue is a listener whose connections are put into it.
type queue struct {
	conns  chan net.Conn
	closed context.Context
	close  context.CancelFunc
}

func newQueue() *queue {
	q := &queue{conns: make(chan net.Conn)}
	q.closed, q.close = context.WithCancel(context.Background())
	return q
}

func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.closed.Done():
		c.Close()
	}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed.Done():
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { q.close(); return nil }
func (q *queue) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }
