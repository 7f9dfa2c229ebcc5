// Package ruleset has the custom resource Ruleset: the ruleset as an input of a program, checked as
// `policy check` does, compared in words of what agents can reach, and published for the gateway.
//
// The preview is what a reviewer reads, so the resource does not show that a list changed at its third
// place, but that api.github.com:443 is gained by the rule allow-tool-calls. What is
// gained and lost is asked of the evaluator that the gateway itself decides with (gateway/policy, Diff).
//
// A change that opens something warns. Where approval is required it is an error, in preview as in an update, until
// the digest of exactly that ruleset is approved.
//
// It knows nothing of Azure's resources, so that its tests are quick: the data plane it writes to is
// behind [blob].
package ruleset
