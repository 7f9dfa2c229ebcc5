package main

import (
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/vishvananda/netlink"

	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

// The peers' configurations. docs/benchmarks.md prints them.
var (
	//go:embed peers/haproxy.cfg
	haproxyConfig string
	//go:embed peers/nginx.conf
	nginxConfig string
	//go:embed peers/squid.conf
	squidConfig string
	//go:embed peers/Corefile
	corefile string
)

// packages are Debian's, by the program that each brings.
var packages = []struct{ program, pkg string }{
	{"haproxy", "haproxy"},
	{"/usr/sbin/nginx", "nginx-light"},
	{"/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream"},
	{"/usr/sbin/squid", "squid-openssl"},
	{"dnsmasq", "dnsmasq-base"},
	{"mitmdump", "mitmproxy"},
	{"sslsplit", "sslsplit"},
	{"nft", "nftables"},
}

// fill puts a path's addresses into a configuration, writes it and returns its name.
func (p *path) fill(name, text string) (string, error) {
	t, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	data := map[string]any{"Dir": p.dir, "Port": proxyPort, "Agents": p.agents, "Listen": p.listen, "Nameserver": load.Nameserver(p.origin),
		"NameserverIP": load.Nameserver(p.origin).Addr(), "Suffix": ".bench." + load.Domain, "Web": load.WebName,
		"TLS": load.Addrs(p.origin, load.TLSName), "Raw": load.Addrs(p.origin, load.RawName), "Bulk": load.Addrs(p.origin, load.BulkName)}
	if err := t.Execute(&b, data); err != nil {
		return "", err
	}
	file := filepath.Join(p.dir, name)
	return file, os.WriteFile(file, []byte(b.String()), 0o644)
}

// run starts a program of this path; its standard output and error go to a file.
func (p *path) run(name string, args ...string) (err error) {
	p.program, err = p.gateway.start(filepath.Join(p.dir, "log"), name, args...)
	return err
}

// forward is the kernel alone, with or without the agents' addresses hidden.
func (p *path) forward(hide bool) error {
	if err := p.gateway.sysctl("ipv4/ip_forward", "1"); err != nil || !hide {
		return err
	}
	return p.gateway.run(fmt.Sprintf("table ip bench { chain out { type nat hook postrouting priority srcnat; ip saddr %s masquerade; }; }", p.agents), "nft", "-f", "-")
}

// tproxy hands the agents' connections to port 14433 with their destination kept.
func (p *path) tproxy() error {
	if err := p.gateway.own(netip.MustParsePrefix("0.0.0.0/0"), tproxyTable); err != nil {
		return err
	}
	r := netlink.NewRule()
	r.Mark, r.Table, r.Priority = tproxyMark, tproxyTable, 100
	if err := p.gateway.nl.RuleAdd(r); err != nil {
		return err
	}
	return p.gateway.run(fmt.Sprintf("table ip bench { chain in { type filter hook prerouting priority mangle; "+
		"ip saddr %s tcp dport 443 tproxy to 127.0.0.1:%d meta mark set %d accept; }; }", p.agents, proxyPort, tproxyMark), "nft", "-f", "-")
}

// redirect rewrites the destination of the agents' connections to port 14433.
func (p *path) redirect() error {
	return p.gateway.run(fmt.Sprintf("table ip bench { chain in { type nat hook prerouting priority dstnat; ip saddr %s tcp dport 443 redirect to :%d; }; }",
		p.agents, proxyPort), "nft", "-f", "-")
}

func (p *path) startHAProxy() error {
	file, err := p.fill("haproxy.cfg", haproxyConfig)
	if err != nil {
		return err
	}
	if err := p.tproxy(); err != nil {
		return err
	}
	return p.run("haproxy", "-db", "-f", file)
}

func (p *path) startNginx() error {
	file, err := p.fill("nginx.conf", nginxConfig)
	if err != nil {
		return err
	}
	if err := p.redirect(); err != nil {
		return err
	}
	return p.run("/usr/sbin/nginx", "-c", file, "-e", filepath.Join(p.dir, "error.log"))
}

func (p *path) startSquid() error {
	file, err := p.fill("squid.conf", squidConfig)
	if err != nil {
		return err
	}
	// Squid wants a certificate even where it never shows one.
	if _, err := p.signing(filepath.Join(p.dir, "squid.pem")); err != nil {
		return err
	}
	if err := p.redirect(); err != nil {
		return err
	}
	// Its shared memory has a name on the whole machine.
	return p.run("/usr/sbin/squid", "-N", "-n", squidService(), "-f", file)
}

func squidService() string { return fmt.Sprintf("bulkheadbench%d", os.Getpid()) }

// forgetSquid removes the shared memory of a squid that had to be killed.
func forgetSquid() error {
	left, err := filepath.Glob("/dev/shm/" + squidService() + "*")
	for _, f := range left {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

func (p *path) startCoreDNS(binary string) error {
	file, err := p.fill("Corefile", corefile)
	if err != nil {
		return err
	}
	return p.run(binary, "-conf", file)
}

func (p *path) startDNSMasq() error {
	ns := load.Nameserver(p.origin)
	return p.run("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--log-facility=-",
		"--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address="+p.listen.String(),
		fmt.Sprintf("--server=%s#%d", ns.Addr(), ns.Port()), "--cache-size=10000", "--dns-forward-max=1000")
}
