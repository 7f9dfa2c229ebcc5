package decrypt

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// arrival is one request as the origin got it.
type arrival struct {
	sni, host, method, uri string
	header                 http.Header
}

// origin is a server of the internet that agents talk to in more ways than a Website knows.
type origin struct {
	mu       sync.Mutex
	arrivals []arrival
	next     chan struct{} // lets /ok/events send its next event
}

// mount puts an origin on a port of a host, with a certificate for whatever name is asked for. It
// takes more streams at once than the gateway does, and by itself lets no upload that it does not read hold up
// others on the connection, as net/http's defaults do. It ends with the host's sockets, if not before.
func mount(h *lab.Host, addr string, conf *tls.Config, handler http.Handler) (stop func() error, err error) {
	l, err := h.Listen(addr)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: handler, TLSConfig: conf, ErrorLog: log.New(io.Discard, "", 0),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000, MaxReceiveBufferPerConnection: 16 << 20}}
	go srv.ServeTLS(l, "", "")
	return srv.Close, nil
}

// seen returns the requests whose path begins so.
func (o *origin) seen(path string) []arrival {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []arrival
	for _, a := range o.arrivals {
		if strings.HasPrefix(a.uri, path) {
			out = append(out, a)
		}
	}
	return out
}

func (o *origin) all() []arrival { return o.seen("") }

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.arrivals = append(o.arrivals, arrival{r.TLS.ServerName, r.Host, r.Method, r.RequestURI, r.Header.Clone()})
	o.mu.Unlock()
	switch {
	case r.URL.Path == "/ok/ws":
		o.webSocket(w, r)
	case r.URL.Path == "/ok/events":
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			io.WriteString(w, "data: token\n\n")
			http.NewResponseController(w).Flush()
			select {
			case <-o.next:
			case <-r.Context().Done():
				return
			}
		}
	case r.URL.Path == "/ok/echo":
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	case r.URL.Path == "/ok/trailers":
		w.Header().Set("Trailer", "X-Sum")
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-Client-Sum"))
	default:
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.Proto+" "+r.Method+" "+r.RequestURI+"\n")
	}
}

// webSocket sends each message back.
func (o *origin) webSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if c.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}
