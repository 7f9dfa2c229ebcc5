package components

import (
	"embed"

	"github.com/pulumi/pulumi-go-provider/infer"

	"github.com/bulkhead-dev/bulkhead/components/describe"
)

//go:embed agentsubnet.go canary.go foundryspoke.go injection.go inspectionca.go servicetags.go spokegateway.go
var sources embed.FS

var comments = describe.In(sources)

func (t *AgentSubnet) Annotate(a infer.Annotator)       { comments.Describe(a, t) }
func (t *AgentSubnetArgs) Annotate(a infer.Annotator)   { comments.Describe(a, t) }
func (t *Canary) Annotate(a infer.Annotator)            { comments.Describe(a, t) }
func (t *CanaryArgs) Annotate(a infer.Annotator)        { comments.Describe(a, t) }
func (t *FoundrySpoke) Annotate(a infer.Annotator)      { comments.Describe(a, t) }
func (t *FoundrySpokeArgs) Annotate(a infer.Annotator)  { comments.Describe(a, t) }
func (t *Peering) Annotate(a infer.Annotator)           { comments.Describe(a, t) }
func (t *GatewayOptions) Annotate(a infer.Annotator)    { comments.Describe(a, t) }
func (t *ServiceTagOptions) Annotate(a infer.Annotator) { comments.Describe(a, t) }
func (t *CanaryOptions) Annotate(a infer.Annotator)     { comments.Describe(a, t) }
func (t *FoundryAccount) Annotate(a infer.Annotator)    { comments.Describe(a, t) }
func (t *LiveGuards) Annotate(a infer.Annotator)        { comments.Describe(a, t) }
func (t *SkippedGuard) Annotate(a infer.Annotator)      { comments.Describe(a, t) }
func (t *NetworkInjection) Annotate(a infer.Annotator)  { comments.Describe(a, t) }
func (t *InspectionCA) Annotate(a infer.Annotator)      { comments.Describe(a, t) }
func (t *InspectionCAArgs) Annotate(a infer.Annotator)  { comments.Describe(a, t) }
func (t *SpokeGateway) Annotate(a infer.Annotator)      { comments.Describe(a, t) }
func (t *SpokeGatewayArgs) Annotate(a infer.Annotator)  { comments.Describe(a, t) }
