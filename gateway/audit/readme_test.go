package audit

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// TestReadmeLists holds the README to every notice and every reason that an event may carry.
func TestReadmeLists(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []struct{ file, kind string }{{"tail.go", "NoticeKind"}, {"../policy/values.go", "Reason"}} {
		file, err := parser.ParseFile(token.NewFileSet(), in.file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if kind, typed := spec.Type.(*ast.Ident); !typed || kind.Name != in.kind {
				return true
			}
			found++
			id := strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`)
			if !strings.Contains(string(readme), "`"+id+"`") {
				t.Errorf("%s is not in the README", id)
			}
			return true
		})
		if found < 9 {
			t.Errorf("%d constants of type %s in %s: the test does not see them", found, in.kind, in.file)
		}
	}
}
