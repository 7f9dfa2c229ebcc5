package inspect

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/elazarl/goproxy"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	headerTimeout     = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxResponseHeader = 256 << 10
)

// Gate judges the requests of one flow, writes the verdicts down and connects to the
// flow's own destination. The enforcer implements it. Its methods may be called concurrently: the
// requests of an HTTP/2 connection are.
type Gate = interface {
	Judge(ctx context.Context, name, method, path string, messages []policy.RPC) (policy.Decision, policy.Obligations, string)
	Callable(name, method, path, tool string) bool
	Refuse(d policy.Decision, name, method, path string, status int, message string)
	Answered(ctx context.Context, d policy.Decision, name, method, path string, status int, out, in int64, took time.Duration)
	Fail(d policy.Decision, message string)
	Dial(ctx context.Context) (net.Conn, error)
}

// Server serves plain HTTP flows, and once it may decrypt, TLS flows.
type Server struct {
	http, http2 *http.Server
	proxy       *goproxy.ProxyHttpServer
	conns       chan net.Conn // *guardedFlow
	conns2      chan net.Conn // *frameGuard
	done        chan struct{}
	once        sync.Once

	sessions   sessions
	decryption Decryption
	front      *tls.Config            // nil: nothing is decrypted
	fronts     map[string]*tls.Config // by the protocol that clients are answered with
	trust      *trust
}

// New returns a running Server. It reports faults of its own by logf.
func New(logf func(string, ...any)) *Server {
	s := &Server{conns: make(chan net.Conn), conns2: make(chan net.Conn), done: make(chan struct{}), proxy: newProxy(logf)}
	s.http, s.http2 = s.newHTTP(logf), s.newHTTP(logf)
	s.http.Protocols.SetHTTP1(true)             // and no HTTP/2 without TLS
	s.http2.Protocols.SetUnencryptedHTTP2(true) // TLS has been taken off: what comes is a frameGuard
	s.http2.HTTP2 = &limits
	go func() { _ = s.http.Serve(listener{s, s.conns}) }()
	go func() { _ = s.http2.Serve(listener{s, s.conns2}) }()
	return s
}

func (s *Server) newHTTP(logf func(string, ...any)) *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		Protocols:         &http.Protocols{},
		ErrorLog:          log.New(logWriter(logf), "", 0),
		// OPTIONS * goes to the origin like any other request.
		DisableGeneralOptionsHandler: true,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, flowKey{}, flowOf(c))
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed { // after the last handler, so after its events
				close(flowOf(c).ended)
			}
		},
	}
}

// flowOf finds the flow of a connection that a server accepted.
func flowOf(c net.Conn) *flow {
	if g, ok := c.(*frameGuard); ok {
		return g.flow
	}
	return c.(*guardedFlow).flow
}

// Close ends all connections.
func (s *Server) Close() error {
	s.once.Do(func() { close(s.done) })
	return errors.Join(s.http.Close(), s.http2.Close())
}

// ServeFlow serves the requests of one connection to port facts.Port until it is
// closed. It closes it when ctx ends.
func (s *Server) ServeFlow(ctx context.Context, client net.Conn, facts policy.Flow, gate Gate) {
	g := newGuard(client)
	f := &flow{guard: g, gate: gate, scheme: "http", source: facts.Src, port: facts.Port, ended: make(chan struct{})}
	f.transport = &line{dial: gate.Dial}
	defer f.transport.CloseIdleConnections()
	defer g.Close()
	stop := context.AfterFunc(ctx, func() { g.Close() })
	defer stop()
	f.serveOn(ctx, s, s.conns, &guardedFlow{guard: g, flow: f})
}

// serveOn hands a connection to a server and waits for its end.
func (f *flow) serveOn(ctx context.Context, s *Server, conns chan net.Conn, c net.Conn) {
	select {
	case conns <- c:
	case <-s.done:
		return
	case <-ctx.Done():
		return
	}
	<-f.ended
}

// flow is one connection and what its requests have in common.
type flow struct {
	guard     *guard // nil for HTTP/2
	gate      Gate
	scheme    string
	source    netip.Addr
	port      uint16
	transport transport
	// authority is the connection's for good: on TLS the server name, else that of the first
	// permitted request.
	authority *authority
	origin    *upstream      // of a decrypted flow
	version   uint16         // of TLS with the client
	handlers  sync.WaitGroup // of HTTP/2 requests
	ended     chan struct{}  // closed when the server is done with the connection
}

type flowKey struct{}

// guardedFlow is what the HTTP/1 server accepts.
type guardedFlow struct {
	*guard
	flow *flow
}

// listener hands a server the connections of flows.
type listener struct {
	s     *Server
	conns chan net.Conn
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.s.done:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.TCPAddr{} }

type logWriter func(string, ...any)

func (w logWriter) Write(b []byte) (int, error) {
	w("http: %s", strings.TrimSpace(string(b)))
	return len(b), nil
}

func (w logWriter) Printf(format string, args ...any) { w("http: "+strings.TrimSpace(format), args...) }

// transport is the only way of one flow's requests to the outside: whatever the URL says, to the
// flow's destination. Connections are never shared between flows, for each is dialled for one agent.
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

var errSwitched = errors.New("the origin switched to a protocol that was not asked for")

var errNoFlow = errors.New("not a request of an intercepted flow")

func refuseDial(context.Context, string, string) (net.Conn, error) { return nil, errNoFlow }

// newProxy sets goproxy up without any way out but that of the request's flow: no
// proxy from the environment, no CONNECT, no certificates.
func newProxy(logf func(string, ...any)) *goproxy.ProxyHttpServer {
	p := goproxy.NewProxyHttpServer()
	p.Tr = &http.Transport{DialContext: refuseDial, DialTLSContext: refuseDial}
	p.ConnectDial = nil
	p.KeepAcceptEncoding = true
	p.Logger = logWriter(logf)
	p.OnRequest().DoFunc(func(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		ctx.RoundTripper = carrier{}
		return r, nil
	})
	return p
}

// carrier is goproxy's way to the origin.
type carrier struct{}

func (carrier) RoundTrip(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	resp, err := x.flow.transport.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols &&
		(r.Header.Get("Upgrade") == "" || !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket")) {
		resp.Body.Close()
		err = errSwitched
	}
	if err == nil && x.obligations.MCP {
		err = x.filter(resp)
	}
	if err != nil {
		return x.failure(r, err), nil
	}
	return resp, nil
}

// writer flushes every write, so that streams pass as they come, and lets goproxy
// take a WebSocket's connection over.
type writer struct {
	http.ResponseWriter
	hijacked net.Conn
	status   int   // the last that was written; informational ones come before
	n        int64 // bytes of the body
}

// WriteHeader notes the status.
func (w *writer) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.n += int64(n)
	if err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	return n, err
}

// copyBuffers are as large as the frames and records that bodies come in.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom copies a body by way of a buffer that others have used before.
func (w *writer) ReadFrom(r io.Reader) (n int64, err error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		k, rerr := r.Read(buf[:])
		if k > 0 {
			m, werr := w.Write(buf[:k])
			n += int64(m)
			if werr != nil {
				return n, werr
			}
		}
		if rerr != nil {
			if errors.Is(rerr, io.EOF) {
				rerr = nil
			}
			return n, rerr
		}
	}
}

// Unwrap lets http.ResponseController through.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
