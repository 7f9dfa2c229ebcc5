package ruleset

import "github.com/pulumi/pulumi-go-provider/infer"

// Document is the ruleset as a program writes it, field by field what gateway/policy reads; a test holds
// the two together. What it means is decided there and nowhere else: here it only becomes JSON.
type Document struct {
	// Version of the document's format. Default: 1.
	Version *int `pulumi:"version,optional" json:"version,omitempty"`
	// `enforce` (default), or `monitor`: then every rule and the default only watch.
	Mode *Mode `pulumi:"mode,optional" json:"mode,omitempty"`
	// What becomes of flows that no rule matched. Default: denied.
	Default *Default `pulumi:"default,optional" json:"default,omitempty"`
	// Named sets of addresses.
	SmartGroups []SmartGroup `pulumi:"smartGroups,optional" json:"smartGroups,omitempty"`
	// Named sets of names, and of requests to names.
	WebGroups []WebGroup `pulumi:"webGroups,optional" json:"webGroups,omitempty"`
	// Named sets of known-bad addresses and names, from feeds.
	ThreatGroups []ThreatGroup `pulumi:"threatGroups,optional" json:"threatGroups,omitempty"`
	// Names that are answered although no rule permits them, because agents reach them without the gateway: those of private endpoints.
	Resolve []Resolve `pulumi:"resolve,optional" json:"resolve,omitempty"`
	// Authorities that origins are verified with, beside the public ones.
	OriginCAs []OriginCA `pulumi:"originCAs,optional" json:"originCAs,omitempty"`
	// The rules. The one with the lowest priority that matches decides.
	Rules []Rule `pulumi:"rules,optional" json:"rules,omitempty"`
}

// Default decides what no enforced rule matched.
type Default struct {
	// Always `DENY`.
	Action Action `pulumi:"action" json:"action"`
	// `enforce` (default), or `monitor` while a ruleset is being introduced: then what no rule matches is permitted, and recorded.
	Mode *Mode `pulumi:"mode,optional" json:"mode,omitempty"`
}

// SmartGroup is a set of addresses.
type SmartGroup struct {
	// Unique name.
	Name string `pulumi:"name" json:"name"`
	// Prefixes or single addresses.
	CIDRs []string `pulumi:"cidrs,optional" json:"cidrs,omitempty"`
	// Azure service tags, as Azure spells them.
	ServiceTags []string `pulumi:"serviceTags,optional" json:"serviceTags,omitempty"`
}

// WebGroup is a set of names, and of requests to names.
type WebGroup struct {
	// Unique name.
	Name string `pulumi:"name" json:"name"`
	// Host names. `*.example.com` is one or more labels under it; `*` within a label matches within that label.
	FQDNs []string `pulumi:"fqdns,optional" json:"fqdns,omitempty"`
	// Single requests to a host. They need decryption.
	URLs []URL `pulumi:"urls,optional" json:"urls,omitempty"`
	// Tools of Model Context Protocol servers. They need decryption.
	MCP []MCP `pulumi:"mcp,optional" json:"mcp,omitempty"`
}

// URL is a set of requests to one host.
type URL struct {
	// Host name or pattern.
	Host string `pulumi:"host" json:"host"`
	// HTTP methods. Absent: all.
	Methods []string `pulumi:"methods,optional" json:"methods,omitempty"`
	// Paths: exact, or with `*` within a segment or `**` across segments. Absent: all.
	Paths []string `pulumi:"paths,optional" json:"paths,omitempty"`
}

// MCP is which tools of a Model Context Protocol server may be called.
type MCP struct {
	// Host name or pattern.
	Host string `pulumi:"host" json:"host"`
	// The server's endpoints. Default: `/mcp`.
	Paths []string `pulumi:"paths,optional" json:"paths,omitempty"`
	// Tools that may be called, `*` for any characters. Absent: all.
	AllowTools []string `pulumi:"allowTools,optional" json:"allowTools,omitempty"`
	// Tools that may not, although `allowTools` holds them.
	DenyTools []string `pulumi:"denyTools,optional" json:"denyTools,omitempty"`
}

// ThreatGroup is a set of known-bad addresses and names.
type ThreatGroup struct {
	// Unique name.
	Name string `pulumi:"name" json:"name"`
	// Where its members come from.
	Feeds []Feed `pulumi:"feeds" json:"feeds"`
}

// Feed is one list of a threat group.
type Feed struct {
	// Unique name, also that of the file in the gateway's feeds directory.
	Name string `pulumi:"name" json:"name"`
	// `domains`, `hosts` or `netset`.
	Format string `pulumi:"format" json:"format"`
	// Where it is published.
	URL string `pulumi:"url" json:"url"`
}

// Resolve lists names that are answered for private endpoints.
type Resolve struct {
	// Host names or patterns.
	Names []string `pulumi:"names" json:"names"`
	// Smart groups that the answered addresses must lie in.
	Answers []string `pulumi:"answers" json:"answers"`
}

// OriginCA is an authority that origins are verified with.
type OriginCA struct {
	// Unique name.
	Name string `pulumi:"name" json:"name"`
	// Its certificate in PEM.
	PEM string `pulumi:"pem" json:"pem"`
}

// Rule is one line of the ruleset. All fields that it names must match.
type Rule struct {
	// Unique name, which every decision is recorded with.
	Name string `pulumi:"name" json:"name"`
	// Unique; the lowest number is judged first.
	Priority int `pulumi:"priority" json:"priority"`
	// Smart groups. Absent: any agent.
	Sources []string `pulumi:"sources,optional" json:"sources,omitempty"`
	// Smart or threat groups, `internet` or `any`. Absent: `internet` for PERMIT, `any` for DENY.
	Destinations []string `pulumi:"destinations,optional" json:"destinations,omitempty"`
	// Web groups; the flow's name must be in one of them.
	WebGroups []string `pulumi:"webGroups,optional" json:"webGroups,omitempty"`
	// Such as `tcp/443`, `udp/1-1024`, `icmp`. Absent: every protocol.
	Ports []string `pulumi:"ports,optional" json:"ports,omitempty"`
	// `PERMIT` or `DENY`.
	Action Action `pulumi:"action" json:"action"`
	// `DECRYPT_NOT_ALLOWED` (default), or `DECRYPT_ALLOWED`: requests may be looked at.
	Decrypt *Decrypt `pulumi:"decrypt,optional" json:"decrypt,omitempty"`
	// `enforce` (default), or `monitor`: recorded, and without effect.
	Mode *Mode `pulumi:"mode,optional" json:"mode,omitempty"`
	// `required` (default), or `optional`: TLS without a server name is taken for the names that were resolved to its address.
	SNI *SNI `pulumi:"sni,optional" json:"sni,omitempty"`
	// What is not TLS does not match.
	EnsureTLS *bool `pulumi:"ensureTLS,optional" json:"ensureTLS,omitempty"`
	// Bounds the bytes that leave.
	Budget *Budget `pulumi:"budget,optional" json:"budget,omitempty"`
	// Record each decision. Default: true.
	Log *bool `pulumi:"log,optional" json:"log,omitempty"`
	// Checks that this rule is exempted from, with the reason.
	Allow []Exemption `pulumi:"allow,optional" json:"allow,omitempty"`
	// Header fields of requests that are set or required. They need decryption.
	Headers []Header `pulumi:"headers,optional" json:"headers,omitempty"`
	// The longest body of a request, in bytes. Needs decryption.
	MaxRequestBytes *int `pulumi:"maxRequestBytes,optional" json:"maxRequestBytes,omitempty"`
	// The lowest version of TLS that either side may negotiate, `1.2` or `1.3`.
	MinTLS *TLSVersion `pulumi:"minTLS,optional" json:"minTLS,omitempty"`
	// `verify`: the origin must hold a valid certificate for the flow's name. `ignore`: any. Absent: verified where the flow is decrypted.
	OriginCertificate *OriginTrust `pulumi:"originCertificate,optional" json:"originCertificate,omitempty"`
}

// Budget bounds the bytes that leave under a rule within a window.
type Budget struct {
	// Bytes that may leave within the window.
	BytesOut int `pulumi:"bytesOut" json:"bytesOut"`
	// Such as `24h`. It rolls.
	Window string `pulumi:"window" json:"window"`
	// `source` (default): for each agent; `group`: for all that the rule holds, together.
	Per *string `pulumi:"per,optional" json:"per,omitempty"`
}

// Exemption overrides one check for one rule.
type Exemption struct {
	// The check's id, such as `POL-06`.
	Check string `pulumi:"check" json:"check"`
	// Why, in writing.
	Reason string `pulumi:"reason" json:"reason"`
}

// Header is a field of a request that is set or required. One of `set`, `require` and `secret` is given.
type Header struct {
	// The field's name.
	Name string `pulumi:"name" json:"name"`
	// The value that replaces whatever the agent sent.
	Set *string `pulumi:"set,optional" json:"set,omitempty"`
	// The request must have the field once, with one of these values.
	Require []string `pulumi:"require,optional" json:"require,omitempty"`
	// The Key Vault secret that the value is taken from by the gateway, such as `https://VAULT.vault.azure.net/secrets/NAME`. Neither the agent nor this document holds it.
	Secret *string `pulumi:"secret,optional" json:"secret,omitempty"`
	// Stands before the secret, such as `Bearer `.
	Prefix *string `pulumi:"prefix,optional" json:"prefix,omitempty"`
}

// Mode says whether a rule decides or only watches.
type Mode string

// Values are those that a ruleset knows.
func (Mode) Values() []infer.EnumValue[Mode] {
	return []infer.EnumValue[Mode]{
		{Name: "Enforce", Value: "enforce", Description: "The rule decides."},
		{Name: "Monitor", Value: "monitor", Description: "What the rule would decide is recorded, and has no effect."},
	}
}

// Action is what a rule does with a flow that it matches.
type Action string

// Values are those that a ruleset knows.
func (Action) Values() []infer.EnumValue[Action] {
	return []infer.EnumValue[Action]{
		{Name: "Permit", Value: "PERMIT", Description: "The flow passes."},
		{Name: "Deny", Value: "DENY", Description: "The flow is refused, at once and legibly."},
	}
}

// Decrypt is the certificate posture of a rule.
type Decrypt string

// Values are those that a ruleset knows.
func (Decrypt) Values() []infer.EnumValue[Decrypt] {
	return []infer.EnumValue[Decrypt]{
		{Name: "NotAllowed", Value: "DECRYPT_NOT_ALLOWED", Description: "TLS passes untouched."},
		{Name: "Allowed", Value: "DECRYPT_ALLOWED", Description: "TLS may be ended at the gateway, so that requests can be judged."},
	}
}

// SNI says what a rule makes of TLS flows that claim no name.
type SNI string

// Values are those that a ruleset knows.
func (SNI) Values() []infer.EnumValue[SNI] {
	return []infer.EnumValue[SNI]{
		{Name: "Required", Value: "required", Description: "Without a server name the rule does not match."},
		{Name: "Optional", Value: "optional", Description: "Without one, every name that was resolved to the address must be in the rule."},
	}
}

// TLSVersion is the lowest version of TLS that a rule takes.
type TLSVersion string

// Values are those that a ruleset knows.
func (TLSVersion) Values() []infer.EnumValue[TLSVersion] {
	return []infer.EnumValue[TLSVersion]{
		{Name: "TLS12", Value: "1.2", Description: "TLS 1.2 or newer."},
		{Name: "TLS13", Value: "1.3", Description: "TLS 1.3 or newer."},
	}
}

// OriginTrust says whether an origin has to show a certificate for its name.
type OriginTrust string

// Values are those that a ruleset knows.
func (OriginTrust) Values() []infer.EnumValue[OriginTrust] {
	return []infer.EnumValue[OriginTrust]{
		{Name: "Verify", Value: "verify", Description: "It must hold a valid certificate for the flow's name."},
		{Name: "Ignore", Value: "ignore", Description: "Any certificate will do."},
	}
}
