package server

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
)

// egressRefresh is how often names in `egress` are asked for again.
const egressRefresh = time.Minute

// egressAgain is how long a name that did not resolve waits.
const egressAgain = 5 * time.Second

// egressFirst bounds how long the start waits for the names.
const egressFirst = 3 * time.Second

// firstEgress is what the kernel program lets the gateway itself reach from the start, because
// the vault is behind it; a name that does not resolve yet follows later.
func (s *Server) firstEgress(ctx context.Context) []netip.Prefix {
	ctx, cancel := context.WithTimeout(ctx, egressFirst)
	defer cancel()
	s.egress, _ = s.findEgress(ctx)
	return s.egress
}

// resolveEgress keeps the kernel's list of what the gateway itself may reach in step
// with the names that the configuration allows it.
func (s *Server) resolveEgress(ctx context.Context) {
	if !slices.ContainsFunc(s.cfg.Destinations(), func(e config.Egress) bool { return e.Name != "" }) {
		return
	}
	for {
		allowed, complete := s.findEgress(ctx)
		if !slices.Equal(allowed, s.egress) {
			if err := s.table.SetEgress(allowed); err != nil {
				s.log.Warn("egress of the gateway is not up to date", "error", err)
				complete = false
			} else {
				s.egress = allowed
			}
		}
		wait := egressRefresh
		if !complete {
			wait = egressAgain
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// findEgress returns the prefixes and the addresses of the names that the configuration allows
// the gateway itself, and whether every name has one.
func (s *Server) findEgress(ctx context.Context) (allowed []netip.Prefix, complete bool) {
	complete = true
	for _, e := range s.cfg.Destinations() {
		if e.Name == "" {
			allowed = append(allowed, e.Prefix)
			continue
		}
		addrs, err := s.lookup(ctx, e.Name)
		if err != nil || len(addrs) == 0 {
			s.log.Warn("egress name does not resolve", "name", e.Name, "error", err)
			complete = false
		}
		allowed = append(allowed, addrs...)
	}
	slices.SortFunc(allowed, netip.Prefix.Compare)
	return slices.Compact(allowed), complete
}

// lookup asks the upstream resolvers in turn for the IPv4 addresses of a name, until one knows
// whether it has any.
func (s *Server) lookup(ctx context.Context, name string) (out []netip.Prefix, err error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	for _, u := range s.cfg.DNS.Upstream {
		var m *dns.Msg
		if m, _, err = new(dns.Client).ExchangeContext(ctx, q, u.String()); err != nil {
			continue
		}
		if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
			err = fmt.Errorf("%s answers %s", u, dns.RcodeToString[m.Rcode])
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
