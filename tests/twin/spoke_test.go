// Package twin runs the whole of the Pulumi package: the real engine, the real plugin, the official
// Azure clients, and a stand-in for Azure behind them.
package twin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/subscription"
)

// spoke is a stack with the standard spoke on a subscription of its own.
type spoke struct {
	*engine.Stack
	t    testing.TB
	dir  string
	on   *subscription.Subscription
	more string // properties beside the standard ones, one a line
}

// newSpoke begins a stack. Its gateway reports what it is given, as a gateway does that works; tests/twin/boot
// has one that does work.
func newSpoke(t testing.TB) *spoke {
	t.Helper()
	on, err := subscription.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { on.Close() })
	e := engine.New(t, bulkhead, azureNative)
	e.Setenv(on.Environment(planes.Deployer)...)
	s := &spoke{t: t, dir: t.TempDir(), on: on}
	s.write()
	s.Stack = e.Project(s.dir)
	s.SetConfig("bundleFile", release(t, "0.1.0"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.report(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// write makes the program.
func (s *spoke) write(more ...string) {
	s.t.Helper()
	properties := append([]string{
		"location: eastus2", "bundleFile: ${bundleFile}", "addressSpace: [10.20.0.0/16]", "protect: false",
		fmt.Sprintf("deployerAddresses: [%s]", planes.DeployerAddress), "deployerObjectId: " + planes.Deployer.ObjectID, "deployerType: ServicePrincipal",
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

// token is one principal's, for the official client in this process.
type token struct {
	service *identity.Service
	who     identity.Principal
}

func (c token) GetToken(context.Context, azpolicy.TokenRequestOptions) (azcore.AccessToken, error) {
	text, err := c.service.Token(c.who, "https://storage.azure.com")
	return azcore.AccessToken{Token: text, ExpiresOn: time.Now().Add(time.Hour)}, err
}

// report plays the gateway's part in a deployment: once there is a machine, and a ruleset in its storage account, it
// says that this is in force, as the machine's own identity.
func (s *spoke) report(ctx context.Context) {
	said := ""
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		machines, _ := s.on.Control.List("Microsoft.Compute/virtualMachines", "")
		accounts, _ := s.on.Control.List("Microsoft.Storage/storageAccounts", "")
		identities, _ := s.on.Control.List("Microsoft.ManagedIdentity/userAssignedIdentities", "")
		if len(machines) != 1 || len(accounts) != 1 || len(identities) != 1 {
			continue
		}
		who := identity.Principal{Name: "gateway", ObjectID: identities[0].Text("properties", "principalId"), ClientID: identities[0].Text("properties", "clientId")}
		at := func(path string) *blockblob.Client {
			options := &blockblob.ClientOptions{}
			options.Transport, options.Retry.MaxRetries = client{s.on.Front.Client()}, -1
			c, err := blockblob.NewClient(accounts[0].Text("properties", "primaryEndpoints", "blob")+path, token{s.on.Identity, who}, options)
			if err != nil {
				panic(err)
			}
			return c
		}
		resp, err := at("policy/ruleset.json").DownloadStream(ctx, nil)
		if err != nil {
			continue
		}
		var body bytes.Buffer
		_, err = body.ReadFrom(resp.Body)
		resp.Body.Close()
		doc, bad := policy.Decode(body.Bytes())
		if err != nil || bad != nil {
			continue
		}
		rs, err := policy.Compile(doc, policy.Environment{})
		if err != nil || rs.Digest()+accounts[0].Text("name") == said {
			continue
		}
		text, err := json.Marshal(map[string]any{"digest": rs.Digest(), "serial": 1, "ready": true, "version": "0.1.0", "time": time.Now().UTC().Format(time.RFC3339), "error": ""})
		if err != nil {
			panic(err)
		}
		if _, err := at("attestation/gateway.json").UploadBuffer(ctx, text, nil); err == nil {
			said = rs.Digest() + accounts[0].Text("name")
		}
	}
}

type client struct{ *http.Client }

// exists are the resources of a type.
func (s *spoke) exists(kind string) []string {
	s.t.Helper()
	all, err := s.on.Control.List(kind, "")
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for _, r := range all {
		ids = append(ids, r.Text("id"))
	}
	return ids
}
