package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

func (d *decoder) document(n *yaml.Node) *Document {
	doc := &Document{Mode: ModeEnforce, Default: Default{Action: Deny, Mode: ModeEnforce}, Rules: []Rule{}}
	d.object(n, "", fields{
		"version!":     d.number(func(v int64) { doc.Version = int(v) }, 1, 1),
		"mode":         one(d, &doc.Mode, parseMode),
		"default":      func(n *yaml.Node, path string) { doc.Default = d.defaults(n, path) },
		"smartGroups":  objects(d, &doc.SmartGroups, d.smartGroup),
		"webGroups":    objects(d, &doc.WebGroups, d.webGroup),
		"threatGroups": objects(d, &doc.ThreatGroups, d.threatGroup),
		"resolve":      objects(d, &doc.Resolve, d.resolve),
		"originCAs":    objects(d, &doc.OriginCAs, d.originCA),
		"rules!":       objects(d, &doc.Rules, d.rule),
	})
	return doc
}

func (d *decoder) defaults(n *yaml.Node, path string) Default {
	v := Default{Action: Deny, Mode: ModeEnforce}
	d.object(n, path, fields{"action": one(d, &v.Action, parseAction), "mode": one(d, &v.Mode, parseMode)})
	return v
}

func (d *decoder) smartGroup(n *yaml.Node, path string) SmartGroup {
	var g SmartGroup
	d.object(n, path, fields{
		"name!":       one(d, &g.Name, parseName),
		"cidrs":       many(d, &g.CIDRs, "", parsePrefix),
		"serviceTags": many(d, &g.ServiceTags, "", parseTag),
	})
	return g
}

func (d *decoder) webGroup(n *yaml.Node, path string) WebGroup {
	var g WebGroup
	d.object(n, path, fields{
		"name!": one(d, &g.Name, parseName),
		"fqdns": many(d, &g.FQDNs, "", NormalizePattern),
		"urls":  objects(d, &g.URLs, d.url),
		"mcp":   objects(d, &g.MCP, d.mcp),
	})
	return g
}

func (d *decoder) url(n *yaml.Node, path string) URL {
	var u URL
	d.object(n, path, fields{
		"host!":   one(d, &u.Host, NormalizePattern),
		"methods": many(d, &u.Methods, "leave it out to mean every method", parseMethod),
		"paths":   many(d, &u.Paths, "leave it out to mean every path", NormalizePathPattern),
	})
	return u
}

func (d *decoder) mcp(n *yaml.Node, path string) MCP {
	var m MCP
	d.object(n, path, fields{
		"host!":      one(d, &m.Host, NormalizePattern),
		"paths":      many(d, &m.Paths, "leave it out to mean /mcp", NormalizePathPattern),
		"allowTools": many(d, &m.AllowTools, "leave it out to mean every tool", parseTool),
		"denyTools":  many(d, &m.DenyTools, "", parseTool),
	})
	m.Paths = m.endpoints()
	return m
}

func (d *decoder) threatGroup(n *yaml.Node, path string) ThreatGroup {
	var g ThreatGroup
	d.object(n, path, fields{"name!": one(d, &g.Name, parseName), "feeds!": objects(d, &g.Feeds, d.feed)})
	return g
}

func (d *decoder) feed(n *yaml.Node, path string) Feed {
	var f Feed
	d.object(n, path, fields{
		"name!":   one(d, &f.Name, parseName),
		"format!": one(d, &f.Format, oneOf("domains", "hosts", "netset")),
		"url!":    one(d, &f.URL, parseFeedURL),
	})
	return f
}

func (d *decoder) resolve(n *yaml.Node, path string) Resolve {
	var r Resolve
	d.object(n, path, fields{
		"names!":   many(d, &r.Names, "name what is to be answered", NormalizePattern),
		"answers!": many(d, &r.Answers, "name the smart groups that the answers lie in", parseName),
	})
	return r
}

func (d *decoder) rule(n *yaml.Node, path string) Rule {
	r := Rule{Decrypt: DecryptNotAllowed, Mode: ModeEnforce, SNI: SNIRequired}
	logged := true
	d.object(n, path, fields{
		"name!":        one(d, &r.Name, parseRuleName),
		"priority!":    d.number(func(v int64) { r.Priority = int(v) }, 0, 1<<31-1),
		"sources":      many(d, &r.Sources, "leave it out to mean any agent", parseName),
		"destinations": many(d, &r.Destinations, "leave it out to mean internet for a PERMIT and any for a DENY", parseName),
		"webGroups":    many(d, &r.WebGroups, "leave it out if the name does not matter", parseName),
		"ports":        many(d, &r.Ports, "leave it out to mean any protocol", ParsePortRange),
		"action!":      one(d, &r.Action, parseAction),
		"decrypt":      one(d, &r.Decrypt, oneOf(DecryptNotAllowed, DecryptAllowed)),
		"mode":         one(d, &r.Mode, parseMode),
		"sni":          one(d, &r.SNI, oneOf(SNIRequired, SNIOptional)),
		"ensureTLS":    d.boolean(&r.EnsureTLS),
		"budget":       func(n *yaml.Node, path string) { r.Budget = d.budget(n, path) },
		"headers": func(n *yaml.Node, path string) {
			d.list(n, path, "leave it out to change no header", func(n *yaml.Node, path string) { r.Headers = append(r.Headers, d.header(n, path, r.Headers)) })
		},
		"maxRequestBytes":   d.number(func(v int64) { r.MaxRequestBytes = v }, 1, 1<<53-1),
		"minTLS":            one(d, &r.MinTLS, oneOf(TLS12, TLS13)),
		"originCertificate": one(d, &r.OriginCertificate, oneOf(OriginVerify, OriginIgnore)),
		"log":               d.boolean(&logged),
		"allow":             objects(d, &r.Allow, d.allow),
	})
	if !logged {
		r.Log = &logged
	}
	if r.Action == Deny {
		for field, given := range map[string]bool{"headers": len(r.Headers) > 0, "maxRequestBytes": r.MaxRequestBytes > 0,
			"minTLS": r.MinTLS != "", "originCertificate": r.OriginCertificate != ""} {
			if at := join(path, field); given {
				d.fail(d.lines[at], at, "leave it out", "belongs to a PERMIT: nothing of what a DENY matches goes on")
			}
		}
	}
	return r
}

func (d *decoder) budget(n *yaml.Node, path string) *Budget {
	b := &Budget{Per: "source"}
	d.object(n, path, fields{
		"bytesOut!": d.number(func(v int64) { b.BytesOut = v }, 1, 1<<53-1),
		"window!":   one(d, &b.Window, parseWindow),
		"per":       one(d, &b.Per, oneOf("source", "group")),
	})
	return b
}

func (d *decoder) allow(n *yaml.Node, path string) Allow {
	var a Allow
	d.object(n, path, fields{"check!": one(d, &a.Check, parseOverride), "reason!": one(d, &a.Reason, parseReason)})
	return a
}

// number reads a whole number in plain decimal notation.
func (d *decoder) number(set func(int64), lo, hi int64) value {
	return func(n *yaml.Node, path string) {
		v, err := strconv.ParseInt(n.Value, 10, 64)
		octal := len(n.Value) > 1 && n.Value[0] == '0'
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" && err == nil && !octal && lo <= v && v <= hi {
			set(v)
			return
		}
		what, fix := kindName(n), fmt.Sprintf("write a whole number from %d to %d", lo, hi)
		if n.Kind == yaml.ScalarNode && n.Value != "" {
			what = strconv.Quote(n.Value)
		}
		if lo == hi {
			fix = fmt.Sprintf("write %d", lo)
		}
		d.fail(n.Line, path, fix, "is %s", what)
	}
}

func (d *decoder) boolean(to *bool) value {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
			d.fail(n.Line, path, "write true or false", "is %s, not true or false", kindName(n))
			return
		}
		*to = strings.EqualFold(n.Value, "true")
	}
}

// oneOf reads one of the given words.
func oneOf[T ~string](words ...T) func(string) (T, error) {
	return func(s string) (T, error) {
		known := make([]string, len(words))
		for i, w := range words {
			if string(w) == s {
				return w, nil
			}
			known[i] = string(w)
		}
		return "", bad(didYouMean(s, known), "%q is none of %s", s, strings.Join(known, ", "))
	}
}

func parseMode(s string) (Mode, error)     { return oneOf(ModeEnforce, ModeMonitor)(s) }
func parseAction(s string) (Action, error) { return oneOf(Permit, Deny)(s) }

// parseName reads the name of a group or feed. Names appear in audit events, in DNS
// answers (`rule=…; reason=…`) and in file names, so they are plain.
func parseName(s string) (string, error) {
	ok := len(s) <= 128 && s[0] != '.' && s[0] != '-'
	for i := range len(s) {
		c := s[i]
		ok = ok && (isNameByte(c) || 'A' <= c && c <= 'Z' || c == '.')
	}
	if !ok {
		return "", bad("use up to 128 letters, digits, hyphens, dots and underscores", "%q is not a name", s)
	}
	return s, nil
}

func parseRuleName(s string) (string, error) {
	if s == RuleDefault || s == RuleInvariant {
		return "", bad("choose another name", "%q is what the audit calls decisions that no rule made", s)
	}
	return parseName(s)
}

func parseTag(s string) (string, error) {
	if _, err := parseName(s); err != nil {
		return "", bad("write it as Azure does, such as AzureFrontDoor.FirstParty", "%q is not a service tag", s)
	}
	return s, nil
}

func parseTool(s string) (string, error) {
	if len(s) > maxTool || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", bad("use at most 256 printable characters", "is not the name of a tool")
	}
	return s, nil
}

func parseReason(s string) (string, error) {
	if len(s) > 1000 || strings.TrimSpace(s) == "" {
		return "", bad("write one sentence that a reviewer can judge", "is not a reason")
	}
	return s, nil
}

// parsePrefix reads "10.20.0.0/16" or "10.20.1.4".
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return p, bad("write an address and a length, such as 10.20.0.0/16", "%q is not a prefix", s)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if !p.Addr().Is4() {
		return p, bad("name IPv4 prefixes only", "%q is IPv6, over which agents have no egress", s)
	}
	if m := p.Masked(); m != p {
		return p, bad(fmt.Sprintf("write %s for the network, or %s/32 for the one address", m, p.Addr()), "%q has bits below its length", s)
	}
	return p, nil
}

func parseMethod(s string) (string, error) {
	for i := range len(s) {
		if c := s[i]; (c < 'A' || 'Z' < c) && c != '-' && c != '_' || len(s) > 32 {
			return "", bad("write it in upper case, such as POST", "%q is not a method", s)
		}
	}
	return s, nil
}

func parseFeedURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", bad("write https://host/path or file:///path", "%q is not a URL", s)
	case u.Scheme == "https" && u.Host != "" && u.User == nil, u.Scheme == "file" && (u.Path != "" || u.Opaque != ""):
		return s, nil
	}
	return "", bad("use an https: or file: URL without a password", "%q cannot be a feed, since whoever can change one decides what is refused", s)
}

func parseWindow(s string) (string, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > 366*24*time.Hour {
		return "", bad("write a duration from 1s to 8784h, such as 24h", "%q is not a window", s)
	}
	return s, nil
}

// parseOverride reads the id of a check that a written reason overrides.
func parseOverride(s string) (string, error) { return oneOf("POL-05", "POL-06")(s) }
