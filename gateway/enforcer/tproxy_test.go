package enforcer

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/inspect"
	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	insideEnv    = "BULKHEAD_TEST_IN_NAMESPACE"
	redirectMark = 0x42482
	dialMark     = 0x42481
	redirectPort = 14433
	routeTable   = 4248
)

// TestTPROXY runs itself again in a network namespace of its own, which plays the
// gateway between two others: an agent's and the internet.
func TestTPROXY(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestTPROXY$", "-test.v")
		cmd.Env = append(os.Environ(), insideEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
		}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
			t.Fatal("network namespaces may not be made here; run as root, or allow user namespaces:", err)
		}
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	gw := newGateway(t)
	t.Run("clients", gw.testClients)
	t.Run("plain HTTP", gw.testHTTP)
	t.Run("source kept", gw.testKeepSource)
}

// gateway is the namespace that the test runs in, with what it needs of the others.
type gateway struct {
	agent, internet netns.NsHandle
	keepSource      atomic.Bool
	log             *log
	seen            chan string // sources that the origin saw
}

func newGateway(t *testing.T) *gateway {
	g := &gateway{log: &log{changed: make(chan struct{})}, seen: make(chan string, 64)}
	g.agent, g.internet = newNamespace(t), newNamespace(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g.wire(t, g.agent, "agent", "10.20.1.1/24", "10.20.1.4/24")
	g.wire(t, g.internet, "internet", "203.0.113.1/24", "203.0.113.2/24")
	lo, err := netlink.LinkByName("lo")
	must(err)
	must(netlink.LinkSetUp(lo))
	must(netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(203, 0, 113, 2)}))
	must(netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Table: routeTable, Type: unix.RTN_LOCAL,
		Scope: netlink.SCOPE_HOST, Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}))
	rule := netlink.NewRule()
	rule.Mark, rule.Table = redirectMark, routeTable
	must(netlink.RuleAdd(rule))

	inside(t, g.agent, func() {
		must(netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 20, 1, 1)}))
	})
	inside(t, g.internet, func() {
		must(netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(203, 0, 113, 1)}))
		lo, err := netlink.LinkByName("lo")
		must(err)
		must(netlink.LinkSetUp(lo))
		addr, err := netlink.ParseAddr(github.String() + "/32")
		must(err)
		must(netlink.AddrAdd(lo, addr))
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.seen <- r.RemoteAddr
			fmt.Fprintf(w, "origin of %s", r.Host)
		})
		for _, port := range []string{"80", "443"} {
			ln, err := net.Listen("tcp4", net.JoinHostPort(github.String(), port))
			must(err)
			if port == "443" {
				ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{certificate()}})
			}
			s := &http.Server{Handler: handler}
			go func() { _ = s.Serve(ln) }()
			t.Cleanup(func() { s.Close() })
		}
	})
	redirect(t)
	g.serve(t)
	return g
}

// serve runs the real server behind the kernel's redirection.
func (g *gateway) serve(t *testing.T) {
	ln, err := Listen(t.Context(), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), redirectPort), dialMark)
	if err != nil {
		t.Fatal(err)
	}
	h := inspect.New(t.Logf)
	pins := pin.New(pin.Options{})
	rs := compile(t, rules)
	s := New(Options{
		Ruleset: func() *policy.Ruleset { return rs }, Pins: pins, Resolver: &resolver{pins: pins}, Audit: g.log, HTTP: h,
		Dialer: NetDialer{Mark: dialMark, KeepSource: func(netip.Addr) bool { return g.keepSource.Load() }}, Logf: t.Logf,
	})
	if err := pins.Add(agent, "api.github.com", []pin.Answer{{Addr: github, TTL: time.Hour, Bound: "api.github.com"}}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		h.Close()
	})
}

// inside runs f on a thread in another network namespace; sockets that it opens and
// processes that it starts stay there.
func inside(t *testing.T, ns netns.NsHandle, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if err := netns.Set(ns); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := netns.Set(home); err != nil {
			panic(err) // this thread must serve nobody else
		}
	}()
	f()
}

func newNamespace(t *testing.T) netns.NsHandle {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Set(home); err != nil {
		panic(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// wire joins the gateway with another namespace.
func (g *gateway) wire(t *testing.T, ns netns.NsHandle, name, near, far string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "uplink"}))
	up := func(link, cidr string) {
		l, err := netlink.LinkByName(link)
		must(err)
		addr, err := netlink.ParseAddr(cidr)
		must(err)
		must(netlink.AddrAdd(l, addr))
		must(netlink.LinkSetUp(l))
	}
	peer, err := netlink.LinkByName("uplink")
	must(err)
	must(netlink.LinkSetNsFd(peer, int(ns)))
	up(name, near)
	inside(t, ns, func() { up("uplink", far) })
}

// redirect loads the least program that TPROXY needs; the product's own is package
// packet's.
func redirect(t *testing.T) {
	c := &nftables.Conn{}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "test"})
	chain := c.AddChain(&nftables.Chain{Name: "prerouting", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle})
	tcp := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
	mark := []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(redirectMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
	rule := func(parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: all})
	}
	rule(tcp, []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}, mark)
	ifname := make([]byte, unix.IFNAMSIZ)
	copy(ifname, "agent")
	rule(tcp, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifname},
		&expr.Immediate{Register: 1, Data: []byte{127, 0, 0, 1}},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, redirectPort)},
		&expr.TProxy{Family: unix.NFPROTO_IPV4, TableFamily: unix.NFPROTO_INET, RegAddr: 1, RegPort: 2},
	}, mark)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// run starts a program as the agent and returns what it printed.
func (g *gateway) run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%v: `make deps` installs it", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	var err error
	inside(t, g.agent, func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	return out.String(), err
}

func (g *gateway) testClients(t *testing.T) {
	const python = `
import socket, ssl, sys
ctx = ssl._create_unverified_context()
s = ctx.wrap_socket(socket.create_connection((sys.argv[1], 443), 20), server_hostname=sys.argv[2])
s.sendall(b"GET / HTTP/1.0\r\nHost: api.github.com\r\n\r\n")
print(s.makefile().read())`
	const node = `
require('https').get({host: process.argv[1], servername: process.argv[2], rejectUnauthorized: false, headers: {host: 'api.github.com'}},
  r => r.on('data', d => console.log(String(d)))).on('error', e => { console.log(String(e)); process.exit(1) })`
	clients := map[string]func(t *testing.T, sni string) (string, error){
		"curl": func(t *testing.T, sni string) (string, error) {
			return g.run(t, "curl", "-sSk", "--noproxy", "*", "--max-time", "20", "-H", "Host: api.github.com", "--resolve", sni+":443:"+github.String(), "https://"+sni+"/")
		},
		"openssl": func(t *testing.T, sni string) (string, error) {
			return g.run(t, "sh", "-c", "printf 'GET / HTTP/1.0\\r\\nHost: api.github.com\\r\\n\\r\\n' | openssl s_client -quiet -connect "+github.String()+":443 -servername "+sni)
		},
		"python": func(t *testing.T, sni string) (string, error) {
			return g.run(t, "python3", "-c", python, github.String(), sni)
		},
		"node": func(t *testing.T, sni string) (string, error) {
			return g.run(t, "node", "-e", node, github.String(), sni)
		},
		"go": func(t *testing.T, sni string) (string, error) {
			var c net.Conn
			var err error
			inside(t, g.agent, func() { c, err = net.Dial("tcp4", github.String()+":443") })
			if err != nil {
				t.Fatal(err)
			}
			tc := client(c, sni)
			defer tc.Close()
			if _, err := io.WriteString(tc, "GET / HTTP/1.0\r\nHost: api.github.com\r\n\r\n"); err != nil {
				return err.Error(), err
			}
			b, err := io.ReadAll(tc)
			return string(b), err
		},
	}
	for name, get := range clients {
		t.Run(name, func(t *testing.T) {
			if out, err := get(t, "api.github.com"); err != nil || !strings.Contains(out, "origin of api.github.com") {
				t.Fatalf("permitted: %v: %s", err, out)
			}
			if src := <-g.seen; !strings.HasPrefix(src, "203.0.113.1:") {
				t.Errorf("the origin saw %s", src)
			}
			out, err := get(t, "evil.example")
			text := strings.ToLower(out)
			if err == nil && name != "openssl" || !strings.Contains(text, "access denied") && !strings.Contains(text, "access_denied") {
				t.Errorf("refused: %v: %s", err, out)
			}
		})
	}
	if n := len(g.seen); n != 0 {
		t.Errorf("%d refused requests reached the origin", n)
	}
	open := g.log.wait(t, audit.Open)
	if open.Src.Addr() != agent || open.Dst != netip.AddrPortFrom(github, 443) || open.Decision.Rule != "allow-tools" || open.Pin.Question != "api.github.com" {
		t.Errorf("opened as %+v", open)
	}
}

func (g *gateway) testHTTP(t *testing.T) {
	out, err := g.run(t, "curl", "-sS", "--noproxy", "*", "--max-time", "20", "--resolve", "api.github.com:80:"+github.String(), "http://api.github.com/")
	if err != nil || out != "origin of api.github.com" {
		t.Fatalf("%v: %s", err, out)
	}
	<-g.seen
	out, err = g.run(t, "curl", "-sS", "--noproxy", "*", "--max-time", "20", "-w", "%{http_code}", "--resolve", "evil.example:80:"+github.String(), "http://evil.example/")
	if err != nil || !strings.HasSuffix(out, "403") || !strings.Contains(out, "egress denied") {
		t.Fatalf("%v: %s", err, out)
	}
}

func (g *gateway) testKeepSource(t *testing.T) {
	g.keepSource.Store(true)
	var c net.Conn
	var err error
	inside(t, g.agent, func() { c, err = net.Dial("tcp4", github.String()+":443") })
	if err != nil {
		t.Fatal(err)
	}
	tc := client(c, "api.github.com")
	defer tc.Close()
	_ = tc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(tc, "GET / HTTP/1.0\r\nHost: api.github.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(tc); err != nil || !strings.Contains(string(b), "origin of api.github.com") {
		t.Fatalf("%v: %s", err, b)
	}
	if src := <-g.seen; !strings.HasPrefix(src, agent.String()+":") {
		t.Errorf("the origin saw %s, want the agent", src)
	}
}
