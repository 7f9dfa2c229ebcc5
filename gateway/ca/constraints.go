package ca

import (
	"cmp"
	"crypto/x509"
	"net"
	"slices"
	"strings"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// names are the patterns that a ruleset decrypts, sorted. They do not change.
type names struct{ patterns []string }

func newNames(patterns []string) *names {
	out := slices.Clone(patterns)
	slices.Sort(out)
	return &names{slices.Compact(out)}
}

func (n *names) equal(o *names) bool { return slices.Equal(n.patterns, o.patterns) }

// hold reports whether a normalised name is one of them.
func (n *names) hold(name string) bool {
	return slices.ContainsFunc(n.patterns, func(p string) bool { return p == "*" || policy.MatchPattern(p, name) })
}

// maxConstraints bounds the domains in an intermediate: about two kilobytes of each
// handshake.
const maxConstraints = 64

// constrain holds a certificate to the names that patterns can mean, and to no
// address, mailbox or URI.
func constrain(t *x509.Certificate, patterns []string) {
	all := []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
	t.PermittedDNSDomainsCritical = true
	t.ExcludedIPRanges = all
	// No name of these kinds lies below .invalid (RFC 6761, section 6.4), so permitting
	// only that permits none.
	t.PermittedEmailAddresses, t.PermittedURIDomains = []string{"invalid"}, []string{"invalid"}
	t.PermittedDNSDomains = subtrees(patterns)
}

// subtrees lists the domains that hold whatever patterns match, at most maxConstraints
// of them; nil where that is every name. None starts with a dot, which Java refuses
// to read (sun.security.x509.DNSName).
func subtrees(patterns []string) []string {
	if len(patterns) == 0 {
		return []string{"invalid"}
	}
	var out []string
	for _, p := range patterns {
		if i := strings.LastIndexByte(p, '*'); i >= 0 {
			_, p, _ = strings.Cut(p[i:], ".")
		}
		if p == "" {
			return nil
		}
		out = append(out, p)
	}
	out = outermost(out)
	for len(out) > maxConstraints {
		deepest := slices.MaxFunc(out, func(a, b string) int { return cmp.Compare(labels(a), labels(b)) })
		if labels(deepest) <= 2 {
			break // wider would be a whole top-level domain
		}
		depth := labels(deepest)
		for i, d := range out {
			if labels(d) == depth {
				_, out[i], _ = strings.Cut(d, ".")
			}
		}
		out = outermost(out)
	}
	return out
}

func labels(domain string) int { return strings.Count(domain, ".") + 1 }

// outermost drops the domains that lie below another, and sorts the rest.
func outermost(domains []string) []string {
	held := map[string]bool{}
	for _, d := range domains {
		held[d] = true
	}
	var out []string
next:
	for d := range held {
		for rest, more := d, true; more; {
			if _, rest, more = strings.Cut(rest, "."); more && held[rest] {
				continue next
			}
		}
		out = append(out, d)
	}
	slices.Sort(out)
	return out
}
