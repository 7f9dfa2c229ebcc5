package attacks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// scene is a lab with an eye on everything that comes out of the gateway.
type scene struct {
	*lab.Lab
	invoice, research *lab.Host

	far       []*lab.Capture
	looked    []int                // packets of each capture that were looked at
	asked     int                  // questions of the upstream that were looked at
	permitted map[destination]bool // what may come out
	flows     map[flow]bool        // what has been permitted, to its last packet
	names     map[string]bool      // what may be asked upstream
	targets   int
	infraOpen bool
}

// destination is where a packet goes; the port is 0 where the protocol has none.
type destination struct {
	proto policy.Proto
	to    netip.AddrPort
}

// flow is one that came out.
type flow struct {
	proto    policy.Proto
	from, to netip.AddrPort
}

// A ruleset of the lab's with targets in it. Names of targets are exact, so an attack
// needs no wildcard to hide behind, and each is a domain of its own, so the limits
// on questions stay out of the way.
const maxTargets = 120

// anywhere is the range in which the internet answers to every address.
var anywhere = netip.MustParsePrefix("51.10.0.0/16")

func targetName(i int) string { return fmt.Sprintf("api.vendor%03d.example", i) }

// ruleset is the lab's, with the targets permitted over TLS and HTTP, a wildcard, and
// denials below it.
func ruleset() string {
	var names []string
	for i := range maxTargets {
		names = append(names, targetName(i))
	}
	list := strings.Join(names, ", ")
	return strings.NewReplacer(
		"fqdns: [api.github.com, gist.github.com]", `fqdns: [api.github.com, gist.github.com, "*.wild.example", `+list+"]",
		"fqdns: [packages.contoso.com]", `fqdns: [packages.contoso.com, `+list+`]
  - name: uploads
    fqdns: [upload.wild.example, xn--bcher-kva.wild.example]`,
		"  - {name: allow-aca-fqdn, ", `  - {name: deny-uploads,            priority: 16, sources: [foundry-agents], webGroups: [uploads], action: DENY}
  - {name: allow-aca-fqdn, `,
	).Replace(lab.Ruleset)
}

// helloTimeout is short, so that a trickled hello is refused soon.
const helloTimeout = 1500 * time.Millisecond

func newScene(opt lab.Options) (*scene, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	opt.Gateway = gatewayBinary
	if opt.Ruleset == "" {
		opt.Ruleset = ruleset()
	}
	configure := opt.Configure
	opt.Configure = func(c map[string]any) {
		c["limits"] = map[string]any{"helloTimeout": helloTimeout.String()}
		if configure != nil {
			configure(c)
		}
	}
	l, err := lab.Up(ctx, opt)
	if err != nil {
		return nil, err
	}
	s := &scene{Lab: l, invoice: l.Host(lab.InvoiceAgent), research: l.Host(lab.ResearchAgent),
		permitted: map[destination]bool{}, flows: map[flow]bool{}, names: map[string]bool{}}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, l.Down())
	}
	return s, nil
}

func (s *scene) prepare() error {
	for _, proto := range []policy.Proto{policy.UDP, policy.TCP} {
		s.permit(proto, netip.AddrPortFrom(lab.WireServer, 53))
	}
	// Port 80 of the wire server and of the metadata service is the platform's own talk
	// with the gateway's machine; nothing in the lab sends any.
	for _, name := range []string{lab.Internet, lab.Attacker, lab.Database, lab.Platform} {
		c, err := s.Host(name).Capture()
		if err != nil {
			return err
		}
		s.far, s.looked = append(s.far, c), append(s.looked, 0)
	}
	return anyIP(s.Host(lab.Internet), anywhere)
}

// anyIP has a host answer on every address of a prefix.
func anyIP(h *lab.Host, p netip.Prefix) error {
	return h.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL,
			Scope: netlink.SCOPE_HOST, Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}})
	})
}

// target is a destination that nobody has been to.
type target struct {
	name string
	addr netip.Addr
}

func (x target) tls() netip.AddrPort  { return netip.AddrPortFrom(x.addr, 443) }
func (x target) http() netip.AddrPort { return netip.AddrPortFrom(x.addr, 80) }

// target returns a new name that the ruleset permits, and an address for it.
func (s *scene) target(t testing.TB) target {
	t.Helper()
	x := target{targetName(s.targets), s.stranger(t)}
	s.record(t, x.name, x.addr)
	return x
}

// stranger returns a new address that no name leads to.
func (s *scene) stranger(t testing.TB) netip.Addr {
	t.Helper()
	if s.targets == maxTargets {
		t.Fatal("raise maxTargets")
	}
	s.targets++
	a := anywhere.Addr().As4()
	a[3] = byte(s.targets)
	return netip.AddrFrom4(a)
}

// record has the upstream know a name that may be asked for.
func (s *scene) record(t testing.TB, name string, addrs ...netip.Addr) {
	t.Helper()
	s.names[name] = true
	for _, a := range addrs {
		if err := s.Upstream.Add(fmt.Sprintf("%s. 60 IN A %s", name, a)); err != nil {
			t.Fatal(err)
		}
	}
}

// permit says that packets to a destination may come out from now on.
func (s *scene) permit(proto policy.Proto, to netip.AddrPort) {
	s.permitted[destination{proto, to}] = true
}

// sealed fails the test if anything has come out that is not known to be permitted.
func (s *scene) sealed(t testing.TB) {
	t.Helper()
	ctx := within(t)
	for i, c := range s.far {
		if err := c.Flush(ctx, s.Host(lab.Fabric)); err != nil {
			t.Fatal(err)
		}
		packets := c.Packets()
		for _, p := range packets[s.looked[i]:] {
			f := flow{p.Proto, p.Src, p.Dst}
			switch {
			case s.permitted[destination{p.Proto, p.Dst}]:
				s.flows[f] = true
			case !s.flows[f] || p.SYN:
				t.Errorf("came out: %s", p)
			}
		}
		s.looked[i] = len(packets)
	}
	queries := s.Upstream.Queries()
	for _, q := range queries[s.asked:] {
		if !s.names[q.Name] {
			t.Errorf("asked upstream: %s %s", q.Type, q.Name)
		}
	}
	s.asked = len(queries)
	if q := s.Rogue.Queries(); len(q) > 0 {
		t.Errorf("the attacker's resolver was asked: %+v", q)
	}
}
