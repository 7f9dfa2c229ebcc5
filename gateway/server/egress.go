package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
)

// egressRefresh is how often names in `egress` are asked for again.
const egressRefresh = time.Minute

// egressAgain is how long a name that did not resolve waits at first.
const egressAgain = 5 * time.Second

// egressFirst bounds how long the start waits for the names.
const egressFirst = 3 * time.Second

// firstEgress is what the kernel program lets the gateway itself reach from the start, because
// the vault is behind it; a name that does not resolve yet follows later.
func (s *Server) firstEgress(ctx context.Context) []netip.Prefix {
	ctx, cancel := context.WithTimeout(ctx, egressFirst)
	defer cancel()
	s.egress = s.findEgress(ctx)
	return s.egress
}

// resolveEgress keeps the kernel's list of what the gateway itself may reach in step
// with the names that the configuration allows it.
func (s *Server) resolveEgress(ctx context.Context) {
	if !slices.ContainsFunc(s.cfg.Destinations(), func(e config.Egress) bool { return e.Name != "" }) {
		return
	}
	for {
		allowed, told := s.findEgress(ctx), true
		if !slices.Equal(allowed, s.egress) {
			if err := s.table.SetEgress(allowed); err != nil {
				s.log.Warn("egress of the gateway is not up to date", "error", err)
				told = false
			} else {
				s.egress = allowed
			}
		}
		wait := s.unresolved.wait()
		if !told {
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
// the gateway itself, and notes the names that have none.
func (s *Server) findEgress(ctx context.Context) (allowed []netip.Prefix) {
	without := map[string]error{}
	for _, e := range s.cfg.Destinations() {
		if e.Name == "" {
			allowed = append(allowed, e.Prefix)
			continue
		}
		addrs, err := s.lookup(ctx, e.Name)
		if err != nil {
			without[e.Name] = err
		}
		allowed = append(allowed, addrs...)
	}
	if !errors.Is(ctx.Err(), context.Canceled) { // the end of the gateway is no answer
		s.unresolved.found(without, s.log)
	}
	slices.SortFunc(allowed, netip.Prefix.Compare)
	return slices.Compact(allowed)
}

// lookup asks the upstream resolvers in turn for the IPv4 addresses of a name, until one knows
// whether it has any. Without one, the error says what was answered.
func (s *Server) lookup(ctx context.Context, name string) (out []netip.Prefix, err error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	for _, u := range s.cfg.DNS.Upstream {
		m, _, asked := new(dns.Client).ExchangeContext(ctx, q, u.String())
		switch {
		case asked != nil:
			err = fmt.Errorf("no answer: %w", asked)
			continue
		case m.Rcode == dns.RcodeNameError:
			return nil, fmt.Errorf("NXDOMAIN from %s: there is no such name", u)
		case m.Rcode != dns.RcodeSuccess: // another may do better
			err = fmt.Errorf("%s from %s", dns.RcodeToString[m.Rcode], u)
			continue
		}
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.A); ok {
				if addr, ok := netip.AddrFromSlice(a.A.To4()); ok {
					out = append(out, netip.PrefixFrom(addr, 32))
				}
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("no IPv4 address in the answer of %s", u)
		}
		return out, nil
	}
	return nil, err
}
