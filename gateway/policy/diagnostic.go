package policy

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Severity says whether a ruleset with the diagnostic may be used.
type Severity string

const (
	SeverityError   Severity = "error"   // the ruleset is refused
	SeverityWarning Severity = "warning" // the ruleset works, but perhaps not as meant
)

// Diagnostic is one thing that is wrong or dangerous in a document.
type Diagnostic struct {
	ID       string   `json:"id"` // stable: docs/reference/checks.md lists them
	Severity Severity `json:"severity"`
	Path     string   `json:"path"`           // in the document, such as rules[3].webGroups[0]; empty for all of it
	Line     int      `json:"line,omitempty"` // of the text, where the text is known
	Message  string   `json:"message"`        // one sentence
	Fix      string   `json:"fix,omitempty"`  // what to do about it
}

// String is the diagnostic on one line: place, message, fix.
func (d Diagnostic) String() string {
	s := d.Message
	if d.Path != "" {
		s = d.Path + ": " + s
	}
	if d.Line > 0 {
		s = fmt.Sprintf("line %d: %s", d.Line, s)
	}
	if d.Fix != "" {
		s += "; " + d.Fix
	}
	return s
}

// FormatDiagnostics writes each diagnostic for a person: a line that begins with the
// file as compilers write it, and an indented line with the fix. What does not decode
// is small enough to have its fix on the same line.
func FormatDiagnostics(w io.Writer, file string, diagnostics []Diagnostic) error {
	for _, d := range diagnostics {
		at := file
		if d.Line > 0 {
			at = fmt.Sprintf("%s:%d", file, d.Line)
			d.Line = 0
		}
		fix := ""
		if d.ID != checkDecode && d.Fix != "" {
			fix = "    fix: " + d.Fix + "\n"
			d.Fix = ""
		}
		if _, err := fmt.Fprintf(w, "%s: %s %s: %s\n%s", at, d.Severity, d.ID, d, fix); err != nil {
			return err
		}
	}
	return nil
}

// HasErrors reports whether any of the diagnostics forbids the use of the ruleset.
func HasErrors(diagnostics []Diagnostic) bool {
	return slices.ContainsFunc(diagnostics, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// comparePaths orders paths by their keys, and list places by number: rules[9]
// stands before rules[10].
func comparePaths(a, b string) int {
	number := func(s string) (int, string) {
		end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(s)
		}
		n, _ := strconv.Atoi(s[:end])
		return n, s[end:]
	}
	for {
		i, j := strings.IndexByte(a, '['), strings.IndexByte(b, '[')
		if i < 0 || j < 0 || a[:i] != b[:j] {
			return strings.Compare(a, b)
		}
		m, restA := number(a[i+1:])
		n, restB := number(b[j+1:])
		if m != n {
			return cmp.Compare(m, n)
		}
		a, b = restA, restB
	}
}

func sorted(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return words
}
