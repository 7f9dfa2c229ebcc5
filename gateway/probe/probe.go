// Package probe tells what an agent can reach from where it runs. It is for a harmless
// program in a twin of the agents' subnet, before there is an agent and on a schedule
// afterwards: what it sees, an agent would see.
//
// It asks of the network only what must hold in every contained spoke: permitted names are
// answered and reached, denied ones are not, an address that no name was asked for is not,
// Azure's own resolver gives nothing away past the gateway, and, where flows are decrypted,
// their certificate is from the gateway's root. It changes nothing and sends nothing but
// questions and TLS greetings.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/ca/trust"
)

// AzureDNS is the resolver that every Azure network has, and that no route governs
// (learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
const AzureDNS = "168.63.129.16:53"

// Probe is what to ask.
type Probe struct {
	Permitted string // a name that the ruleset permits on port 443
	Denied    string // a name that it denies
	Address   string // of a host on the Internet, with its port, that nobody asked a name for
	Decrypted string // a name that it decrypts; empty: that is not asked
	Root      *x509.Certificate
	Resolver  string        // that agents must not use: AzureDNS
	Patience  time.Duration // for each question

	// Dial and Lookup replace the network in tests; nil: net.Dialer and the system's resolver.
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
}

// Finding is one answer. What was wanted and how to get there are told of one that is not OK.
type Finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Wanted string `json:"wanted,omitempty"`
	Fix    string `json:"fix,omitempty"`
}

type check struct {
	name        string
	ask         func(context.Context) (string, error)
	wanted, fix string
}

// Run asks everything, one after the other, and stops at nothing: what fails first is not
// always the cause.
func (p *Probe) Run(ctx context.Context) []Finding {
	checks := []check{
		{"a permitted name is answered", p.answered, "an address for " + p.Permitted,
			"see that the gateway runs and answers (bulkhead status), that the ruleset permits the name to this subnet, and that the network's DNS server is the gateway"},
		{"a permitted name is reached", p.reached, "a TLS greeting of " + p.Permitted,
			"see in the gateway's audit what became of the connection: the ruleset has to permit the name on port 443 to this subnet"},
		{"a denied name is not answered", p.notAnswered, "no address for " + p.Denied,
			"see that the network's DNS server is the gateway, and that no rule permits the name"},
		{"an address without a name is not reached", p.notReached, "no connection to " + p.Address,
			"see that the subnet's route table sends 0.0.0.0/0 to the gateway and has no other way out, and that no rule permits the address"},
		{"Azure's own resolver is closed", p.closed, "no answer of " + p.Resolver + " for " + p.Denied,
			"deny AzurePlatformDNS in the subnet's network security group, or have a DNS security policy answer for the network"},
	}
	if p.Decrypted != "" {
		checks = append(checks, check{"a decrypted name shows the gateway's root", p.trusted, p.Decrypted + " with a certificate from the given root",
			"give the root that the gateway has (bulkhead status names it), and see that a rule decrypts the name for this subnet"})
	}
	var all []Finding
	for _, c := range checks {
		ctx, cancel := context.WithTimeout(ctx, p.Patience)
		found, err := c.ask(ctx)
		cancel()
		f := Finding{Check: c.name, OK: err == nil, Found: found}
		if err != nil {
			f.Found, f.Wanted, f.Fix = err.Error(), c.wanted, c.fix
		}
		all = append(all, f)
	}
	return all
}

func (p *Probe) answered(ctx context.Context) (string, error) {
	addrs, err := p.lookup(ctx, p.Permitted)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is at %v", p.Permitted, addrs), nil
}

// reached takes any certificate: whether it is the right one is the gateway's business, and an
// image may have no roots to tell by.
func (p *Probe) reached(ctx context.Context) (string, error) {
	conn, err := p.dial(ctx, "tcp", net.JoinHostPort(p.Permitted, "443"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := tls.Client(conn, &tls.Config{ServerName: p.Permitted, InsecureSkipVerify: true}).HandshakeContext(ctx); err != nil {
		return "", fmt.Errorf("%s at %s: %w", p.Permitted, conn.RemoteAddr(), err)
	}
	return fmt.Sprintf("%s greets from %s", p.Permitted, conn.RemoteAddr()), nil
}

func (p *Probe) notAnswered(ctx context.Context) (string, error) {
	return p.without(ctx, p.Denied, p.lookup)
}

// without expects no address for a name.
func (p *Probe) without(ctx context.Context, name string, lookup func(context.Context, string) ([]netip.Addr, error)) (string, error) {
	addrs, err := lookup(ctx, name)
	var refused *net.DNSError
	switch {
	case err == nil && len(addrs) > 0:
		return "", fmt.Errorf("%s is at %v", name, addrs)
	case errors.As(err, &refused) && refused.IsNotFound:
		return "refused: " + err.Error(), nil
	case err != nil:
		return "no answer: " + err.Error(), nil
	}
	return "no address", nil
}

func (p *Probe) notReached(ctx context.Context) (string, error) {
	conn, err := p.dial(ctx, "tcp", p.Address)
	if err != nil {
		return err.Error(), nil
	}
	conn.Close()
	return "", fmt.Errorf("%s accepts connections", p.Address)
}

// closed asks Azure's resolver for a denied name, over UDP and TCP: it may be shut for good, or
// answer nothing but what the ruleset permits.
func (p *Probe) closed(ctx context.Context) (string, error) {
	var found string
	for _, network := range []string{"udp", "tcp"} {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return p.dial(ctx, network, p.Resolver)
		}}
		each, cancel := context.WithTimeout(ctx, p.Patience/2)
		said, err := p.without(each, p.Denied, func(ctx context.Context, name string) ([]netip.Addr, error) {
			return r.LookupNetIP(ctx, "ip4", name+".")
		})
		cancel()
		if err != nil {
			return "", fmt.Errorf("%s answers over %s past the gateway: %w", p.Resolver, network, err)
		}
		found = said
	}
	return found, nil
}

func (p *Probe) trusted(ctx context.Context) (string, error) {
	canary := trust.Canary{Host: p.Decrypted, Port: "443", Root: p.Root, Store: trust.Bundle{p.Root}, Dial: p.dial}
	f := canary.Try(ctx)
	if f.State != trust.Trusted {
		return "", fmt.Errorf("%s is %s: %s", f.Host, f.State, f.Why)
	}
	return fmt.Sprintf("%s by %q", f.Host, f.Chain), nil
}

func (p *Probe) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if p.Dial != nil {
		return p.Dial(ctx, network, addr)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (p *Probe) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if p.Lookup != nil {
		return p.Lookup(ctx, name)
	}
	// The final dot keeps search domains, and what they would leak, out of it.
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", name+".")
}
