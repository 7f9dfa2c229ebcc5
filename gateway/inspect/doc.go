// Package inspect serves HTTP connections whose every request is judged.
//
// Three layers share the work. A [guard] reads the connection's raw bytes and lets
// only requests through that every parser reads alike: one Host, one framing,
// no folded lines, nothing after the method but what RFC 9112 says. The
// standard library's server, which is lenient in places, then parses what is left,
// with its limits and deadlines. goproxy carries the judged request to the origin
// and the answer back, WebSocket upgrades included.
//
// A request may name any host it likes: its connection is dialled to the flow's
// original destination, only after the name has been judged and found pinned
// to that destination, and the first permitted name is the connection's for good.
// What is sent on is rebuilt from what was judged.
//
// This package decides nothing itself. It asks a [Gate], which the enforcer
// implements for each flow.
package inspect
