// Package ruleset has the custom resource Ruleset: the ruleset as an input of a program, checked as
// `policy check` does, compared in words of what agents can reach, and published for the gateway.
//
// The preview is what a reviewer reads, so the resource does not show that a list changed at its third
// place, but that api.github.com:443 is gained by the rule allow-tool-calls. What is
// gained and lost is asked of the evaluator that the gateway itself decides with (gateway/policy, Diff).
//
// A change that opens something warns. Where approval is required it is an error, in preview as in an update, until
// the digest of exactly that ruleset is approved; the first ruleset, which gains all that it permits, too. In doubt a
// change opens something: what cannot be shown to be narrower counts as wider. A move from monitoring to enforcing
// everything never does.
//
// # Publishing
//
// The blob's body is the document alone, in canonical form, as `policy check` reads it; its metadata have the serial, by
// which gateways tell an older one that somebody put back, and the digest. The serial only rises, also after the blob was
// deleted or written by hand. What somebody else published is shown by a refresh and never overwritten before one.
//
// Deleting the resource leaves the blob, which goes with its storage account: a gateway whose blob is missing keeps the last
// good ruleset, so that nothing would open, but a machine that is built anew would find none.
//
// It knows nothing of Azure's resources, so that its tests are quick: the data plane it writes to is
// behind [blob].
package ruleset
