// Package config reads the gateway's own configuration: where the ruleset is, whose
// packets are governed, and the gateway's places on the network and on disk. What may
// pass is the ruleset's business, not this file's.
//
// The file is YAML, read strictly: an unknown key is an error with its line. Every key
// but policy and agents has a default.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// AddrPort is an address with a port, such as 10.20.0.4:53.
type AddrPort struct{ netip.AddrPort }

// UnmarshalYAML reads an address with a port; its error has the line.
func (a *AddrPort) UnmarshalYAML(n *yaml.Node) (err error) {
	if a.AddrPort, err = netip.ParseAddrPort(n.Value); err != nil {
		return fmt.Errorf("line %d: %q: write an address with a port, such as 10.20.0.4:53", n.Line, n.Value)
	}
	return nil
}

// Prefixes is a list of subnets; a single address is a subnet of its own.
type Prefixes []netip.Prefix

// UnmarshalYAML reads a list of subnets; its error has the line.
func (ps *Prefixes) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: write a list of subnets, such as [10.20.1.0/24]", n.Line)
	}
	for _, item := range n.Content {
		e, err := parseEgress(item.Value)
		if err != nil || e.Name != "" {
			return fmt.Errorf("line %d: %q: write a subnet, such as 10.20.1.0/24", item.Line, item.Value)
		}
		if given, err := netip.ParsePrefix(item.Value); err == nil && given != e.Prefix {
			return fmt.Errorf("line %d: %s has bits outside its prefix: write %s", item.Line, given, e.Prefix)
		}
		*ps = append(*ps, e.Prefix)
	}
	return nil
}

// maxFile bounds a configuration file; real ones have a few hundred bytes.
const maxFile = 1 << 20

// Config is one gateway's configuration.
type Config struct {
	Policy      Policy              `yaml:"policy"`
	Agents      Prefixes            `yaml:"agents"` // whose packets are governed, by source address
	DNS         DNS                 `yaml:"dns"`
	SNAT        string              `yaml:"snat"`   // all, or internet: private destinations keep the agent's address
	Egress      []string            `yaml:"egress"` // names, addresses and prefixes that the gateway itself may reach
	ServiceTags ServiceTags         `yaml:"serviceTags"`
	Feeds       Feeds               `yaml:"feeds"`
	CA          *CA                 `yaml:"ca"` // nil: nothing is decrypted
	Audit       Audit               `yaml:"audit"`
	Identity    Identity            `yaml:"identity"`    // the gateway's own, for Azure's services
	Attestation *Attestation        `yaml:"attestation"` // nil: nobody is told
	Admin       Admin               `yaml:"admin"`
	State       State               `yaml:"state"`
	Workloads   map[string]Prefixes `yaml:"workloads"` // names for sources in the audit
	Limits      Limits              `yaml:"limits"`
}

// Policy says where the ruleset is: in a file, or in a blob that deployers publish to.
type Policy struct {
	File string `yaml:"file"`
	Blob string `yaml:"blob"` // https://ACCOUNT.blob.core.windows.net/CONTAINER/NAME
}

// DNS is the gateway's resolver.
type DNS struct {
	Listen   AddrPort        `yaml:"listen"`   // default: port 53 of the address that the default route uses
	Upstream []AddrPort      `yaml:"upstream"` // default: Azure DNS
	PinScope policy.PinScope `yaml:"pinScope"` // source, shared or verify
	Clients  Prefixes        `yaml:"clients"`  // resolvers that ask on behalf of all agents
}

// ServiceTags says where the addresses behind Azure's service tags come from: a file, Azure
// itself, or the file until Azure has answered for the first time.
type ServiceTags struct {
	File      string        `yaml:"file"`
	Discovery *Discovery    `yaml:"discovery"`
	Refresh   time.Duration `yaml:"refresh"`
}

// Discovery is where Azure is asked for its service tags. The list is the same in all regions but for
// how new it is, and Azure gives it to whoever may read it in a subscription.
type Discovery struct {
	Location     string `yaml:"location"`     // such as eastus2
	Subscription string `yaml:"subscription"` // its id
}

// Feeds says where threat feeds are kept, and how often their URLs are asked.
type Feeds struct {
	Dir     string        `yaml:"dir"`
	Refresh time.Duration `yaml:"refresh"`
}

// CA is the root that agents trust for what is decrypted: a key in Key Vault, or for a
// lab in a file.
type CA struct {
	KeyVault string `yaml:"keyVault"` // https://NAME.vault.azure.net
	Key      string `yaml:"key"`      // its name there
	File     string `yaml:"file"`     // the root's certificate
	KeyFile  string `yaml:"keyFile"`  // instead of a vault
}

// Audit says where decisions are written.
type Audit struct {
	File string `yaml:"file"`
}

// Identity says which managed identity the gateway asks Azure's services as.
type Identity struct {
	ClientID string `yaml:"clientId"` // empty: the machine's only one
}

// Attestation is the blob in which the gateway says which ruleset it enforces.
type Attestation struct {
	URL string `yaml:"url"`
}

// Admin is the address of health, readiness and metrics.
type Admin struct {
	Listen AddrPort `yaml:"listen"`
}

// State is the directory of what survives a restart.
type State struct {
	Dir string `yaml:"dir"`
}

// Limits bound what agents can make the gateway hold.
type Limits struct {
	Flows          int           `yaml:"flows"`
	FlowsPerSource int           `yaml:"flowsPerSource"`
	HelloTimeout   time.Duration `yaml:"helloTimeout"`
	PinsPerSource  int           `yaml:"pinsPerSource"`
}

func defaults() Config {
	return Config{
		DNS:         DNS{Upstream: []AddrPort{{netip.MustParseAddrPort("168.63.129.16:53")}}, PinScope: policy.ScopeSource},
		SNAT:        "all",
		ServiceTags: ServiceTags{Refresh: 24 * time.Hour},
		Feeds:       Feeds{Dir: "/var/lib/bulkhead/feeds", Refresh: 6 * time.Hour},
		Audit:       Audit{File: "/var/log/bulkhead/audit.jsonl"},
		Admin:       Admin{Listen: AddrPort{netip.MustParseAddrPort("127.0.0.1:9180")}},
		State:       State{Dir: "/var/lib/bulkhead"},
		Limits:      Limits{Flows: 20000, FlowsPerSource: 2000, HelloTimeout: 5 * time.Second, PinsPerSource: 20000},
	}
}

// Load reads a file. Its error is one line that names the file, the place and the
// fix.
func Load(file string) (*Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// Parse reads a configuration and fills in defaults.
func Parse(data []byte) (*Config, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("longer than %d bytes: this is no gateway configuration", maxFile)
	}
	c := defaults()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, legible(err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, fmt.Errorf("line %d: a second document follows: keep one in a file", second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, legible(err)
	}
	if c.CA != nil && c.CA.File == "" {
		c.CA.File = "/etc/bulkhead/root.crt"
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// region is a region's name as Azure's resource manager writes it.
var region = regexp.MustCompile(`^[a-z][a-z0-9]{1,62}$`)

// minRefresh keeps gateways from being a burden to those who publish feeds for nothing.
const minRefresh = time.Minute

var unknownField = regexp.MustCompile(`line (\d+): field (\S+) not found in type config\.(\S+)`)

// legible puts the YAML library's errors into the file's terms, on one line.
func legible(err error) error {
	msg := err.Error()
	if m := unknownField.FindStringSubmatch(msg); m != nil {
		return fmt.Errorf("line %s: unknown key %q; see docs/reference/configuration.md for the keys of %s", m[1], m[2], strings.ToLower(m[3]))
	}
	msg = strings.TrimPrefix(strings.TrimPrefix(msg, "yaml: "), "unmarshal errors:\n")
	return errors.New(strings.Join(strings.Fields(strings.ReplaceAll(msg, "\n", "; ")), " "))
}

func (c *Config) validate() error {
	for _, check := range []struct {
		bad  bool
		text string
	}{
		{c.Policy.File == "" && c.Policy.Blob == "", "policy: name the ruleset, for example `policy: {file: /etc/bulkhead/ruleset.yaml}`"},
		{c.Policy.File != "" && c.Policy.Blob != "", "policy: name a file or a blob, not both"},
		{c.Policy.Blob != "" && blobHost(c.Policy.Blob) == "", "policy.blob: give it as https://ACCOUNT.blob.core.windows.net/policy/ruleset.json; the managed identity reads it, so no signature or key belongs there"},
		{c.Attestation != nil && blobHost(c.Attestation.URL) == "", "attestation.url: give the blob as https://ACCOUNT.blob.core.windows.net/attestation/gateway.json; the managed identity writes it, so no signature or key belongs there"},
		{c.ServiceTags.Discovery != nil && !c.ServiceTags.Discovery.valid(), "serviceTags.discovery: name the region and the subscription's id, such as {location: eastus2, subscription: 00000000-0000-0000-0000-000000000000}"},
		{c.ServiceTags.Refresh < minRefresh, "serviceTags.refresh: at least 1m"},
		{c.Feeds.Refresh < minRefresh, "feeds.refresh: at least 1m"},
		{c.CA != nil && (c.CA.KeyVault == "") == (c.CA.KeyFile == ""), "ca: name the root's key, `{keyVault: https://NAME.vault.azure.net, key: bulkhead-root}`, or for a lab `{file: root.crt, keyFile: root.key}`"},
		{c.CA != nil && c.CA.KeyVault != "" && (c.vault() == "" || c.CA.Key == ""), "ca: give the vault as https://NAME.vault.azure.net and the key by its name"},
		{c.Identity.ClientID != "" && !guid.MatchString(c.Identity.ClientID), "identity.clientId: give the managed identity's client id, such as 11111111-2222-3333-4444-555555555555"},
		{len(c.Agents) == 0, "agents: name the agents' subnets, for example `agents: [10.20.1.0/24]`"},
		{c.SNAT != "all" && c.SNAT != "internet", fmt.Sprintf("snat: %q is neither all nor internet", c.SNAT)},
		{!slices.Contains([]policy.PinScope{policy.ScopeSource, policy.ScopeShared, policy.ScopeVerify}, c.DNS.PinScope),
			fmt.Sprintf("dns.pinScope: %q is not source, shared or verify", c.DNS.PinScope)},
		{c.DNS.PinScope == policy.ScopeSource && len(c.DNS.Clients) > 0, "dns.clients: needs `pinScope: shared`, because a resolver in between hides which agent asked"},
		{c.DNS.PinScope == policy.ScopeShared && len(c.DNS.Clients) == 0, "dns.clients: `pinScope: shared` needs the addresses that the questions come from"},
		{len(c.DNS.Upstream) == 0, "dns.upstream: name at least one resolver, such as 168.63.129.16:53"},
		{c.DNS.Listen.IsValid() && !c.DNS.Listen.Addr().Is4(), "dns.listen: give an IPv4 address with a port, such as 10.20.0.4:53"},
		{c.Audit.File == "", "audit.file: name the file that decisions are written to"},
		{c.State.Dir == "", "state.dir: name a directory"},
		{c.Limits.Flows < 1, "limits.flows: at least 1"},
		{c.Limits.FlowsPerSource < 1 || c.Limits.FlowsPerSource > math.MaxUint32, "limits.flowsPerSource: from 1 to 4294967295, which is what the kernel counts to"},
		{c.Limits.PinsPerSource < 1, "limits.pinsPerSource: at least 1"},
		{c.Limits.HelloTimeout < 100*time.Millisecond || c.Limits.HelloTimeout > time.Minute, "limits.helloTimeout: from 100ms to 1m"},
	} {
		if check.bad {
			return errors.New(check.text)
		}
	}
	for i, p := range c.Agents {
		switch {
		case !p.Addr().Is4():
			return fmt.Errorf("agents[%d]: %s: IPv6 agents are not supported; use IPv4", i, p)
		case p.Bits() == 0:
			return fmt.Errorf("agents[%d]: %s would govern every source, the gateway's own management too: name the subnets", i, p)
		}
	}
	for i, u := range c.DNS.Upstream {
		if !u.Addr().Is4() || u.Port() == 0 {
			return fmt.Errorf("dns.upstream[%d]: give an IPv4 address with a port, such as 168.63.129.16:53", i)
		}
	}
	for i, e := range c.Egress {
		if _, err := parseEgress(e); err != nil {
			return fmt.Errorf("egress[%d]: %w", i, err)
		}
	}
	named := map[netip.Prefix]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Workloads)) {
		for _, p := range c.Workloads[name] {
			if other, twice := named[p]; twice {
				return fmt.Errorf("workloads: %q and %q both name %s: the audit needs one name for it", other, name, p)
			}
			named[p] = name
		}
	}
	return nil
}

func (d *Discovery) valid() bool {
	return region.MatchString(d.Location) && guid.MatchString(d.Subscription)
}

// resourceManager is where Azure lists its service tags.
const resourceManager = "management.azure.com"

// Egress is one destination of the gateway itself: a prefix, or a name that stands
// for whatever the upstream resolver says it is.
type Egress struct {
	Prefix netip.Prefix
	Name   string
	Port   uint16 // TCP; 0: any protocol and port
}

// Destinations returns what `egress` lists, and what other settings imply, which is HTTPS: the vault
// of `ca`, the storage accounts of `policy` and `attestation`, and Azure's resource manager for
// `serviceTags.discovery`. Tokens come from the machine's metadata service, which every gateway reaches.
func (c *Config) Destinations() []Egress {
	out := make([]Egress, 0, len(c.Egress)+4)
	for _, e := range c.Egress {
		d, _ := parseEgress(e) // validated
		out = append(out, d)
	}
	implied := []string{c.vault(), blobHost(c.Policy.Blob)}
	if c.Attestation != nil {
		implied = append(implied, blobHost(c.Attestation.URL))
	}
	if c.ServiceTags.Discovery != nil {
		implied = append(implied, resourceManager)
	}
	for _, name := range implied {
		if d := (Egress{Name: name, Port: 443}); name != "" && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

// vault is the host of the key vault, empty where there is none, or no such URL.
func (c *Config) vault() string {
	if c.CA == nil {
		return ""
	}
	host, path := azureURL(c.CA.KeyVault)
	if path != "" {
		return ""
	}
	return host
}

// blobHost is the host of a blob's URL, empty where it is none: a container and a name below
// it are needed.
func blobHost(raw string) string {
	host, path := azureURL(raw)
	if container, name, _ := strings.Cut(path, "/"); container == "" || name == "" {
		return ""
	}
	return host
}

// azureURL takes the URL of an Azure service apart. Host is empty where it is none that we
// ask: plain HTTP, another port, an address, or a secret in it.
func azureURL(raw string) (host, path string) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", ""
	}
	name, _ := policy.NormalizeName(u.Host)
	return name, strings.Trim(u.Path, "/")
}

func parseEgress(s string) (Egress, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return Egress{Prefix: p.Masked()}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return Egress{Prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	name, ok := policy.NormalizeName(s)
	if !ok {
		return Egress{}, fmt.Errorf("%q is no name, address or prefix", s)
	}
	return Egress{Name: name}, nil
}

// Listen returns dns.listen, or port 53 of the address that packets to the internet
// leave from.
func (c *Config) Listen() (netip.AddrPort, error) {
	if c.DNS.Listen.IsValid() {
		return c.DNS.Listen.AddrPort, nil
	}
	// A connected UDP socket sends nothing; it only asks for the route.
	conn, err := net.Dial("udp4", "168.63.129.16:53")
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("dns.listen: no default route to tell the gateway's address from (%w): set it", err)
	}
	defer conn.Close()
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(local.Addr().Unmap(), 53), nil
}

// Workload returns the audit's name for a source: the one that `workloads` gives it,
// or its address.
func (c *Config) Workload(src netip.Addr) string {
	best, bits := src.String(), -1
	for name, ps := range c.Workloads {
		for _, p := range ps {
			if p.Contains(src) && p.Bits() > bits {
				best, bits = name, p.Bits()
			}
		}
	}
	return best
}
