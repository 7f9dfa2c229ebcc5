package lab

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Website is what stands on the other side: it answers for any host name, over HTTP
// and over TLS with a certificate for whatever name was sent, and remembers what
// reached it. So a forged name would succeed if the gateway let it through.
type Website struct {
	Name string

	mu       sync.Mutex
	visits   []Visit
	news     chan struct{}           // closed and replaced at each visit
	handlers map[string]http.Handler // by host name
}

// Visit is one request, or one connection without HTTP, that arrived.
type Visit struct {
	From, To  netip.AddrPort
	Transport string // https, http, tcp or udp
	SNI       string
	Host      string
	Method    string
	Path      string
	Body      []byte // at most 64 KiB of it
}

const (
	maxVisits = 100_000
	maxBody   = 64 << 10
)

func newWebsite(name string) *Website {
	return &Website{Name: name, news: make(chan struct{}), handlers: map[string]http.Handler{}}
}

// Handle has a handler answer what is asked of one host name, which then counts as no visit.
func (s *Website) Handle(host string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[host] = h
}

// Visits returns what arrived so far, oldest first.
func (s *Website) Visits() []Visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Visit(nil), s.visits...)
}

// WaitVisit waits until something that satisfies want has arrived.
func (s *Website) WaitVisit(ctx context.Context, want func(Visit) bool) (Visit, error) {
	for seen := 0; ; {
		s.mu.Lock()
		news, visits := s.news, s.visits[seen:]
		seen = len(s.visits)
		s.mu.Unlock()
		for _, v := range visits {
			if want(v) {
				return v, nil
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return Visit{}, fmt.Errorf("%s: no such visit among %d: %w", s.Name, seen, ctx.Err())
		}
	}
}

func (s *Website) note(v Visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.visits) >= maxVisits {
		return
	}
	s.visits = append(s.visits, v)
	close(s.news)
	s.news = make(chan struct{})
}

// serveHTTPS and serveHTTP answer on every address of the host.
func (s *Website) serveHTTPS(h *Host, port int, ca *Authority) error {
	l, err := h.Listen(":" + strconv.Itoa(port))
	if err != nil {
		return err
	}
	srv := s.server()
	srv.TLSConfig = ca.ServerConfig()
	go srv.ServeTLS(l, "", "") // ends with the host's sockets
	h.onClose(srv.Close)
	return nil
}

func (s *Website) serveHTTP(h *Host, port int) error {
	l, err := h.Listen(":" + strconv.Itoa(port))
	if err != nil {
		return err
	}
	srv := s.server()
	go srv.Serve(l)
	h.onClose(srv.Close)
	return nil
}

func (s *Website) server() *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // refused handshakes are what the lab is for
	}
}

// ServeHTTP implements http.Handler. /bytes?n=N sends N bytes, /events three server-sent
// events, /echo the request's body, a POST to /mcp the result of a tool call, and anything
// else what the server saw of the request.
func (s *Website) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	own := s.handlers[r.Host]
	s.mu.Unlock()
	if own != nil {
		own.ServeHTTP(w, r)
		return
	}
	v := Visit{Transport: "http", Host: r.Host, Method: r.Method, Path: r.URL.Path}
	v.From, _ = netip.ParseAddrPort(r.RemoteAddr)
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		v.To, _ = netip.ParseAddrPort(a.String())
	}
	v.From, v.To = unmap(v.From), unmap(v.To)
	if r.TLS != nil {
		v.Transport, v.SNI = "https", r.TLS.ServerName
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	v.Body = body
	s.note(v)
	if err != nil {
		return // the client went away
	}
	switch {
	case r.URL.Path == "/bytes":
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "n: a number of bytes", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.CopyN(w, zeros{}, n)
	case r.URL.Path == "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "id: %d\ndata: {\"token\":%d}\n\n", i, i)
			http.NewResponseController(w).Flush()
		}
	case r.URL.Path == "/echo":
		w.Write(body)
		io.Copy(w, r.Body)
	case r.URL.Path == "/mcp" && r.Method == http.MethodPost:
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"invoice 4711: paid"}]}}`+"\n")
	default:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"server": s.Name, "host": r.Host, "sni": v.SNI, "method": r.Method,
			"path": r.URL.Path, "proto": r.Proto, "from": v.From.Addr().String(), "to": v.To.String()})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func unmap(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// HTTPClient is a client on the host. It resolves names with the host's own resolver,
// trusts the lab's authority, and opens a new connection for each request.
func (h *Host) HTTPClient(l *Lab) *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DialContext:       l.DialNameFrom(h),
			TLSClientConfig:   &tls.Config{RootCAs: l.Roots()},
			ForceAttemptHTTP2: true,
			DisableKeepAlives: true,
		},
	}
}

var _ http.Handler = (*Website)(nil)
