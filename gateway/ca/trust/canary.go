package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
)

// State is what a canary found.
type State string

// What a canary can find. Only Trusted is good.
const (
	Trusted      State = "trusted"       // decrypted, and this image's trust store accepts it
	Untrusted    State = "untrusted"     // decrypted, and the trust store does not
	NotDecrypted State = "not-decrypted" // answered with a certificate that is not from our root
	WrongTime    State = "wrong-time"    // decrypted, but by the clock here, the certificate is not valid now
	Unreachable  State = "unreachable"   // no certificate came
)

// Canary tries one name that the ruleset decrypts, from where an agent is.
type Canary struct {
	Host string
	Port string
	Root *x509.Certificate // ours
	// Store is what this image's software trusts; nil: what Go takes as the system's.
	Store Bundle
	// Dial replaces the network in tests; nil: net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Now  func() time.Time // nil: time.Now
}

// Finding is a canary's report.
type Finding struct {
	Host    string   `json:"host"`
	Address string   `json:"address,omitempty"`
	State   State    `json:"state"`
	Why     string   `json:"why,omitempty"`
	Chain   []string `json:"chain,omitempty"` // subjects, or names, as they were sent
	Root    string   `json:"root"`            // fingerprint of ours
}

// Try shakes hands once. Where the store does not accept the certificate, or it is not ours,
// it ends the handshake as any client would, with an alert: to the gateway, a handshake that was
// completed is proof that the root is trusted.
func (c *Canary) Try(ctx context.Context) Finding {
	f := Finding{Host: c.Host, State: Unreachable, Root: ca.Fingerprint(c.Root)}
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(c.Host, c.Port))
	if err != nil {
		f.Why = err.Error()
		return f
	}
	defer conn.Close()
	f.Address = conn.RemoteAddr().String()
	tc := tls.Client(conn, &tls.Config{
		ServerName: c.Host,
		// Both trust stores are asked below, in place of crypto/tls's one.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			f.State, f.Chain, err = c.judge(s.PeerCertificates)
			return err
		},
	})
	if err := tc.HandshakeContext(ctx); err != nil {
		// An error after a good certificate: nothing is proven to the gateway.
		if f.State == Trusted {
			f.State = Unreachable
		}
		f.Why = err.Error()
	}
	return f
}

// judge asks both trust stores about a chain.
func (c *Canary) judge(chain []*x509.Certificate) (State, []string, error) {
	if len(chain) == 0 { // crypto/tls has a server send at least one
		return Unreachable, nil, errors.New("no certificate")
	}
	sent := make([]string, 0, len(chain))
	between := x509.NewCertPool()
	for i, cert := range chain {
		name := cert.Subject.String()
		if name == "" && len(cert.DNSNames) > 0 {
			name = cert.DNSNames[0]
		}
		sent = append(sent, name)
		if i > 0 {
			between.AddCert(cert)
		}
	}
	opts := x509.VerifyOptions{DNSName: c.Host, Intermediates: between, Roots: Bundle{c.Root}.pool()}
	if c.Now != nil {
		opts.CurrentTime = c.Now()
	}
	if _, err := chain[0].Verify(opts); err != nil {
		// Whose it is does not depend on the time: it is asked again at one that all of the chain holds
		// to be valid, if any.
		opts.CurrentTime = begins(append([]*x509.Certificate{c.Root}, chain...))
		if _, once := chain[0].Verify(opts); once == nil {
			return WrongTime, sent, fmt.Errorf("this certificate is from our root, and either the clock here is wrong or the gateway's: %w", err)
		}
		return NotDecrypted, sent, fmt.Errorf("this certificate is not from our root: %w", err)
	}
	opts.Roots = nil // the system's
	if c.Store != nil {
		opts.Roots = c.Store.pool()
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return Untrusted, sent, fmt.Errorf("the trust store does not accept it: %w", err)
	}
	return Trusted, sent, nil
}

// begins is when the last of some certificates becomes valid.
func begins(certs []*x509.Certificate) (at time.Time) {
	for _, c := range certs {
		if c.NotBefore.After(at) {
			at = c.NotBefore
		}
	}
	return at
}
