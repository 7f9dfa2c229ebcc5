package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// egressRefresh is how often names in `egress` are asked for again.
const egressRefresh = time.Minute

// egressAgain is how long a name that did not resolve waits.
const egressAgain = 5 * time.Second

// egressFirst bounds how long the start waits for the names.
const egressFirst = 3 * time.Second

// egress is what the gateway itself may reach, as last told to the kernel.
type egress struct {
	mu    sync.Mutex // one look at all names at a time
	known ways
	moved chan struct{} // wakes whoever keeps it in step: there is another ruleset
}

// ways are destinations of the gateway itself.
type ways struct {
	prefixes []netip.Prefix
	services []netip.AddrPort
	names    map[string][]netip.Addr // where the names among the destinations are
}

func (w ways) equal(o ways) bool {
	return slices.Equal(w.prefixes, o.prefixes) && slices.Equal(w.services, o.services)
}

// feedPort is where feeds are fetched from, and nothing else of their hosts is opened.
const feedPort = 443

// destinations are what the configuration allows the gateway itself, and the hosts of the feeds of a ruleset. Whoever may
// change the ruleset decides what agents reach; of the gateway that opens one port, on the Internet.
func (s *Server) destinations(rules *policy.Ruleset) (configured []config.Egress, feedHosts []string) {
	if rules != nil {
		for _, group := range rules.Document().ThreatGroups {
			for _, feed := range group.Feeds {
				if host := feeds.Host(feed.URL); host != "" && !slices.Contains(feedHosts, host) {
					feedHosts = append(feedHosts, host)
				}
			}
		}
	}
	return s.cfg.Destinations(), feedHosts
}

// firstEgress is what the kernel program lets the gateway itself reach from the start, because
// the vault is behind it; a name that does not resolve yet follows later.
func (s *Server) firstEgress(ctx context.Context, rules *policy.Ruleset) ways {
	ctx, cancel := context.WithTimeout(ctx, egressFirst)
	defer cancel()
	s.egress.mu.Lock()
	defer s.egress.mu.Unlock()
	s.egress.known = s.findEgress(ctx, rules)
	return s.egress.known
}

// resolveEgress keeps the kernel's list of what the gateway itself may reach in step
// with the names that the configuration allows it, and with the ruleset's feeds.
func (s *Server) resolveEgress(ctx context.Context) {
	for {
		s.egress.mu.Lock()
		told := s.updateEgressLocked(ctx)
		s.egress.mu.Unlock()
		wait := s.unresolved.wait()
		if !told {
			wait = egressAgain
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		case <-s.egress.moved:
		}
	}
}

// updateEgressLocked looks all names up, and tells the kernel what has changed.
func (s *Server) updateEgressLocked(ctx context.Context) (told bool) {
	found := s.findEgress(ctx, s.rules.Load())
	if !found.equal(s.egress.known) {
		if err := s.table.SetEgress(found.prefixes, found.services); err != nil {
			s.log.Warn("egress of the gateway is not up to date", "error", err)
			return false
		}
	}
	s.egress.known = found
	return true
}

// reach returns the addresses of a name that the gateway itself wants to reach: those that the kernel has been told, since a
// name with many addresses may have others the next time that it is asked for.
func (s *Server) reach(ctx context.Context, name string) ([]netip.Addr, error) {
	s.egress.mu.Lock()
	defer s.egress.mu.Unlock()
	name, _ = policy.NormalizeName(name)
	if addrs := s.egress.known.names[name]; len(addrs) > 0 {
		return addrs, nil
	}
	s.updateEgressLocked(ctx) // a ruleset may have come a moment ago
	if addrs := s.egress.known.names[name]; len(addrs) > 0 {
		return addrs, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s does not resolve, or is not among what the gateway may reach", name)
}

// findEgress returns the prefixes and the addresses of the names that the gateway itself may reach, and
// notes the names that have none. While no resolver answers, a name stays where it was.
func (s *Server) findEgress(ctx context.Context, rules *policy.Ruleset) (found ways) {
	found.names = map[string][]netip.Addr{}
	without := map[string]error{}
	resolve := func(name string) []netip.Addr {
		if addrs, done := found.names[name]; done {
			return addrs
		}
		addrs, err := s.lookup(ctx, name)
		if err != nil {
			without[name] = err
			if _, gone := errors.AsType[noAddress](err); !gone {
				addrs = s.egress.known.names[name]
			}
		}
		found.names[name] = addrs
		return addrs
	}
	configured, feedHosts := s.destinations(rules)
	for _, e := range configured {
		if e.Name == "" {
			found.prefixes = append(found.prefixes, e.Prefix)
			continue
		}
		for _, a := range resolve(e.Name) {
			if e.Port != 0 {
				found.services = append(found.services, netip.AddrPortFrom(a, e.Port))
			} else {
				found.prefixes = append(found.prefixes, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	for _, host := range feedHosts {
		for _, a := range resolve(host) {
			if feeds.Public(a) {
				found.services = append(found.services, netip.AddrPortFrom(a, feedPort))
			}
		}
	}
	slices.SortFunc(found.prefixes, netip.Prefix.Compare)
	found.prefixes = slices.Compact(found.prefixes)
	slices.SortFunc(found.services, netip.AddrPort.Compare)
	found.services = slices.Compact(found.services)
	if !errors.Is(ctx.Err(), context.Canceled) { // the end of the gateway is no answer
		s.unresolved.found(without, s.log)
	}
	return found
}

// noAddress is the answer that a name has no address, in contrast to no answer.
type noAddress string

func (e noAddress) Error() string { return string(e) }

// lookup asks the upstream resolvers in turn for the IPv4 addresses of a name, until one knows
// whether it has any. Without one, the error says what was answered.
func (s *Server) lookup(ctx context.Context, name string) (out []netip.Addr, err error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	for _, u := range s.cfg.DNS.Upstream {
		m, _, asked := new(dns.Client).ExchangeContext(ctx, q, u.String())
		switch {
		case asked != nil:
			err = fmt.Errorf("no answer: %w", asked)
			continue
		case m.Rcode == dns.RcodeNameError:
			return nil, noAddress(fmt.Sprintf("NXDOMAIN from %s: there is no such name", u))
		case m.Rcode != dns.RcodeSuccess: // another may do better
			err = fmt.Errorf("%s from %s", dns.RcodeToString[m.Rcode], u)
			continue
		}
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.A); ok {
				if addr, ok := netip.AddrFromSlice(a.A.To4()); ok {
					out = append(out, addr)
				}
			}
		}
		if len(out) == 0 {
			return nil, noAddress(fmt.Sprintf("no IPv4 address in the answer of %s", u))
		}
		return out, nil
	}
	return nil, err
}
