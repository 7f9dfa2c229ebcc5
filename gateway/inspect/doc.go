// Package inspect serves HTTP connections whose every request is judged: plain ones, and
// decrypted ones, whose TLS it ends with a certificate of its own.
//
// Layers share the work. A [guard] reads the raw bytes of an HTTP/1 connection and lets
// only requests through that every parser reads alike: one Host, one framing,
// no folded lines, nothing after the method but what RFC 9112 says. The
// standard library's server, which is lenient in places, then parses what is left,
// with its limits and deadlines. Requests of HTTP/2 are held to the same by headOf. goproxy carries the
// judged request to the origin and the answer back, WebSocket upgrades included: over HTTP/2 by the
// standard library's transport, over HTTP/1 by a [line].
//
// A plain request may name any host it likes: its connection is dialled to the flow's
// original destination, only after the name has been judged and found pinned
// to that destination, and the first permitted name is the connection's for good.
// What is sent on is rebuilt from what was judged.
//
// On TLS the name of the ClientHello is the connection's, and every request's authority has to be
// it (RFC 9113, section 9.1.1 lets clients send requests for other names; they get 421). The origin is
// asked before the client is answered: the client is offered what the origin speaks, so
// that both sides have the same version of HTTP and nothing is translated, and an origin that cannot prove
// its name is reported with 502. A failure never turns into a connection that nobody looks into.
//
// What a rule obliges to is done here: fields set and required, bodies bounded, messages of MCP read,
// each judged, and lists of tools cut. Where a permit rests on the request itself, fields by which
// servers take another method or path than the request line's are removed.
//
// This package decides nothing itself. It asks a [Gate], which the enforcer
// implements for each flow.
package inspect
