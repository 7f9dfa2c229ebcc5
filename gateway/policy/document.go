package policy

import (
	"net/netip"
	"slices"
)

// Document is a ruleset as written: the JSON or YAML that operators edit, that
// the Pulumi resource takes and that the gateway loads. The field names of the
// wire form are in the json tags; YAML uses the same.
type Document struct {
	Version      int           `json:"version"`
	Mode         Mode          `json:"mode"`
	Default      Default       `json:"default"`
	SmartGroups  []SmartGroup  `json:"smartGroups,omitempty"`
	WebGroups    []WebGroup    `json:"webGroups,omitempty"`
	ThreatGroups []ThreatGroup `json:"threatGroups,omitempty"`
	Resolve      []Resolve     `json:"resolve,omitempty"`
	OriginCAs    []OriginCA    `json:"originCAs,omitempty"`
	Rules        []Rule        `json:"rules"`
}

// Default decides what no enforced rule matched. Its action is always DENY; its
// mode may be monitor while a ruleset is being introduced, and then it permits.
type Default struct {
	Action Action `json:"action"`
	Mode   Mode   `json:"mode"`
}

// SmartGroup is a set of addresses, by prefix or by Azure service tag.
type SmartGroup struct {
	Name        string         `json:"name"`
	CIDRs       []netip.Prefix `json:"cidrs,omitempty"`
	ServiceTags []string       `json:"serviceTags,omitempty"`
}

// WebGroup is a set of names, and of requests to names. FQDNs are normalised
// patterns (see [NormalizePattern]).
type WebGroup struct {
	Name  string   `json:"name"`
	FQDNs []string `json:"fqdns,omitempty"`
	URLs  []URL    `json:"urls,omitempty"`
	MCP   []MCP    `json:"mcp,omitempty"`
}

// URL permits or denies single requests to a host: any of the methods (none:
// all) on any of the path patterns (none: all).
type URL struct {
	Host    string   `json:"host"`
	Methods []string `json:"methods,omitempty"`
	Paths   []string `json:"paths,omitempty"`
}

// MCP names the tools that may be called on a Model Context Protocol server: any that
// AllowTools holds (none: all) and DenyTools does not. See [RPC] for what it matches.
// Paths are the server's endpoints; none: /mcp, which Decode writes out.
type MCP struct {
	Host       string   `json:"host"`
	Paths      []string `json:"paths,omitempty"`
	AllowTools []string `json:"allowTools,omitempty"`
	DenyTools  []string `json:"denyTools,omitempty"`
}

// ThreatGroup is a set of known-bad addresses and names, read from feeds.
type ThreatGroup struct {
	Name  string `json:"name"`
	Feeds []Feed `json:"feeds"`
}

// Feed is one list of a threat group. Format is domains, hosts or netset.
type Feed struct {
	Name   string `json:"name"`
	Format string `json:"format"`
	URL    string `json:"url"`
}

// Resolve lists names that are answered although no rule permits them, because
// agents reach them without the gateway (private endpoints). Answers names the
// smart groups that the answered addresses must lie in.
type Resolve struct {
	Names   []string `json:"names"`
	Answers []string `json:"answers"`
}

// Rule is one line of the ruleset. All fields that it names must match.
type Rule struct {
	Name         string      `json:"name"`
	Priority     int         `json:"priority"`
	Sources      []string    `json:"sources,omitempty"`
	Destinations []string    `json:"destinations,omitempty"`
	WebGroups    []string    `json:"webGroups,omitempty"`
	Ports        []PortRange `json:"ports,omitempty"`
	Action       Action      `json:"action"`
	Decrypt      Decrypt     `json:"decrypt,omitempty"`
	Mode         Mode        `json:"mode,omitempty"`
	SNI          SNI         `json:"sni,omitempty"`
	EnsureTLS    bool        `json:"ensureTLS,omitempty"`
	Budget       *Budget     `json:"budget,omitempty"`
	Log          *bool       `json:"log,omitempty"`
	Allow        []Allow     `json:"allow,omitempty"`

	// What has to be done to what a PERMIT permits, see [Obligations].
	Headers           []Header    `json:"headers,omitempty"`
	MaxRequestBytes   int64       `json:"maxRequestBytes,omitempty"`
	MinTLS            TLSVersion  `json:"minTLS,omitempty"`
	OriginCertificate OriginTrust `json:"originCertificate,omitempty"`
}

// TLSOnly reports whether what is not TLS does not match: because the rule says so, or
// because it asks for what only TLS has (a version, the origin's certificate, a channel
// that a secret may be sent over).
func (r *Rule) TLSOnly() bool {
	return r.EnsureTLS || r.MinTLS != "" || r.OriginCertificate == OriginVerify || r.sendsSecret()
}

// handlesRequests reports whether the rule asks something of each single request, so
// that the flow has to be HTTP that can be read.
func (r *Rule) handlesRequests() bool { return len(r.Headers) > 0 || r.MaxRequestBytes > 0 }

func (r *Rule) sendsSecret() bool {
	return slices.ContainsFunc(r.Headers, func(h Header) bool { return h.Secret != "" })
}

// Logged reports whether decisions of the rule are audited one by one.
func (r *Rule) Logged() bool { return r.Log == nil || *r.Log }

// Budget bounds the bytes that leave under a rule within a window.
type Budget struct {
	BytesOut int64  `json:"bytesOut"`
	Window   string `json:"window"`        // a Go duration, such as "24h"
	Per      string `json:"per,omitempty"` // source (default) or group
}

// Allow overrides one check for one rule, with the reason in writing.
type Allow struct {
	Check  string `json:"check"`
	Reason string `json:"reason"`
}

// PortRange is a protocol with an inclusive range of ports; protocols without
// ports (icmp, gre) have Lo and Hi zero.
type PortRange struct {
	Proto  Proto
	Lo, Hi uint16
}

// The names of the built-in groups.
const (
	GroupAny      = "any"      // every address
	GroupInternet = "internet" // every globally reachable address, see IsInternet
)

// Data is what a ruleset needs from outside: the addresses behind service tags
// and the contents of feeds. A nil or missing entry makes the group that needs it
// match nothing, which Explain and readiness report.
type Data struct {
	ServiceTags map[string][]netip.Prefix // by tag name, as Azure spells it
	Feeds       map[string]FeedData       // by feed name
}

// FeedData is the parsed content of one feed.
type FeedData struct {
	Prefixes []netip.Prefix
	Names    []string // normalised
}

// Environment says where the ruleset applies. It belongs to the gateway, not to
// the document.
type Environment struct {
	// Agents are the prefixes whose packets are governed. Empty: every source
	// (only sensible where a document is judged without a gateway).
	Agents []netip.Prefix
	// Gateway are the gateway's own addresses; agents reach them for DNS only.
	Gateway []netip.Addr
	// PinScope is source, shared or verify; empty is source.
	PinScope PinScope
	// DNSClients are the addresses that questions come from when a resolver
	// hides the asker; they are judged as all agents together.
	DNSClients []netip.Prefix
	Data       Data
}
