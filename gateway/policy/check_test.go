package policy

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// environment reads the surroundings of a golden file from its comments:
// `# pinScope: verify`, `# serviceTags: Tag=1.2.3.0/24 Other=…`, `# feeds: name`.
func environment(t *testing.T, input string) Environment {
	env := Environment{PinScope: PinScope(directive(input, "pinScope"))}
	for _, word := range strings.Fields(directive(input, "serviceTags")) {
		tag, list, _ := strings.Cut(word, "=")
		if env.Data.ServiceTags == nil {
			env.Data.ServiceTags = map[string][]netip.Prefix{}
		}
		env.Data.ServiceTags[tag] = prefixes(strings.Split(list, ",")...)
	}
	for _, name := range strings.Fields(directive(input, "feeds")) {
		if env.Data.Feeds == nil {
			env.Data.Feeds = map[string]FeedData{}
		}
		env.Data.Feeds[name] = FeedData{Prefixes: prefixes("192.0.2.1/32")}
	}
	return env
}

func TestCheckGolden(t *testing.T) {
	golden(t, "check", func(t *testing.T, input string) string {
		_, found := checkText([]byte(input), environment(t, input))
		var b strings.Builder
		if err := FormatDiagnostics(&b, "ruleset.yaml", found); err != nil {
			t.Fatal(err)
		}
		return b.String()
	})
}

// TestDefaultRuleset holds the example to its promise: nothing to complain of, with
// and without the data behind its groups.
func TestDefaultRuleset(t *testing.T) {
	text, err := os.ReadFile("../../examples/ruleset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]Environment{
		"no data": {},
		"data": {Agents: prefixes("10.20.1.0/24"), Data: Data{
			ServiceTags: map[string][]netip.Prefix{
				"MicrosoftContainerRegistry": prefixes("20.61.98.0/25"), "AzureFrontDoor.FirstParty": prefixes("13.107.213.0/24"),
				"AzureContainerRegistry": prefixes("20.61.97.0/25"), "AzureActiveDirectory": prefixes("20.190.128.0/18"),
			},
			Feeds: map[string]FeedData{"ipsum": {Prefixes: prefixes("20.190.128.1/32")}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, found := checkText(text, env)
			for _, d := range found {
				t.Error(d)
			}
		})
	}
}

// TestChecksAreDescribed wants every id in the reference documentation, and a golden
// file that shows it.
func TestChecksAreDescribed(t *testing.T) {
	source, err := os.ReadFile("check.go")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile("../../docs/reference/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	files, _ := filepath.Glob("testdata/check/*.txt")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		_, expected, _ := strings.Cut(string(text), goldenLine)
		shown.WriteString(expected)
	}
	for _, id := range regexp.MustCompile(`POL-\d\d`).FindAllString(string(source), -1) {
		if !strings.Contains(string(reference), "| "+id+" |") {
			t.Errorf("%s is not in docs/reference/checks.md", id)
		}
		if !strings.Contains(shown.String(), id) {
			t.Errorf("no golden file shows %s", id)
		}
	}
}

// checkText decodes and checks a document. Where it cannot be decoded the document
// is nil and the diagnostics say why.
func checkText(data []byte, env Environment) (*Document, []Diagnostic) {
	doc, err := Decode(data)
	if err != nil {
		var bad *DecodeError
		if errors.As(err, &bad) {
			return nil, bad.Diagnostics
		}
		return nil, []Diagnostic{{ID: checkDecode, Severity: SeverityError, Message: err.Error()}}
	}
	return doc, Check(doc, env)
}
