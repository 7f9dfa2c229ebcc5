package feeds

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestServiceTags(t *testing.T) {
	f, err := os.Open("testdata/servicetags.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tags, meta, err := ServiceTags(f)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Meta{Cloud: "Public", ChangeNumber: 376, Tags: 4, Prefixes: 12, IPv6: 4}); meta != want {
		t.Errorf("meta %+v, want %+v", meta, want)
	}
	if got := tags["AzureFrontDoor.FirstParty"]; len(got) != 3 || got[0] != netip.MustParsePrefix("13.107.3.0/24") {
		t.Errorf("AzureFrontDoor.FirstParty: %v", got)
	}
	if diff := cmp.Diff(fmt.Sprint(tags["AzureFrontDoor.FirstParty"]), fmt.Sprint(tags["AzureFrontDoorFirstParty"])); diff != "" {
		t.Error(diff)
	}
}

func TestServiceTagsRefused(t *testing.T) {
	entry := func(name, prefix string) string {
		return fmt.Sprintf(`{"name":%q,"properties":{"addressPrefixes":[%q]}}`, name, prefix)
	}
	for _, tt := range []struct{ in, want string }{
		{"", "EOF"},
		{"<html>", "invalid character"},
		{"{}", "no tags"},
		{`{"values":[` + entry("A", "13.0.0.0/24"), "EOF"},
		{`{"values":[` + entry("A", "13.0.0.0/24") + `]} x`, "after the JSON object"},
		{`{"values":[` + entry("A", "13.0.0.0/33") + `]}`, "values[0].properties.addressPrefixes[0] is no prefix"},
		{`{"values":[` + entry("A", "0.0.0.0/0") + `]}`, "wider than /8"},
		{`{"values":[` + entry("", "13.0.0.0/24") + `]}`, "no name"},
		{`{"values":[` + entry("A", "13.0.0.0/24") + `,` + entry("A", "13.0.0.0/24") + `]}`, "a second time"},
		{`{"values":[` + entry("A", "13.0.0.0/24") + `]}` + strings.Repeat(" ", maxBytes), "longer than 64 MiB"},
	} {
		if _, _, err := ServiceTags(strings.NewReader(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.80q: %v, want %q", tt.in, err, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, format, in string
		prefixes, names  string
		stats            Stats
	}{
		{
			name: "netset", format: Netset,
			in:       "\ufeff# a list\n; and another way to say so\r\n45.148.10.240\r\n45.148.10.241 # inline\n2.57.122.0/24 ; SBL1\n  80.82.77.33-80.82.77.36\n\n2001:db8::/32\n2a00::1\n",
			prefixes: "[2.57.122.0/24 45.148.10.240/31 80.82.77.33/32 80.82.77.34/31 80.82.77.36/32]",
			stats:    Stats{Lines: 6, Entries: 5, IPv6: 2},
		},
		{
			name: "merged", format: Netset,
			in:       "8.8.8.0/25\n8.8.8.128/25\n8.8.8.8\n8.8.9.7/24\n",
			prefixes: "[8.8.8.0/23]", stats: Stats{Lines: 4, Entries: 1},
		},
		{
			name: "what would cut the platform", format: Netset,
			in:       "45.0.0.1\n10.0.0.0/8\n100.64.1.1\n168.63.129.16\n168.63.0.0/16\n192.0.0.0/8\n169.254.169.254\n0.0.0.0/0\n45.0.0.0-46.255.255.255\n224.0.0.1\n",
			prefixes: "[45.0.0.1/32]", stats: Stats{Lines: 10, Entries: 1, Special: 7, Wide: 2},
		},
		{
			name: "the platform's names", format: Domains,
			in:    "evil.example\nmcr.microsoft.com\nmicrosoftonline.com\nlogin.microsoftonline.com\nwindows.net\neastus.login.microsoft.com\ngsm1eh.servicebus.windows.net\nevil.servicebus.windows.net\n",
			names: "[evil.example evil.servicebus.windows.net]", stats: Stats{Lines: 8, Entries: 2, Special: 6},
		},
		{
			name: "domains", format: Domains,
			in:    "Evil.Example.COM.\n*.wild.example.net\n.dotted.example.net\nbücher.example\nco.uk\ncom\nduckdns.org\n_dmarc.example.org\nevil.example.com\n",
			names: "[_dmarc.example.org dotted.example.net duckdns.org evil.example.com wild.example.net xn--bcher-kva.example]",
			stats: Stats{Lines: 9, Entries: 6, Wide: 2},
		},
		{
			name: "hosts", format: Hosts,
			in:    "127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\n0.0.0.0\tevil.example.com  other.example.com # two\n255.255.255.255 broadcasthost\n",
			names: "[evil.example.com other.example.com]", stats: Stats{Lines: 4, Entries: 2},
		},
		{
			name: "a tenth is bad", format: Netset,
			in:       strings.Repeat("45.0.0.1\n", 9) + "what\n",
			prefixes: "[45.0.0.1/32]", stats: Stats{Lines: 10, Entries: 1, Bad: 1, FirstBad: 10},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, stats, err := Parse(tt.format, strings.NewReader(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(data.Prefixes); tt.prefixes != "" && got != tt.prefixes {
				t.Errorf("prefixes %s, want %s", got, tt.prefixes)
			}
			if got := fmt.Sprint(data.Names); tt.names != "" && got != tt.names {
				t.Errorf("names %s, want %s", got, tt.names)
			}
			if stats != tt.stats {
				t.Errorf("stats %+v, want %+v", stats, tt.stats)
			}
		})
	}
}

func TestParseRefused(t *testing.T) {
	for _, tt := range []struct{ name, format, in, want string }{
		{"format", "stix", "", "use domains, hosts or netset"},
		{"empty", Netset, "# nothing\n", "no entries"},
		{"only what is left out", Netset, "10.0.0.0/8\n", "no entries"},
		{"page", Domains, "\n<!DOCTYPE html>\n", "HTML"},
		{"two tenths are bad", Netset, strings.Repeat("45.0.0.1\n", 8) + "what\n45.0.0.0/99\n", "2 of 10 lines are not netset, the first is line 9"},
		{"backwards", Netset, "45.0.0.2-45.0.0.1\n", "1 of 1"},
		{"mixed", Netset, "45.0.0.2-2a00::1\n", "1 of 1"},
		{"adblock", Domains, "||evil.example^\n", "1 of 1"},
		{"addresses are not domains", Domains, "45.0.0.2\n", "1 of 1"},
		{"names are not hosts", Hosts, "evil.example.com\n", "1 of 1"},
		{"long line", Domains, strings.Repeat("a", maxLine) + "\n", "longer than 4096 bytes"},
		{"long file", Netset, strings.Repeat("# "+strings.Repeat("x", 1021)+"\n", maxBytes>>10) + "45.0.0.1\n", "longer than 64 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, _, err := Parse(tt.format, strings.NewReader(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if data.Names != nil || data.Prefixes != nil {
				t.Error("a refused feed has data")
			}
		})
	}
}

// TestKept holds the table against the evaluator's own: no address that is not in
// the group `internet` may be cut by a feed.
func TestKept(t *testing.T) {
	for n, step := uint64(0), uint64(0); n < 1<<32; n += step {
		step = 1 << 16
		if first := n >> 24; first >= 192 && first <= 203 { // the registry's blocks of /24 are all here
			step = 1 << 8
		}
		r := addrRange{uint32(n), uint32(n)}
		if a := address(r.from); r.judge() == taken && !policy.IsInternet(a) {
			t.Fatalf("a feed may cut %s", a)
		}
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "ipsum.txt"), "45.0.0.1\n10.0.0.1\n")
	write(t, filepath.Join(dir, "abuse.ch.netset"), "45.0.0.2\n")
	write(t, filepath.Join(dir, "twice.txt"), "45.0.0.3\n")
	write(t, filepath.Join(dir, "twice.csv"), "45.0.0.3\n")
	write(t, filepath.Join(dir, "page.html"), "<html>")
	write(t, filepath.Join(dir, "kept.html"), "<html>")
	file := write(t, filepath.Join(elsewhere, "own"), "evil.example.com\n")
	doc := &policy.Document{ThreatGroups: []policy.ThreatGroup{
		{Name: "a", Feeds: []policy.Feed{
			{Name: "ipsum", Format: Netset, URL: "https://example.com/ipsum.txt"}, {Name: "abuse.ch", Format: Netset},
			{Name: "twice", Format: Netset}, {Name: "page", Format: Netset}, {Name: "kept", Format: Netset}, {Name: "none", Format: Netset},
		}},
		{Name: "b", Feeds: []policy.Feed{
			{Name: "ipsum", Format: Netset, URL: "https://example.com/ipsum.txt"},
			{Name: "own", Format: Domains, URL: "file://" + file}, {Name: "rel", Format: Netset, URL: "file:ipsum.txt"},
			{Name: "far", Format: Netset, URL: "file://host/x"}, {Name: "dir", Format: Netset, URL: "file://" + dir},
		}},
	}}
	last := policy.Data{Feeds: map[string]policy.FeedData{"kept": {Prefixes: []netip.Prefix{netip.MustParsePrefix("46.0.0.0/24")}}}}
	data, problems, err := Load(doc, Options{Dir: dir, ServiceTagsFile: "testdata/servicetags.json", Last: last})
	if err != nil {
		t.Fatal(err)
	}
	if len(data.ServiceTags) != 5 {
		t.Errorf("%d tags", len(data.ServiceTags))
	}
	got := map[string]string{}
	for name, d := range data.Feeds {
		got[name] = fmt.Sprint(d.Prefixes, d.Names)
	}
	want := map[string]string{
		"ipsum": "[45.0.0.1/32] []", "abuse.ch": "[45.0.0.2/32] []", "own": "[] [evil.example.com]",
		"rel": "[45.0.0.1/32] []", "kept": "[46.0.0.0/24] []",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("feeds (-want +got):\n%s", diff)
	}
	var text []string
	for _, p := range problems {
		text = append(text, strings.NewReplacer(dir, "DIR").Replace(p.String()))
	}
	wantProblems := []string{
		`feed "ipsum" (DIR/ipsum.txt): 1 of 2 lines would cut private or special-purpose addresses, or names of the platform, and were left out`,
		`feed "twice": DIR holds more than one file of that name (twice.csv, twice.txt): leave one; its group matches nothing of it`,
		`feed "page" (DIR/page.html): it is an HTML or XML page, not a list; its group matches nothing of it`,
		`feed "kept" (DIR/kept.html): it is an HTML or XML page, not a list; the data in force stays`,
		`feed "none": there is no file of that name in DIR; its group matches nothing of it`,
		`feed "rel" (DIR/ipsum.txt): 1 of 2 lines would cut private or special-purpose addresses, or names of the platform, and were left out`,
		`feed "far": file://host/x is on another machine: write file:///path; its group matches nothing of it`,
		`feed "dir" (DIR): it is not a plain file; its group matches nothing of it`,
	}
	if diff := cmp.Diff(wantProblems, text); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestLoadServiceTags(t *testing.T) {
	bad := write(t, filepath.Join(t.TempDir(), "tags.json"), "{}")
	if _, _, err := Load(&policy.Document{}, Options{ServiceTagsFile: bad}); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("tags that cannot be read: %v", err)
	}
	last := policy.Data{ServiceTags: map[string][]netip.Prefix{"A": nil}}
	data, problems, err := Load(&policy.Document{}, Options{ServiceTagsFile: bad, Last: last})
	if err != nil || len(problems) != 1 || len(data.ServiceTags) != 1 {
		t.Errorf("tags in force: %v, %v, %v", data, problems, err)
	}
	data, problems, err = Load(&policy.Document{ThreatGroups: []policy.ThreatGroup{{Feeds: []policy.Feed{{Name: "x"}}}}}, Options{})
	if err != nil || len(problems) != 0 || data.Feeds != nil || data.ServiceTags != nil {
		t.Errorf("nothing was named: %v, %v, %v", data, problems, err)
	}
}

// TestPublished reads whole published files where BULKHEAD_DATA names a directory
// that holds them; they are too large for the repository.
func TestPublished(t *testing.T) {
	dir := os.Getenv("BULKHEAD_DATA")
	if dir == "" {
		t.Skip("BULKHEAD_DATA names no directory with published files")
	}
	files, err := filepath.Glob(filepath.Join(dir, "ServiceTags_Public_*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no service tags in %s", dir)
	}
	for _, path := range files {
		tags, err := readServiceTags(path)
		if err != nil || len(tags["AzureFrontDoorFirstParty"]) == 0 || len(tags) < 1000 {
			t.Errorf("%s: %d tags, %v", path, len(tags), err)
		}
	}
	for name, format := range map[string]string{"ipsum-level3.txt": Netset, "maltrail-domains.txt": Domains} {
		_, stats, err := readFeed(format, filepath.Join(dir, name))
		if err != nil || stats.Entries < 10_000 {
			t.Errorf("%s: %+v, %v", name, stats, err)
		}
		t.Logf("%s: %+v", name, stats)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Netset, "45.0.0.0-45.0.0.9 # x\n2.57.122.0/24\n255.255.255.255\n")
	f.Add(Domains, "*.evil.example\nbücher.example\n")
	f.Add(Hosts, "0.0.0.0 evil.example ; x\n")
	f.Fuzz(func(t *testing.T, format, in string) {
		data, stats, err := Parse(format, strings.NewReader(in))
		if err != nil {
			return
		}
		if stats.Entries != len(data.Names)+len(data.Prefixes) || stats.Bad*10 > stats.Lines {
			t.Fatalf("stats %+v", stats)
		}
		for _, name := range data.Names {
			if again, ok := policy.NormalizeName(name); !ok || again != name {
				t.Fatalf("%q is not normal", name)
			}
		}
		for i, p := range data.Prefixes {
			if p != p.Masked() || !policy.IsInternet(p.Addr()) || p.Bits() < minBits {
				t.Fatalf("%s", p)
			}
			if i > 0 && !data.Prefixes[i-1].Addr().Less(p.Addr()) {
				t.Fatalf("%v are not in order", data.Prefixes)
			}
		}
	})
}

func FuzzServiceTags(f *testing.F) {
	data, err := os.ReadFile("testdata/servicetags.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"values":[{"name":"A","properties":{"addressPrefixes":["::ffff:1.2.3.4/128","1.2.3.4/30"]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tags, meta, err := ServiceTags(strings.NewReader(string(data)))
		if err != nil {
			return
		}
		n := 0
		for name, ps := range tags {
			if aliases[name] == "" {
				n += len(ps)
			}
			for _, p := range ps {
				if !p.Addr().Is4() || p != p.Masked() || p.Bits() < minBits {
					t.Fatalf("%s in %q", p, name)
				}
			}
		}
		if len(aliases)+meta.Tags < len(tags) || n > meta.Prefixes {
			t.Fatalf("meta %+v of %d tags, %d prefixes", meta, len(tags), n)
		}
	})
}

func BenchmarkNetset(b *testing.B) {
	var in strings.Builder
	for i := range 100_000 {
		fmt.Fprintln(&in, address(0x2d000000+uint32(i)*7))
	}
	b.SetBytes(int64(in.Len()))
	for b.Loop() {
		if _, _, err := Parse(Netset, strings.NewReader(in.String())); err != nil {
			b.Fatal(err)
		}
	}
}
