// Package sdk holds the generated SDKs to the schema that they come from, and to the
// compilers and the Pulumi libraries of their languages. What the tests need is installed by
// make deps: package.json, requirements.txt and sdk/java/pom.xml name the versions.
//
// C# is generated, compared and parsed, not compiled: its compiler and Pulumi's library for it
// are not among what the tests can install.
package sdk
