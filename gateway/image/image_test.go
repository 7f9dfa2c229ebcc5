package image

import (
	"bytes"
	"encoding/base64"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
)

var update = flag.Bool("update", false, "write golden files")

// certificate is a public test certificate; only its form matters here.
const certificate = `-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIBATAKBggqhkjOPQQDAjAYMRYwFAYDVQQDEw1CdWxraGVh
ZCByb290MB4XDTI2MDEwMTAwMDAwMFoXDTM2MDEwMTAwMDAwMFowGDEWMBQGA1UE
-----END CERTIFICATE-----
`

func spec() Spec {
	return Spec{
		Address:         netip.MustParseAddr("10.20.0.4"),
		Agents:          []netip.Prefix{netip.MustParsePrefix("10.20.1.0/24"), netip.MustParsePrefix("10.20.3.0/27")},
		PinScope:        "source",
		PolicyURL:       "https://contoso.blob.core.windows.net/policy/ruleset.json",
		AttestationURL:  "https://contoso.blob.core.windows.net/attestation/gateway.json",
		BundleURL:       "https://contoso.blob.core.windows.net/bundle/bulkhead-gateway_0.1.0_linux_amd64.tar.gz",
		BundleSHA256:    strings.Repeat("0123456789abcdef", 4),
		ClientID:        "11111111-2222-3333-4444-555555555555",
		VaultURI:        "https://contoso.vault.azure.net/",
		KeyName:         "bulkhead-root",
		RootCertificate: certificate,
		Discovery:       &config.Discovery{Location: "eastus2", Subscription: "00000000-0000-4000-8000-000000000000"},
	}
}

// parsed is the document as a reader of YAML sees it.
type parsed struct {
	Users  []user   `yaml:"users"`
	Boot   []string `yaml:"bootcmd"`
	Run    []string `yaml:"runcmd"`
	SSH    bool     `yaml:"ssh_pwauth"`
	Root   bool     `yaml:"disable_root"`
	Files  []file   `yaml:"write_files"`
	byPath map[string]file
}

func parse(t *testing.T, data []byte) parsed {
	t.Helper()
	if !bytes.HasPrefix(data, []byte("#cloud-config\n")) {
		t.Fatal("cloud-init tells what this is by its first line")
	}
	var p parsed
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true) // no key of which this test knows nothing
	if err := dec.Decode(&p); err != nil {
		t.Fatal(err)
	}
	p.byPath = map[string]file{}
	for _, f := range p.Files {
		p.byPath[f.Path] = f
	}
	return p
}

func TestGolden(t *testing.T) {
	got, err := UserData(spec())
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/user-data.yaml"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the user data is not %s; if it should change, run with -update and read the difference\n%s", golden, got)
	}
	again, _ := UserData(spec())
	if !bytes.Equal(got, again) {
		t.Error("not the same bytes twice: each `pulumi up` would change the machine")
	}
	if n := base64.StdEncoding.EncodedLen(len(got)); n > MaxUserData/2 {
		t.Errorf("%d bytes in base64: little is left of Azure's %d", n, MaxUserData)
	}
}

// TestConfiguration holds the rendered configuration to what the gateway itself reads.
func TestConfiguration(t *testing.T) {
	data, err := UserData(spec())
	if err != nil {
		t.Fatal(err)
	}
	files := parse(t, data).byPath
	c, err := config.Parse([]byte(files["/etc/bulkhead/gateway.yaml"].Content))
	if err != nil {
		t.Fatal(err)
	}
	listen, err := c.Listen()
	if err != nil || listen.String() != "10.20.0.4:53" {
		t.Errorf("listens on %s, %v", listen, err)
	}
	if c.Policy.Blob != spec().PolicyURL || c.Attestation.URL != spec().AttestationURL || !slices.Equal(c.Agents, config.Prefixes(spec().Agents)) {
		t.Errorf("policy %+v, attestation %+v, agents %v", c.Policy, c.Attestation, c.Agents)
	}
	if c.CA == nil || c.CA.Key != "bulkhead-root" || c.CA.File != rootFile || files[rootFile].Content != certificate {
		t.Errorf("the root: %+v", c.CA)
	}
	var reach []string
	for _, d := range c.Destinations() {
		reach = append(reach, d.Name)
	}
	for _, name := range []string{"contoso.blob.core.windows.net", "contoso.vault.azure.net", "management.azure.com"} {
		if !slices.Contains(reach, name) {
			t.Errorf("the gateway may not reach %s", name)
		}
	}

	without := spec()
	without.VaultURI, without.KeyName, without.RootCertificate = "", "", ""
	without.Discovery = nil
	if data, err = UserData(without); err != nil {
		t.Fatal(err)
	}
	files = parse(t, data).byPath
	if _, there := files[rootFile]; there || strings.Contains(files["/etc/bulkhead/gateway.yaml"].Content, "ca:") {
		t.Error("a gateway that decrypts nothing has a root")
	}
	if strings.Contains(files["/etc/bulkhead/gateway.yaml"].Content, "serviceTags") {
		t.Error("a gateway that asks for no service tags is told where")
	}
}

// TestClosedFirst shows that the machine is closed before anything of ours runs, at each
// boot, and that nobody can log in where no key was given.
func TestClosedFirst(t *testing.T) {
	for _, ssh := range []bool{false, true} {
		s := spec()
		s.SSH = ssh
		data, err := UserData(s)
		if err != nil {
			t.Fatal(err)
		}
		p := parse(t, data)
		if p.Boot[0] != "sysctl -q -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0" {
			t.Errorf("first at boot: %s", p.Boot[0])
		}
		for path, f := range p.byPath {
			if strings.HasPrefix(path, "/etc/sysctl.d/") && strings.Contains(f.Content, "forward") {
				t.Errorf("%s would be applied again while the gateway runs", path)
			}
		}
		masked := slices.Contains(p.Boot, "systemctl mask --now ssh.socket ssh.service")
		if masked == ssh || (len(p.Users) == 0) != ssh || p.SSH || !p.Root {
			t.Errorf("with a key: %v; SSH masked: %v, users %v, passwords %v, root disabled %v", ssh, masked, p.Users, p.SSH, p.Root)
		}
	}
}

// secret is what must never be in user data, which every process of the machine can read.
var secret = regexp.MustCompile(`(?i)PRIVATE KEY|[?&](sig|se|sp)=|AccountKey|SharedAccess|passw(or)?d:|Bearer e|client_?secret`)

func TestNoSecret(t *testing.T) {
	data, err := UserData(spec())
	if err != nil {
		t.Fatal(err)
	}
	if m := secret.Find(data); m != nil {
		t.Errorf("%q is in the user data", m)
	}
}

// TestRefused shows that what the gateway or Azure would refuse later is refused here, and
// that no message repeats a secret.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no address":           {func(s *Spec) { s.Address = netip.Addr{} }, "no IPv4 address"},
		"no agents":            {func(s *Spec) { s.Agents = nil }, "agents"},
		"all sources":          {func(s *Spec) { s.Agents = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }, "agents[0]"},
		"pin scope":            {func(s *Spec) { s.PinScope = "everyone" }, "dns.pinScope"},
		"shared, no clients":   {func(s *Spec) { s.PinScope = "shared" }, "dns.clients"},
		"policy's signature":   {func(s *Spec) { s.PolicyURL += "?sig=hunter2" }, "policy.blob"},
		"bundle's signature":   {func(s *Spec) { s.BundleURL += "?sig=hunter2" }, "no signature"},
		"bundle over HTTP":     {func(s *Spec) { s.BundleURL = strings.Replace(s.BundleURL, "https", "http", 1) }, "release's URL"},
		"a second line":        {func(s *Spec) { s.BundleURL += "\nsha256=" }, "release's URL"},
		"short digest":         {func(s *Spec) { s.BundleSHA256 = "abc" }, "digest"},
		"no attestation":       {func(s *Spec) { s.AttestationURL = "" }, "attestation"},
		"client id":            {func(s *Spec) { s.ClientID = "$(id)" }, "client id"},
		"vault without a root": {func(s *Spec) { s.RootCertificate = "" }, "decryption"},
		"key beside the root": {func(s *Spec) {
			s.RootCertificate += "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"
		}, "one PEM block"},
		"key before the root": {func(s *Spec) { s.RootCertificate = "hunter2 -----BEGIN EC PRIVATE KEY-----\n" + s.RootCertificate }, "one PEM block"},
		"more than Azure takes": {func(s *Spec) {
			s.RootCertificate = strings.Replace(certificate, "MIIB", strings.Repeat("MIIB", 20000), 1)
		}, "bytes in base64"},
	} {
		s := spec()
		c.change(&s)
		_, err := UserData(s)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want an error with %q", name, err, c.want)
		}
	}
}

// TestUnits lets systemd itself read the units, where it is there.
func TestUnits(t *testing.T) {
	if out, err := exec.Command("bash", "-n", "bulkhead-setup").CombinedOutput(); err != nil {
		t.Errorf("bash: %v\n%s", err, out)
	}
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	out, err := exec.Command(tool, "verify", "--man=no", "./bulkhead-setup.service", "./bulkhead-setup.timer").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "bulkhead") && !strings.Contains(line, "is not executable") {
			t.Errorf("systemd: %s (%v)", line, err)
		}
	}
}
