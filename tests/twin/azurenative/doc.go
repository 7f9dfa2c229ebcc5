// Package azurenative stands in for azure-native, Pulumi's provider for Azure, which cannot be
// built from what is published: the real engine runs it in the tests, over the twin's control
// plane (tests/twin/arm).
//
// It is written from what the real one does (github.com/pulumi/pulumi-azure-native,
// provider/pkg/provider): a program's properties are those of the SDK's own xxxArgs types, and
// an unknown one is refused here, where the real one only warns; properties become a body in
// Azure's shape and back; names that are not given are made of the resource's name and eight
// random digits, or are the resource's name for parts of another resource; a change to what
// is in a resource's path, or to what Azure cannot change, is a replacement, which deletes
// first; a resource that is there already is not created; parts that a program does not list
// are left as they are on update.
//
// It is there in two versions: the one that the components are written against, and the one that
// examples/foundry names, whose types are read from its package for Node (types3.go).
//
// What it does not prove: that the real provider maps each property as this one does, which
// retries it makes, or how long anything takes.
package azurenative
