package lab

import (
	"net/netip"
	"slices"
)

// attackerPorts are where the attacker listens besides DNS and the web.
var attackerPorts = []string{"22", "4444", "5432", "8443"}

// serve starts what stands on the hosts.
func (l *Lab) serve() error {
	for _, name := range l.present(Internet, Attacker, PrivateEndpoints, Database, Platform) {
		l.Sites[name] = newWebsite(name)
	}
	for _, start := range []func() error{l.serveNames, l.serveWeb, l.serveAttacker, l.serveAgents} {
		if err := start(); err != nil {
			return err
		}
	}
	if l.Host(Database) == nil {
		return nil
	}
	return l.Sites[Database].servePostgres(l.Host(Database), "5432")
}

// present are those of the hosts that this network has.
func (l *Lab) present(names ...string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return l.Host(name) == nil })
}

func (l *Lab) serveNames() (err error) {
	if l.Upstream, err = NewNameserver(records()...); err != nil {
		return err
	}
	if err := l.Upstream.Serve(l.Host(Platform), WireServer); err != nil {
		return err
	}
	// The attacker's own resolver tells the truth, and takes every name below its
	// domain: that is all that DNS tunnelling needs.
	if l.Rogue, err = NewNameserver(append(records(), "*.t.attacker.example. 1 IN A "+Exfil.String())...); err != nil {
		return err
	}
	for _, a := range []netip.Addr{Exfil, Malicious} {
		if err := l.Rogue.Serve(l.Host(Attacker), a); err != nil {
			return err
		}
	}
	return l.Rogue.serveDoT(l.Host(Attacker), l.CA)
}

func (l *Lab) serveWeb() error {
	for _, name := range l.present(Internet, Attacker, PrivateEndpoints, Platform) {
		if err := l.Sites[name].serveHTTPS(l.Host(name), 443, l.CA); err != nil {
			return err
		}
	}
	for _, name := range l.present(Internet, Attacker, Platform) {
		if err := l.Sites[name].serveHTTP(l.Host(name), 80); err != nil {
			return err
		}
	}
	return nil
}

// serveAgents has one agent offer something to the others.
func (l *Lab) serveAgents() error {
	for _, name := range l.present(ResearchAgent) {
		if l.Sites[name] != nil {
			continue
		}
		l.Sites[name] = newWebsite(name)
		if err := l.Sites[name].serveHTTP(l.Host(name), 80); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) serveAttacker() error {
	h, site := l.Host(Attacker), l.Sites[Attacker]
	for _, port := range attackerPorts {
		if err := site.serveGreeting(h, port); err != nil {
			return err
		}
	}
	for _, a := range []netip.Addr{Exfil, GitHub} {
		host, s := h, site
		if a == GitHub {
			host, s = l.Host(Internet), l.Sites[Internet]
		}
		if err := s.serveUDP(host, netip.AddrPortFrom(a, 443).String()); err != nil {
			return err
		}
	}
	return site.serveUDP(h, netip.AddrPortFrom(Exfil, 4444).String())
}
