package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	c, err := Parse([]byte("policy: {file: r.yaml}\nagents: [10.20.1.0/24]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.SNAT != "all" || c.Limits.Flows != 20000 || c.Limits.HelloTimeout != 5*time.Second || c.Admin.Listen.String() != "127.0.0.1:9180" ||
		c.DNS.Upstream[0].String() != "168.63.129.16:53" || c.DNS.PinScope != "source" {
		t.Errorf("defaults: %+v", c)
	}
}

func TestWorkload(t *testing.T) {
	c, err := Parse([]byte("policy: {file: r.yaml}\nagents: [10.20.1.0/24]\nworkloads: {all: [10.20.1.0/24], invoice-agent: [10.20.1.16/28]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{"10.20.1.17": "invoice-agent", "10.20.1.40": "all", "10.9.9.9": "10.9.9.9"} {
		if got := c.Workload(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// TestVaultIsReachable holds that a vault need not be listed under egress as well.
func TestVaultIsReachable(t *testing.T) {
	c, err := Parse([]byte("policy: {file: r.yaml}\nagents: [10.20.1.0/24]\nca: {keyVault: https://Contoso.vault.azure.net/, key: bulkhead-root}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Destinations(); len(d) != 1 || d[0].Name != "contoso.vault.azure.net" || c.CA.File != "/etc/bulkhead/root.crt" {
		t.Errorf("%v, certificate %s", d, c.CA.File)
	}
}

// TestStorageIsReachable holds the same for the storage account, which need be told once only.
func TestStorageIsReachable(t *testing.T) {
	c, err := Parse([]byte("policy: {blob: 'https://Contoso.blob.core.windows.net/policy/ruleset.json'}\nagents: [10.20.1.0/24]\n" +
		"attestation: {url: 'https://contoso.blob.core.windows.net/attestation/gateway.json'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Destinations(); len(d) != 1 || d[0].Name != "contoso.blob.core.windows.net" {
		t.Errorf("%v", d)
	}
}

// TestServiceTagsAreReachable: discovery implies Azure's resource manager, over HTTPS and nothing else.
func TestServiceTagsAreReachable(t *testing.T) {
	c, err := Parse([]byte("policy: {file: r.yaml}\nagents: [10.20.1.0/24]\negress: [10.0.0.9, proxy.contoso.com]\n" +
		"serviceTags: {discovery: {location: eastus2, subscription: 00000000-0000-4000-8000-000000000000}, refresh: 24h}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Egress{{Prefix: netip.MustParsePrefix("10.0.0.9/32")}, {Name: "proxy.contoso.com"}, {Name: "management.azure.com", Port: 443}}
	if d := c.Destinations(); !slices.Equal(d, want) {
		t.Errorf("%v, want %v", d, want)
	}
}

// TestBadInput shows that each mistake is one line that names the place.
func TestBadInput(t *testing.T) {
	const good = "policy: {file: r.yaml}\nagents: [10.20.1.0/24]\n"
	for _, tc := range []struct{ text, want string }{
		{"", "policy: name the ruleset"},
		{"policy: {file: r.yaml}", "agents: name the agents' subnets"},
		{good + "polcy: {}\n", `line 3: unknown key "polcy"`},
		{good + "dns: {listn: 1.2.3.4:53}\n", `line 3: unknown key "listn"`},
		{good + "dns: {listen: 1.2.3.4}\n", "line 3: \"1.2.3.4\""},
		{good + "snat: none\n", `snat: "none" is neither`},
		{good + "dns: {pinScope: shared}\n", "dns.clients"},
		{good + "dns: {pinScope: everyone}\n", "dns.pinScope"},
		{good + "limits: {helloTimeout: 1h}\n", "limits.helloTimeout"},
		{good + "limits: {flows: many}\n", "line 3"},
		{good + "limits: {flowsPerSource: 4294967297}\n", "limits.flowsPerSource: from 1 to"}, // the kernel would take it for 1
		{good + "workloads: {a: [10.20.1.4], b: [10.20.1.0/28, 10.20.1.4/32]}\n", `workloads: "a" and "b" both name 10.20.1.4/32`},
		{good + "---\nsnat: internet\n", "line 3: a second document"},
		{good + "---\n\t- :", "found character"},
		{good + "egress: ['not a name']\n", "egress[0]"},
		{"policy: {file: r.yaml, blob: 'https://a.blob.core.windows.net/policy/r.json'}\nagents: [10.20.1.0/24]\n", "policy: name a file or a blob"},
		{"policy: {blob: 'http://a.blob.core.windows.net/policy/r.json'}\nagents: [10.20.1.0/24]\n", "policy.blob: give it as"},
		{"policy: {blob: 'https://a.blob.core.windows.net/r.json'}\nagents: [10.20.1.0/24]\n", "policy.blob: give it as"},
		{"policy: {blob: 'https://a.blob.core.windows.net/policy/r.json?sig=secret'}\nagents: [10.20.1.0/24]\n", "no signature"},
		{"policy: {blob: 'https://10.0.0.1/policy/r.json'}\nagents: [10.20.1.0/24]\n", "policy.blob: give it as"},
		{good + "serviceTags: {discovery: {location: East US 2, subscription: 00000000-0000-4000-8000-000000000000}}\n", "serviceTags.discovery: name the region"},
		{good + "serviceTags: {discovery: {location: eastus2, subscription: mine}}\n", "serviceTags.discovery: name the region"},
		{good + "serviceTags: {discovery: {place: eastus2}}\n", `line 3: unknown key "place"`},
		{good + "serviceTags: {refresh: 1s}\n", "serviceTags.refresh: at least 1m"},
		{good + "feeds: {refresh: -1h}\n", "feeds.refresh: at least 1m"},
		{good + "attestation: {}\n", "attestation.url: give the blob"},
		{good + "identity: {clientId: mine}\n", "identity.clientId: give the managed identity"},
		{good + "ca: {file: root.crt}\n", "ca: name the root's key"},
		{good + "ca: {keyVault: https://v.vault.azure.net, key: k, keyFile: root.key}\n", "ca: name the root's key"},
		{good + "ca: {keyVault: https://v.vault.azure.net}\n", "ca: give the vault"},
		{good + "ca: {keyVault: http://v.vault.azure.net, key: k}\n", "ca: give the vault"},
		{good + "ca: {keyVault: v, key: k, secret: s}\n", `line 3: unknown key "secret"`},
		{"policy: {file: r.yaml}\nagents: [10.20.1.5/24]\n", "write 10.20.1.0/24"},
		{"policy: {file: r.yaml}\nagents: [0.0.0.0/0]\n", "govern every source"},
		{"policy: {file: r.yaml}\nagents: ['2001:db8::/64']\n", "IPv6 agents"},
		{"\t- :", "found character"},
	} {
		_, err := Parse([]byte(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line with %q", tc.text, err, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("policy: {file: r.yaml}\nagents: [10.20.1.0/24]\ndns: {listen: 10.20.0.4:53, clients: []}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := Parse(data); err == nil && len(c.Agents) == 0 {
			t.Error("accepted a gateway without agents")
		}
	})
}
