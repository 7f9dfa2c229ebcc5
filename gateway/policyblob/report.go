package policyblob

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
)

// Report is what a gateway says of itself to those who deployed it. It holds nothing about agents.
type Report struct {
	Digest  string    `json:"digest"` // of the ruleset in force, empty while there is none
	Serial  uint64    `json:"serial"` // that it was published under
	Ready   bool      `json:"ready"`  // the self-test passed, and the audit takes events
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	Error   string    `json:"error"` // why it is not ready, or why what is published is not in force
	// Intermediate is the certificate that leaves are signed with, and Root the one that it was signed with, in PEM;
	// empty where nothing is decrypted, or nothing can be yet.
	Intermediate string `json:"intermediate,omitempty"`
	Root         string `json:"root,omitempty"`
}

// Reporter is the blob that reports are written to.
type Reporter struct {
	client *blockblob.Client
}

// NewReporter names a blob by its URL. It asks nothing yet.
func NewReporter(url string, credential azcore.TokenCredential, opts *blob.ClientOptions) (*Reporter, error) {
	client, err := blockblob.NewClient(url, credential, (*blockblob.ClientOptions)(patient(opts)))
	if err != nil {
		return nil, fmt.Errorf("attestation.url: %w", err)
	}
	return &Reporter{client: client}, nil
}

// Write replaces the report.
func (r *Reporter) Write(ctx context.Context, report Report) error {
	data, err := json.Marshal(report)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	_, err = r.client.Upload(ctx, streaming.NopCloser(bytes.NewReader(data)), &blockblob.UploadOptions{
		HTTPHeaders: &blob.HTTPHeaders{BlobContentType: to.Ptr("application/json")}})
	if err != nil {
		return fmt.Errorf("attestation.url: %w", terse(err, "Storage Blob Data Contributor"))
	}
	return nil
}
