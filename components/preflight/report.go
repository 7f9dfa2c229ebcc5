package preflight

import (
	"errors"
	"fmt"
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
