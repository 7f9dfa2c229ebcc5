package components

import (
	"embed"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"strings"
	"sync"

	"github.com/pulumi/pulumi-go-provider/infer"
)

// What the registry and every language's editor say about an argument is its doc comment
// here: written once, where a change of the field is seen beside it.
//
//go:embed agentsubnet.go canary.go foundryspoke.go injection.go inspectionca.go spokegateway.go
var sources embed.FS

func (t *AgentSubnet) Annotate(a infer.Annotator)      { describe(a, t) }
func (t *AgentSubnetArgs) Annotate(a infer.Annotator)  { describe(a, t) }
func (t *Canary) Annotate(a infer.Annotator)           { describe(a, t) }
func (t *CanaryArgs) Annotate(a infer.Annotator)       { describe(a, t) }
func (t *FoundrySpoke) Annotate(a infer.Annotator)     { describe(a, t) }
func (t *FoundrySpokeArgs) Annotate(a infer.Annotator) { describe(a, t) }
func (t *Peering) Annotate(a infer.Annotator)          { describe(a, t) }
func (t *GatewayOptions) Annotate(a infer.Annotator)   { describe(a, t) }
func (t *CanaryOptions) Annotate(a infer.Annotator)    { describe(a, t) }
func (t *FoundryAccount) Annotate(a infer.Annotator)   { describe(a, t) }
func (t *SkippedGuard) Annotate(a infer.Annotator)     { describe(a, t) }
func (t *NetworkInjection) Annotate(a infer.Annotator) { describe(a, t) }
func (t *InspectionCA) Annotate(a infer.Annotator)     { describe(a, t) }
func (t *InspectionCAArgs) Annotate(a infer.Annotator) { describe(a, t) }
func (t *SpokeGateway) Annotate(a infer.Annotator)     { describe(a, t) }
func (t *SpokeGatewayArgs) Annotate(a infer.Annotator) { describe(a, t) }

// describe gives the schema the doc comments of a struct and of its properties.
func describe(a infer.Annotator, object any) {
	v := reflect.ValueOf(object).Elem()
	docs := comments()[v.Type().Name()]
	a.Describe(object, docs[""])
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Tag.Get("pulumi") != "" {
			a.Describe(v.Field(i).Addr().Interface(), docs[f.Name])
		}
	}
}

// comments are the doc comments of the package's structs, by type and field; a type's own
// is under "".
var comments = sync.OnceValue(func() map[string]map[string]string {
	all := map[string]map[string]string{}
	files, err := fs.Glob(sources, "*.go")
	if err != nil {
		panic(err)
	}
	for _, name := range files {
		text, err := sources.ReadFile(name)
		if err != nil {
			panic(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
		if err != nil {
			panic(err)
		}
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range decl.Specs {
				if spec, ok := s.(*ast.TypeSpec); ok {
					if fields, ok := spec.Type.(*ast.StructType); ok {
						all[spec.Name.Name] = fieldComments(decl.Doc, fields)
					}
				}
			}
		}
	}
	return all
})

func fieldComments(doc *ast.CommentGroup, object *ast.StructType) map[string]string {
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
