package preflight

import (
	"fmt"
	"slices"
)

// Severity says what a finding is worth.
type Severity string

// Fail is a spoke that would not come up, could not be changed back, or would leak.
// Warn is one that works, but perhaps not as meant.
const (
	Fail Severity = "fail"
	Warn Severity = "warn"
)

// When says at which times a guard has to hold.
type When string

// Before is before any Foundry resource exists; Continuous is then and ever after.
const (
	Before     When = "before"
	Continuous When = "before and continuous"
	Drift      When = "continuous"
)

// Guard is one row of the table.
type Guard struct {
	ID       string
	Severity Severity
	When     When
	// Static guards can be judged from the arguments of a program.
	Static bool
	// Condition is what has to be true, in one sentence.
	Condition string
	// Why is Azure's reason, in one sentence; Source is where it is written.
	Why, Source string
	// Fix is what to do where it is not true.
	Fix string
	// Needs are the parts of an inventory that the condition is a function of.
	Needs []Part

	check func(*view)
}

// Outcome is how a guard ended.
type Outcome string

const (
	Passed        Outcome = "pass"
	Failed        Outcome = "fail"
	Warned        Outcome = "warn"
	NotChecked    Outcome = "not checked"
	NotApplicable Outcome = "not applicable"
	Skipped       Outcome = "skipped"
)

// Finding is one place where a guard's condition does not hold.
type Finding struct {
	Resource string `json:"resource"`
	Found    string `json:"found"`
	Wanted   string `json:"wanted"`
	Fix      string `json:"fix"`
}

// Result is what one guard said.
type Result struct {
	ID        string    `json:"id"`
	Severity  Severity  `json:"severity"`
	Outcome   Outcome   `json:"outcome"`
	Condition string    `json:"condition"`
	Why       string    `json:"why"`
	Source    string    `json:"source"`
	Findings  []Finding `json:"findings,omitempty"`
	// Note says what is missing, why the question does not arise, or why it was skipped.
	Note string `json:"note,omitempty"`
}

// Skip leaves a guard out. The reason is for whoever reads the report.
type Skip struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// Options of a run.
type Options struct {
	// Skips are guards to leave out. One without a reason, or of no guard, is an error.
	Skips []Skip
}

// Run judges an inventory with every guard.
func Run(inv Inventory, opts Options) (Report, error) {
	if err := checkSkips(opts.Skips); err != nil {
		return Report{}, err
	}
	return run(&inv, opts, false), nil
}

// Static judges what a program's arguments alone tell. The guards that need more take no
// part, so the report has fewer rows than the table.
func Static(plan Plan, opts Options) (Report, error) {
	if err := checkSkips(opts.Skips); err != nil {
		return Report{}, err
	}
	return run(&Inventory{Plan: &plan, Ruleset: plan.Ruleset}, opts, true), nil
}

func checkSkips(skips []Skip) error {
	for _, s := range skips {
		if s.Reason == "" {
			return fmt.Errorf("skip %s: give the reason", s.ID)
		}
		if !slices.ContainsFunc(table, func(g Guard) bool { return g.ID == s.ID }) {
			return fmt.Errorf("skip %s: no guard has this id", s.ID)
		}
	}
	return nil
}

func run(inv *Inventory, opts Options, static bool) Report {
	var report Report
	shared := newView(inv, static)
	for _, g := range table {
		if static && !g.Static {
			continue
		}
		report.Results = append(report.Results, judge(&g, shared, opts.Skips))
	}
	return report
}

// judge runs one guard.
func judge(g *Guard, shared *view, skips []Skip) Result {
	r := Result{ID: g.ID, Severity: g.Severity, Condition: g.Condition, Why: g.Why, Source: g.Source}
	if i := slices.IndexFunc(skips, func(s Skip) bool { return s.ID == g.ID }); i >= 0 {
		r.Outcome, r.Note = Skipped, skips[i].Reason
		return r
	}
	v := *shared
	v.guard = g
	if !v.static {
		for _, part := range g.Needs {
			if !v.inv.has(part) {
				v.missing(v.inv.whyNot(part))
			}
		}
	}
	if v.unknown == "" {
		g.check(&v)
	}
	switch {
	case len(v.findings) > 0: // found with half the facts is found all the same
		r.Findings = v.findings
		if r.Outcome = Failed; g.Severity == Warn {
			r.Outcome = Warned
		}
		r.Note = v.unknown
	case v.unknown != "":
		r.Outcome, r.Note = NotChecked, v.unknown
	case v.moot != "":
		r.Outcome, r.Note = NotApplicable, v.moot
	default:
		r.Outcome = Passed
	}
	return r
}

// Guards returns the table.
func Guards() []Guard { return slices.Clone(table) }

var table = slices.Concat(networkGuards, routeGuards, dnsGuards, gatewayGuards, rulesetGuards, trustGuards, foundryGuards)
