// Package ca vouches for the names whose flows the gateway decrypts.
//
// There are three kinds of certificate. The root is what agents trust. Its key
// stays in Key Vault, or in a file for a lab, and signs nothing but intermediates:
// about two a day. An intermediate lives for a day, its key only in this process's
// memory, and its name constraints (RFC 5280, section 4.2.1.10) hold it to the names that
// the ruleset decrypts. Leaves are made from it as connections come, one for a
// name, all with one key.
//
// So who steals the gateway's disk has nothing, and who steals its memory can pose for a
// day as names that the ruleset decrypts anyway, and as no other.
//
// # What constraints cannot say
//
// A constraint is a domain with everything below it. `api.github.com` therefore also admits
// `x.api.github.com`, a glob inside a label widens to the domain behind it, and a
// ruleset that decrypts every name leaves names unconstrained. More names than
// [maxConstraints] are joined under their parents, because the intermediate is sent with
// every handshake. [Authority.Leaf] itself is exact: it refuses every name that
// the ruleset does not decrypt.
//
// # When something fails
//
// The vault is asked long before it has to answer: at half of an intermediate's life.
// While it is away the present intermediate serves on, until it expires; from then
// on Leaf returns [ErrNotReady], and what must be decrypted is refused. A root
// certificate that was replaced is noticed within minutes.
package ca
