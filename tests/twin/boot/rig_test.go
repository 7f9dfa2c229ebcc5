package boot_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
	"github.com/bulkhead-dev/bulkhead/gateway/image"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/twin/blobs"
	"github.com/bulkhead-dev/bulkhead/tests/twin/boot"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
)

const (
	account = "contoso"
	// subscription is the one that machines ask for service tags in.
	subscription = "00000000-0000-4000-8000-00000000005b"
	group        = "/subscriptions/S/resourceGroups/spoke/providers/"
	vm           = group + "Microsoft.Compute/virtualMachines/gateway"
	agents       = group + "Microsoft.Network/virtualNetworks/vnet/subnets/agents"
	canary       = group + "Microsoft.Network/virtualNetworks/vnet/subnets/canary"
	table        = group + "Microsoft.Network/routeTables/agents-routes"
	nsg          = group + "Microsoft.Network/networkSecurityGroups/agents-nsg"
)

// machine is the gateway's identity.
var machine = identity.Principal{Name: "gateway", ObjectID: "0b1ec700-0000-4000-8000-000000000002", ClientID: "11111111-2222-3333-4444-555555555555"}

var (
	data   *planes.Planes
	binary []byte
)

func TestMain(m *testing.M) {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "bulkhead-boot-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	path, err := lab.Build(context.Background(), dir)
	if err != nil {
		return fail(err)
	}
	if binary, err = os.ReadFile(path); err != nil {
		return fail(err)
	}
	// The account lets in the deployer, and the gateway's subnet as a service endpoint shows it.
	a := blobs.Account{ID: group + "Microsoft.Storage/storageAccounts/" + account, Containers: []string{"policy", "bundle", "attestation"},
		Firewall: front.Firewall{Deny: true, Allow: []netip.Prefix{netip.PrefixFrom(planes.DeployerAddress, 32), netip.MustParsePrefix("10.20.0.0/24")}}}
	data, err = planes.Start(planes.Control{Accounts: func(name string) (blobs.Account, bool) { return a, name == account },
		Authorize: authorize})
	if err != nil {
		return fail(err)
	}
	defer data.Close()
	data.Front.Handle(boot.FeedsName, feed)
	if err := data.Setenv(planes.Deployer); err != nil {
		return fail(err)
	}
	return m.Run()
}

// authorize gives the machine what components give it: it reads the policy, the bundle and the service tags, and
// writes its report.
func authorize(principal, action, scope string) error {
	switch {
	case principal == planes.Deployer.ObjectID:
		return nil
	case principal == machine.ObjectID && strings.HasSuffix(action, "/read") && (strings.Contains(scope, "/policy/") || strings.Contains(scope, "/bundle/")):
		return nil
	case principal == machine.ObjectID && strings.Contains(scope, "/attestation/"):
		return nil
	case principal == machine.ObjectID && action == "Microsoft.Network/locations/serviceTags/read" && strings.HasPrefix(scope, "/subscriptions/"+subscription+"/"):
		return nil
	}
	return fmt.Errorf("%s has no role for %s at %s", principal, action, scope)
}

func url(path string) string { return "https://" + account + ".blob.core.windows.net/" + path }

// put publishes as the deployer does.
func put(t *testing.T, path string, body []byte, serial int) {
	t.Helper()
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := blockblob.NewClient(url(path), credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	opts := &blockblob.UploadBufferOptions{}
	if serial > 0 {
		text := fmt.Sprint(serial)
		opts.Metadata = map[string]*string{"serial": &text}
	}
	if _, err := c.UploadBuffer(t.Context(), body, opts); err != nil {
		t.Fatal(err)
	}
}

// get reads a blob as the deployer does; empty where there is none.
func get(t *testing.T, path string) []byte {
	t.Helper()
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := blockblob.NewClient(url(path), credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	n, err := c.DownloadBuffer(t.Context(), buf, nil)
	var answer *azcore.ResponseError
	if err != nil && !(asResponse(err, &answer) && answer.StatusCode == http.StatusNotFound) {
		t.Fatal(err)
	}
	return buf[:n]
}

// release is an archive as `make bundle` lays it out, with the binary of this tree.
func release(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	add := func(name string, data []byte, mode int64) {
		if err := archive.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: mode}); err != nil {
			t.Fatal(err)
		}
		archive.Write(data)
	}
	add("bin/bulkhead", binary, 0o755)
	for _, unit := range []string{"bulkhead-lockdown.service", "bulkhead.service"} {
		text, err := os.ReadFile("../../../gateway/image/" + unit)
		if err != nil {
			t.Fatal(err)
		}
		add("systemd/"+unit, text, 0o644)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// spoke is that of testdata, with a machine that has user data.
func spoke(t *testing.T, userData []byte) boot.State {
	t.Helper()
	text, err := os.ReadFile("testdata/spoke.json")
	if err != nil {
		t.Fatal(err)
	}
	var s boot.State
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	edit(t, s, vm, `"properties": {`, `"properties": {"userData": "`+base64.StdEncoding.EncodeToString(userData)+`", `)
	return s
}

// published is the spoke whose user data names a release that was published.
func published(t *testing.T) boot.State {
	t.Helper()
	bundle := release(t)
	digest := sha256.Sum256(bundle)
	put(t, "bundle/gateway.tar.gz", bundle, 0)
	userData, err := image.UserData(image.Spec{Address: netip.MustParseAddr("10.20.0.4"), Agents: []netip.Prefix{netip.MustParsePrefix("10.20.1.0/24"), netip.MustParsePrefix("10.20.3.0/27")},
		PolicyURL: url("policy/ruleset.json"), AttestationURL: url("attestation/gateway.json"), BundleURL: url("bundle/gateway.tar.gz"),
		BundleSHA256: hex.EncodeToString(digest[:]), ClientID: machine.ClientID,
		Discovery: &config.Discovery{Location: "eastus2", Subscription: subscription}})
	if err != nil {
		t.Fatal(err)
	}
	return spoke(t, userData)
}

// edit replaces text in a resource.
func edit(t *testing.T, s boot.State, id, old, new string) {
	t.Helper()
	text := strings.Replace(string(s[id]), old, new, 1)
	if text == string(s[id]) {
		t.Fatalf("%s has no %s", id, old)
	}
	s[id] = json.RawMessage(text)
}

func up(t *testing.T, s boot.State) (context.Context, *boot.Spoke) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	l, err := boot.Up(ctx, boot.Options{State: s, Front: data.Front, Progress: func(s string) { t.Log(s) },
		Tokens: func(id string) (http.Handler, error) { return data.Identity.IMDS(machine), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if log, err := os.ReadFile(l.Paths.Log); err == nil && t.Failed() {
			t.Logf("the gateway's log:\n%s", log)
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	if err := l.Process.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx, l
}
