package lab

import (
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Ruleset is what the lab's gateway enforces unless Options say otherwise: the
// default ruleset with a package mirror and one monitored rule. FEEDS in
// it stands for the folder of the lab's feeds.
//
//go:embed ruleset.yaml
var Ruleset string

// feed is the lab's threat intelligence: one address, in the netset format.
var feed = "# addresses seen attacking\n" + Malicious.String() + "\n"

// serviceTags is a file as Azure publishes it weekly ("Azure IP Ranges and Service
// Tags"), with the tags that the default ruleset names and the lab's addresses.
func serviceTags() ([]byte, error) {
	type properties struct {
		ChangeNumber    int      `json:"changeNumber"`
		Region          string   `json:"region"`
		RegionID        int      `json:"regionId"`
		Platform        string   `json:"platform"`
		SystemService   string   `json:"systemService"`
		AddressPrefixes []string `json:"addressPrefixes"`
		NetworkFeatures []string `json:"networkFeatures"`
	}
	type value struct {
		Name       string     `json:"name"`
		ID         string     `json:"id"`
		Properties properties `json:"properties"`
	}
	var values []value
	for _, t := range []struct{ name, prefix string }{
		{"AzureActiveDirectory", "20.190.128.0/18"},
		{"AzureContainerRegistry", "20.45.122.144/28"},
		{"AzureFrontDoor.FirstParty", "150.171.64.0/20"},
		{"MicrosoftContainerRegistry", "150.171.70.0/24"},
	} {
		values = append(values, value{t.name, t.name, properties{ChangeNumber: 1, Platform: "Azure", SystemService: t.name,
			AddressPrefixes: []string{t.prefix}, NetworkFeatures: []string{}}})
	}
	return json.MarshalIndent(map[string]any{"changeNumber": 1, "cloud": "Public", "values": values}, "", "  ")
}

// Paths are the files of a lab, all below Dir.
type Paths struct {
	Dir     string `json:"dir"`
	Config  string `json:"config"`  // the gateway's configuration
	Ruleset string `json:"ruleset"` // the ruleset in force
	Audit   string `json:"audit"`   // the audit log
	Log     string `json:"log"`     // what the gateway logs
	Trust   string `json:"trust"`   // certificates that the agents trust
}

func newPaths(dir string) Paths {
	at := func(name string) string { return filepath.Join(dir, name) }
	return Paths{Dir: dir, Config: at("gateway.yaml"), Ruleset: at("ruleset.yaml"), Audit: at("audit.jsonl"), Log: at("gateway.log"), Trust: at("trust.pem")}
}

// WriteRuleset puts a ruleset in the gateway's file; the gateway reads it when it
// starts, when it sees the change, and on SIGHUP.
func (l *Lab) WriteRuleset(yaml string) error {
	// In one step, so that the gateway never reads half of it.
	tmp := l.Paths.Ruleset + ".new"
	origins, err := json.Marshal(string(l.CA.PEM)) // a JSON string is a YAML one
	if err != nil {
		return err
	}
	yaml = strings.NewReplacer("FEEDS", l.feeds(), "LABCA", string(origins)).Replace(yaml)
	if err := os.WriteFile(tmp, []byte(yaml), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, l.Paths.Ruleset)
}

// workloads names the agents for the audit.
func (l *Lab) workloads() map[string]any {
	out := map[string]any{}
	if l.network.Subnet(agentBridge) == nil {
		return out
	}
	for _, m := range l.network.Subnet(agentBridge).Machines {
		out[m.Name] = []string{netip.PrefixFrom(m.Addrs[0], 32).String()}
	}
	return out
}

func (l *Lab) feeds() string { return filepath.Join(l.Paths.Dir, "feeds") }

// writeFiles writes everything that the gateway is configured with.
func (l *Lab) writeFiles(ruleset string, configure func(map[string]any)) error {
	dir := l.Paths.Dir
	for _, d := range []string{l.feeds(), filepath.Join(dir, "state")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if ruleset == "" {
		ruleset = Ruleset
	}
	if err := l.WriteRuleset(ruleset); err != nil {
		return err
	}
	tags, err := serviceTags()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		filepath.Join(l.feeds(), "ipsum.netset"): []byte(feed),
		filepath.Join(dir, "servicetags.json"):   tags,
		l.Paths.Trust:                            l.CA.PEM,
	}
	if l.Root != nil {
		files[l.Paths.Trust] = slices.Concat(l.CA.PEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.Root.Raw}))
	}
	config := map[string]any{
		"policy":      map[string]any{"file": l.Paths.Ruleset},
		"agents":      []string{AgentSubnet.String()},
		"dns":         map[string]any{"listen": l.NextHop().String() + ":53", "upstream": []string{WireServer.String() + ":53"}},
		"serviceTags": map[string]any{"file": filepath.Join(dir, "servicetags.json")},
		"feeds":       map[string]any{"dir": l.feeds()},
		"audit":       map[string]any{"file": l.Paths.Audit},
		"admin":       map[string]any{"listen": adminAddr},
		"state":       map[string]any{"dir": filepath.Join(dir, "state")},
		"workloads":   l.workloads(),
	}
	if configure != nil {
		configure(config)
	}
	if files[l.Paths.Config], err = yaml.Marshal(config); err != nil {
		return fmt.Errorf("gateway configuration: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
