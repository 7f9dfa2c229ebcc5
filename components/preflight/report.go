package preflight

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Report is what the guards said, in the order of the table.
type Report struct {
	Results []Result `json:"results"`
}

// Count returns how many guards ended so.
func (r Report) Count(o Outcome) int {
	n := 0
	for _, res := range r.Results {
		if res.Outcome == o {
			n++
		}
	}
	return n
}

// Ok reports whether nothing forbids going on: no guard failed, and none whose failure
// would forbid it is unknown.
func (r Report) Ok() bool {
	for _, res := range r.Results {
		if res.Outcome == Failed || res.Outcome == NotChecked && res.Severity == Fail {
			return false
		}
	}
	return true
}

// Err is nil where Ok, and otherwise one error with all that forbids going on, for programs
// that have only an error to show.
func (r Report) Err() error {
	var all []error
	for _, res := range r.Results {
		switch {
		case res.Outcome == Failed:
			for _, f := range res.Findings {
				all = append(all, errors.New(res.Explain(f)))
			}
		case res.Outcome == NotChecked && res.Severity == Fail:
			all = append(all, fmt.Errorf("%s: not checked: %s", res.ID, res.Note))
		}
	}
	return errors.Join(all...)
}

// Warnings are the findings that forbid nothing, a paragraph each.
func (r Report) Warnings() []string {
	var all []string
	for _, res := range r.Results {
		if res.Outcome == Warned {
			for _, f := range res.Findings {
				all = append(all, res.Explain(f))
			}
		}
	}
	return all
}

// Explain says all about one finding: the resource, what was found, what is wanted, why,
// and what to do.
func (r Result) Explain(f Finding) string {
	return fmt.Sprintf("%s: %s: found %s, wanted %s. %s To fix it: %s.", r.ID, f.Resource, f.Found, f.Wanted, r.Why, strings.TrimSuffix(f.Fix, "."))
}

// order is how a report for people ends: with what has to be acted on.
var order = []Outcome{Passed, NotApplicable, Skipped, NotChecked, Warned, Failed}

// marks and colours (ECMA-48, SGR) of the outcomes.
var marks = map[Outcome]struct{ mark, colour string }{
	Passed: {"pass", "32"}, NotApplicable: {"n/a", "2"}, Skipped: {"skip", "2"}, NotChecked: {"?", "33"}, Warned: {"warn", "33"}, Failed: {"FAIL", "31;1"},
}

// Format writes the report for a person: a line for each guard, and for each finding what
// was found where, what is wanted, why, and the way out. Colours are for terminals.
func (r Report) Format(w io.Writer, colours bool) error {
	var b strings.Builder
	for _, o := range order {
		mark := fmt.Sprintf("%-4s", marks[o].mark)
		if colours {
			mark = "\x1b[" + marks[o].colour + "m" + mark + "\x1b[0m"
		}
		for _, res := range r.Results {
			if res.Outcome != o {
				continue
			}
			fmt.Fprintf(&b, "%s  %-7s %s\n", mark, res.ID, res.Condition)
			if res.Note != "" {
				fmt.Fprintf(&b, "        %s: %s\n", noteOf(o), res.Note)
			}
			for _, f := range res.Findings {
				fmt.Fprintf(&b, "        %s\n          found   %s\n          wanted  %s\n          fix     %s\n", f.Resource, f.Found, f.Wanted, f.Fix)
			}
			if len(res.Findings) > 0 {
				fmt.Fprintf(&b, "        why     %s\n        source  %s\n", res.Why, res.Source)
			}
		}
	}
	b.WriteString("\n" + r.Summary() + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func noteOf(o Outcome) string {
	if o == Failed || o == Warned {
		return "not all was checked"
	}
	return string(o)
}

// Summary is the report in one line.
func (r Report) Summary() string {
	said := map[Outcome]string{NotApplicable: "not applicable", Skipped: "skipped", NotChecked: "not checked", Warned: "warned", Failed: "failed"}
	parts := []string{fmt.Sprintf("%d passed", r.Count(Passed))}
	for _, o := range []Outcome{NotApplicable, Skipped, NotChecked, Warned, Failed} {
		if n := r.Count(o); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, said[o]))
		}
	}
	return fmt.Sprintf("%d guards: %s", len(r.Results), strings.Join(parts, ", "))
}
