// Package policy is the ruleset: the one document that says where an agent may
// talk, and the one evaluator that answers for it.
//
// Everything that decides asks here: the kernel program is generated from
// [Ruleset.Flatten], the DNS plugin asks [Ruleset.Question] and
// [Ruleset.Answer], the enforcer and the HTTP chain ask [Ruleset.Decide], and
// the command line explains with the same call. There is no second
// implementation of matching.
//
// # From document to verdict
//
// [Decode] reads JSON or YAML strictly into a [Document]. [Check] finds what is
// wrong or dangerous in it. [Compile] turns it, with the [Data] of service tags
// and feeds, into an immutable [Ruleset] that any number of goroutines may ask.
//
// # Facts arrive in stages
//
// A flow is first a DNS question, then a packet, then a name, then perhaps a
// request. At each [Stage] a rule matches, does not match, or is not yet known.
// Rules are judged in priority order and the first enforced rule that matches
// decides; a stage decides as soon as no later fact can change the outcome, and
// otherwise says with [Decision.Pending] what it waits for.
//
// # Permit is bound, deny is not
//
// A PERMIT by name needs the name to match and the destination to be an address
// that the gateway's own resolver gave for that very name (the pin). A DENY by
// name is compared with the claimed name alone. So a forged name can only ever
// lose access.
//
// The package does no I/O, reads no clock and knows no other package of the
// product.
package policy
