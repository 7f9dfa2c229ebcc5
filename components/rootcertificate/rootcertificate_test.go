package rootcertificate

import (
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/components/patience"
	"github.com/bulkhead-dev/bulkhead/gateway/ca"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/resource"
	"github.com/bulkhead-dev/bulkhead/tests/twin/vault"
)

// The official azidentity, azkeys and azsecrets talk to the twin's vault.

var (
	twin     *planes.Planes
	roles    planes.Roles
	registry vault.Registry
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if twin, err = planes.Start(planes.Control{Vaults: registry.Find, Authorize: roles.Authorize}); err == nil {
		err = twin.Setenv(planes.Deployer)
	}
	if err != nil {
		println(err.Error())
		return 1
	}
	defer twin.Close()
	return m.Run()
}

var key = vault.Key{Type: "EC", Curve: "P-256", Operations: []string{"sign"}}

// setUp makes a vault of the test's own, with a key.
func setUp(t *testing.T) (name string, in resource.Inputs, r *resource.Resource) {
	t.Helper()
	name = "kv-" + strings.ToLower(t.Name())
	registry.Put(name, vault.Vault{ID: "/vaults/" + name, Made: rand.Text()})
	registry.MakeKey(name, "bulkhead-root", key)
	in = resource.Inputs{"vaultUri": property.New("https://" + name + ".vault.azure.net/"), "keyName": property.New("bulkhead-root"), "commonName": property.New("Contoso root"), "validityYears": property.New(5.0)}
	return name, in, resource.New(t, "bulkhead:index:RootCertificate", infer.Resource(&RootCertificate{roles: quick(time.Minute)}))
}

// quick looks again at once, and gives up after the limit.
func quick(limit time.Duration) patience.Patience {
	return patience.Patience{Limit: limit, Pause: time.Millisecond, Longest: 10 * time.Millisecond}
}

// refused is a resource that gives up soon.
func refused(t *testing.T) *resource.Resource {
	t.Helper()
	return resource.New(t, "bulkhead:index:RootCertificate", infer.Resource(&RootCertificate{roles: quick(100 * time.Millisecond)}))
}

func up(t *testing.T, r *resource.Resource, in resource.Inputs, want string) {
	t.Helper()
	if op, err := r.Up(in); err != nil || op != want {
		t.Fatalf("%s, not %s: %v", op, want, err)
	}
}

func entry(t *testing.T, vault string) *azsecrets.Client {
	t.Helper()
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := azsecrets.NewClient("https://"+vault+".vault.azure.net", credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIssue(t *testing.T) {
	name, in, r := setUp(t)
	before := len(twin.Front.Requests())
	if op, err := r.Preview(in); err != nil || op != "create" {
		t.Errorf("%s, %v", op, err)
	}
	if got := twin.Front.Requests()[before:]; len(got) != 0 {
		t.Errorf("a preview asked %q", got)
	}
	up(t, r, in, "create")
	cert, err := ca.ParseCertificate([]byte(r.Get("pem")))
	if err != nil {
		t.Fatal(err)
	}
	if cert.SignatureAlgorithm != x509.ECDSAWithSHA256 || !cert.IsCA || cert.MaxPathLen == 0 || cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign ||
		cert.Subject.CommonName != "Contoso root" || cert.SerialNumber.BitLen() < 64 || time.Until(cert.NotAfter).Round(time.Hour) != 5*365*24*time.Hour {
		t.Errorf("%+v", cert)
	}
	file := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(file, []byte(r.Get("pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("openssl", "verify", "-x509_strict", "-CAfile", file, file).CombinedOutput(); err != nil {
		t.Errorf("OpenSSL: %s", out)
	}
	v, _ := registry.Find(name)
	if r.Get("fingerprint") != ca.Fingerprint(cert) || r.Get("notAfter") != cert.NotAfter.UTC().Format(time.RFC3339) || r.Get("keyVersion") != v.Keys["bulkhead-root"].Versions[0] || r.Get("stale") != "" {
		t.Errorf("%v", r.State)
	}
	got, err := entry(t, name).GetSecret(t.Context(), "bulkhead-root-certificate", "", nil)
	if err != nil || *got.Value != r.Get("pem") || *got.ContentType != "application/x-pem-file" || strings.Contains(*got.Value, "PRIVATE") {
		t.Errorf("the entry: %+v, %v", got, err)
	}
	up(t, r, in, "same")
	if err := r.Refresh(); err != nil {
		t.Fatal(err)
	}
	up(t, r, in, "same")
	if said := r.Said(); strings.Contains(said, "WARN") {
		t.Errorf("said %s", said)
	}
}

// TestTakenOver has what agents trust survive a lost state, a deletion, and a person who
// deletes the entry.
func TestTakenOver(t *testing.T) {
	name, in, r := setUp(t)
	up(t, r, in, "create")
	want := r.Get("fingerprint")
	r.Forget()
	up(t, r, in, "create")
	if r.Get("fingerprint") != want {
		t.Error("another certificate over the same key, after a crash")
	}
	if err := r.Delete(); err != nil {
		t.Fatal(err)
	}
	in["commonName"] = property.New("Another name")
	up(t, r, in, "create")
	if r.Get("fingerprint") != want || !strings.Contains(r.Said(), "it stays") {
		t.Error("another certificate over the same key, after a deletion")
	}
	if _, err := entry(t, name).DeleteSecret(t.Context(), "bulkhead-root-certificate", nil); err != nil {
		t.Fatal(err)
	}
	r.Forget()
	up(t, r, in, "create")
	if r.Get("fingerprint") != want {
		t.Error("another certificate over the same key, with the first one recoverable")
	}
	// Deleted and purged: what the state has goes back.
	if _, err := entry(t, name).DeleteSecret(t.Context(), "bulkhead-root-certificate", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := entry(t, name).PurgeDeletedSecret(t.Context(), "bulkhead-root-certificate", nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(); err != nil || r.Get("stale") != "the vault's entry is gone" {
		t.Errorf("%v, %v", r.State, err)
	}
	up(t, r, in, "update")
	got, err := entry(t, name).GetSecret(t.Context(), "bulkhead-root-certificate", "", nil)
	if err != nil || r.Get("fingerprint") != want || *got.Value != r.Get("pem") {
		t.Errorf("%v", err)
	}
}

func TestRotated(t *testing.T) {
	name, in, r := setUp(t)
	up(t, r, in, "create")
	was := r.Get("fingerprint")
	version := registry.MakeKey(name, "bulkhead-root", key)
	if err := r.Refresh(); err != nil || !strings.Contains(r.Get("stale"), "rotated to version "+version) {
		t.Fatalf("%v, %v", r.State, err)
	}
	r.Said()
	if op, err := r.Preview(in); err != nil || op != "update" {
		t.Errorf("%s, %v", op, err)
	}
	if said := r.Said(); !strings.Contains(said, "rotated") || !strings.Contains(said, was) {
		t.Errorf("said %s", said)
	}
	up(t, r, in, "update")
	if r.Get("fingerprint") == was || r.Get("keyVersion") != version || r.Get("stale") != "" {
		t.Errorf("%v", r.State)
	}
	up(t, r, in, "same")
}

// TestChanges has each input change.
func TestChanges(t *testing.T) {
	name, in, r := setUp(t)
	up(t, r, in, "create")
	was := r.Get("fingerprint")
	in["commonName"] = property.New("Contoso root 2")
	up(t, r, in, "update")
	if r.Get("fingerprint") == was || !strings.Contains(r.Said(), "fails in every agent") {
		t.Error("the name is that of another certificate")
	}
	in["validityYears"] = property.New(6.0)
	if op, err := r.Preview(in); err != nil || op != "update" {
		t.Errorf("%s, %v", op, err)
	}
	registry.MakeKey(name, "second", key)
	in["keyName"] = property.New("second")
	up(t, r, in, "replace")
	up(t, r, in, "same")
	in["vaultUri"] = property.New(property.Computed)
	if op, err := r.Preview(in); err != nil || op != "update" {
		t.Errorf("a vault of which it is not known yet: %s, %v", op, err)
	}
	in["vaultUri"] = property.New("https://kv-another.vault.azure.net/")
	if op, err := r.Preview(in); err != nil || op != "replace" {
		t.Errorf("another vault: %s, %v", op, err)
	}
	in["vaultUri"] = property.New("https://" + name + ".vault.azure.net") // without the slash
	up(t, r, in, "same")
}

// TestExpiring warns in time.
func TestExpiring(t *testing.T) {
	_, in, r := setUp(t)
	in["validityYears"] = property.New(1.0)
	up(t, r, in, "create")
	up(t, r, in, "same")
	if said := r.Said(); strings.Contains(said, "expires") {
		t.Errorf("a root for one year, on its first day: %s", said)
	}
	r.State = r.State.Set("notAfter", property.New(time.Now().Add(100*24*time.Hour).UTC().Format(time.RFC3339)))
	up(t, r, in, "same")
	if said := r.Said(); !strings.Contains(said, "expires") {
		t.Errorf("said %s", said)
	}
	r.State = r.State.Set("notAfter", property.New(time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)))
	if op, err := r.Preview(in); err != nil || op != "update" {
		t.Errorf("expired: %s, %v", op, err)
	}
}

func TestGone(t *testing.T) {
	name, in, r := setUp(t)
	up(t, r, in, "create")
	registry.Put(name, vault.Vault{ID: "/vaults/" + name})
	if err := r.Refresh(); err != nil || r.Exists() {
		t.Errorf("a certificate without a key: %v", err)
	}
}

func TestImport(t *testing.T) {
	_, in, r := setUp(t)
	up(t, r, in, "create")
	id, want := r.ID, r.Get("fingerprint")
	r.Forget()
	if err := r.Import(id); err != nil || r.Get("fingerprint") != want || r.Get("commonName") != "Contoso root" {
		t.Errorf("%v, %v", r.State, err)
	}
	up(t, r, in, "same")
	if err := r.Import("bulkhead-root"); err == nil || !strings.Contains(err.Error(), "import by the secret's address") {
		t.Errorf("%v", err)
	}
}

// TestRoles has each role arrive late, then never.
func TestRoles(t *testing.T) {
	for action, want := range map[string]string{
		"keys/read":                "Key Vault Crypto User",
		"keys/sign/action":         "Key Vault Crypto User",
		"secrets/getSecret/action": "Key Vault Secrets Officer",
		"secrets/setSecret/action": "Key Vault Secrets Officer",
	} {
		action = "Microsoft.KeyVault/vaults/" + action
		t.Run(strings.NewReplacer("/", "-", ".", "-").Replace(action), func(t *testing.T) {
			registry.Put("kv-roles", vault.Vault{ID: "/vaults/" + action, Made: rand.Text()})
			registry.MakeKey("kv-roles", "bulkhead-root", key)
			_, in, _ := setUp(t)
			in["vaultUri"] = property.New("https://kv-roles.vault.azure.net/")
			defer roles.Refuse(action, 0)
			roles.Refuse(action, -1)
			_, err := refused(t).Up(in)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			roles.Refuse(action, 3)
			_, _, r := setUp(t)
			up(t, r, in, "create")
			if said := r.Said(); !strings.Contains(said, "kind=status") || !strings.Contains(said, "waiting") {
				t.Errorf("said %s", said)
			}
		})
	}
}

func TestFirewall(t *testing.T) {
	name, in, _ := setUp(t)
	v, _ := registry.Find(name)
	v.Firewall = front.Firewall{Deny: true}
	registry.Put(name, v)
	if _, err := refused(t).Up(in); err == nil || !strings.Contains(err.Error(), "firewall") {
		t.Errorf("%v", err)
	}
}

// TestForeign keeps what is not a certificate, and does not trust one that another key made.
func TestForeign(t *testing.T) {
	name, in, r := setUp(t)
	set := func(value string) {
		if _, err := entry(t, name).SetSecret(t.Context(), "bulkhead-root-certificate", azsecrets.SetSecretParameters{Value: to.Ptr(value)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	set("a password")
	if _, err := r.Up(in); err == nil || !strings.Contains(err.Error(), "not overwritten") || strings.Contains(err.Error(), "a password") {
		t.Errorf("%v", err)
	}
	f := ca.Files{Certificate: filepath.Join(t.TempDir(), "x.crt"), Key: filepath.Join(t.TempDir(), "x.key")}
	if _, err := f.Init("Someone else", time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(f.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	set(string(foreign))
	up(t, r, in, "create")
	if r.Get("pem") == string(foreign) {
		t.Error("took over a certificate over another key")
	}
}

// TestPartial has the vault fail after the signature: nobody has seen that certificate.
func TestPartial(t *testing.T) {
	_, in, r := setUp(t)
	remove := twin.Front.Inject(front.Fault{Host: vault.Suffix, Method: http.MethodPut, Status: http.StatusConflict, Body: `{"error":{"code":"Conflict","message":"x"}}`})
	if _, err := r.Up(in); err == nil || !strings.Contains(err.Error(), "storing the certificate: Azure answers 409 Conflict") {
		t.Errorf("%v", err)
	}
	remove()
	up(t, r, in, "create")
}

func TestCheck(t *testing.T) {
	for property_, bad := range map[string][]property.Value{
		"vaultUri":      {property.New(""), property.New("http://kv.vault.azure.net"), property.New("kv"), property.New("https://kv.vault.azure.net/keys/x"), property.New("https://a:b@kv.vault.azure.net")},
		"keyName":       {property.New(""), property.New("a/b"), property.New(strings.Repeat("a", 116))},
		"commonName":    {property.New(strings.Repeat("a", 65))},
		"validityYears": {property.New(21.0), property.New(-1.0)},
	} {
		for _, v := range bad {
			_, in, r := setUp(t)
			in[property_] = v
			if op, err := r.Preview(in); op != "check" || err == nil || !strings.Contains(err.Error(), property_) {
				t.Errorf("%s %v: %s, %v", property_, v, op, err)
			}
		}
	}
	_, in, r := setUp(t)
	in["vaultUri"] = property.New(property.Computed)
	delete(in, "commonName")
	delete(in, "validityYears")
	if op, err := r.Preview(in); op != "create" || err != nil {
		t.Errorf("%s, %v", op, err)
	}
}
