package policy

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestDiffGolden compares the two rulesets of each file, which a line of tildes
// parts. A ruleset that is only `# as above, with: OLD => NEW` is the first one after
// that replacement.
func TestDiffGolden(t *testing.T) {
	golden(t, "diff", func(t *testing.T, input string) string {
		first, second, _ := strings.Cut(input, "~~~~~~~~~~\n")
		if strings.HasPrefix(first, "# default ruleset\n") {
			text, err := os.ReadFile("../../examples/ruleset.yaml")
			if err != nil {
				t.Fatal(err)
			}
			first += string(text)
		}
		if strings.HasPrefix(second, "# as above, with: ") {
			changed := first
			for line := range strings.Lines(second) {
				old, with, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "# as above, with: "), "\n"), " => ")
				if !ok || !strings.Contains(changed, old) {
					t.Fatalf("nothing to replace: %s", line)
				}
				changed = strings.ReplaceAll(changed, old, with)
			}
			second = changed
		}
		compile := func(text string) *Ruleset {
			doc, err := Decode([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			env := environment(t, input)
			env.Agents = prefixes("10.20.1.0/24")
			r, err := Compile(doc, env)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		changes := Diff(compile(first), compile(second))
		if _, err := json.Marshal(changes); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := changes.Format(&b); err != nil {
			t.Fatal(err)
		}
		if changes.Empty() != (b.String() == "no difference\n") {
			t.Error("Empty and Format do not agree")
		}
		return b.String()
	})
}

// TestDiffIsSymmetric wants what one direction gains to be what the other loses.
func TestDiffIsSymmetric(t *testing.T) {
	a := exampleRuleset(t, nil)
	b := exampleRuleset(t, func(doc *Document) {
		doc.WebGroups[1].FQDNs = append(doc.WebGroups[1].FQDNs, "*.contoso.com")
		doc.Rules[4].Mode = ModeMonitor
	})
	there, back := Diff(a, b), Diff(b, a)
	for key := range there.Gained {
		if _, ok := back.Lost[key]; !ok {
			t.Errorf("%s is gained, but not lost on the way back", key)
		}
	}
	for key := range there.Lost {
		if _, ok := back.Gained[key]; !ok {
			t.Errorf("%s is lost, but not gained on the way back", key)
		}
	}
	if len(there.Gained) == 0 || len(there.Lost) == 0 {
		t.Error("the change neither gains nor loses access")
	}
	if !Diff(a, exampleRuleset(t, nil)).Empty() {
		t.Error("a ruleset differs from itself")
	}
}

// TestDiffAnyMethod wants every method to be more than one, whichever that one is.
func TestDiffAnyMethod(t *testing.T) {
	with := func(methods ...string) *Ruleset {
		return exampleRuleset(t, func(doc *Document) { doc.WebGroups[1].URLs[0].Methods = methods })
	}
	for _, method := range []string{"GET", "POST"} {
		if c := Diff(with(method), with()); len(c.Gained) == 0 {
			t.Errorf("from %s to any method nothing is gained", method)
		}
		if c := Diff(with(), with(method)); len(c.Lost) == 0 {
			t.Errorf("from any method to %s nothing is lost", method)
		}
	}
}
