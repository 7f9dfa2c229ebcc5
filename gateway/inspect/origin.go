package inspect

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// originTimeout bounds the handshake with an origin.
const originTimeout = 10 * time.Second

// originSessions bounds the sessions that are kept to resume with origins.
const originSessions = 4096

// errClientCertificate is met at origins that want to know who the client is: the
// agent's key would have to be ours for that.
var errClientCertificate = errors.New("the destination demands a client certificate, which cannot be given on a decrypted connection")

// errProtocol keeps the two sides of a flow at one protocol.
var errProtocol = errors.New("the destination speaks another version of HTTP than before")

// errTrust is a certificate that does not prove the origin to be the flow's name.
type errTrust struct{ error }

// trust is what origins are verified with.
type trust struct {
	added    func() []*x509.Certificate
	sessions tls.ClientSessionCache

	mu   sync.Mutex
	of   []*x509.Certificate
	pool *x509.CertPool
}

func newTrust(added func() []*x509.Certificate) *trust {
	return &trust{added: added, sessions: tls.NewLRUClientSessionCache(originSessions)}
}

// roots are the system's with those of the ruleset in force; nil stands for the system's.
func (t *trust) roots() (*x509.CertPool, error) {
	if t.added == nil {
		return nil, nil
	}
	now := t.added()
	if len(now) == 0 {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pool != nil && slices.Equal(t.of, now) {
		return t.pool, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's authorities: %w", err)
	}
	for _, c := range now {
		pool.AddCert(c)
	}
	t.of, t.pool = now, pool
	return pool, nil
}

// verify says why a connection's peer is not proven to be name. It is asked for every
// connection, resumed ones too, so that no session outlives the trust in its certificate.
func (t *trust) verify(cs *tls.ConnectionState, name string) error {
	roots, err := t.roots()
	if err != nil {
		return errTrust{err}
	}
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	chains, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between})
	if err != nil {
		return errTrust{err}
	}
	if !slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return !slices.ContainsFunc(chain, weak) }) {
		return errTrust{errors.New("a key in the certificate's chain is too short")}
	}
	return nil
}

// weak reports a key that the CA/Browser Forum's baseline requirements (section 6.1.5) do not
// allow.
func weak(c *x509.Certificate) bool {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() < 2048
	case *ecdsa.PublicKey:
		return key.Params().BitSize < 256
	}
	return false
}

// upstream is the far side of one decrypted flow.
type upstream struct {
	server *Server
	gate   Gate
	name   string

	mu       sync.Mutex
	protocol string    // that both sides speak
	first    *tls.Conn // made before the client was answered, for the first request
	distrust error     // of the last certificate
	strict   bool      // a request went by that demands trust
	version  uint16
}

// greet connects to the origin and returns the protocol to answer the client with. Where that
// fails the client is answered all the same, so that its request gets to hear why.
func (o *upstream) greet(ctx context.Context, offered []string) string {
	protocols := offer(offered)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout*2/3)
	defer cancel()
	conn, err := o.dial(ctx, protocols)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.first = conn
	switch {
	case err != nil && len(protocols) > 0:
		o.protocol = protocols[0]
	case err == nil && conn.ConnectionState().NegotiatedProtocol != "":
		o.protocol = conn.ConnectionState().NegotiatedProtocol
	case len(offered) > 0: // an origin that knows no ALPN speaks HTTP/1
		o.protocol = protoHTTP1
	}
	return o.protocol
}

// dial connects to the origin, at the flow's own destination.
func (o *upstream) dial(ctx context.Context, protocols []string) (*tls.Conn, error) {
	raw, err := o.gate.Dial(ctx)
	if err != nil {
		return nil, err
	}
	var distrust error
	demanded := false
	conn := tls.Client(raw, &tls.Config{
		ServerName: o.name, NextProtos: protocols, MinVersion: tls.VersionTLS12, ClientSessionCache: o.server.trust.sessions,
		// verify takes its place: whether an unproven origin will do is each request's
		// rule to say, and nothing is sent before one has.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			distrust = o.server.trust.verify(&cs, o.name)
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			demanded = true
			return nil, errClientCertificate
		},
	})
	ctx, cancel := context.WithTimeout(ctx, originTimeout)
	defer cancel()
	err = conn.HandshakeContext(ctx)
	if demanded {
		err = errClientCertificate
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.distrust, o.version = distrust, conn.ConnectionState().Version
		if o.strict && distrust != nil {
			err = distrust
		}
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// connect gives the transport its connection: the first, or another like it.
func (o *upstream) connect(ctx context.Context) (net.Conn, error) {
	o.mu.Lock()
	conn, protocol := o.first, o.protocol
	o.first = nil
	o.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	var protocols []string
	if protocol != "" {
		protocols = []string{protocol}
	}
	conn, err := o.dial(ctx, protocols)
	if err != nil {
		return nil, err
	}
	if (conn.ConnectionState().NegotiatedProtocol == protoH2) != (protocol == protoH2) {
		conn.Close()
		return nil, errProtocol
	}
	return conn, nil
}

// demand makes every connection from now on one to a proven origin, and says why the one
// that there is is not.
func (o *upstream) demand() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.strict = true
	return o.distrust
}

func (o *upstream) negotiated() uint16 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.version
}

func (o *upstream) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first != nil {
		o.first.Close()
	}
}

// transport is the way of a decrypted flow's requests to its origin.
func (o *upstream) transport(h2 bool) transport {
	if !h2 {
		return &line{dial: o.connect}
	}
	return &http.Transport{
		DialContext:            refuseDial,
		DialTLSContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return o.connect(ctx) },
		DisableCompression:     true, // answers pass as they are
		MaxConnsPerHost:        1,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		ForceAttemptHTTP2:      true,
		HTTP2: &http.HTTP2Config{
			StrictMaxConcurrentRequests: true, // wait for the origin rather than dial again
			// Eight answers that their client does not take hold up the others of the flow.
			MaxReceiveBufferPerConnection: 8 << 20,
			MaxReceiveBufferPerStream:     1 << 20,
			MaxReadFrameSize:              64 << 10,
		},
	}
}
