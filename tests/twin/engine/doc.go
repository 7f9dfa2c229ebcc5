// Package engine runs programs on the real Pulumi engine, without a cloud and without a
// network.
//
// Real are: the command-line program and the engine in it, which is built once from its Go
// module (see tools/) and kept in the user's cache; the host of YAML programs; the Automation
// API; the SDK inside a program of any language; and this repository's own plugin. The hosts
// that start programs in Go, TypeScript, Python and Java stand in for Pulumi's, see
// cmd/pulumi-language-standin. Which plugin answers for azure-native is the caller's choice.
//
// [New] gives a test an engine with a file backend and an environment of its own; nothing of
// the user's ~/.pulumi is read or written. [Engine.Inline] runs a Go function in the test's
// process by the Automation API, [Engine.Project] a project's directory by the command line.
// Both give a [Stack], and each of its operations a [Run]: what the engine did and said.
package engine
