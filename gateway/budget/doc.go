// Package budget counts the bytes that left under a rule, so that no more leave within
// its window than the ruleset grants.
//
// # Reserve, then move
//
// A relay that asked for every byte could not splice in the kernel. So it reserves a
// chunk ([Ledger.Take]), moves at most that much, and gives back what it did not use
// ([Ledger.Return]). What is granted counts as gone until it is given back; no flow
// can therefore move what another was promised. A grant is good until [Grant.Until]: a
// flow that was idle for longer gives it back and takes another, so that bytes count
// when they leave. A grant of nothing is the end of the budget, or of the ledger's
// ability to keep it ([Ledger.Ready] says which): the flow is reset.
//
// # The window
//
// It rolls. Time is cut into slots of a 24th of the window; what left in a slot counts
// until the window after the slot's end has passed. So "100 MB in 24h" holds for any 24
// hours, not only for those that begin at midnight, and bytes come back at most one
// hour later than an exact count would have it, never sooner.
//
// # What survives
//
// A charge is on disk before it is granted. To spare the disk, an account is charged
// some way ahead (a 64th of its limit, at most 16 MiB) and grants come out of that; flows that
// ask at the same time share one write. A crash costs what was charged ahead, and never
// gives a byte back. The journal and its damage are described in the package's README.
//
// A clock set back stands still here until it has caught up with the journal. One set
// forward ends windows early; nobody can tell it from time that passed.
//
// # What agents can make
//
// An account is a rule and a source address, so agents make none that the ruleset does
// not know. They are bounded all the same: [maxAccounts]. With that many alive, a new one
// is granted nothing.
package budget
