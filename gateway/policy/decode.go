package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The bounds of a document. They are far above what people write, and keep a
// damaged or hostile file from taking the process down.
const (
	maxDocument = 16 << 20 // bytes
	maxValues   = 2 << 20  // keys and values
	maxDepth    = 16       // maps and lists within each other
	maxProblems = 100      // errors reported for one document
)

// DecodeError is everything that keeps a document from being read, in the order
// of the document.
type DecodeError struct{ Diagnostics []Diagnostic }

// Error gives one line for each problem.
func (e *DecodeError) Error() string {
	lines := make([]string, len(e.Diagnostics))
	for i, d := range e.Diagnostics {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// Decode reads a ruleset from YAML or JSON. It is strict: an unknown key, a value
// of the wrong type, a duplicate or a dangling name is an error, and all of them
// are returned at once as a *DecodeError. Names, patterns and prefixes come out in
// normal form, and fields with a default are filled.
func Decode(data []byte) (*Document, error) {
	d := &decoder{lines: map[string]int{}, failed: map[string]bool{}}
	root := d.parse(data)
	if root == nil {
		return nil, &DecodeError{d.problems}
	}
	doc := d.document(root)
	d.references(doc)
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Diagnostic) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), comparePaths(a.Path, b.Path))
		})
		return nil, &DecodeError{d.problems}
	}
	return doc, nil
}

// decoder walks the node tree and collects what is wrong.
type decoder struct {
	problems []Diagnostic
	lines    map[string]int // of every value, by path
	failed   map[string]bool
}

func (d *decoder) fail(line int, path, fix, format string, args ...any) {
	if d.failed[path] = true; len(d.problems) >= maxProblems {
		return
	}
	d.problems = append(d.problems, Diagnostic{
		ID: checkDecode, Severity: SeverityError, Path: path, Line: line,
		Message: short(fmt.Sprintf(format, args...)), Fix: short(fix),
	})
}

// short keeps an error on a line that a person reads, whatever it quotes.
func short(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// value reads one node into its place in the document.
type value func(n *yaml.Node, path string)

// fields are the keys that an object may have; a key that ends in `!` must be there.
type fields map[string]value

// object reads a mapping. It reports whether the node is one.
func (d *decoder) object(n *yaml.Node, path string, fs fields) bool {
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, path, "write it as a mapping with the keys "+strings.Join(fs.names(), ", "), "is %s, not a mapping", kindName(n))
		return false
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
			d.fail(k.Line, path, "write the key as a plain word", "has a key that is not a string")
			continue
		}
		at := join(path, k.Value)
		if first, twice := seen[k.Value]; twice {
			d.fail(k.Line, at, "keep one of them", "is given twice, first on line %d", first)
			continue
		}
		seen[k.Value] = k.Line
		read, known := fs[k.Value]
		if !known {
			read, known = fs[k.Value+"!"]
		}
		if !known {
			d.fail(k.Line, at, didYouMean(k.Value, fs.names()), "unknown key %q", k.Value)
			continue
		}
		d.lines[at] = v.Line
		read(v, at)
	}
	for key := range fs {
		name, required := strings.CutSuffix(key, "!")
		if _, there := seen[name]; required && !there {
			d.fail(n.Line, join(path, name), "add it", "is missing")
		}
	}
	return true
}

func (fs fields) names() []string {
	var names []string
	for k := range fs {
		names = append(names, strings.TrimSuffix(k, "!"))
	}
	return sorted(names)
}

// list reads a sequence, one call of read for each item. Where an absent list means
// "all", an empty one is refused: whether it means all or none is anybody's guess.
func (d *decoder) list(n *yaml.Node, path string, whenEmpty string, read value) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n.Line, path, "write it as a list: [ … ]", "is %s, not a list", kindName(n))
		return
	}
	if len(n.Content) == 0 && whenEmpty != "" {
		d.fail(n.Line, path, whenEmpty, "is an empty list")
	}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = item.Line
		read(item, at)
	}
}

// text reads a string.
func (d *decoder) text(n *yaml.Node, path string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		fix := "write a string"
		if n.Kind == yaml.ScalarNode && n.Value != "" {
			fix = fmt.Sprintf("put it in quotes: %q", n.Value)
		}
		d.fail(n.Line, path, fix, "is %s, not a string", kindName(n))
		return "", false
	}
	if n.Value == "" {
		d.fail(n.Line, path, "give a value or leave the key out", "is empty")
		return "", false
	}
	return n.Value, true
}

// one reads one string and converts it.
func one[T any](d *decoder, to *T, parse func(string) (T, error)) value {
	return func(n *yaml.Node, path string) {
		if s, ok := d.text(n, path); ok {
			v, err := parse(s)
			if bad := (*badValue)(nil); errors.As(err, &bad) {
				d.fail(n.Line, path, bad.fix, "%s", bad.message)
				return
			}
			if err != nil {
				d.fail(n.Line, path, "", "%v", err)
				return
			}
			*to = v
		}
	}
}

// many reads a list of strings and converts each.
func many[T any](d *decoder, to *[]T, whenEmpty string, parse func(string) (T, error)) value {
	return func(n *yaml.Node, path string) {
		d.list(n, path, whenEmpty, func(n *yaml.Node, path string) {
			var v T
			one(d, &v, parse)(n, path)
			*to = append(*to, v)
		})
	}
}

// objects reads a list of mappings.
func objects[T any](d *decoder, to *[]T, read func(n *yaml.Node, path string) T) value {
	return func(n *yaml.Node, path string) {
		d.list(n, path, "", func(n *yaml.Node, path string) { *to = append(*to, read(n, path)) })
	}
}

// badValue is a parse error that knows what to write instead.
type badValue struct{ message, fix string }

func (e *badValue) Error() string { return e.message + ": " + e.fix }

func bad(fix, format string, args ...any) error {
	return &badValue{fmt.Sprintf(format, args...), fix}
}

func join(path, key string) string {
	if len(key) > 64 {
		key = key[:64] + "…"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!str":
		return "a string"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	case "!!null":
		return "empty"
	case "!!timestamp":
		return "a date"
	}
	return "of an unknown type"
}
