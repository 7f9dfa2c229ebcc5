// Package describe gives the schema of the plugin its descriptions: what the registry and every
// language's editor say about a property is the doc comment of its field, written once, where a change of
// the field is seen beside it.
package describe

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"strings"
	"sync"

	"github.com/pulumi/pulumi-go-provider/infer"
)

// Comments are the doc comments of a package's structs, read from its embedded sources.
type Comments struct {
	read func() map[string]map[string]string
}

// In reads Go files, which //go:embed put into the program, when a description is first wanted.
func In(sources fs.FS) *Comments {
	return &Comments{sync.OnceValue(func() map[string]map[string]string { return parse(sources) })}
}

// Describe gives an object and each of its properties its comment. Embedded structs describe
// themselves.
func (c *Comments) Describe(a infer.Annotator, object any) {
	v := reflect.ValueOf(object).Elem()
	docs := c.read()[v.Type().Name()]
	if docs[""] != "" {
		a.Describe(object, docs[""])
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Tag.Get("pulumi") != "" {
			a.Describe(v.Field(i).Addr().Interface(), docs[f.Name])
		}
	}
}

// Of is the doc comment of a type, in paragraphs.
func (c *Comments) Of(name string) string { return c.read()[name][""] }

// parse maps types and their fields to comments; a type's own is under "". Sources that do not parse
// did not compile either.
func parse(sources fs.FS) map[string]map[string]string {
	all := map[string]map[string]string{}
	err := fs.WalkDir(sources, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		source, err := fs.ReadFile(sources, path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if decl, ok := decl.(*ast.GenDecl); ok {
				for _, spec := range decl.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok {
						if object, ok := spec.Type.(*ast.StructType); ok {
							all[spec.Name.Name] = fields(decl.Doc, object)
						}
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		panic(fmt.Sprintf("describe: %v", err))
	}
	return all
}

func fields(doc *ast.CommentGroup, object *ast.StructType) map[string]string {
	all := map[string]string{"": text(doc)}
	for _, f := range object.Fields.List {
		for _, name := range f.Names {
			all[name.Name] = text(f.Doc)
		}
	}
	return all
}

// text joins the lines of a comment, which are broken for the source's width, and keeps
// its paragraphs.
func text(c *ast.CommentGroup) string {
	paragraphs := strings.Split(strings.TrimSpace(c.Text()), "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(p), " ")
	}
	return strings.Join(paragraphs, "\n\n")
}
