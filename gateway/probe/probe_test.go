package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
)

// spoke is a network with what a probe meets in it. It stands for the gateway, so it proves
// what the probe makes of answers, and nothing about who gives them.
type spoke struct {
	resolves map[string]bool // names that are answered
	open     []string        // what accepts connections
	cert     tls.Certificate // that everything shows
}

func (s *spoke) lookup(_ context.Context, name string) ([]netip.Addr, error) {
	if !s.resolves[name] {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}

func (s *spoke) dial(_ context.Context, network, addr string) (net.Conn, error) {
	if !slices.Contains(s.open, network+" "+addr) {
		return nil, errors.New("connection refused")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		defer l.Close()
		there, err := l.Accept()
		if err != nil {
			return
		}
		defer there.Close()
		if strings.HasSuffix(addr, ":443") {
			tls.Server(there, &tls.Config{Certificates: []tls.Certificate{s.cert}}).Handshake() //nolint:errcheck // the probe says it
			return
		}
		answer(there)
	}()
	return net.Dial("tcp", l.Addr().String())
}

// answer is a resolver over TCP that has an address for every name.
func answer(c net.Conn) {
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	for err == nil && n < 14 { // the length may come alone
		var more int
		more, err = c.Read(buf[n:])
		n += more
	}
	if err != nil {
		return
	}
	// RFC 1035: the question comes back, marked as answered, with one A record for it.
	question := buf[2:n]
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5
	reply := slices.Concat(question[:2], []byte{0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}, question[12:end],
		[]byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 9})
	c.Write(slices.Concat([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply)) //nolint:errcheck // the probe says it
}

// certify makes a root and a certificate of it.
func certify(t *testing.T, name string) (*x509.Certificate, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.SelfSign(key, "root", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: root.SerialNumber, DNSNames: []string{name}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return root, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestProbe(t *testing.T) {
	root, cert := certify(t, "tool.example")
	other, _ := certify(t, "tool.example")
	contained := spoke{
		resolves: map[string]bool{"mcr.example": true, "tool.example": true},
		open:     []string{"tcp mcr.example:443", "tcp tool.example:443"},
		cert:     cert,
	}
	for _, test := range []struct {
		name  string
		spoil func(*spoke, *Probe)
		fails string
	}{
		{"contained", func(*spoke, *Probe) {}, ""},
		{"no DNS", func(s *spoke, _ *Probe) { s.resolves = nil }, "a permitted name is answered"},
		{"no way out", func(s *spoke, _ *Probe) { s.open = s.open[1:] }, "a permitted name is reached"},
		{"every name", func(s *spoke, _ *Probe) { s.resolves["denied.example"] = true }, "a denied name is not answered"},
		{"every address", func(s *spoke, _ *Probe) { s.open = append(s.open, "tcp 192.0.2.7:443") }, "an address without a name is not reached"},
		{"Azure's resolver", func(s *spoke, _ *Probe) { s.open = append(s.open, "tcp "+AzureDNS) }, "Azure's own resolver is closed"},
		{"another root", func(_ *spoke, p *Probe) { p.Root = other }, "a decrypted name shows the gateway's root"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := spoke{map[string]bool{}, slices.Clone(contained.open), contained.cert}
			for name := range contained.resolves {
				s.resolves[name] = true
			}
			p := &Probe{Permitted: "mcr.example", Denied: "denied.example", Address: "192.0.2.7:443", Decrypted: "tool.example", Root: root,
				Resolver: AzureDNS, Patience: 10 * time.Second, Dial: s.dial, Lookup: s.lookup}
			test.spoil(&s, p)
			var failed []string
			for _, f := range p.Run(t.Context()) {
				if !f.OK {
					failed = append(failed, f.Check)
				}
				if f.Found == "" {
					t.Errorf("%s: nothing found", f.Check)
				}
				if told := f.Wanted != "" && f.Fix != ""; told == f.OK {
					t.Errorf("%s: wanted %q, fix %q", f.Check, f.Wanted, f.Fix)
				}
			}
			if got := strings.Join(failed, ", "); got != test.fails {
				t.Errorf("failed: %q, want %q", got, test.fails)
			}
		})
	}
}
