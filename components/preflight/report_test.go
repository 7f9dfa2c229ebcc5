package preflight

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the tests got into their golden files")

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what comes out now (go test -update writes it):\n%s", file, got)
	}
}

// TestReport holds what a person reads, of a spoke with all kinds of outcomes.
func TestReport(t *testing.T) {
	inv := good(t)
	inv.RouteTables[0].Routes = append(inv.RouteTables[0].Routes, Route{"sneaky\x1b[2J", "20.0.0.0/8", HopInternet, ""})
	agents(&inv).Delegations = []string{"Microsoft.app/environments"}
	inv.Agents[0].Tools = append(inv.Agents[0].Tools, "code_interpreter")
	inv.DeletedVaults, inv.NotRead = nil, map[Part]string{PartDeletedVaults: "403 AuthorizationFailed"}
	report, err := Run(inv, Options{Skips: []Skip{{"ACR-01", "images come from a registry of another team"}}})
	if err != nil {
		t.Fatal(err)
	}
	var plain, coloured bytes.Buffer
	if err := report.Format(&plain, false); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/report.txt", plain.String())
	if err := report.Format(&coloured, true); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(coloured.String(), "\x1b[31;1mFAIL\x1b[0m") {
		t.Error("colours where none belong, or none where they do")
	}
	if report.Ok() || !strings.Contains(report.Err().Error(), "NET-01") || len(report.Warnings()) != report.Count(Warned) {
		t.Errorf("%v %v %v", report.Ok(), report.Err(), report.Warnings())
	}
}

// TestOk holds what forbids going on: a failure, and not knowing whether there is one.
func TestOk(t *testing.T) {
	for _, c := range []struct {
		severity Severity
		outcome  Outcome
		ok       bool
	}{
		{Fail, Passed, true}, {Fail, NotApplicable, true}, {Fail, Skipped, true}, {Fail, NotChecked, false}, {Fail, Failed, false},
		{Warn, Warned, true}, {Warn, NotChecked, true},
	} {
		r := Report{[]Result{{ID: "X", Severity: c.severity, Outcome: c.outcome, Findings: []Finding{{Resource: "r"}}}}}
		if r.Ok() != c.ok || (r.Err() == nil) != c.ok {
			t.Errorf("%s %s: ok %v, error %v", c.severity, c.outcome, r.Ok(), r.Err())
		}
	}
}

func TestSkips(t *testing.T) {
	for _, s := range []Skip{{"NET-01", ""}, {"NET-99", "why not"}} {
		if _, err := Run(good(t), Options{Skips: []Skip{s}}); err == nil {
			t.Errorf("%+v is no error", s)
		}
	}
}

// TestInventory holds the saved form: it reads back the same, and refuses what it does not know.
func TestInventory(t *testing.T) {
	data, err := good(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if twice, err := again.Encode(); err != nil || !bytes.Equal(data, twice) {
		t.Errorf("it does not read back the same (%v)", err)
	}
	for _, text := range []string{`{"version": 1, "vnet": []}`, `{"version": 2}`, `{"version": 1}{}`, `[]`, ``} {
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s is no error", text)
		}
	}
}

// TestReference holds docs/reference/preflight.md to the table.
func TestReference(t *testing.T) {
	const file, begin = "../../docs/reference/preflight.md", "<!-- the table: go test ./components/preflight -update -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), begin)
	if !ok {
		t.Fatalf("%s has no line %q", file, begin)
	}
	var b strings.Builder
	b.WriteString(head + begin)
	topics := map[string]string{"NET": "Network", "RTE": "Routes", "DNS": "Names", "GW": "The gateway", "RUL": "The ruleset", "CA": "The inspection root",
		"STO": "The policy's storage", "ACR": "Images", "FND": "Foundry", "IMM": "What cannot be changed any more"}
	last := ""
	for _, g := range Guards() {
		prefix, _, _ := strings.Cut(g.ID, "-")
		if topics[prefix] == "" {
			t.Errorf("no topic for %s", g.ID)
		}
		if prefix != last {
			fmt.Fprintf(&b, "\n## %s\n\n| id | severity | when | what has to be true | why | the way out | written in |\n|---|---|---|---|---|---|---|\n", topics[prefix])
			last = prefix
		}
		when := string(g.When)
		if g.Static {
			when += "; by arguments alone"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", g.ID, g.Severity, when, g.Condition, g.Why, g.Fix, g.Source)
	}
	golden(t, file, b.String())
}
