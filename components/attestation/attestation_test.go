package attestation

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/components/blob"
	"github.com/bulkhead-dev/bulkhead/gateway/policyblob"
	"github.com/bulkhead-dev/bulkhead/tests/twin/blobs"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/resource"
)

// The official azidentity and azblob talk to the twin's blob service, which is Azurite.

var (
	twin  *planes.Planes
	roles planes.Roles
)

const (
	host = "contoso.blob.core.windows.net"
	read = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	twin, err = planes.Start(planes.Control{Authorize: roles.Authorize, Accounts: func(name string) (blobs.Account, bool) {
		return blobs.Account{ID: "/accounts/contoso", Containers: []string{"attestation"}}, name == "contoso"
	}})
	if err == nil {
		err = twin.Setenv(planes.Deployer)
	}
	if err != nil {
		println(err.Error())
		return 1
	}
	defer twin.Close()
	return m.Run()
}

// setUp has a report of the test's own, and seconds that take a millisecond.
func setUp(t *testing.T) (name string, in resource.Inputs, r *resource.Resource) {
	t.Helper()
	name = rand.Text() + ".json"
	in = resource.Inputs{"url": property.New("https://" + host + "/attestation/" + name), "digest": property.New("sha256:new"), "timeoutSeconds": property.New(600.0)}
	return name, in, resource.New(t, "bulkhead:index:Attestation", infer.Resource(&Attestation{second: time.Millisecond}))
}

// say has the gateway report, with the type that it reports with.
func say(t *testing.T, name string, r policyblob.Report) {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, data)
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := azblob.NewClient("https://"+host+"/", credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.UploadBuffer(t.Context(), "attestation", name, data, nil); err != nil {
		t.Fatal(err)
	}
}

func ready(digest string) policyblob.Report {
	return policyblob.Report{Digest: digest, Serial: 7, Ready: true, Version: "0.1.0", Time: time.Now()}
}

func TestReady(t *testing.T) {
	name, in, r := setUp(t)
	before := len(twin.Front.Requests())
	if op, err := r.Preview(in); err != nil || op != "create" {
		t.Errorf("%s, %v", op, err)
	}
	if got := twin.Front.Requests()[before:]; len(got) != 0 {
		t.Errorf("a preview asked %q", got)
	}
	say(t, name, ready("sha256:new"))
	if op, err := r.Up(in); err != nil || op != "create" || r.Get("gatewayVersion") != "0.1.0" || r.Get("attestedAt") == "" {
		t.Fatalf("%s, %v, %v", op, err, r.State)
	}
	if said := r.Said(); !strings.Contains(said, "enforces sha256:new (serial 7)") {
		t.Errorf("said %s", said)
	}
	before = len(twin.Front.Requests())
	if op, err := r.Up(in); err != nil || op != "same" {
		t.Errorf("%s, %v", op, err)
	}
	in["digest"] = property.New("sha256:newer")
	if op, err := r.Preview(in); err != nil || op != "update" {
		t.Errorf("%s, %v", op, err)
	}
	if got := twin.Front.Requests()[before:]; len(got) != 0 {
		t.Errorf("a preview asked %q", got)
	}
	if op, err := r.Up(in); err == nil {
		t.Errorf("the gateway enforces the old one: %s", op)
	}
	say(t, name, ready("sha256:newer"))
	if op, err := r.Up(in); err != nil || op != "update" {
		t.Errorf("%s, %v", op, err)
	}
	if err := r.Delete(); err != nil {
		t.Error(err)
	}
}

// TestWaits has one thing after the other be missing, each told to the person who waits.
func TestWaits(t *testing.T) {
	name, in, r := setUp(t)
	// Faults are taken in their order; the request before them finds the role missing.
	inject := func(f front.Fault) {
		f.Host, f.Method, f.Path, f.Skip, f.Times = host, http.MethodGet, "/attestation/"+name, 1, 1
		twin.Front.Inject(f)
	}
	in["timeoutSeconds"] = property.New(7200.0) // not what this is about
	roles.Refuse(read, 1)
	inject(front.Fault{Status: http.StatusNotFound, Header: map[string]string{"X-Ms-Error-Code": "BlobNotFound"}})
	inject(front.Fault{Status: http.StatusConflict, Header: map[string]string{"X-Ms-Error-Code": "AccountBeingCreated"}})
	now := time.Now()
	for _, x := range []struct {
		written time.Time
		policyblob.Report
	}{
		{now, policyblob.Report{Digest: "sha256:old", Ready: true, Time: now, Error: "rules[3]: unknown"}},
		{now, policyblob.Report{Time: now, Error: "the self-test has not run"}},
		{now, policyblob.Report{Digest: "sha256:new", Time: now, Error: "the audit cannot be written"}},
		{now, policyblob.Report{Digest: "sha256:new", Ready: true, Time: now.Add(-time.Hour)}},
		{now.Add(-time.Hour), policyblob.Report{Digest: "sha256:new", Ready: true, Time: now.Add(-time.Hour)}},
	} {
		body, err := json.Marshal(x.Report)
		if err != nil {
			t.Fatal(err)
		}
		inject(front.Fault{Status: http.StatusOK, Header: map[string]string{"Last-Modified": x.written.UTC().Format(http.TimeFormat)}, Body: string(body)})
	}
	say(t, name, ready("sha256:new"))
	if op, err := r.Up(in); err != nil || op != "create" {
		t.Fatalf("%s, %v", op, err)
	}
	said := r.Said()
	for _, want := range []string{"403 AuthorizationPermissionMismatch", "404 BlobNotFound", "409 AccountBeingCreated", "another ruleset, sha256:old (rules[3]: unknown)", "no ruleset (the self-test has not run)",
		"not ready (the audit cannot be written)", "clock is off by", "the last report is of"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing of %q in what was said:\n%s", want, said)
		}
	}
}

// TestTimeout says what was seen last, and what to do.
func TestTimeout(t *testing.T) {
	for what, tc := range map[string]struct {
		say  func(blob string)
		want []string
	}{
		"no report":    {func(string) {}, []string{"no report of the gateway: there is no such blob", "boot diagnostics"}},
		"other digest": {func(b string) { say(t, b, ready("sha256:old")) }, []string{"another ruleset, sha256:old"}},
		"not ready": {func(b string) {
			x := ready("sha256:new")
			x.Ready, x.Error = false, "disk full\x1b[31m\n"
			say(t, b, x)
		}, []string{"not ready (disk full [31m)", "bulkhead status"}},
		"malformed":     {func(b string) { write(t, b, []byte("<html>")) }, []string{"malformed"}},
		"far too large": {func(b string) { write(t, b, make([]byte, maxReport+1)) }, []string{"more than 65536 bytes"}},
	} {
		t.Run(what, func(t *testing.T) {
			name, in, r := setUp(t)
			in["timeoutSeconds"] = property.New(30.0)
			tc.say(name)
			_, err := r.Up(in)
			for _, want := range append(tc.want, "sha256:new", "`pulumi up` again") {
				if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\x1b\n") {
					t.Errorf("%v: nothing of %q", err, want)
				}
			}
			if r.Exists() {
				t.Error("it exists")
			}
		})
	}
}

// TestJudge is of the limits: how old, how skewed.
func TestJudge(t *testing.T) {
	since := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		written, said time.Duration // after the wait began
		want          string
	}{
		{0, 0, ""},
		{-fresh, -fresh, ""},
		{-fresh - time.Second, 0, "the last report is of"},
		{time.Minute, time.Minute - skew, ""},
		{time.Minute, time.Minute - skew - time.Second, "clock"},
		{time.Minute, time.Minute + skew + time.Second, "clock"},
	} {
		body := fmt.Sprintf(`{"digest":"d","ready":true,"time":%q,"new":1}`, since.Add(tc.said).Format(time.RFC3339))
		_, err := judge(&blob.Object{Body: []byte(body), Written: since.Add(tc.written)}, since, "d")
		if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v", tc, err)
		}
	}
}

// FuzzJudge has a gateway's report be anything: what is shown of it stays one line.
func FuzzJudge(f *testing.F) {
	f.Add([]byte(`{"digest":"d","ready":true,"time":"2026-01-01T12:00:00Z","error":"a\nb"}`))
	f.Add([]byte(`{"digest":1}`))
	since := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := judge(&blob.Object{Body: body, Written: since}, since, "d")
		if err == nil && (r.Digest != "d" || !r.Ready) {
			t.Errorf("%s: attested", body)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\n\r\x1b") || len(err.Error()) > 1000) {
			t.Errorf("shown: %q", err)
		}
	})
}

// TestHopeless has no identity be no reason to wait.
func TestHopeless(t *testing.T) {
	var failed error = &azidentity.AuthenticationFailedError{}
	for err, want := range map[error]bool{nil: false, fmt.Errorf("x: %w", failed): true, blob.ErrAbsent: false} {
		if hopeless(err) != want {
			t.Errorf("%v", err)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, bad := range map[string][]property.Value{
		"url":            {property.New(""), property.New("http://" + host + "/a/b"), property.New("https://" + host + "/a"), property.New("https://" + host + "/a/b?sig=x")},
		"digest":         {property.New("")},
		"timeoutSeconds": {property.New(29.0), property.New(7201.0)},
	} {
		for _, v := range bad {
			_, in, r := setUp(t)
			in[name] = v
			if op, err := r.Preview(in); op != "check" || err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %v: %s, %v", name, v, op, err)
			}
		}
	}
	_, in, r := setUp(t)
	in["url"], in["digest"] = property.New(property.Computed), property.New(property.Computed)
	if op, err := r.Preview(in); op != "create" || err != nil {
		t.Errorf("%s, %v", op, err)
	}
}
