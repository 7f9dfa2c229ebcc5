package twin

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
)

// deployer is the deployer's token, for the official clients in this process.
type deployer struct{ *spoke }

func (d deployer) GetToken(_ context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	text, err := d.on.Identity.Token(planes.Deployer, strings.TrimSuffix(opts.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: text, ExpiresOn: time.Now().Add(time.Hour)}, err
}

// TestBundleDrift: a release that somebody deletes or replaces in the storage account is seen by a refresh and put right by an
// update, or a machine that starts anew would not come up.
func TestBundleDrift(t *testing.T) {
	s := newSpoke(t)
	s.Up().OK()
	var url string
	for _, r := range s.Resources() {
		if strings.HasSuffix(string(r.Type), ":GatewayBundle") {
			url, _ = r.Outputs["url"].(string)
		}
	}
	options := &blockblob.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: s.on.Front.Client()}}
	blob, err := blockblob.NewClient(url, deployer{s}, options)
	if err != nil {
		t.Fatal(err)
	}
	content := func() string {
		buf := make([]byte, 1<<16)
		n, err := blob.DownloadBuffer(t.Context(), buf, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	right := content()
	for name, spoil := range map[string]func() error{
		"deleted": func() error { _, err := blob.Delete(t.Context(), nil); return err },
		"replaced": func() error {
			_, err := blob.UploadBuffer(t.Context(), []byte("\x1f\x8banother"), nil)
			return err
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if r := s.Refresh().OK(); len(r.Steps) == 0 {
			t.Errorf("%s, and not seen\n%s", name, r.Text)
		}
		s.Up().OK()
		if content() != right {
			t.Errorf("%s, and not put right", name)
		}
		s.Up().Unchanged()
		s.Refresh().Unchanged()
	}
}
