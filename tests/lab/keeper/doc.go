// Package keeper holds a lab open in the background, so that one command can
// bring it up and others use it.
//
// The keeper is a process that owns the lab's namespaces and listens on a unix
// socket in a folder of its user. A namespace made in a user namespace cannot be
// entered by a Go program from outside, and needs no name while somebody holds it; so
// clients do not enter: they pass their standard input, output and error over the
// socket, and the keeper starts the program. When the keeper ends, however it ends,
// the kernel takes the lab down; a socket that nobody answers is a leftover.
package keeper
