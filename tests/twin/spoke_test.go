// Package twin runs the whole of the Pulumi package: the real engine, the real plugin, the official
// Azure clients, and a stand-in for Azure behind them.
package twin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/subscription"
)

// spoke is a stack with the standard spoke on a subscription of its own.
type spoke struct {
	*engine.Stack
	t   testing.TB
	dir string
	on  *subscription.Subscription
}

func newSubscription(t testing.TB) *subscription.Subscription {
	t.Helper()
	on, err := subscription.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { on.Close() })
	return on
}

// newSpoke begins a stack. Its gateway reports what it is given, as a gateway does that works; tests/twin/boot
// has one that does work.
func newSpoke(t testing.TB) *spoke {
	t.Helper()
	on := newSubscription(t)
	e := engine.New(t, bulkhead, azureNative)
	e.Setenv(on.Environment(planes.Deployer)...)
	s := &spoke{t: t, dir: t.TempDir(), on: on}
	s.write()
	s.Stack = e.Project(s.dir)
	s.SetConfig("bundleFile", release(t, "0.1.0"))
	ctx, cancel := context.WithCancel(context.Background())
	done := on.StandIn(ctx)
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// write makes the program.
func (s *spoke) write(more ...string) {
	s.t.Helper()
	properties := append([]string{
		"location: eastus2", "bundleFile: ${bundleFile}", "addressSpace: [10.20.0.0/16]", "protect: false",
		fmt.Sprintf("deployerAddresses: [%s]", planes.DeployerAddress), "deployerObjectId: " + planes.Deployer.ObjectID,
		"attestationTimeoutSeconds: 120",
	}, more...)
	if !slices.ContainsFunc(more, func(p string) bool { return strings.HasPrefix(p, "toolCalls:") }) {
		properties = append(properties, "toolCalls: [api.github.com]")
	}
	program := "name: twin\nruntime: yaml\nconfig:\n  bundleFile: {type: string}\nresources:\n  spoke:\n    type: bulkhead:FoundrySpoke\n    properties:\n      " +
		strings.Join(properties, "\n      ") + "\noutputs:\n  agentSubnetId: ${spoke.agentSubnetId}\n  rootCertificate: ${spoke.rootCertificate}\n  rulesetDigest: ${spoke.rulesetDigest}\n"
	if err := os.WriteFile(filepath.Join(s.dir, "Pulumi.yaml"), []byte(program), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// exists are the ids of the resources of a type.
func (s *spoke) exists(kind string) (ids []string) {
	s.t.Helper()
	all, err := s.on.Control.List(kind, "")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range all {
		ids = append(ids, r.Text("id"))
	}
	return ids
}
