// Package arm is the twin of Azure's control plane: resources as ARM JSON, by ARM id, with the
// rules that Azure has for them.
//
// What is there lies in one file, which several processes share: the stand-in provider that
// Pulumi's engine started, and the test that looks at it, edits it (drift) or makes it fail.
// Every operation reads the file, changes it or not, and replaces it whole, under a lock. An
// operation that is refused leaves nothing behind, unless Azure does.
//
// Strict is meant in two ways. A body is decoded into the official SDK's own model, and a key
// that the model does not have is an error (strict.go). And what Azure would refuse is refused,
// with its error code and in its words (rules_*.go). Where it is not known how Azure behaves,
// the twin takes the stricter way, and its comment says so.
//
// It proves nothing about a live tenant: neither that these are all the rules, nor that Azure's
// are still these. It knows no quotas, no policies and no prices, and no time: an operation, a role
// or a link takes as many questions as its kind or the settings say.
package arm
