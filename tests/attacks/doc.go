// Package attacks holds the tests that try to get past a gateway: the real binary
// on a real kernel, with clients made by hand, in the lab.
//
// Every attack has the same five parts. It is tried. The agent must learn at once
// that it was refused, never wait. No packet may have come out on the other side
// that is not known to be permitted, not even a SYN; nor may a question have
// left that no rule makes resolvable. The audit must hold the rule, the reason and
// the stage. And a twin of the same shape that the ruleset permits must work, or the
// refusal would prove nothing.
//
// An attack has a name and an address of its own wherever it can, so that what is seen of
// it cannot be the trace of another.
package attacks
