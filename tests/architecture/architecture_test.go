// Package architecture holds the arrows between packages: who may know whom.
package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bulkhead-dev/bulkhead/"

type pkg struct {
	ImportPath, Doc  string
	Imports, GoFiles []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,GoFiles", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// mayKnow lists, for each part, the parts of the product that it may import. Parts
// that are not listed wire others together and may know any.
var mayKnow = map[string][]string{
	"gateway/policy":         {},
	"gateway/pin":            {"gateway/policy"},
	"gateway/feeds":          {"gateway/policy"},
	"gateway/audit":          {"gateway/policy"},
	"gateway/ca":             {"gateway/policy"},
	"gateway/secrets":        {},
	"gateway/ca/trust":       {"gateway/ca"},
	"gateway/probe":          {"gateway/ca", "gateway/ca/trust"},
	"gateway/budget":         {},
	"gateway/originprobe":    {},
	"gateway/policyblob":     {},
	"gateway/config":         {"gateway/policy"},
	"gateway/image":          {"gateway/config"},
	"gateway/packet":         {"gateway/policy", "gateway/pin", "gateway/feeds", "gateway/audit"},
	"gateway/enforcer":       {"gateway/policy", "gateway/pin", "gateway/feeds", "gateway/audit", "gateway/budget"},
	"gateway/enforcer/hello": {"gateway/policy"},
	"gateway/inspect/mcp":    {"gateway/policy"},
	"gateway/inspect":        {"gateway/policy", "gateway/pin", "gateway/feeds", "gateway/audit"},
	"corednsplugin/pin":      {"gateway/policy", "gateway/pin", "gateway/feeds", "gateway/audit"},
	"gateway/resolver":       {"gateway/policy", "gateway/pin", "gateway/feeds", "gateway/audit", "corednsplugin/pin"},

	"components/ruleset":         {"gateway/policy", "gateway/feeds", "components/blob", "components/describe"},
	"components/bundle":          {"components/blob", "components/describe"},
	"components/blob":            {"components/patience"},
	"components/describe":        {},
	"components/patience":        {},
	"components/rootcertificate": {"components/patience", "gateway/ca"},
	"components/attestation":     {"components/patience", "components/blob"},
	"components/spokelock":       {"components/patience"},
	"components/canaryrun":       {"components/patience"},

	// The twin's services are Azure's: they know nothing of the product.
	"tests/twin/front":     {},
	"tests/twin/identity":  {},
	"tests/twin/vault":     {"tests/twin/front", "tests/twin/identity"},
	"tests/twin/blobs":     {"tests/twin/front", "tests/twin/identity"},
	"tests/twin/manager":   {"tests/twin/front", "tests/twin/identity"},
	"tests/twin/planes":    {"tests/twin/front", "tests/twin/identity", "tests/twin/vault", "tests/twin/blobs", "tests/twin/manager"},
	"tests/twin/publisher": {},
	"tests/twin/resource":  {},
	// What lives in the lab is a state in Azure's JSON, whoever made it.
	"tests/twin/boot":         {"gateway/policy", "components/preflight/routes", "tests/lab", "tests/twin/front"},
	"tests/twin/subscription": {"gateway/policy", "gateway/policyblob", "tests/twin/arm", "tests/twin/planes", "tests/twin/front", "tests/twin/identity", "tests/twin/vault", "tests/twin/blobs", "tests/twin/manager"},

	"components/preflight":        {"gateway/policy"},
	"components/preflight/routes": {},
	"components/azure":            {"components/preflight", "gateway/policy"},
}

// forTheCommand are the parts of the provisioning that the binary wires, for `preflight`.
var forTheCommand = []string{"components/preflight", "components/azure"}

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		part := strings.TrimPrefix(p.ImportPath, module)
		allowed, held := mayKnow[part]
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, module)
			switch {
			case held && ours && !slices.Contains(allowed, other) && !strings.HasPrefix(other, part+"/"):
				t.Errorf("%s must not know %s", part, other)
			case strings.HasPrefix(part, "components/") && held && strings.Contains(imported, "/pulumi-azure-native-sdk/"):
				t.Errorf("%s must not know %s: it takes gigabytes to compile, so only the components do", part, imported)
			case strings.HasPrefix(part, "gateway/") && (strings.HasPrefix(imported, "github.com/pulumi/") || strings.Contains(imported, "/sdk/resourcemanager/")):
				t.Errorf("%s must not know %s: nothing under gateway/ knows Pulumi or Azure's management", part, imported)
			case strings.HasPrefix(part, "gateway/") && strings.HasPrefix(other, "components") && !(part == "gateway/cmd/bulkhead" && slices.Contains(forTheCommand, other)):
				t.Errorf("%s must not know %s: the gateway does not know what provisions it", part, other)
			}
		}
		if part == "gateway/policy" {
			for _, io := range []string{"os", "net", "net/http", "log", "syscall", "io/fs"} {
				if slices.Contains(p.Imports, io) {
					t.Errorf("gateway/policy must not import %s: it does no I/O", io)
				}
			}
		}
	}
}

// TestDocs holds every package to a doc comment that says more than its name.
// generated is written by `make sdks`, not by people.
const generated = module + "sdk/go/"

func TestDocs(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && len(p.Doc) < 40 && !strings.HasPrefix(p.ImportPath, generated) {
			t.Errorf("%s: write a package comment that tells a newcomer what it is for", p.ImportPath)
		}
	}
}

// TestFileLength holds files to a length that a person reads in one go.
func TestFileLength(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() && path == filepath.Join("../..", "sdk/go") {
			return filepath.SkipDir // generated
		}
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		data, err := os.ReadFile(path)
		if n := bytes.Count(data, []byte{'\n'}); n > 700 {
			t.Errorf("%s has %d lines: split it by what it does", path, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
