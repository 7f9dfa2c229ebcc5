// Package enforcer takes over the TCP connections that addresses alone cannot
// decide, learns which name each of them claims, and either joins it to its
// destination or refuses it.
//
// The kernel hands connections over by TPROXY, so an accepted socket's local
// address is the destination that the agent meant. A flow then passes through
// three gates, each of which ends most of what must not go on:
//
//   - the packet: the kernel's gate may lag behind the ruleset, so addresses are
//     judged again;
//   - the peek: the first bytes, bounded in size and time, say TLS, HTTP or
//     neither, and which name the flow claims (package hello);
//   - the name: it must be permitted and pinned to this very destination for this
//     source. A pin past its time is asked for again first.
//
// What is permitted is written to the audit before the destination is dialled. Its
// bytes are then relayed untouched: the peeked ones in one write, the rest by package relay,
// in which a flow needs no goroutine. Plain HTTP goes to an [HTTP] implementation, because
// a connection may carry requests for several names and each is judged.
//
// A refusal is made legible: a TLS client reads an access_denied alert, an HTTP
// client a JSON body, any other a reset.
//
// A flow stays in the table until it ends. [Server.Rejudge] walks it after a reload and
// resets what the new ruleset no longer permits.
package enforcer
