package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

// path is one way from the agents to the origin: a gateway of its own with its own
// cables, agents' subnet and destinations. So all of them run at once, and measuring
// another one means to use other addresses and nothing else.
//
//	agent 10.(100+i).0.10 ── 10.(100+i).0.1 gateway i 10.(200+i).0.1 ── 10.(200+i).0.2 origin 45.(100+i).0.0/16
type path struct {
	name    string
	gateway *host
	agents  netip.Prefix // 10.(100+i).0.0/16
	origin  netip.Prefix // 45.(100+i).0.0/16
	listen  netip.Addr   // the gateway's address on the agents' side
	near    netip.Addr   // and on the origin's
	program *program     // nil where the kernel does it all
	// resolver is whom agents ask for names before they connect; invalid: nobody, the
	// peers do not need it.
	resolver netip.AddrPort
	dir      string     // of the program's files
	trust    *authority // of the origin's web server
}

// The paths. Direct is what all others are compared with.
const (
	direct      = "direct"
	masquerade  = "masquerade"
	bulkhead    = "bulkhead"
	byAddress   = "bulkhead, by address"
	haproxy     = "haproxy"
	nginx       = "nginx"
	squid       = "squid"
	stockDNS    = "coredns"
	dnsmasq     = "dnsmasq"
	proxyPort   = 14433
	tproxyMark  = 1
	tproxyTable = 100
)

var pathNames = []string{direct, masquerade, bulkhead, byAddress, haproxy, nginx, squid, stockDNS, dnsmasq, decrypting, manyURLs, squidBump, mitmproxy, sslsplit}

// agentSources are the addresses that connections come from: a few agents, not one.
const agentSources = 4

// newPath lays the cables of the i-th path.
func newPath(i int, name string, agent, origin *host, dir string) (*path, error) {
	in := func(first, third, last int) netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(first + i), byte(third), byte(last)})
	}
	p := &path{name: name, listen: in(100, 0, 1), near: in(200, 0, 1), agents: netip.PrefixFrom(in(100, 0, 0), 16),
		origin: netip.PrefixFrom(netip.AddrFrom4([4]byte{45, byte(100 + i)}), 16), dir: filepath.Join(dir, fmt.Sprintf("path%d", i))}
	var err error
	if p.gateway, err = newHost("gateway of " + name); err != nil {
		return nil, err
	}
	dev := fmt.Sprintf("path%d", i)
	far, agentAddr := in(200, 0, 2), in(100, 0, 10)
	if err := connect(agent, dev, netip.PrefixFrom(agentAddr, 24), p.gateway, "agents", netip.PrefixFrom(p.listen, 24)); err != nil {
		return nil, err
	}
	if err := connect(origin, dev, netip.PrefixFrom(far, 24), p.gateway, "origin", netip.PrefixFrom(p.near, 24)); err != nil {
		return nil, err
	}
	for k := 1; k < agentSources; k++ {
		if err := agent.address(dev, netip.PrefixFrom(in(100, 0, 10+k), 24)); err != nil {
			return nil, err
		}
	}
	for _, step := range []error{
		agent.own(netip.PrefixFrom(in(100, 128, 0), 17), unix.RT_TABLE_LOCAL),
		agent.route(p.origin, p.listen),
		origin.own(p.origin, unix.RT_TABLE_LOCAL),
		origin.route(p.agents, p.near),
		p.gateway.route(p.agents, agentAddr), // not on the link: thousands of sources would be as many neighbours
		p.gateway.route(netip.MustParsePrefix("0.0.0.0/0"), far),
	} {
		if step != nil {
			return nil, step
		}
	}
	return p, nil
}

// sources are the agents' addresses.
func (p *path) sources() (out []netip.Addr) {
	for a := p.listen; len(out) < agentSources; {
		if a = a.Next(); a.As4()[3] >= 10 {
			out = append(out, a)
		}
	}
	return out
}

// crowd returns the n-th address of those that only ask for names.
func (p *path) crowd(n int) netip.Addr {
	a := p.agents.Addr().As4()
	return netip.AddrFrom4([4]byte{a[0], a[1], byte(128 + n>>8), byte(n)})
}

// job is a job for the client on this path.
func (p *path) job(kind load.Kind, name string) load.Job {
	return load.Job{Kind: kind, Name: name, Sources: p.sources(), Targets: load.Addrs(p.origin, name), Port: load.NamePort, Resolver: p.resolver}
}

// dns is where this path's questions go: its resolver, or past the gateway to the
// origin's.
func (p *path) dns() netip.AddrPort {
	if slices.Contains([]string{bulkhead, stockDNS, dnsmasq}, p.name) {
		return netip.AddrPortFrom(p.listen, 53)
	}
	return load.Nameserver(p.origin)
}
