package pin

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/root"
	"github.com/miekg/dns"

	pins "github.com/bulkhead-dev/bulkhead/gateway/pin"
)

// The order of plugins as a CoreDNS has it that was built as the README says.
func init() {
	caddy.Quiet, dnsserver.Quiet = true, true
	if err := dnsserver.SetDirectives([]string{"root", "bind", "ready", "prometheus", name, "cache", "forward"}); err != nil {
		panic(err)
	}
}

// standalone is a ruleset that passes policy check.
const standalone = "testdata/ruleset.yaml"

func TestParse(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("version: 1\nmode: enforce\ndefault: {action: DENY, mode: enforce}\nrules: [{nome: x}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ in, err string }{
		{"pin " + standalone, ""},
		{"pin " + standalone + " {\n agents 10.20.1.0/24 10.20.3.0/24\n state pins.txt\n}", ""},
		{"pin " + standalone + " {\n agents 10.20.1.0/24\n clients 10.30.0.4/32\n scope shared\n}", ""},
		{"pin", "Wrong argument count"},
		{"pin a b", "Wrong argument count"},
		{"pin " + standalone + "\npin " + standalone, "this plugin can only be used once per Server Block"},
		{"pin none.yaml", "none.yaml: no such file"},
		{"pin " + bad, bad},
		{"pin " + standalone + " {\n agents\n}", "Wrong argument count"},
		{"pin " + standalone + " {\n agents 10.20.1.4\n}", `agents: "10.20.1.4" is not a prefix such as 10.20.1.0/24`},
		{"pin " + standalone + " {\n scope verify\n}", `scope "verify": use source or shared`},
		{"pin " + standalone + " {\n scope shared\n}", "scope shared needs clients"},
		{"pin " + standalone + " {\n state\n}", "Wrong argument count"},
		{"pin " + standalone + " {\n colour red\n}", `unknown property "colour"`},
	} {
		c := caddy.NewTestController("dns", tc.in)
		_, err := parse(c)
		switch {
		case tc.err == "" && err != nil:
			t.Errorf("%q: %v", tc.in, err)
		case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
			t.Errorf("%q: error %v, want one with %q", tc.in, err, tc.err)
		}
	}
}

// start boots CoreDNS from a Corefile, as its own main does, and waits until it
// serves: CoreDNS does not stop a server that is only about to.
func start(t *testing.T, corefile, addr string) *caddy.Instance {
	t.Helper()
	instance, err := caddy.Start(caddy.CaddyfileInput{Filepath: "Corefile", Contents: []byte(corefile), ServerTypeName: "dns"})
	if err != nil {
		t.Fatalf("%v, for\n%s", err, corefile)
	}
	for _, network := range []string{"udp", "tcp"} {
		c := &dns.Client{Net: network}
		if _, _, err := c.Exchange(new(dns.Msg).SetQuestion("invalid.", dns.TypeA), addr); err != nil {
			t.Fatal(err)
		}
	}
	return instance
}

func stop(t *testing.T, instance *caddy.Instance) {
	t.Helper()
	for _, err := range append(instance.ShutdownCallbacks(), instance.Stop()) {
		if err != nil {
			t.Error(err)
		}
	}
	instance.Wait()
}

// freePort finds a port that is free for UDP and TCP on loopback.
func freePort(t *testing.T) int {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no port is free for both UDP and TCP")
	return 0
}

// serveDNS runs a real upstream on loopback.
func serveDNS(t *testing.T, h dns.HandlerFunc) string {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		s := &dns.Server{Addr: addr, Net: network, Handler: h, NotifyStartedFunc: func() { close(started) }}
		failed := make(chan error, 1)
		go func() { failed <- s.ListenAndServe() }()
		select {
		case <-started:
		case err := <-failed:
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Shutdown() })
	}
	return addr
}

// TestStock boots CoreDNS as a user of the plugin does: prometheus and ready beside
// it, cache and forward below it.
func TestStock(t *testing.T) {
	up := serveDNS(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Answer = msg(r.Question[0].Name + " 60 IN A 140.82.121.6").Answer
		w.WriteMsg(m)
	})
	state := filepath.Join(t.TempDir(), "pins")
	rules, err := os.ReadFile(standalone)
	if err != nil {
		t.Fatal(err)
	}
	// The clients of this test are on loopback.
	file := filepath.Join(t.TempDir(), "ruleset.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(rules), "10.20.1.0/24", "127.0.0.0/8")), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	corefile := fmt.Sprintf(`.:%s {
	root %s
	bind 127.0.0.1
	ready 127.0.0.1:%d
	prometheus 127.0.0.1:%d
	pin %s {
		agents 127.0.0.0/8
		state %s
	}
	cache
	forward . %s {
		prefer_udp
	}
}`, addr[len("127.0.0.1:"):], t.TempDir(), freePort(t), freePort(t), file, state, up)
	instance := start(t, corefile, addr)
	for _, network := range []string{"udp", "tcp"} {
		c := &dns.Client{Net: network}
		for name, want := range map[string]int{"api.github.com.": dns.RcodeSuccess, "evil.example.com.": dns.RcodeNameError} {
			m := new(dns.Msg).SetQuestion(name, dns.TypeA)
			m.SetEdns0(1232, false)
			got, _, err := c.Exchange(m, addr)
			if err != nil {
				t.Fatal(err)
			}
			if got.Rcode != want || (len(got.Answer) == 1) != (want == dns.RcodeSuccess) {
				t.Errorf("%s over %s: %v", name, network, got)
			}
		}
	}
	stop(t, instance)
	saved, err := os.ReadFile(state)
	if err != nil || !strings.Contains(string(saved), "127.0.0.1 api.github.com 140.82.121.6 ") {
		t.Errorf("state: %v\n%s", err, saved)
	}
	stop(t, start(t, corefile, addr))
	again, err := os.ReadFile(state)
	if err != nil || string(again) != string(saved) {
		t.Errorf("a restart lost pins: %v\n%s", err, again)
	}
}

// TestReadme boots every Corefile of the README, with its ruleset beside it.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile(standalone)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ruleset.yaml"), rules, 0o600); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(readme), "~~~")
	n := 0
	for i := 1; i < len(parts); i += 2 {
		snippet, ok := strings.CutPrefix(parts[i], " corefile\n")
		if !ok {
			continue
		}
		n++
		port := freePort(t)
		snippet = strings.Replace(snippet, ". {\n", fmt.Sprintf(".:%d {\n    bind 127.0.0.1\n    root %s\n", port, dir), 1)
		stop(t, start(t, snippet, fmt.Sprintf("127.0.0.1:%d", port)))
	}
	if n != 2 {
		t.Errorf("%d Corefiles in the README, want 2", n)
	}
	at := 0
	for _, section := range []string{"# pin", "## Name", "## Description", "## Syntax", "## Metrics", "## Ready", "## Examples", "## Bugs"} {
		i := strings.Index(string(readme)[at:], "\n"+section+"\n")
		if at == 0 && strings.HasPrefix(string(readme), section) {
			i = 0
		}
		if i < 0 {
			t.Errorf("section %q is missing or out of order", section)
			continue
		}
		at += i
	}
}

// TestSwept: pins that are gone make room also where no file keeps them; else the places for
// sources would be used up for good.
func TestSwept(t *testing.T) {
	var passed atomic.Int64
	store := pins.New(pins.Options{Now: func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }})
	one := netip.MustParseAddr("10.20.1.4")
	if err := store.Add(one, "api.github.com", []pins.Answer{{Addr: one, Bound: "api.github.com"}}); err != nil {
		t.Fatal(err)
	}
	keep := &keeper{pins: store, every: time.Millisecond}
	if err := keep.start(); err != nil {
		t.Fatal(err)
	}
	passed.Store(int64(2 * pins.DefaultIdle))
	deadline := time.Now().Add(20 * time.Second)
	for sources, _ := store.Len(); sources > 0; sources, _ = store.Len() {
		if time.Now().After(deadline) {
			t.Fatal("an idle source is still there")
		}
		runtime.Gosched()
	}
	if err := keep.stop(); err != nil {
		t.Fatal(err)
	}
}
