// Package originprobe asks an origin for its certificate, on behalf of a flow that is
// spliced: since TLS 1.3 (RFC 8446, section 4.4.2) certificates are encrypted, so that who passes bytes on sees
// none. The gateway makes a handshake of its own with the flow's pinned address, for the
// flow's name, and closes it again.
//
// # What a good answer says
//
// That the address, asked for the name by this gateway within the last ten minutes, proved
// to hold the key of a valid certificate for it, and negotiated the wanted version of TLS. Keys of RSA below
// 2048 bits and SHA-1 signatures are not valid; intermediates that the origin
// leaves out are not fetched; revocation is not looked up.
//
// # What it does not say
//
// That the agent is shown the same certificate. An origin that works with the agent can
// answer the probe honestly and the agent otherwise; agents that must be held to more
// are decrypted. The version is what the origin chose when it was offered all from 1.0
// on; what the agent offers is for the enforcer to read in its ClientHello. An origin of TLS 1.2
// that insists on a client certificate ends the handshake, and counts as one that could not
// be asked.
//
// # What agents can do with it
//
// Nothing but have it ask. A probe is made only for a flow that the ruleset has permitted, to the
// address that the flow goes to anyway; of the agent's bytes it carries the name alone, and no
// request is sent. Probes are bounded for each source in rate and together in number.
// What cannot be asked is [ErrNotReady], and the flow is refused.
package originprobe
