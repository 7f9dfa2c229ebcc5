// Package blob reads and writes one blob of Azure Storage as the deployer: whole, bounded, and
// only if nobody else has written in between.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
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

	patience patience.Patience
}

// requestTime bounds one request; a release of some tens of megabytes fits.
const requestTime = 5 * time.Minute

// Open names a blob by its URL, which holds no key and no signature. Say is told what is waited for: role
// assignments and host names take a while to be known everywhere.
func Open(_ context.Context, address string, say func(string)) (Blob, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Count(u.Path, "/") < 2 || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("%q is no blob: write https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB, without a signature", address)
	}
	who, err := credential()
	if err != nil {
		return nil, fmt.Errorf("no identity to publish with: %w", patience.Terse(err))
	}
	client, err := blockblob.NewClient(address, who, nil)
	if err != nil {
		return nil, err
	}
	return &azure{client, u, say, patience.Roles}, nil
}

// credential is the deployer's, made when it is first needed and then kept with its tokens: previews do without.
var credential = sync.OnceValues(func() (*azidentity.DefaultAzureCredential, error) {
	return azidentity.NewDefaultAzureCredential(nil)
})

// passing reports whether waiting may cure a failure: a role, a firewall rule or a host name on its way, an account
// that is still being made or that the service does not know yet.
func passing(err error) bool {
	return patience.Refused(err) || bloberror.HasCode(err, bloberror.ResourceNotFound, bloberror.AccountBeingCreated)
}

// patiently tries until the answer is one that waiting does not change.
func (b *azure) patiently(ctx context.Context, doing, role string, try func(context.Context) error) error {
	err := b.patience.Until(ctx, b.say, passing, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, requestTime)
		defer cancel()
		return patience.Terse(try(ctx))
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w%s", doing, b.url.Redacted(), err, b.advice(err, role))
}

// advice is what to do about a failure. Storage tells the lack of a role (AuthorizationPermissionMismatch) from a firewall
// (AuthorizationFailure), but not reliably
// (learn.microsoft.com/troubleshoot/azure/azure-storage/blobs/authentication/storage-troubleshoot-403-errors).
func (b *azure) advice(err error, role string) string {
	container, _, _ := strings.Cut(strings.TrimPrefix(b.url.Path, "/"), "/")
	account, _, _ := strings.Cut(b.url.Hostname(), ".")
	grant := fmt.Sprintf("grant the deployer the role %s on the container %q of the storage account %q", role, container, account)
	open := fmt.Sprintf("let the deployer's public address into the firewall of the storage account %q (deployerAddresses)", account)
	var name *net.DNSError
	switch {
	case bloberror.HasCode(err, bloberror.AuthorizationPermissionMismatch):
		return ". To go on, " + grant
	case bloberror.HasCode(err, bloberror.AuthorizationFailure):
		return ". To go on, " + open + "; if it is in, " + grant
	case patience.Refused(err) && !errors.As(err, &name):
		return ". To go on, " + grant + ", and " + open
	case bloberror.HasCode(err, bloberror.ContainerNotFound):
		return fmt.Sprintf(". The storage account %q has no container %q: make it first, or correct the URL", account, container)
	case errors.As(err, &name) && name.IsNotFound, bloberror.HasCode(err, bloberror.ResourceNotFound):
		return fmt.Sprintf(". No storage account %q is known from here: correct the URL, or look at how this machine resolves names", account)
	}
	return ""
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
	case bloberror.HasCode(err, bloberror.BlobNotFound):
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
	if bloberror.HasCode(err, bloberror.ConditionNotMet, bloberror.TargetConditionNotMet, bloberror.BlobAlreadyExists) {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}
