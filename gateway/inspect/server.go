package inspect

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
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
// flow's own destination. The enforcer implements it.
type Gate = interface {
	Judge(ctx context.Context, name, method, path string) (policy.Decision, string)
	Refuse(d policy.Decision, name, method, path string, status int, message string)
	Dial(ctx context.Context) (net.Conn, error)
}

// Server serves plain HTTP flows.
type Server struct {
	http  *http.Server
	proxy *goproxy.ProxyHttpServer
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// New returns a running Server. It reports faults of its own by logf.
func New(logf func(string, ...any)) *Server {
	s := &Server{conns: make(chan net.Conn), done: make(chan struct{}), proxy: newProxy(logf)}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // and no HTTP/2 without TLS
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		Protocols:         &protocols,
		ErrorLog:          log.New(logWriter(logf), "", 0),
		// OPTIONS * goes to the origin like any other request.
		DisableGeneralOptionsHandler: true,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, flowKey{}, c.(*guardedFlow).flow)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed { // after the last handler, so after its events
				close(c.(*guardedFlow).flow.ended)
			}
		},
	}
	go func() { _ = s.http.Serve(listener{s}) }()
	return s
}

// Close ends all connections.
func (s *Server) Close() error {
	s.once.Do(func() { close(s.done) })
	return s.http.Close()
}

// ServeFlow serves the requests of one connection to port facts.Port until it is
// closed. It closes it when ctx ends.
func (s *Server) ServeFlow(ctx context.Context, client net.Conn, facts policy.Flow, gate Gate) {
	g := newGuard(client)
	f := &flow{guard: g, gate: gate, port: facts.Port, ended: make(chan struct{})}
	f.transport = newTransport(gate)
	defer f.transport.CloseIdleConnections()
	defer g.Close()
	stop := context.AfterFunc(ctx, func() { g.Close() })
	defer stop()
	select {
	case s.conns <- &guardedFlow{guard: g, flow: f}:
	case <-s.done:
		return
	case <-ctx.Done():
		return
	}
	<-f.ended
}

// flow is one connection and what its requests have in common.
type flow struct {
	guard     *guard
	gate      Gate
	port      uint16
	transport *http.Transport
	authority *authority    // of the first permitted request
	ended     chan struct{} // closed when the server is done with the connection
}

type flowKey struct{}

// guardedFlow is what the HTTP server accepts.
type guardedFlow struct {
	*guard
	flow *flow
}

// listener hands the server the connections of ServeFlow.
type listener struct{ s *Server }

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.s.conns:
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

// newTransport returns the only way of one flow's requests to the outside: whatever
// the URL says, to the flow's destination. Connections are never shared between
// flows, for each is dialled for one agent.
func newTransport(gate Gate) *http.Transport {
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return gate.Dial(ctx) },
		DialTLSContext:         refuseDial,
		DisableCompression:     true, // answers pass as they are
		MaxConnsPerHost:        1,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxResponseHeader,
	}
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
		f := r.Context().Value(flowKey{}).(*flow)
		ctx.RoundTripper = goproxy.RoundTripperFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
			resp, err := f.transport.RoundTrip(r)
			if err == nil && resp.StatusCode == http.StatusSwitchingProtocols &&
				(r.Header.Get("Upgrade") == "" || !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket")) {
				resp.Body.Close()
				err = errSwitched
			}
			if err != nil {
				return unreachable(r, f.authority.host()), nil
			}
			return resp, nil
		})
		return r, nil
	})
	return p
}

// writer flushes every write, so that streams pass as they come, and lets goproxy
// take a WebSocket's connection over.
type writer struct {
	http.ResponseWriter
	hijacked net.Conn
}

func (w *writer) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	if err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	return n, err
}

// Unwrap lets http.ResponseController through.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
