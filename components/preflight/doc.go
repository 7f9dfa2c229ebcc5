// Package preflight judges a Foundry spoke before it is made, and while it runs: what
// would break the platform, and what would let an agent out past the gateway.
//
// # One table
//
// [Guards] is the table. A row is an id, a severity, when it applies, what has to be
// true, Azure's reason, where that is written, and the way out. Its condition is a pure
// function of an [Inventory]: no network, no clock, no files. So a guard says the same in
// a constructor, in preview, on the command line and on an inventory that was saved a
// year ago.
//
// # What is not known is not passed
//
// An [Inventory] says of each of its parts whether it was read. A guard that needs a part
// that was not read ends as [NotChecked], with the reason, and never as a pass. That is
// not [NotApplicable]: there it is known that the question does not arise, such as the
// routes of a subnet that does not exist yet.
//
// [Run] judges all that an inventory tells. [Static] judges what a program's arguments
// alone tell, before anything is asked of Azure. A guard is skipped only with a reason in
// writing, and the report repeats it.
//
// Whether a ruleset is sound, and what it permits, is asked of gateway/policy. How packets
// leave a subnet is computed by components/preflight/routes.
package preflight
