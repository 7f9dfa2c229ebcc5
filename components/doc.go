// Package components is what `pulumi up` provisions: a Foundry spoke whose agents have one
// way out, through a gateway that enforces one ordered ruleset.
//
// [NewFoundrySpoke] is the whole and what most people need. The parts that it is made of
// can be used alone: [NewSpokeGateway], [NewAgentSubnet], [NewInspectionCA], [NewCanary].
// Each constructor serves programs in Go, which call it in their own process, and the
// plugin (cmd/pulumi-resource-bulkhead), through which every other language calls it.
//
// Arguments that a guard has to know in preview (prefixes, addresses, sizes) are plain
// values; what another resource may only yield later is an input.
package components
