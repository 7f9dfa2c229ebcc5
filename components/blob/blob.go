// Package blob reads and writes one blob of Azure Storage as the deployer: whole, bounded, and
// only if nobody else has written in between.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/bulkhead-dev/bulkhead/components/patience"
)

// Object is a blob's content at one time.
type Object struct {
	Body     []byte
	ETag     string
	Metadata map[string]string // keys in lower case
	Written  time.Time         // by the storage account's clock
	Now      time.Time         // of the answer, by the same
}

// Blob is one blob.
type Blob interface {
	// Get returns ErrAbsent where there is none, and an error where it has more than limit bytes.
	Get(ctx context.Context, limit int64) (*Object, error)
	// Put writes the blob if it is still what etag says; an empty one says that there is none.
	// ErrChanged otherwise.
	Put(ctx context.Context, body []byte, contentType string, metadata map[string]string, etag string) error
}

var (
	// ErrAbsent is returned for a blob that does not exist.
	ErrAbsent = errors.New("there is no such blob")
	// ErrChanged is returned when somebody else has written.
	ErrChanged = errors.New("the blob has changed meanwhile")
)

// azure is a Blob on Azure.
type azure struct {
	client *blockblob.Client
	url    *url.URL
	say    func(string)
}

// requestTime bounds one request; a release of some tens of megabytes fits.
const requestTime = 5 * time.Minute

// Open names a blob by its URL, which holds no key and no signature. Say is told what is waited for: role
// assignments and host names take a while to be known everywhere.
func Open(_ context.Context, address string, say func(string)) (Blob, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Count(u.Path, "/") < 2 || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is no blob: write https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB, without a signature", address)
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fmt.Errorf("no identity to publish with: %w", err)
	}
	client, err := blockblob.NewClient(address, credential, nil)
	if err != nil {
		return nil, err
	}
	return &azure{client, u, say}, nil
}

// patiently tries until the answer is one that waiting does not change.
func (b *azure) patiently(ctx context.Context, doing, role string, try func(context.Context) error) error {
	err := patience.Roles.Until(ctx, b.say, patience.Refused, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, requestTime)
		defer cancel()
		return patience.Terse(try(ctx))
	})
	if err == nil {
		return nil
	}
	container := strings.SplitN(strings.TrimPrefix(b.url.Path, "/"), "/", 2)[0]
	err = fmt.Errorf("%s %s: %w", doing, b.url.Redacted(), err)
	if patience.Refused(err) {
		err = fmt.Errorf("%w. The deployer needs %s on the container %q, and an address that the account's firewall lets in (deployerAddresses)", err, role, container)
	}
	return err
}

func (b *azure) Get(ctx context.Context, limit int64) (*Object, error) {
	o := &Object{}
	err := b.patiently(ctx, "reading", "Storage Blob Data Reader", func(ctx context.Context) error {
		resp, err := b.client.DownloadStream(ctx, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if o.Body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1)); err != nil {
			return err
		}
		o.Metadata = map[string]string{}
		for k, v := range resp.Metadata {
			if v != nil {
				o.Metadata[strings.ToLower(k)] = *v
			}
		}
		if resp.ETag != nil {
			o.ETag = string(*resp.ETag)
		}
		if resp.LastModified != nil && resp.Date != nil {
			o.Written, o.Now = *resp.LastModified, *resp.Date
		}
		return nil
	})
	switch {
	case status(err) == http.StatusNotFound:
		return nil, fmt.Errorf("%w: %w", ErrAbsent, err)
	case err != nil:
		return nil, err
	case int64(len(o.Body)) > limit:
		return nil, fmt.Errorf("%s has more than %d bytes", b.url.Redacted(), limit)
	}
	return o, nil
}

func (b *azure) Put(ctx context.Context, body []byte, contentType string, metadata map[string]string, etag string) error {
	condition := &sdk.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}
	if etag != "" {
		condition = &sdk.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(etag))}
	}
	values := map[string]*string{}
	for k, v := range metadata {
		values[k] = &v
	}
	err := b.patiently(ctx, "publishing", "Storage Blob Data Contributor", func(ctx context.Context) error {
		_, err := b.client.UploadBuffer(ctx, body, &blockblob.UploadBufferOptions{
			HTTPHeaders:      &sdk.HTTPHeaders{BlobContentType: &contentType},
			Metadata:         values,
			AccessConditions: &sdk.AccessConditions{ModifiedAccessConditions: condition},
		})
		return err
	})
	if s := status(err); s == http.StatusPreconditionFailed || s == http.StatusConflict {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}

func status(err error) int {
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}
