package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Header is what a rule does to one header field of every request: set it to a value or
// to a secret, in place of whatever the agent sent, or require it.
type Header struct {
	Name string `json:"name"` // in canonical form
	Set  string `json:"set,omitempty"`
	// Require lists the values of which the request must hold one, exactly once.
	Require []string `json:"require,omitempty"`
	// Secret names a secret that whoever sends the request on puts in, behind Prefix. The document
	// never holds it: https://VAULT.vault.azure.net/secrets/NAME, or file:/path.
	Secret string `json:"secret,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

// Satisfied reports whether the values that a request has of the field are what
// the rule requires. Two fields are refused even if both are right: which one a server
// reads is anybody's guess.
func (h *Header) Satisfied(values []string) bool {
	return len(h.Require) == 0 || len(values) == 1 && slices.Contains(h.Require, values[0])
}

// OriginCA is a certificate authority that origins may be verified with, beside those
// of the system.
type OriginCA struct {
	Name string `json:"name"`
	PEM  string `json:"pem"`
}

// Obligations are what must be done to a flow or request that is permitted (the word
// is XACML's). They take no part in matching: where one cannot be met the request
// is refused, and no rule below gets to permit it without.
type Obligations struct {
	// Headers are set on, or required of, every request.
	Headers []Header
	// MaxRequestBytes bounds the body of a request; 0: unbounded.
	MaxRequestBytes int64
	// MinTLS is the lowest version that either side may negotiate, as the wire has it
	// (0x0303 for 1.2); 0: any.
	MinTLS uint16
	// VerifyOrigin wants the origin to hold a valid certificate for the flow's name.
	VerifyOrigin bool
	// Budget bounds what leaves; nil: unbounded. Its Key takes the rule's name.
	Budget *Budget
	// MCP is Decision.MCP.
	MCP bool
}

// Obligations returns what the rule that made a decision asks for. A decrypted flow's
// origin is verified unless the rule says otherwise, since the agent cannot do it any more; that
// of a spliced one only where the rule says so.
func (r *Ruleset) Obligations(d *Decision) Obligations {
	decrypted := d.Tier == TierDecrypt
	if d.Verdict != Permit || d.Index < 0 || d.Index >= len(r.rules) {
		return Obligations{VerifyOrigin: decrypted}
	}
	u := r.rules[d.Index].Rule
	o := Obligations{Headers: u.Headers, MaxRequestBytes: u.MaxRequestBytes, Budget: u.Budget, MCP: d.MCP,
		VerifyOrigin: u.OriginCertificate == OriginVerify || decrypted && u.OriginCertificate != OriginIgnore}
	switch u.MinTLS {
	case TLS12:
		o.MinTLS = 0x0303
	case TLS13:
		o.MinTLS = 0x0304
	}
	return o
}

// Key names what a budget is counted under: the rule and the source, or the rule alone
// where its sources share one.
func (b *Budget) Key(rule string, src netip.Addr) string {
	if b.Per == "group" {
		return rule
	}
	return rule + " " + src.Unmap().String()
}

// Duration is the window within which a budget's bytes are counted.
func (b *Budget) Duration() time.Duration {
	d, _ := time.ParseDuration(b.Window) // Decode has read it
	return d
}

// DecryptNames lists, sorted, the patterns of the names that the ruleset decrypts, so
// that a certificate authority can be bound to them; a pattern that another holds
// is left out. "*" stands for every name: a rule without web groups decrypts. What is
// monitored decrypts nothing.
func (r *Ruleset) DecryptNames() []string {
	webs := map[string]*WebGroup{}
	for i := range r.doc.WebGroups {
		webs[r.doc.WebGroups[i].Name] = &r.doc.WebGroups[i]
	}
	var names []string
	for i := range r.rules {
		u := &r.rules[i]
		if u.monitored || !u.decrypts {
			continue
		}
		if !u.byName && u.Action == Permit {
			return []string{"*"}
		}
		for _, name := range u.WebGroups {
			g := webs[name]
			if g == nil {
				continue
			}
			if u.Action == Permit { // a deny of whole names needs no request
				names = append(names, g.FQDNs...)
			}
			for _, x := range g.URLs {
				names = append(names, x.Host)
			}
			for _, x := range g.MCP {
				names = append(names, x.Host)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(slices.Clone(names), func(p string) bool {
		return slices.ContainsFunc(names, func(o string) bool { return o != p && covers(o, p) && (!covers(p, o) || o < p) })
	})
}

// conditions puts what a rule asks of what it permits into words, for explanations and
// comparisons. A secret is told by where it lies.
func (r *Rule) conditions() []string {
	var out []string
	for _, h := range r.Headers {
		switch {
		case h.Secret != "":
			out = append(out, fmt.Sprintf("sets %s from %s", h.Name, h.Secret))
		case len(h.Require) > 0:
			out = append(out, fmt.Sprintf("requires %s: %s", h.Name, strings.Join(h.Require, " or ")))
		default:
			out = append(out, fmt.Sprintf("sets %s: %s", h.Name, h.Set))
		}
	}
	if r.MaxRequestBytes > 0 {
		out = append(out, fmt.Sprintf("at most %d bytes in a request", r.MaxRequestBytes))
	}
	if r.MinTLS != "" {
		out = append(out, fmt.Sprintf("TLS %s or later", r.MinTLS))
	}
	switch r.OriginCertificate {
	case OriginVerify:
		out = append(out, "a verified origin")
	case OriginIgnore:
		out = append(out, "whatever certificate the origin shows")
	}
	if b := r.Budget; b != nil {
		per := "for each source"
		if b.Per == "group" {
			per = "for all sources together"
		}
		out = append(out, fmt.Sprintf("at most %d bytes out in %s %s", b.BytesOut, b.Window, per))
	}
	return out
}
