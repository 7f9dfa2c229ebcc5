package policy

import (
	"fmt"
	"slices"
	"strings"
)

// needsRequests reports whether the rule has to see the requests to one of its names: to
// tell them apart, or to do to each what it asks for.
func (s *scope) needsRequests(t target) bool { return t.byRequest() || s.handlesRequests() }

// requests judges rules that have to see requests, for which the flow has to be
// decrypted, and those that let the same host through without.
func (c *checker) requests(r *scope) {
	if r.handlesRequests() && !r.byName() && r.Decrypt != DecryptAllowed {
		c.add(checkURLsUndecrypted, SeverityError, r.path, "set decrypt: DECRYPT_ALLOWED",
			"rule %q handles requests (headers, maxRequestBytes) without decrypting them", r.Name)
	}
	seen := map[string]bool{}
	for _, t := range r.names {
		if !r.needsRequests(t) || seen[t.path+t.pattern] {
			continue
		}
		seen[t.path+t.pattern] = true
		if r.Decrypt != DecryptAllowed {
			fix, what := "set decrypt: DECRYPT_ALLOWED, or name the host under fqdns", "tells requests to %s apart"
			if !t.byRequest() {
				fix, what = "set decrypt: DECRYPT_ALLOWED", "handles requests to %s (headers, maxRequestBytes)"
			}
			c.add(checkURLsUndecrypted, SeverityError, t.path, fix, "rule %q "+what+" without decrypting them", r.Name, t.pattern)
			continue
		}
		c.undecryptedHost(r, t)
	}
}

// undecryptedHost judges permits by which the requests of a name could pass unseen.
func (c *checker) undecryptedHost(r *scope, t target) {
	what := "tells apart"
	if !t.byRequest() {
		what = "handles"
	}
	for _, o := range c.rules {
		if o == r || o.Action != Permit || o.Decrypt == DecryptAllowed || !o.meets(r) || !o.byName() && !o.wholeInternet() {
			continue
		}
		if !o.byName() {
			c.add(checkURLHostUndecrypted, SeverityError, o.path, "name the destinations, or the ports that are meant",
				"rule %q permits every name undecrypted, and with it %s, whose requests rule %q %s", o.Name, t.pattern, r.Name, what)
			continue
		}
		for _, n := range o.names {
			if !n.byRequest() && overlap(n.pattern, t.pattern) {
				c.add(checkURLHostUndecrypted, SeverityError, n.path, "take the host out of one of the two rules",
					"rule %q permits %s undecrypted, and with it %s, whose requests rule %q %s", o.Name, n.pattern, t.pattern, r.Name, what)
			}
		}
	}
}

// obligations judges what a rule asks of what it permits, and the tools that it names.
func (c *checker) obligations(r *scope) {
	for k := range r.Headers {
		h, path := &r.Headers[k], fmt.Sprintf("%s.headers[%d]", r.path, k)
		if h.Secret != "" {
			c.secret(r, path)
		}
		if h.Set != "" && looksLikeCredential(h.Name, h.Set) {
			c.add(checkCredential, SeverityWarning, path+".set", "put it into a vault and name it: secret: https://VAULT.vault.azure.net/secrets/NAME",
				"rule %q holds what looks like a credential in %s, and everybody who reads the ruleset has it", r.Name, h.Name)
		}
	}
	if r.OriginCertificate == OriginIgnore {
		c.add(checkOriginIgnored, SeverityWarning, r.path+".originCertificate", "add the authority that signs it to originCAs",
			"rule %q takes whatever certificate an origin shows, so whoever can redirect the flow can read it", r.Name)
	}
	for _, t := range r.names {
		if t.mcp == nil || len(t.mcp.AllowTools) == 0 {
			continue
		}
		if !slices.ContainsFunc(t.mcp.AllowTools, func(tool string) bool {
			return !slices.ContainsFunc(t.mcp.DenyTools, func(d string) bool { return matchLabel(d, tool) })
		}) {
			c.add(checkNoTool, SeverityWarning, t.path, "narrow denyTools", "every tool that is allowed on %s is denied too, so none can be called", t.pattern)
		}
	}
}

// secret judges where a rule's secret may go.
func (c *checker) secret(r *scope, path string) {
	if !r.byName() {
		c.add(checkSecretAnywhere, SeverityError, path, "name web groups", "rule %q sends a secret to every name at its destinations", r.Name)
	}
	for _, t := range r.names {
		if host := multiTenant(t.pattern); host != "" {
			c.add(checkSecretAnywhere, SeverityError, path, "name the hosts that are yours",
				"rule %q sends a secret to %s, and anybody can get a name under %s", r.Name, t.pattern, host)
		}
	}
}

// credentialFields are header fields that carry credentials.
var credentialFields = []string{"Authorization", "Cookie", "X-Api-Key", "Api-Key", "X-Auth-Token", "Private-Token", "Ocp-Apim-Subscription-Key",
	"X-Goog-Api-Key", "X-Functions-Key", "X-Amz-Security-Token"}

func looksLikeCredential(name, value string) bool {
	scheme, rest, _ := strings.Cut(value, " ")
	return slices.Contains(credentialFields, name) || rest != "" && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "Basic"))
}
