package packet

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

var rewrite = flag.Bool("update", false, "write the golden files anew")

const dashes = "----------\n"

// TestGolden renders the program of every file in testdata: the input, a line of
// dashes, the program.
func TestGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.golden")
	if len(files) == 0 {
		t.Fatal("no golden files")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".golden"), func(t *testing.T) {
			input, want := readGolden(t, file)
			cfg, table := parseInput(t, input)
			got, err := Text(cfg, table)
			if err != nil {
				got = err.Error() + "\n"
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(input+dashes+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func readGolden(t *testing.T, file string) (input, want string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	input, want, _ = strings.Cut(string(data), dashes)
	return input, want
}

// parseInput reads "key value…" lines; "class" begins a class of the table.
func parseInput(t *testing.T, input string) (Config, *policy.KernelTable) {
	t.Helper()
	var cfg Config
	table := &policy.KernelTable{}
	for line := range strings.Lines(input) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		class := &policy.KernelClass{}
		if n := len(table.Classes); n > 0 {
			class = &table.Classes[n-1]
		}
		switch args := words[1:]; words[0] {
		case "agents":
			cfg.Agents = prefixList(args)
		case "dns":
			cfg.DNS = netip.MustParseAddrPort(args[0])
		case "clients":
			cfg.DNSClients = prefixList(args)
		case "upstreams":
			for _, a := range args {
				cfg.Upstreams = append(cfg.Upstreams, netip.MustParseAddrPort(a))
			}
		case "egress":
			cfg.Egress = prefixList(args)
		case "snat":
			cfg.SNAT = SNAT(args[0])
		case "class":
			table.Classes = append(table.Classes, policy.KernelClass{})
		case "sources":
			class.Sources = rangeList(args)
		case "ports":
			for _, a := range args {
				if a == "other" {
					class.Ports = append(class.Ports, policy.PortRange{Proto: policy.ProtoOther})
					continue
				}
				p, err := policy.ParsePortRange(a)
				if err != nil {
					t.Fatal(err)
				}
				class.Ports = append(class.Ports, p)
			}
		case "forward":
			class.Forward = rangeList(args)
		case "enforce":
			class.Enforce = rangeList(args)
		default:
			t.Fatalf("unknown key %q", words[0])
		}
	}
	return cfg, table
}

func prefixList(args []string) []netip.Prefix {
	out := make([]netip.Prefix, len(args))
	for i, a := range args {
		out[i] = netip.MustParsePrefix(a)
	}
	return out
}

func rangeList(args []string) []policy.AddrRange {
	var out []policy.AddrRange
	for _, a := range args {
		if from, to, ok := strings.Cut(a, "-"); ok {
			out = append(out, addrRange(from, to))
			continue
		}
		out = append(out, ranges(prefixList([]string{a}))...)
	}
	return out
}
