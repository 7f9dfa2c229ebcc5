package planes

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/bulkhead-dev/bulkhead/tests/twin/blobs"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/vault"
)

// The official clients talk to the planes as a program in Azure would: DefaultAzureCredential,
// Azure's URLs, and nothing set on the clients but the environment.

var (
	planes   *Planes
	roles    Roles
	registry vault.Registry
	accounts = table{all: map[string]blobs.Account{
		"contoso": {ID: "/accounts/contoso", Containers: []string{"policy", "bundle"}},
		"other":   {ID: "/accounts/other", Containers: []string{"policy"}},
		"closed":  {ID: "/accounts/closed", Containers: []string{"policy"}, Firewall: front.Firewall{Deny: true}},
		"mine":    {ID: "/accounts/mine", Containers: []string{"policy"}, Firewall: front.Firewall{Deny: true, Allow: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}},
	}}
)

type table struct {
	mu  sync.Mutex
	all map[string]blobs.Account
}

func (a *table) find(name string) (blobs.Account, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, ok := a.all[name]
	return found, ok
}

// renew makes an account anew.
func (a *table) renew(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	anew := a.all[name]
	anew.Made = rand.Text()
	a.all[name] = anew
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	planes, err = Start(Control{Vaults: registry.Find, Authorize: roles.Authorize,
		Accounts: accounts.find})
	if err == nil {
		err = planes.Setenv(Deployer)
	}
	if err != nil {
		println(err.Error())
		return 1
	}
	defer planes.Close()
	registry.Put("kv-contoso", vault.Vault{ID: "/vaults/kv-contoso", Location: "eastus2"})
	registry.Put("kv-closed", vault.Vault{ID: "/vaults/kv-closed", Firewall: front.Firewall{Deny: true}})
	registry.MakeKey("kv-contoso", "root", vault.Key{Type: "EC-HSM", Operations: []string{"sign"}})
	registry.MakeKey("kv-contoso", "verifier", vault.Key{Type: "EC", Operations: []string{"verify"}})
	return m.Run()
}

func credential(t *testing.T) azcore.TokenCredential {
	t.Helper()
	c, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// impatient has a client give up at once, so that a test sees the first answer.
var impatient = azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}

func code(err error) string {
	var r *azcore.ResponseError
	if errors.As(err, &r) {
		return r.ErrorCode
	}
	return "none"
}

func keys(t *testing.T, vault string) *azkeys.Client {
	t.Helper()
	c, err := azkeys.NewClient("https://"+vault+".vault.azure.net", credential(t), &azkeys.ClientOptions{ClientOptions: impatient})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKeys(t *testing.T) {
	c, digest := keys(t, "kv-contoso"), sha256.Sum256([]byte("x"))
	sign := azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest[:]}
	got, err := c.GetKey(t.Context(), "root", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	version := got.Key.KID.Version()
	again, err := c.GetKey(t.Context(), "root", version, nil)
	if err != nil || !slices.Equal(again.Key.X, got.Key.X) {
		t.Errorf("the same version has another key: %v", err)
	}
	signed, err := c.Sign(t.Context(), "root", version, sign, nil)
	if err != nil || len(signed.Result) != 64 {
		t.Errorf("%d bytes, %v", len(signed.Result), err)
	}
	registry.MakeKey("kv-contoso", "root", vault.Key{Type: "EC-HSM", Operations: []string{"sign"}})
	newer, err := c.GetKey(t.Context(), "root", "", nil)
	if err != nil || newer.Key.KID.Version() == version || slices.Equal(newer.Key.X, got.Key.X) {
		t.Errorf("no new version: %v", err)
	}
	for what, tc := range map[string]struct {
		try  func() error
		want string
	}{
		"no such key":     {func() error { _, err := c.GetKey(t.Context(), "none", "", nil); return err }, "KeyNotFound"},
		"no such version": {func() error { _, err := c.GetKey(t.Context(), "root", vault.Version(), nil); return err }, "KeyNotFound"},
		"not for signing": {func() error { _, err := c.Sign(t.Context(), "verifier", "", sign, nil); return err }, "Forbidden"},
		"another algorithm": {func() error {
			_, err := c.Sign(t.Context(), "root", version, azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmRS256), Value: digest[:]}, nil)
			return err
		}, "BadParameter"},
		"no digest": {func() error {
			_, err := c.Sign(t.Context(), "root", version, azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: []byte("x")}, nil)
			return err
		}, "BadParameter"},
		"a firewall":    {func() error { _, err := keys(t, "kv-closed").GetKey(t.Context(), "root", "", nil); return err }, "Forbidden"},
		"no such vault": {func() error { _, err := keys(t, "kv-nowhere").GetKey(t.Context(), "root", "", nil); return err }, "none"},
		"what the twin has not": {func() error {
			_, err := c.CreateKey(t.Context(), "x", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
			return err
		}, "BadParameter"},
	} {
		if err := tc.try(); err == nil || code(err) != tc.want {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestRoles(t *testing.T) {
	c := keys(t, "kv-contoso")
	roles.Refuse("Microsoft.KeyVault/vaults/keys/read", 1)
	if _, err := c.GetKey(t.Context(), "root", "", nil); code(err) != "Forbidden" || !strings.Contains(err.Error(), "ForbiddenByRbac") {
		t.Errorf("%v", err)
	}
	if _, err := c.GetKey(t.Context(), "root", "", nil); err != nil {
		t.Errorf("the role has arrived: %v", err)
	}
	roles.Refuse("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write", 1)
	b := storage(t, "contoso")
	if _, err := b.UploadBuffer(t.Context(), "policy", "roles", []byte("x"), nil); !bloberror.HasCode(err, bloberror.AuthorizationPermissionMismatch) {
		t.Errorf("%v", err)
	}
	if _, err := b.UploadBuffer(t.Context(), "policy", "roles", []byte("x"), nil); err != nil {
		t.Error(err)
	}
}

func TestSecrets(t *testing.T) {
	secrets := func(vault string) *azsecrets.Client {
		c, err := azsecrets.NewClient("https://"+vault+".vault.azure.net", credential(t), &azsecrets.ClientOptions{ClientOptions: impatient})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	registry.Put("kv-contoso-secrets", vault.Vault{ID: "/vaults/kv-contoso-secrets", Made: rand.Text()})
	registry.Put("kv-protected", vault.Vault{ID: "/vaults/kv-protected", Made: rand.Text(), PurgeProtection: true})
	c := secrets("kv-contoso-secrets")
	set := func(value string) error {
		_, err := c.SetSecret(t.Context(), "a", azsecrets.SetSecretParameters{Value: &value, ContentType: to.Ptr("text/plain"), Tags: map[string]*string{"k": to.Ptr("v")}}, nil)
		return err
	}
	if _, err := c.GetSecret(t.Context(), "a", "", nil); code(err) != "SecretNotFound" {
		t.Errorf("before it is set: %v", err)
	}
	if err := errors.Join(set("1"), set("2")); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetSecret(t.Context(), "a", "", nil)
	if err != nil || *got.Value != "2" || *got.ContentType != "text/plain" || *got.Tags["k"] != "v" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.DeleteSecret(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if err := set("3"); code(err) != "Conflict" || !strings.Contains(err.Error(), "ObjectIsDeletedButRecoverable") {
		t.Errorf("a soft-deleted name: %v", err)
	}
	if _, err := c.RecoverDeletedSecret(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := c.GetSecret(t.Context(), "a", "", nil); err != nil || *got.Value != "2" {
		t.Errorf("recovered: %v", err)
	}
	c.DeleteSecret(t.Context(), "a", nil)
	if _, err := c.PurgeDeletedSecret(t.Context(), "a", nil); err != nil {
		t.Error(err)
	}
	if err := set("4"); err != nil {
		t.Errorf("after the purge: %v", err)
	}
	p := secrets("kv-protected")
	p.SetSecret(t.Context(), "a", azsecrets.SetSecretParameters{Value: to.Ptr("1")}, nil)
	p.DeleteSecret(t.Context(), "a", nil)
	if _, err := p.PurgeDeletedSecret(t.Context(), "a", nil); code(err) != "Forbidden" {
		t.Errorf("purge protection: %v", err)
	}
}

func storage(t *testing.T, account string) *azblob.Client {
	t.Helper()
	c, err := azblob.NewClient("https://"+account+".blob.core.windows.net/", credential(t), &azblob.ClientOptions{ClientOptions: impatient})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBlobs(t *testing.T) {
	accounts.renew("contoso")
	c, ctx := storage(t, "contoso"), t.Context()
	read := func(account string) (string, azcore.ETag, error) {
		var buf [64]byte
		r, err := storage(t, account).DownloadStream(ctx, "policy", "dir/ruleset v1.json", nil)
		if err != nil {
			return "", "", err
		}
		n, _ := r.Body.Read(buf[:])
		return string(buf[:n]), *r.ETag, nil
	}
	write := func(data string, when *blob.ModifiedAccessConditions) error {
		_, err := c.UploadBuffer(ctx, "policy", "dir/ruleset v1.json", []byte(data), &azblob.UploadBufferOptions{
			AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: when}})
		return err
	}
	anew := &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}
	if err := write("one", anew); err != nil {
		t.Fatal(err)
	}
	if err := write("two", anew); !bloberror.HasCode(err, bloberror.BlobAlreadyExists) {
		t.Errorf("If-None-Match: %v", err)
	}
	got, etag, err := read("contoso")
	if err != nil || got != "one" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := write("two", &blob.ModifiedAccessConditions{IfMatch: &etag}); err != nil {
		t.Fatal(err)
	}
	if err := write("three", &blob.ModifiedAccessConditions{IfMatch: &etag}); !bloberror.HasCode(err, bloberror.ConditionNotMet) {
		t.Errorf("If-Match: %v", err)
	}
	if got, _, err := read("contoso"); err != nil || got != "two" {
		t.Errorf("%q, %v", got, err)
	}
	for account, want := range map[string]bloberror.Code{"other": bloberror.BlobNotFound, "mine": bloberror.BlobNotFound, "closed": bloberror.AuthorizationFailure} {
		if _, _, err := read(account); !bloberror.HasCode(err, want) {
			t.Errorf("%s: %v", account, err)
		}
	}
	if _, err := c.UploadBuffer(ctx, "none", "x", nil, nil); !bloberror.HasCode(err, bloberror.ContainerNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := c.CreateContainer(ctx, "mine", nil); !bloberror.HasCode(err, "UnsupportedOperation") {
		t.Errorf("a container is the resource manager's to make: %v", err)
	}
	key, err := azblob.NewSharedKeyCredential("contoso", "dW51c2Vk")
	if err != nil {
		t.Fatal(err)
	}
	withKey, err := azblob.NewClientWithSharedKeyCredential("https://contoso.blob.core.windows.net/", key, &azblob.ClientOptions{ClientOptions: impatient})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := withKey.UploadBuffer(ctx, "policy", "x", nil, nil); !bloberror.HasCode(err, "KeyBasedAuthenticationNotPermitted") {
		t.Errorf("an account's key: %v", err)
	}
}

// TestMadeAnew has an account of the same name without the old one's blobs.
func TestMadeAnew(t *testing.T) {
	c := storage(t, "contoso")
	if _, err := c.UploadBuffer(t.Context(), "bundle", "old", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	accounts.renew("contoso")
	if _, err := c.DownloadStream(t.Context(), "bundle", "old", nil); !bloberror.HasCode(err, bloberror.BlobNotFound) {
		t.Errorf("%v", err)
	}
}

type forged string

func (f forged) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(f)}, nil
}

// TestTokens has tokens that Azure would not take.
func TestTokens(t *testing.T) {
	wrong, err := planes.Identity.Token(Deployer, "https://graph.microsoft.com")
	if err != nil {
		t.Fatal(err)
	}
	good, err := planes.Identity.Token(Deployer, "https://vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(good)
	flipped[len(flipped)-10] ^= 1
	for what, token := range map[string]string{"for another resource": wrong, "of another signer": string(flipped), "no token": "x"} {
		k, err := azkeys.NewClient("https://kv-contoso.vault.azure.net", forged(token), &azkeys.ClientOptions{ClientOptions: impatient})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.GetKey(t.Context(), "root", "", nil); code(err) != "Unauthorized" {
			t.Errorf("vault, %s: %v", what, err)
		}
		b, err := azblob.NewClient("https://contoso.blob.core.windows.net/", forged(token), &azblob.ClientOptions{ClientOptions: impatient})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.DownloadStream(t.Context(), "policy", "x", nil); !bloberror.HasCode(err, "InvalidAuthenticationInfo") {
			t.Errorf("blobs, %s: %v", what, err)
		}
	}
}

// TestFaults has the front fail in place of a plane.
func TestFaults(t *testing.T) {
	c := keys(t, "kv-contoso")
	if _, err := c.GetKey(t.Context(), "root", "", nil); err != nil {
		t.Fatal(err)
	}
	remove := planes.Front.Inject(front.Fault{Host: vault.Suffix, Method: http.MethodGet, Path: "/keys/root", Skip: 1, Times: 2, Status: http.StatusTooManyRequests,
		Header: map[string]string{"Retry-After": "1"}, Body: `{"error":{"code":"Throttled","message":"x"}}`})
	defer remove()
	for i, want := range []string{"none", "Throttled", "Throttled", "none"} {
		if _, err := c.GetKey(t.Context(), "root", "", nil); code(err) != want {
			t.Errorf("%d: %v", i, err)
		}
	}
	remove = planes.Front.Inject(front.Fault{Host: blobs.Suffix})
	if _, err := storage(t, "contoso").DownloadStream(t.Context(), "policy", "x", nil); err == nil || code(err) != "none" {
		t.Errorf("a broken connection: %v", err)
	}
	remove()
	if _, err := storage(t, "contoso").DownloadStream(t.Context(), "policy", "x", nil); !bloberror.HasCode(err, bloberror.BlobNotFound) {
		t.Error(err)
	}
}
