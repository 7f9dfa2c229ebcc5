package inspect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Certificates issues what decrypted flows are answered with: a certificate for the
// name that the agent asked for, from an authority that the agent trusts: the root.
type Certificates interface {
	Leaf(ctx context.Context, name string) (leaf *tls.Certificate, root *x509.Certificate, err error)
}

// Secrets fetches what rules set headers to and documents do not hold.
type Secrets interface {
	Secret(ctx context.Context, url string) (string, error)
}

// Decryption is what a Server needs to look into TLS.
type Decryption struct {
	Certificates Certificates
	// OriginCAs are the authorities that the ruleset in force adds to the system's; nil: none.
	OriginCAs func() []*x509.Certificate
	// Secrets may be nil: rules that need one then refuse.
	Secrets Secrets
	// Accepted is told of clients that took our certificate, and of the root that it was
	// made under; nil: nobody is.
	Accepted func(facts policy.Flow, root *x509.Certificate)
	// Rejected is told of those that did not; nil: nobody is.
	Rejected func(facts policy.Flow)
}

const (
	// handshakeTimeout bounds the whole handshake with a client, the origin's within it.
	handshakeTimeout = 30 * time.Second
	protoH2          = "h2"
	protoHTTP1       = "http/1.1"
)

// Decrypt lets s serve TLS flows. It is called before the first of them.
func (s *Server) Decrypt(d Decryption) {
	s.decryption = d
	s.trust = newTrust(d.OriginCAs)
	s.front = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: s.configFor}
	s.fronts = map[string]*tls.Config{}
	for _, proto := range []string{"", protoHTTP1, protoH2} {
		c := &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return h.Conn.(*greeting).leaf, nil },
			WrapSession:    s.wrapSession, UnwrapSession: s.unwrapSession,
		}
		if proto != "" {
			c.NextProtos = []string{proto}
		}
		if proto == protoH2 { // RFC 9113, section 9.2.2, and appendix A
			c.CipherSuites = authenticated
		}
		s.fronts[proto] = c
	}
}

// configFor answers a ClientHello. The origin is asked first, so that the client is
// offered the protocol that the origin speaks, and both sides speak the same: nothing is ever
// translated from HTTP/2 to HTTP/1.
func (s *Server) configFor(h *tls.ClientHelloInfo) (*tls.Config, error) {
	g := h.Conn.(*greeting)
	// The name was judged from these very bytes; this holds the two parsers together.
	if name, ok := policy.NormalizeName(h.ServerName); !ok || name != g.flow.authority.name {
		return nil, errors.New("the client's hello names another host than was judged")
	}
	proto := g.flow.origin.greet(h.Context(), h.SupportedProtos)
	g.answered.Store(true)
	return s.fronts[proto], nil
}

// authenticated are the cipher suites of TLS 1.2 that HTTP/2 does not prohibit.
var authenticated = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}

// wrapSession seals a session with the name that it is for. The keys rotate daily and
// exist only in this process's memory (crypto/tls, Config.EncryptTicket).
func (s *Server) wrapSession(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
	ss.Extra = append(ss.Extra, []byte(cs.ServerName))
	return s.front.EncryptTicket(cs, ss)
}

// unwrapSession resumes a session for the name that it was made for, and for no other.
func (s *Server) unwrapSession(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
	ss, err := s.front.DecryptTicket(identity, cs)
	if err != nil || ss == nil || len(ss.Extra) == 0 || string(ss.Extra[len(ss.Extra)-1]) != cs.ServerName {
		return nil, nil // a full handshake follows
	}
	return ss, nil
}

// greeting is a client's connection while its handshake lasts, and below it afterwards.
type greeting struct {
	net.Conn
	flow     *flow
	leaf     *tls.Certificate
	answered atomic.Bool // our certificate is on its way
	alert    *alertWatch // nil once the handshake is over
}

func (g *greeting) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if g.alert != nil {
		g.alert.watch(b[:n])
	}
	return n, err
}

// CloseWrite lets the end of an answer arrive before a reset does.
func (g *greeting) CloseWrite() error {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// ServeTLS ends the TLS of a flow whose name has been judged. It returns what serves its requests
// until it is closed, and closes it; nil where there is nothing to serve. The connection is closed when
// ctx ends. What is refused before anything has been sent is left open, for the caller to refuse in its own
// way.
func (s *Server) ServeTLS(ctx context.Context, client net.Conn, facts policy.Flow, gate Gate) (serve func()) {
	if s.front == nil {
		gate.Fail(denial(policy.ReasonNotReady), "this gateway has no certificate authority")
		return nil
	}
	leaf, root, err := s.leaf(ctx, facts.Name)
	if err != nil {
		gate.Fail(denial(policy.ReasonNotReady), "no certificate for the name: "+err.Error())
		return nil
	}
	stop := context.AfterFunc(ctx, func() { client.Close() })
	f := &flow{gate: gate, scheme: "https", source: facts.Src, port: facts.Port, authority: &authority{name: facts.Name}, ended: make(chan struct{})}
	f.origin = &upstream{server: s, gate: gate, name: facts.Name}
	end := func() {
		f.origin.close()
		stop()
		client.Close()
	}
	defer func() {
		if serve == nil {
			end()
		}
	}()

	raw := &greeting{Conn: client, flow: f, leaf: leaf, alert: &alertWatch{}}
	tc := tls.Server(raw, s.front)
	within, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err = tc.HandshakeContext(within)
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			s.failed(raw, facts, err)
		}
		return nil
	}
	raw.alert = nil
	state := tc.ConnectionState()
	if s.decryption.Accepted != nil && !state.DidResume {
		s.decryption.Accepted(facts, root)
	}
	f.version = state.Version
	h2 := state.NegotiatedProtocol == protoH2
	f.transport = f.origin.transport(h2)
	return func() {
		defer end()
		defer f.transport.CloseIdleConnections()
		if h2 {
			f.serveOn(ctx, s, s.conns2, newFrameGuard(tc, f))
			f.handlers.Wait() // HTTP/2 handlers may outlive their connection
			return
		}
		f.guard = newGuard(tc)
		defer context.AfterFunc(ctx, func() { f.guard.Close() })()
		f.serveOn(ctx, s, s.conns, &guardedFlow{guard: f.guard, flow: f})
	}
}

// leaf fetches a certificate within the time that a client waits.
func (s *Server) leaf(ctx context.Context, name string) (*tls.Certificate, *x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout/2)
	defer cancel()
	return s.decryption.Certificates.Leaf(ctx, name)
}

// failed writes down why a client's handshake did not end well.
func (s *Server) failed(g *greeting, facts policy.Flow, err error) {
	said, hungUp := g.alert.distrusts() || rejected(err), errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	if g.answered.Load() && (said || hungUp) {
		message := "the client did not take the gateway's certificate: " + err.Error()
		if !said { // as Node does, and whoever gives up for a reason of its own
			message = "the client hung up, without an alert, when it was shown the gateway's certificate: probably it does not trust it"
		}
		g.flow.gate.Fail(denial(policy.ReasonCARejected), message)
		if s.decryption.Rejected != nil {
			s.decryption.Rejected(facts)
		}
		return
	}
	g.flow.gate.Fail(denial(policy.ReasonBadClientHello), "the TLS handshake failed: "+err.Error())
}

// rejected reports whether a handshake ended by an alert for want of trust in our
// certificate (RFC 8446, section 6.2).
func rejected(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return false
	}
	// crypto/tls does not export its alerts; these are its texts for bad_certificate(42) to
	// certificate_unknown(46), and unknown_ca(48).
	return slices.Contains([]string{
		"tls: bad certificate", "tls: unsupported certificate", "tls: revoked certificate", "tls: expired certificate",
		"tls: unknown certificate", "tls: unknown certificate authority",
	}, op.Err.Error())
}

// tooOld says which side negotiated a version of TLS below the one that a rule demands.
func (f *flow) tooOld(version uint16) string {
	if version == 0 {
		return ""
	}
	if f.version < version {
		return fmt.Sprintf("the client speaks %s, and %s is required", tls.VersionName(f.version), tls.VersionName(version))
	}
	if f.origin != nil {
		if v := f.origin.negotiated(); v != 0 && v < version {
			return fmt.Sprintf("the destination speaks %s, and %s is required", tls.VersionName(v), tls.VersionName(version))
		}
	}
	return ""
}

// offer is what the origin is offered: what the client offers of what we speak.
func offer(client []string) []string {
	var out []string
	for _, p := range []string{protoH2, protoHTTP1} {
		if slices.Contains(client, p) {
			out = append(out, p)
		}
	}
	return out
}
