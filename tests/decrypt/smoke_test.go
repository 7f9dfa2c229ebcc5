package decrypt

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
)

const blocked = 2 // OCSF: blocked

// TestCurl asks for a permitted and a refused path with both versions of HTTP.
func TestCurl(t *testing.T) {
	s := shared.open(t)
	for _, tc := range []struct{ flag, version string }{{"--http1.1", "1.1"}, {"--http2", "2"}} {
		t.Run(tc.version, func(t *testing.T) {
			good, bad := "/ok/curl-"+tc.version, "/no/curl-"+tc.version
			out, err := s.run(t, "curl", "-sS", tc.flag, "-w", "\n%{http_version} %{http_code}\n", "https://"+apiName+good+"?secret=1")
			if err != nil || !strings.HasSuffix(out, "\n"+tc.version+" 200\n") || !strings.Contains(out, `"path":"`+good) {
				t.Fatalf("permitted: %v %s", err, out)
			}
			out, err = s.run(t, "curl", "-sS", tc.flag, "-w", "\n%{http_version} %{http_code}\n", "https://"+apiName+bad)
			if err != nil || !strings.HasSuffix(out, "\n"+tc.version+" 403\n") || !strings.Contains(out, "egress denied") {
				t.Fatalf("refused: %v %s", err, out)
			}
			if !s.arrived(apiName, good) || s.arrived(apiName, bad) {
				t.Errorf("arrived: %+v", s.internet.Visits())
			}
			if e := s.request(t, apiName, "GET", good); e.DispositionID == blocked || e.FirewallRule.Name != "judge" {
				t.Errorf("event of the permitted request: %+v", e)
			}
			if e := s.request(t, apiName, "GET", bad); e.DispositionID != blocked {
				t.Errorf("event of the refused request: %+v", e)
			}
		})
	}
}

// TestWhoseCertificate looks at the certificate that an agent is shown.
func TestWhoseCertificate(t *testing.T) {
	s := shared.open(t)
	for name, issuer := range map[string]string{apiName: s.Root.Subject.String(), splicedName: s.CA.Cert.Subject.String()} {
		addrs, err := s.Resolve(within(t), s.agent, name)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := s.agent.Dial(within(t), "tcp", netip.AddrPortFrom(addrs[0], 443).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: s.Roots()})
		if err := client.HandshakeContext(within(t)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		chain := client.ConnectionState().VerifiedChains[0]
		if got := chain[len(chain)-1].Subject.String(); got != issuer {
			t.Errorf("%s: the certificate's root is %s, want %s", name, got, issuer)
		}
	}
}
