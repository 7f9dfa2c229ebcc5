package attestation

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/bulkhead-dev/bulkhead/components/patience"
)

// content is a report as it was read.
type content struct {
	body    []byte
	written time.Time // by the storage account's clock
	now     time.Time // by the same
}

// source is the blob that the gateway reports into.
type source struct {
	client *blob.Client
}

const (
	maxReport = 64 << 10
	scope     = "https://storage.azure.com/.default"
	readTime  = 20 * time.Second
)

// open fails at once where there is nobody to ask as: waiting does not cure that.
func open(ctx context.Context, url string) (*source, error) {
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, err
	}
	if _, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}}); err != nil {
		return nil, fmt.Errorf("no token for Azure Storage: %w", err)
	}
	opts := &blob.ClientOptions{}
	opts.Retry.MaxRetries = -1 // whoever waits looks again anyway, and says what it saw
	client, err := blob.NewClient(url, credential, opts)
	return &source{client}, err
}

func (s *source) read(ctx context.Context) (content, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	resp, err := s.client.DownloadStream(ctx, nil)
	if err != nil {
		return content{}, patience.Terse(err)
	}
	defer resp.Body.Close()
	if resp.LastModified == nil || resp.Date == nil {
		return content{}, fmt.Errorf("an answer without the time")
	}
	c := content{written: *resp.LastModified, now: *resp.Date}
	if c.body, err = io.ReadAll(io.LimitReader(resp.Body, maxReport+1)); err != nil {
		return c, patience.Terse(err)
	}
	if len(c.body) > maxReport {
		return c, fmt.Errorf("the report has more than %d bytes", maxReport)
	}
	return c, nil
}
