package arm

import "slices"

// searchSizes are how many replicas and partitions a service can have
// (learn.microsoft.com/azure/search/search-limits-quotas-capacity).
var searchSizes = map[string]struct{ replicas, partitions float64 }{
	"free": {1, 1}, "basic": {3, 3}, "standard": {12, 12}, "standard2": {12, 12}, "standard3": {12, 12}, "storage_optimized_l1": {12, 12}, "storage_optimized_l2": {12, 12},
}

func searchRules(o *operation) error {
	if taken(o.s, typeSearch, o.id.Name(), o.id.text) {
		return failure(409, "ServiceNameUnavailable", "The service name '%s' is already in use.", o.id.Name())
	}
	sku := o.body.Text("sku", "name")
	if sku == "" {
		return failure(400, "BadRequest", "Search service %s has no SKU.", o.id.Name())
	}
	p := o.body.Object("properties")
	if p == nil {
		p = Object{}
		o.body["properties"] = map[string]any(p)
	}
	p.Default(1.0, "replicaCount")
	p.Default(1.0, "partitionCount")
	replicas, partitions, limit := p.Number("replicaCount"), p.Number("partitionCount"), searchSizes[sku]
	if replicas < 1 || replicas > limit.replicas || partitions > limit.partitions || !slices.Contains([]float64{1, 2, 3, 4, 6, 12}, partitions) || replicas*partitions > 36 {
		return failure(400, "BadRequest", "Search service %s of the SKU %s cannot have %v replicas and %v partitions.", o.id.Name(), sku, replicas, partitions)
	}
	if p.True("disableLocalAuth") && p.At("authOptions") != nil {
		return failure(400, "BadRequest", "The property authOptions of search service %s cannot be defined if disableLocalAuth has been set to true.", o.id.Name())
	}
	if sku == "free" && o.body.Text("identity", "type") != "" {
		return failure(400, "BadRequest", "A managed identity needs the SKU basic or a greater one, not %s.", sku)
	}
	for _, rule := range p.List("networkRuleSet", "ipRules") {
		if err := publicRange(rule.Text("value"), 32); err != nil {
			return failure(400, "BadRequest", "Search service %s: the rule '%s' is invalid: %v.", o.id.Name(), rule.Text("value"), err)
		}
	}
	if o.old != nil && o.old.Text("sku", "name") != sku {
		return failure(400, "BadRequest", "The SKU of search service %s cannot be changed from %s to %s.", o.id.Name(), o.old.Text("sku", "name"), sku)
	}
	return nil
}

func searchFill(o *operation, r *Resource) {
	p := o.body.Object("properties")
	p.Set("succeeded", "provisioningState") // in Search's own spelling
	p.Set("running", "status")
	p.Set("", "statusDetails")
	p.Default("default", "hostingMode")
	p.Default("enabled", "publicNetworkAccess")
	p.Default(map[string]any{"ipRules": []any{}}, "networkRuleSet")
	p.Default([]any{}, "privateEndpointConnections")
	p.Default([]any{}, "sharedPrivateLinkResources")
	identities(o, r)
}
