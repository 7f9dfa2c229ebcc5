// Package trust is the agents' side of package ca: it puts the root into the form that an
// image's software reads, and tries out whether it was taken.
//
// Software does not agree on where trusted roots are. Some read the system's bundle, some
// bring their own and want it replaced, Java reads a key store. [Bundle] is the first two,
// PKCS12 the third; docs/trust.md says which takes what.
package trust
