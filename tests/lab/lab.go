package lab

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
)

// Options say what kind of lab to build. The zero value is a lab without a
// gateway: its host forwards everything and resolves every name, which shows that
// the network itself works.
type Options struct {
	// Gateway is the path of the bulkhead binary. Empty: none, see above.
	Gateway string
	// Idle leaves the gateway's start to Process.
	Idle bool
	// Ruleset is YAML; empty is the package's Ruleset. FEEDS in it stands for the folder of the
	// feeds, LABCA for the certificate that signed every origin.
	Ruleset string
	// Configure may change the gateway's configuration before it is written.
	Configure func(config map[string]any)
	// Decrypt makes a root for the gateway, which agents then trust, and configures it.
	Decrypt bool
	// TrustLab has the gateway itself trust the lab's authority, for what it asks of Azure's services.
	TrustLab bool
	// TwoArm gives the gateway of the lab's own network a second interface for the agents' side.
	TwoArm bool
	// Network is another one than the lab's own.
	Network *Network
	// Dir takes the lab's files and is kept; empty is a temporary folder, removed by Down.
	Dir string
	// Progress is told what is being done; nil is fine.
	Progress func(string)
}

// Lab is a running lab.
type Lab struct {
	Paths Paths
	// CA signed every server of the lab; the agents trust it.
	CA *Authority
	// Root is the gateway's own, nil unless it decrypts.
	Root *x509.Certificate
	// Upstream is Azure's resolver, 168.63.129.16; Rogue is the attacker's.
	Upstream, Rogue *Nameserver
	// What stands on the hosts, by host.
	Sites map[string]*Website
	// Process is the gateway, nil without one.
	Process *Process

	hosts   map[string]*Host
	order   []string
	network *Network
	temp    bool
}

// records are what Azure's resolver knows. Chains and short TTLs are as the real ones'.
func records() []string {
	a := func(name string, addrs ...netip.Addr) (out []string) {
		for _, addr := range addrs {
			out = append(out, fmt.Sprintf("%s. 60 IN A %s", name, addr))
		}
		return out
	}
	cname := func(name, to string) string { return fmt.Sprintf("%s. 300 IN CNAME %s.", name, to) }
	return slices.Concat(
		a(ToolName, GitHub, GitHub2), a(GistName, Gist),
		[]string{cname(LoginName, "login.mso.msidentity.com"), cname("login.mso.msidentity.com", "www.tm.prd.ags.trafficmanager.net")},
		a("www.tm.prd.ags.trafficmanager.net", Login),
		[]string{cname("mcr.microsoft.com", "mcr-0001.mcr-msedge.net"), cname("eastus2.data.mcr.microsoft.com", "mcr-0001.mcr-msedge.net")},
		a("mcr-0001.mcr-msedge.net", Registry),
		a("agent365.svc.cloud.microsoft", Agent365),
		[]string{cname(MCPName, "mcp.eastus2.contoso-hosting.com")}, a("mcp.eastus2.contoso-hosting.com", Contoso),
		a(MirrorName, Mirror), a(StorageName, Storage),
		// A linked private DNS zone, as a virtual network has it.
		[]string{cname(OpenAIName, "contoso.privatelink.openai.azure.com"), cname("contoso.search.windows.net", "contoso.privatelink.search.windows.net")},
		a("contoso.privatelink.openai.azure.com", OpenAI), a("contoso.privatelink.search.windows.net", Search),
		a(ExfilName, Exfil), a("*.attacker.example", Exfil), a(MaliciousName, Malicious),
	)
}

// Up builds a lab. ctx bounds the building; Down ends the lab. Enter must have
// been called.
func Up(ctx context.Context, opt Options) (*Lab, error) {
	progress := opt.Progress
	if progress == nil {
		progress = func(string) {}
	}
	l := &Lab{hosts: map[string]*Host{}, Sites: map[string]*Website{}, network: opt.Network, temp: opt.Dir == ""}
	if l.network == nil {
		l.network = Spoke(opt.TwoArm)
	}
	dir := opt.Dir
	var err error
	if l.temp {
		if dir, err = os.MkdirTemp("", "bulkhead-lab-"); err != nil {
			return nil, err
		}
	} else if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	l.Paths = newPaths(dir)
	steps := []struct {
		say string
		do  func() error
	}{
		{"a certificate authority and the gateway's files", func() error { return l.prepare(opt) }},
		{"network namespaces, cables and routes", l.build},
		{"servers: DNS, HTTPS, the database next door, the attacker", l.serve},
		{"the gateway", func() error { return l.startGateway(ctx, opt) }},
	}
	for _, s := range steps {
		progress(s.say)
		if err := s.do(); err != nil {
			return nil, errors.Join(fmt.Errorf("lab: %s: %w", s.say, err), l.Down())
		}
	}
	return l, nil
}

func (l *Lab) prepare(opt Options) (err error) {
	if err := os.MkdirAll(l.Paths.Dir, 0o755); err != nil {
		return err
	}
	if l.CA, err = NewAuthority("Bulkhead Lab Root"); err != nil {
		return err
	}
	configure := opt.Configure
	if opt.Decrypt {
		files := ca.Files{Certificate: filepath.Join(l.Paths.Dir, "root.crt"), Key: filepath.Join(l.Paths.Dir, "root.key")}
		if l.Root, err = files.Init("Bulkhead Lab Decryption", 24*time.Hour, time.Now()); err != nil {
			return err
		}
		configure = func(config map[string]any) {
			config["ca"] = map[string]any{"file": files.Certificate, "keyFile": files.Key}
			if opt.Configure != nil {
				opt.Configure(config)
			}
		}
	}
	return l.writeFiles(opt.Ruleset, configure)
}

// addHost creates a host that asks its resolver for names and trusts the lab's roots.
func (l *Lab) addHost(m Machine) (*Host, error) {
	name, addr := m.Name, m.Addrs[0]
	h, err := newHost(name, filepath.Join(l.Paths.Dir, "hosts"))
	if err != nil {
		return nil, err
	}
	h.Addr = addr
	l.hosts[name] = h
	l.order = append(l.order, name)
	resolver := WireServer
	if m.Resolver.IsValid() {
		resolver = m.Resolver
	}
	// The gateway trusts no origin for the lab's sake: what it trusts is in its ruleset.
	if name != Gateway {
		for _, v := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"} {
			h.env = append(h.env, v+"="+l.Paths.Trust)
		}
	}
	h.env = append(h.env, "BULKHEAD_LAB_HOST="+name)
	if err := h.writeEtc("resolv.conf", fmt.Sprintf("nameserver %s\noptions timeout:2 attempts:1\n", resolver)); err != nil {
		return nil, err
	}
	return h, h.writeEtc("hosts", fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", addr, name))
}

func (l *Lab) startGateway(ctx context.Context, opt Options) error {
	if opt.Gateway == "" {
		for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			if err := l.Host(Gateway).Sysctl(key, "1"); err != nil {
				return err
			}
		}
		return l.Upstream.Serve(l.Host(Gateway), l.NextHop())
	}
	path, err := filepath.Abs(opt.Gateway)
	if err != nil {
		return err
	}
	l.Process = &Process{lab: l, Command: []string{path, "gateway", "--config", l.Paths.Config}}
	if opt.TrustLab {
		l.Process.Env = slices.Concat(os.Environ(), l.Host(Gateway).Env(), []string{"SSL_CERT_FILE=" + l.Paths.Trust})
	}
	if opt.Idle {
		return nil
	}
	return l.Process.Start(ctx)
}

// Trust has the agents trust the root of a gateway that decrypts.
func (l *Lab) Trust(root []byte) error {
	block, _ := pem.Decode(root)
	if block == nil {
		return errors.New("lab: the root is no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("lab: the root: %w", err)
	}
	l.Root = cert
	return os.WriteFile(l.Paths.Trust, slices.Concat(l.CA.PEM, root), 0o644)
}

// Host returns a host by name, nil if there is none.
func (l *Lab) Host(name string) *Host { return l.hosts[name] }

// Hosts returns all hosts in the order in which they were made.
func (l *Lab) Hosts() []*Host {
	var out []*Host
	for _, name := range l.order {
		out = append(out, l.hosts[name])
	}
	return out
}

// Roots are the certificates that agents trust.
func (l *Lab) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(l.CA.Cert)
	if l.Root != nil {
		pool.AddCert(l.Root)
	}
	return pool
}

// DialNameFrom dials from a host and resolves names there with the gateway's DNS, as
// net/http wants it.
func (l *Lab) DialNameFrom(h *Host) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		name, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if _, err := netip.ParseAddr(name); err == nil {
			return h.Dial(ctx, network, addr)
		}
		addrs, err := l.Resolve(ctx, h, name)
		if err != nil {
			return nil, err
		}
		return h.Dial(ctx, network, net.JoinHostPort(addrs[0].String(), port))
	}
}

// Resolve asks the gateway's DNS from a host for the IPv4 addresses of a name.
func (l *Lab) Resolve(ctx context.Context, h *Host, name string) ([]netip.Addr, error) {
	r := &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return h.Dial(ctx, network, netip.AddrPortFrom(l.NextHop(), 53).String())
	}}
	addrs, err := r.LookupNetIP(ctx, "ip4", name+".")
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

// Down ends the lab and everything in it.
func (l *Lab) Down() error {
	if l.Process != nil {
		l.Process.Kill()
	}
	for _, name := range slices.Backward(l.order) {
		l.hosts[name].Close()
	}
	if l.temp {
		return os.RemoveAll(l.Paths.Dir)
	}
	return nil
}
