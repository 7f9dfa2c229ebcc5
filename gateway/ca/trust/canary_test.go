package trust

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
)

// serve shakes hands once as the gateway would, with a leaf of an authority.
func serve(t *testing.T, root ca.Root, names ...string) (addr string, end <-chan error) {
	t.Helper()
	a, err := ca.New(t.Context(), ca.Options{Root: root, Names: names})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		done <- tls.Server(conn, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			leaf, _, err := a.Leaf(h.Context(), h.ServerName)
			return leaf, err
		}}).Handshake()
	}()
	return ln.Addr().String(), done
}

func TestCanary(t *testing.T) {
	files, ours := lab(t, "ours")
	otherFiles, other := lab(t, "other")
	const host = "api.github.com"
	for _, tc := range []struct {
		what  string
		root  ca.Root
		store Bundle
		now   time.Time
		want  State
	}{
		{"trusted", files, other.With(ours), time.Time{}, Trusted},
		{"an image without the root", files, other, time.Time{}, Untrusted},
		{"the system's store, which cannot know it", files, nil, time.Time{}, Untrusted},
		{"spliced", otherFiles, other.With(ours), time.Time{}, NotDecrypted},
		{"a clock that is years ahead", files, ours, time.Now().AddDate(5, 0, 0), WrongTime},
		{"a clock that is a week behind", files, ours, time.Now().AddDate(0, 0, -7), WrongTime},
		{"such a clock, without the root", files, other, time.Now().AddDate(5, 0, 0), WrongTime},
		{"spliced, and such a clock", otherFiles, ours, time.Now().AddDate(5, 0, 0), NotDecrypted},
	} {
		t.Run(tc.what, func(t *testing.T) {
			addr, end := serve(t, tc.root, host)
			c := Canary{Host: host, Port: "443", Root: ours[0], Store: tc.store,
				Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, addr)
				}}
			if !tc.now.IsZero() {
				c.Now = func() time.Time { return tc.now }
			}
			f := c.Try(t.Context())
			if f.State != tc.want || f.Address != addr || (f.Why == "") != (tc.want == Trusted) || len(f.Chain) != 2 || f.Chain[0] != host {
				t.Errorf("%+v", f)
			}
			// The gateway must take nothing but a trusting client for one.
			err := <-end
			if (err == nil) != (tc.want == Trusted) {
				t.Errorf("to the gateway: %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "bad certificate") {
				t.Errorf("to the gateway: %v, and no alert about the certificate", err)
			}
		})
	}
}

func TestCanaryUnreachable(t *testing.T) {
	_, ours := lab(t, "ours")
	refused := errors.New("connection refused")
	c := Canary{Host: "api.github.com", Port: "443", Root: ours[0],
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused }}
	if f := c.Try(t.Context()); f.State != Unreachable || f.Why != refused.Error() {
		t.Errorf("%+v", f)
	}
	// A gateway that refuses the name ends the handshake with an alert (access_denied).
	c.Dial = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			server.Read(make([]byte, 4096))
			server.Write([]byte{21, 3, 3, 0, 2, 2, 49}) // RFC 8446, sections 5.1 and 6
		}()
		return client, nil
	}
	if f := c.Try(t.Context()); f.State != Unreachable || !strings.Contains(f.Why, "access denied") {
		t.Errorf("%+v", f)
	}
}

// TestCanaryGivesUp has a server that says nothing.
func TestCanaryGivesUp(t *testing.T) {
	_, ours := lab(t, "ours")
	client, server := net.Pipe()
	defer server.Close()
	c := Canary{Host: "api.github.com", Port: "443", Root: ours[0],
		Dial: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		server.Read(make([]byte, 1))
		cancel()
	}()
	if f := c.Try(ctx); f.State != Unreachable || f.Why == "" {
		t.Errorf("%+v", f)
	}
}
