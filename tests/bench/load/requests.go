package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// webConn is a client's connection to the web server.
type webConn struct {
	tls  *tls.Conn
	r    *bufio.Reader
	name string
	h2   *http.ClientConn // nil: HTTP/1.1
}

// newWebConn shakes hands and agrees on a version of HTTP.
func newWebConn(conn net.Conn, name string, h2 bool) (*webConn, error) {
	config := clientConfig(name)
	config.CurvePreferences = append(config.CurvePreferences, tls.CurveP256) // sslsplit takes no other
	config.NextProtos = []string{"http/1.1"}
	if h2 {
		config.NextProtos = []string{"h2"}
	}
	w := &webConn{tls: tls.Client(conn, config), name: name}
	if err := w.tls.Handshake(); err != nil {
		return nil, err
	}
	if !h2 {
		w.r = bufio.NewReader(w.tls)
		return w, nil
	}
	if got := w.tls.ConnectionState().NegotiatedProtocol; got != "h2" {
		return nil, fmt.Errorf("wanted h2, got %q", got)
	}
	transport := http.Transport{Protocols: new(http.Protocols), DisableCompression: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return w.tls, nil }}
	transport.Protocols.SetHTTP2(true)
	var err error
	w.h2, err = transport.NewClientConn(context.Background(), "https", net.JoinHostPort(name, "443"))
	return w, err
}

// get asks for a path and returns the answer, if it is one.
func (w *webConn) get(path string) (*http.Response, error) {
	var resp *http.Response
	var err error
	if w.h2 != nil {
		var req *http.Request
		if req, err = http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+w.name+path, nil); err == nil {
			resp, err = w.h2.RoundTrip(req)
		}
	} else if _, err = io.WriteString(w.tls, "GET "+path+" HTTP/1.1\r\nHost: "+w.name+"\r\n\r\n"); err == nil {
		resp, err = http.ReadResponse(w.r, nil)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, errors.New(resp.Status)
	}
	return resp, nil
}

// once asks for the short answer and reads it.
func (w *webConn) once() error {
	resp, err := w.get("/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && n != answerSize {
		err = fmt.Errorf("%d bytes instead of %d", n, answerSize)
	}
	return err
}

// webExchange shakes hands and makes one request, over HTTP/1.1.
func webExchange(name string) func(*net.TCPConn) error {
	return func(conn *net.TCPConn) error {
		w, err := newWebConn(conn, name, false)
		if err != nil {
			return err
		}
		return w.once()
	}
}

// handshakes makes connections with a full handshake and one request each: for one name,
// or for a new one each time, whose agent has asked for it before.
func handshakes(job *Job) (Result, error) {
	var issuer atomic.Value
	exchange := func(conn net.Conn, name string) error {
		w, err := newWebConn(conn, name, false)
		if err != nil {
			return err
		}
		issuer.CompareAndSwap(nil, w.tls.ConnectionState().PeerCertificates[0].Issuer.CommonName)
		return w.once()
	}
	one := job.one(func(conn *net.TCPConn) error { return exchange(conn, job.Name) })
	if q := job.Questions; q != nil {
		if q.Sources < 1 || q.Each < 1 {
			return Result{}, errors.New("new names need sources, and how many of them each has asked for")
		}
		var sources []netip.Addr
		for a := q.Base; len(sources) < q.Sources; a = a.Next() {
			sources = append(sources, a)
		}
		one = func(n int) error {
			if q.Limit > 0 && n >= q.Limit {
				return errDone
			}
			_, dst := job.pair(n)
			conn, err := dial(sources[q.source(n)], dst)
			if err != nil {
				return err
			}
			defer conn.Close()
			return exchange(conn, string(q.label(n))+"."+q.Below)
		}
	}
	r, err := connections(job, one)
	r.Issuer, _ = issuer.Load().(string)
	return r, err
}

// requests asks for the short answer again and again, on Workers connections.
func requests(job *Job) (Result, error) {
	return onOpen(job, func(w *webConn, conn *net.TCPConn, t *tally, end time.Time) error {
		for {
			from := time.Now()
			if from.After(end) {
				return nil
			}
			if err := conn.SetDeadline(from.Add(timeout)); err != nil {
				return err
			}
			if err := w.once(); err != nil {
				return err
			}
			t.took = append(t.took, time.Since(from))
		}
	})
}

// download reads long answers on Workers connections.
func download(job *Job) (Result, error) {
	var total atomic.Int64
	r, err := onOpen(job, func(w *webConn, conn *net.TCPConn, _ *tally, end time.Time) error {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
		buf := make([]byte, 256<<10)
		for {
			resp, err := w.get(bulkPath)
			for err == nil {
				var n int
				n, err = resp.Body.Read(buf)
				total.Add(int64(n))
			}
			if isTimeout(err) && !time.Now().Before(end) {
				return nil
			}
			if !errors.Is(err, io.EOF) {
				return err
			}
		}
	})
	r.Bytes, r.Count = total.Load(), job.Workers-r.Errors
	return r, err
}

// onOpen opens Workers connections, and has each used until the time is up that starts
// when all of them are open.
func onOpen(job *Job, use func(*webConn, *net.TCPConn, *tally, time.Time) error) (Result, error) {
	if job.Workers < 1 || len(job.Targets) == 0 {
		return Result{}, errors.New("connections need workers and targets")
	}
	type opened struct {
		conn *net.TCPConn
		web  *webConn
	}
	var open []opened
	defer func() {
		for _, o := range open {
			o.conn.Close()
		}
	}()
	for i := range job.Workers {
		conn, err := job.dial(i)
		if err != nil {
			return Result{}, err
		}
		w, err := newWebConn(conn, job.Name, job.HTTP2)
		open = append(open, opened{conn, w})
		if err != nil {
			return Result{}, err
		}
		if err := w.once(); err != nil {
			return Result{}, err
		}
	}
	start := time.Now()
	tallies := make([]tally, job.Workers)
	var wg sync.WaitGroup
	for i, o := range open {
		wg.Go(func() {
			if err := use(o.web, o.conn, &tallies[i], start.Add(job.Duration)); err != nil {
				tallies[i].fail(err)
			}
		})
	}
	wg.Wait()
	return summarize(tallies, time.Since(start)), nil
}
