package ruleset

import (
	"embed"

	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"

	"github.com/bulkhead-dev/bulkhead/components/describe"
)

//go:embed document.go resource.go
var sources embed.FS

var comments = describe.In(sources)

// A prefix keeps the names of nested types apart from those of other resources in the
// one module that all of them are in.
func annotate(a infer.Annotator, object any, name string) {
	a.SetToken("index", tokens.TypeName("Ruleset"+name))
	comments.Describe(a, object)
}

func (t *Document) Annotate(a infer.Annotator)    { annotate(a, t, "Document") }
func (t *Default) Annotate(a infer.Annotator)     { annotate(a, t, "Default") }
func (t *SmartGroup) Annotate(a infer.Annotator)  { annotate(a, t, "SmartGroup") }
func (t *WebGroup) Annotate(a infer.Annotator)    { annotate(a, t, "WebGroup") }
func (t *URL) Annotate(a infer.Annotator)         { annotate(a, t, "Url") }
func (t *MCP) Annotate(a infer.Annotator)         { annotate(a, t, "Mcp") }
func (t *ThreatGroup) Annotate(a infer.Annotator) { annotate(a, t, "ThreatGroup") }
func (t *Feed) Annotate(a infer.Annotator)        { annotate(a, t, "Feed") }
func (t *Resolve) Annotate(a infer.Annotator)     { annotate(a, t, "Resolve") }
func (t *OriginCA) Annotate(a infer.Annotator)    { annotate(a, t, "OriginCA") }
func (t *Rule) Annotate(a infer.Annotator)        { annotate(a, t, "Rule") }
func (t *Budget) Annotate(a infer.Annotator)      { annotate(a, t, "Budget") }
func (t *Exemption) Annotate(a infer.Annotator)   { annotate(a, t, "Exemption") }
func (t *Header) Annotate(a infer.Annotator)      { annotate(a, t, "Header") }
func (t *Args) Annotate(a infer.Annotator)        { comments.Describe(a, t) }
func (t *State) Annotate(a infer.Annotator)       { comments.Describe(a, t) }

// An enum has no description of its own in the schema; its values have.

func (t *Mode) Annotate(a infer.Annotator) { a.SetToken("index", "RulesetMode") }

func (t *Action) Annotate(a infer.Annotator) { a.SetToken("index", "RulesetAction") }

func (t *Decrypt) Annotate(a infer.Annotator) { a.SetToken("index", "RulesetDecrypt") }

func (t *SNI) Annotate(a infer.Annotator) { a.SetToken("index", "RulesetSni") }

func (t *TLSVersion) Annotate(a infer.Annotator) { a.SetToken("index", "RulesetTlsVersion") }

func (t *OriginTrust) Annotate(a infer.Annotator) { a.SetToken("index", "RulesetOriginTrust") }
