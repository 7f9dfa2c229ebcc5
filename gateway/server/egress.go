package server

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// egressRefresh is how often names in `egress` are asked for again.
const egressRefresh = time.Minute

// resolveEgress keeps the kernel's list of what the gateway itself may reach in step
// with the names that the configuration allows it.
func (s *Server) resolveEgress(ctx context.Context) {
	var names []string
	var fixed []netip.Prefix
	for _, e := range s.cfg.Destinations() {
		if e.Name != "" {
			names = append(names, e.Name)
		} else {
			fixed = append(fixed, e.Prefix)
		}
	}
	if len(names) == 0 {
		return
	}
	tick := time.NewTicker(egressRefresh)
	defer tick.Stop()
	for {
		allowed := slices.Clone(fixed)
		for _, name := range names {
			addrs, err := s.lookup(ctx, name)
			if err != nil {
				s.log.Warn("egress name does not resolve", "name", name, "error", err)
			}
			allowed = append(allowed, addrs...)
		}
		if err := s.table.SetEgress(allowed); err != nil {
			s.log.Warn("egress of the gateway is not up to date", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lookup asks the upstream resolvers in turn for the IPv4 addresses of a name.
func (s *Server) lookup(ctx context.Context, name string) (out []netip.Prefix, err error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	for _, u := range s.cfg.DNS.Upstream {
		var m *dns.Msg
		if m, _, err = new(dns.Client).ExchangeContext(ctx, q, u.String()); err != nil {
			continue
		}
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.A); ok {
				if addr, ok := netip.AddrFromSlice(a.A.To4()); ok {
					out = append(out, netip.PrefixFrom(addr, 32))
				}
			}
		}
		return out, nil
	}
	return nil, err
}
