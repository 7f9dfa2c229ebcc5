package policy

import (
	"net/netip"
	"testing"
)

// mcpDocument permits some tools of a server, whose requests get a credential.
const mcpDocument = `
version: 1
webGroups:
  - name: tools
    fqdns: [api.contoso.com]
    mcp: [{host: mcp.contoso.com, allowTools: ["search_*", get_issue, "größe"], denyTools: ["*_secrets"]}]
rules:
  - name: tools
    priority: 1
    webGroups: [tools]
    ports: [tcp/443]
    action: PERMIT
    decrypt: DECRYPT_ALLOWED
    minTLS: "1.3"
    maxRequestBytes: 1000
    headers: [{name: authorization, secret: "https://v-1.vault.azure.net/secrets/mcp", prefix: "Bearer "}]
    budget: {bytesOut: 10, window: 1h}
`

func compileText(t testing.TB, text string) *Ruleset {
	t.Helper()
	doc, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Compile(doc, Environment{Agents: prefixes("10.20.1.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMessages shows which requests an `mcp` entry matches.
func TestMessages(t *testing.T) {
	r := compileText(t, mcpDocument)
	call := func(tool string) *RPC { return &RPC{Method: "tools/call", Tool: tool} }
	for _, tc := range []struct {
		what, method, path string
		rpc                *RPC
		verdict            Action
		reason             Reason
		pending            Fact
	}{
		{"a post waits for its message", "POST", "/mcp", nil, Permit, ReasonRule, PendingMessage},
		{"a stream of answers", "GET", "/mcp", nil, Permit, ReasonRule, ""},
		{"another path", "POST", "/admin", nil, Deny, ReasonDefault, ""},
		{"a method that MCP has not", "PUT", "/mcp", nil, Deny, ReasonDefault, ""},
		{"a list", "POST", "/mcp", &RPC{Method: "tools/list"}, Permit, ReasonRule, ""},
		{"a response", "POST", "/mcp", &RPC{}, Permit, ReasonRule, ""},
		{"by a wildcard", "POST", "/mcp", call("search_code"), Permit, ReasonRule, ""},
		{"by its name", "POST", "/mcp", call("get_issue"), Permit, ReasonRule, ""},
		{"denied by a wildcard", "POST", "/mcp", call("search_secrets"), Deny, ReasonDefault, ""},
		{"not allowed", "POST", "/mcp", call("delete_repo"), Deny, ReasonDefault, ""},
		{"another case", "POST", "/mcp", call("Get_issue"), Deny, ReasonDefault, ""},
		{"spelled out beyond ASCII", "POST", "/mcp", call("größe"), Permit, ReasonRule, ""},
		{"a look-alike under a wildcard", "POST", "/mcp", call("search_\u0441ode"), Deny, ReasonBadRequest, ""},
		{"a space", "POST", "/mcp", call("search_code "), Deny, ReasonBadRequest, ""},
		{"no name", "POST", "/mcp", call(""), Deny, ReasonBadRequest, ""},
		{"a method that looks like a call", "POST", "/mcp", &RPC{Method: "Tools/Call", Tool: "get_issue"}, Deny, ReasonBadRequest, ""},
		{"malformed", "POST", "/mcp", &RPC{Malformed: true}, Deny, ReasonBadRequest, ""},
	} {
		d := r.Decide(&Flow{Stage: StageRequest, Src: agent, Dst: github, Proto: TCP, Port: 443, Name: "mcp.contoso.com", Pin: PinMatch, Wire: WireTLS,
			Method: tc.method, Path: tc.path, RPC: tc.rpc})
		if d.Verdict != tc.verdict || d.Reason != tc.reason || d.Pending != tc.pending {
			t.Errorf("%s: %s, %s, waits for %q; want %s, %s, %q", tc.what, d.Verdict, d.Reason, d.Pending, tc.verdict, tc.reason, tc.pending)
		}
		if d.Permitted() && d.Pending == "" && !d.MCP {
			t.Errorf("%s: the answer would not be filtered", tc.what)
		}
	}
}

// TestObligations shows what has to be done to what is permitted.
func TestObligations(t *testing.T) {
	r := compileText(t, mcpDocument)
	flow := Flow{Stage: StageName, Src: agent, Dst: github, Proto: TCP, Port: 443, Name: "api.contoso.com", Pin: PinMatch, Wire: WireTLS}
	d := r.Decide(&flow)
	o := r.Obligations(&d)
	if d.Tier != TierDecrypt || o.MinTLS != 0x0304 || !o.VerifyOrigin || o.MaxRequestBytes != 1000 || o.MCP ||
		len(o.Headers) != 1 || o.Headers[0].Name != "Authorization" || o.Headers[0].Prefix != "Bearer " {
		t.Errorf("%+v: %+v", d, o)
	}
	if key := o.Budget.Key(d.Rule, netip.MustParseAddr("::ffff:10.20.1.4")); key != "tools 10.20.1.4" {
		t.Errorf("budget key %q", key)
	}
	// A secret never goes out in the clear: plain HTTP does not match at all.
	flow.Wire, flow.Port = WireHTTP, 443
	if d := r.Decide(&flow); d.Permitted() || d.Reason != ReasonNotTLS {
		t.Errorf("plain HTTP: %+v", d)
	}
	flow.Wire, flow.Name, flow.PinnedNames = WireTLS, "", []string{"api.contoso.com"}
	if d := r.Decide(&flow); d.Permitted() {
		t.Errorf("without a name to decrypt for: %+v", d)
	}
	if d := (Decision{Verdict: Deny, Index: 0}); r.Obligations(&d).Headers != nil {
		t.Error("a denial has obligations")
	}
	h := Header{Name: "X-Tenant", Require: []string{"a", "b"}}
	for _, tc := range []struct {
		values []string
		ok     bool
	}{{nil, false}, {[]string{"a"}, true}, {[]string{"b"}, true}, {[]string{"a", "b"}, false}, {[]string{"a, b"}, false}, {[]string{"A"}, false}} {
		if h.Satisfied(tc.values) != tc.ok {
			t.Errorf("%q: not %v", tc.values, tc.ok)
		}
	}
}

// TestDecryptNames lists what a certificate authority has to be able to vouch for.
func TestDecryptNames(t *testing.T) {
	got := func(text string) string { return quoteAll(compileText(t, text).DecryptNames()) }
	if s := got(mcpDocument); s != `"api.contoso.com", "mcp.contoso.com"` {
		t.Error(s)
	}
	if s := got("version: 1\nmode: monitor\n" + mcpDocument[len("\nversion: 1\n"):]); s != "" {
		t.Error("monitoring decrypts " + s)
	}
	if s := got(`
version: 1
webGroups:
  - {name: w, fqdns: ["*.x.y", a.x.y], urls: [{host: u.x.y}, {host: u.z}]}
  - {name: d, fqdns: [whole.z], urls: [{host: part.z}]}
rules:
  - {name: p, priority: 1, webGroups: [w], action: PERMIT, decrypt: DECRYPT_ALLOWED}
  - {name: n, priority: 2, webGroups: [d], action: DENY, decrypt: DECRYPT_ALLOWED}
`); s != `"*.x.y", "part.z", "u.z"` {
		t.Error(s)
	}
	if s := got("version: 1\nrules: [{name: p, priority: 1, action: PERMIT, decrypt: DECRYPT_ALLOWED}]"); s != `"*"` {
		t.Error(s)
	}
}
