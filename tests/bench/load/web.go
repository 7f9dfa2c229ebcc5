package load

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// web is the origin's web server. It takes connections that others accepted.
type web struct {
	server  http.Server
	config  *tls.Config
	conns   chan net.Conn
	done    chan struct{}
	closing sync.Once
}

const (
	bulkPath = "/bulk"
	// downloadSize is the length of one long answer: long enough that requests for the
	// next one are rare.
	downloadSize = 1 << 30
)

func newWeb(cert tls.Certificate) *web {
	w := &web{conns: make(chan net.Conn), done: make(chan struct{})}
	// A proxy that knows no TLS 1.3 may come with 1.2; none may resume.
	w.config = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true,
		NextProtos: []string{"h2", "http/1.1"}}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(answerSize))
		rw.Write(answer[:])
	})
	chunk := make([]byte, 256<<10)
	mux.HandleFunc(bulkPath, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", strconv.Itoa(downloadSize))
		rw.Header().Set("Content-Type", "application/octet-stream")
		for sent := 0; sent < downloadSize; sent += len(chunk) {
			if _, err := rw.Write(chunk); err != nil {
				return // the client has enough
			}
		}
	})
	w.server = http.Server{Handler: mux, TLSConfig: w.config, ErrorLog: log.New(io.Discard, "", 0)}
	go w.server.Serve(w)
	return w
}

// take hands a connection to the server.
func (w *web) take(conn net.Conn) {
	select {
	case w.conns <- tls.Server(conn, w.config):
	case <-w.done:
		conn.Close()
	}
}

// Accept is of net.Listener.
func (w *web) Accept() (net.Conn, error) {
	select {
	case conn := <-w.conns:
		return conn, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

// Close is of net.Listener.
func (w *web) Close() error {
	w.closing.Do(func() { close(w.done) })
	return nil
}

// Addr is of net.Listener; nobody asks for it.
func (w *web) Addr() net.Addr { return &net.TCPAddr{Port: NamePort} }

func (w *web) close() error { return errors.Join(w.Close(), w.server.Close()) }
