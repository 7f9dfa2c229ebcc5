package main

import (
	"encoding/json"
	"flag"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestTables holds what measurements become, on paper: samples, one per line, a line
// of dashes, the tables.
func TestTables(t *testing.T) {
	file := filepath.Join("testdata", "tables.golden")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	input, want, ok := strings.Cut(string(data), "----------\n")
	if !ok {
		t.Fatalf("%s has no line of ten dashes", file)
	}
	r := Report{Options: options{idle: []int{0, 1000}}}
	for dec := json.NewDecoder(strings.NewReader(input)); dec.More(); {
		var s Sample
		if err := dec.Decode(&s); err != nil {
			t.Fatal(err)
		}
		r.Samples = append(r.Samples, s)
	}
	r.Idle = []Idle{{bulkhead, []Held{{0, 20e6, 19}, {1000, 23.5e6, 2019}}}}
	r.IdleDecrypting = []Idle{{decrypting, []Held{{0, 40e6, 30}, {1000, 100e6, 2030}}}, {squidBump, []Held{{0, 40e6, 30}, {1000, 190e6, 2030}}},
		{sslsplit, []Held{{0, 10e6, 30}, {1000, 65e6, 2030}}}}
	got := strings.Join([]string{r.Aims(), r.Connections(), r.Bulk(), r.Forwarding(), r.Resolvers(), r.IdleTable(),
		r.Handshakes(), r.Requests(), r.Streams(), r.Downloads(), r.IdleDecryptingTable(), r.URLRules(), r.Failed(), r.Foreign()}, "\n\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(input+"----------\n"+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got; -update writes the file anew:\n%s", diff)
	}
}

// TestMarkdown holds that a report can be written from whatever was measured, even
// from nothing.
func TestMarkdown(t *testing.T) {
	for _, r := range []Report{{}, {Samples: []Sample{{Foreign: 0.01}, {Foreign: 0.5}, {Foreign: 0.5}}}, {Options: options{Quick: true, Rounds: 2, Cell: time.Second}, Live: 9500, LiveWhy: "too many open files", Reload: []float64{3, 4}}} {
		text, err := r.markdown()
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"NaN", "<no value>", "%!"} {
			if strings.Contains(text, bad) {
				t.Errorf("the report says %q", bad)
			}
		}
		if got := strings.Contains(text, "Provisional"); got != (r.Options.Quick || len(r.Samples) > 0) {
			t.Errorf("quick: %v, %d samples, marked as provisional: %v", r.Options.Quick, len(r.Samples), got)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   spread
		text   string
	}{
		{[]float64{3, 1, 2}, spread{2, 1, 3, 3}, "2.0 [1.0..3.0]"},
		{[]float64{4, 1}, spread{2.5, 1, 4, 2}, "2.5 [1.0..4.0]"},
		{[]float64{7}, spread{7, 7, 7, 1}, "7.0"},
	} {
		got := newSpread(tt.values)
		if got != tt.want || got.text(1) != tt.text {
			t.Errorf("%v: %+v, %s", tt.values, got, got.text(1))
		}
	}
	if none := newSpread(nil); none.n != 0 || !math.IsNaN(none.median) || none.text(1) != "–" {
		t.Errorf("nothing: %+v, %s", none, none.text(1))
	}
	if a, b := (spread{2, 1, 3, 3}), (spread{4, 3, 5, 3}); !a.overlaps(b) || !b.overlaps(a) || a.overlaps(spread{4, 3.1, 5, 3}) {
		t.Error("overlaps is wrong")
	}
}

func TestQuiet(t *testing.T) {
	loud, still := Sample{Foreign: 0.5}, Sample{Foreign: 0.01}
	for _, tt := range []struct {
		in   []Sample
		want int
	}{
		{[]Sample{still, still, loud}, 2},
		{[]Sample{still, loud, loud}, 3}, // one figure has no spread
		{[]Sample{loud}, 1},
	} {
		if got := quiet(tt.in); len(got) != tt.want {
			t.Errorf("%v: %d kept, want %d", tt.in, len(got), tt.want)
		}
	}
}

func TestSample(t *testing.T) {
	u := usage{gateway: 300 * time.Millisecond, ours: time.Second, machine: time.Second}
	conns := newSample(bulkhead, tlsLoad, load.Result{Count: 1000, Errors: 2, Elapsed: 2 * time.Second, P50: time.Millisecond, P99: 5 * time.Millisecond}, u)
	want := Sample{Path: bulkhead, Cell: "tls", Rate: 500, CPU: 300, P50: 1, P99: 5, Failed: 2}
	if diff := cmp.Diff(want, conns); diff != "" {
		t.Error(diff)
	}
	bulk := newSample(bulkhead, bulkOne, load.Result{Count: 1, Bytes: 2e9, Elapsed: 2 * time.Second}, u)
	if diff := cmp.Diff(Sample{Path: bulkhead, Cell: "bulk1", Rate: 8, CPU: 0.15}, bulk); diff != "" {
		t.Error(diff)
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat("42 (a) b (c) R 7 42 42 0 -1 4194304 100 0 0 0 250 30 0 0 20 0 1 0 5 0 0")
	if want := (stat{parent: 7, cpu: 2800 * time.Millisecond}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "42 (x) R 7", "42 (x) R seven 42 42 0 -1 4194304 100 0 0 0 250 30 0"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseMemoryAndMachine(t *testing.T) {
	if n, err := parsePSS([]byte("00400000-7fff [rollup]\nRss:   20 kB\nPss:   12 kB\nPss_Anon:  4 kB\n")); err != nil || n != 12<<10 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parsePSS([]byte("Rss: 20 kB\n")); err == nil {
		t.Error("no error without Pss")
	}
	if d, err := parseMachine("cpu  100 20 30 9999 5 6 7 0 0 0\ncpu0 1 2 3 4\n"); err != nil || d != 1500*time.Millisecond {
		t.Errorf("%s, %v", d, err)
	}
	if _, err := parseMachine("intr 1 2 3 4"); err == nil {
		t.Error("no error without cpu")
	}
}

// TestOwnProcess reads this process as the benchmark reads the proxies.
func TestOwnProcess(t *testing.T) {
	f, err := footprintOf(os.Getpid())
	if err != nil || f.pss == 0 || f.fds < 3 {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := cpuOf(os.Getpid()); err != nil {
		t.Error(err)
	}
}

// TestRuleset holds that the gateway takes the ruleset of the benchmark.
func TestRuleset(t *testing.T) {
	p := path{agents: netip.MustParsePrefix("10.103.0.0/16"), origin: netip.MustParsePrefix("45.103.0.0/16"), dir: t.TempDir()}
	for _, prefixes := range []int{0, 1000} {
		if err := p.writeRuleset(prefixes, "66.255.0.0/24"); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(p.dir, "ruleset.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := policy.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		env := policy.Environment{Agents: []netip.Prefix{p.agents}, PinScope: policy.ScopeSource}
		for _, d := range policy.Check(doc, env) {
			if d.Severity == policy.SeverityError {
				t.Error(d)
			}
		}
		rules, err := policy.Compile(doc, env)
		if err != nil {
			t.Fatal(err)
		}
		flow := policy.Flow{Stage: policy.StagePacket, Src: p.agents.Addr().Next(), Dst: p.origin.Addr().Next(), Proto: policy.TCP, Port: load.AddressPort}
		decision := rules.Decide(&flow)
		if got := decision.Permitted(); got != (prefixes > 0) {
			t.Errorf("%d prefixes: by address permitted: %v", prefixes, got)
		}
	}
}

// TestDecryptingRuleset holds that the gateway decrypts the benchmark's requests, and nothing
// else of those names.
func TestDecryptingRuleset(t *testing.T) {
	trust, err := newAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	p := path{agents: netip.MustParsePrefix("10.103.0.0/16"), trust: trust}
	for _, n := range []int{1, urlRules} {
		doc, err := policy.Decode([]byte(p.decryptingRules(n)))
		if err != nil {
			t.Fatal(err)
		}
		env := policy.Environment{Agents: []netip.Prefix{p.agents}, PinScope: policy.ScopeSource}
		for _, d := range policy.Check(doc, env) {
			t.Error(d)
		}
		rules, err := policy.Compile(doc, env)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(doc.Rules), n+1; got != want {
			t.Errorf("%d rules, want %d", got, want)
		}
		if len(rules.OriginCAs()) != 1 {
			t.Error("the origin's authority is not trusted")
		}
	}
}

// TestPeers holds that the peers' configurations name nothing that a path does not have.
func TestPeers(t *testing.T) {
	p := path{agents: netip.MustParsePrefix("10.103.0.0/16"), origin: netip.MustParsePrefix("45.103.0.0/16"),
		listen: netip.MustParseAddr("10.103.0.1"), dir: t.TempDir()}
	for name, text := range map[string]string{"haproxy": haproxyConfig, "nginx": nginxConfig, "squid": squidConfig, "squid-bump": squidBumpConfig, "coredns": corefile} {
		file, err := p.fill(name, text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if data, err := os.ReadFile(file); err != nil || strings.Contains(string(data), "{{") {
			t.Errorf("%s: %v\n%s", name, err, data)
		}
	}
}
