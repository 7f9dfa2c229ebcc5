package policyblob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
)

const (
	// maxDocument bounds what is read; it is the bound of gateway/policy for any document.
	maxDocument = 16 << 20
	// fetchTime bounds one question to the storage account, with the token that it needs.
	fetchTime = 30 * time.Second
	// serialKey is the blob's metadata that numbers what is published.
	serialKey = "serial"
)

// ErrRefused is in the chain of an error about a document that was read and will not be
// used, as opposed to one that could not be read.
var ErrRefused = errors.New("the published ruleset is refused")

// Version is the blob at one time.
type Version struct {
	Document []byte
	Serial   uint64 // 0: published without a number
	ETag     azcore.ETag
}

// Source is the blob with the ruleset. Its methods may be called from any goroutine.
type Source struct {
	client *blob.Client
	url    string
	file   string // where the last accepted version is kept

	fetching sync.Mutex // one question at a time

	mu       sync.Mutex
	latest   *Version    // the newest that is no rollback
	accepted *Version    // the last that somebody put in force
	seen     azcore.ETag // of the newest, rollback or not
	trouble  error       // why latest is not what is published
}

// Open names a blob by its URL, and the folder in which the last accepted version
// is kept. It asks nothing yet. With an error and a Source, what was kept cannot be used, and the Source
// works all the same.
func Open(url, dir string, credential azcore.TokenCredential, opts *blob.ClientOptions) (*Source, error) {
	client, err := blob.NewClient(url, credential, patient(opts))
	if err != nil {
		return nil, fmt.Errorf("policy.blob: %w", err)
	}
	s := &Source{client: client, url: url, file: filepath.Join(dir, "policy.json")}
	kept, err := s.read()
	if kept != nil {
		s.latest, s.accepted, s.seen = kept, kept, kept.ETag
	}
	return s, err
}

// Latest is the newest version that may be put in force; nil while there is none.
func (s *Source) Latest() *Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// Serial is the number of the last accepted version, 0 if it had none.
func (s *Source) Serial() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accepted == nil {
		return 0
	}
	return s.accepted.Serial
}

// Trouble says why what is published may not be what Latest returns; nil if it is.
func (s *Source) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// Fetch asks whether there is a newer version and reports whether Latest has changed.
func (s *Source) Fetch(ctx context.Context) (changed bool, err error) {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	s.mu.Lock()
	seen, known := s.seen, s.trouble
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	v, err := s.download(ctx, seen)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && v != nil: // too long: not to be read again
		s.seen = v.ETag
	case err != nil:
	case v == nil: // nothing new
		if errors.Is(known, ErrRefused) {
			return false, known
		}
	default:
		s.seen = v.ETag
		if err = rollback(s.accepted, v); err == nil {
			changed = s.latest == nil || !bytes.Equal(s.latest.Document, v.Document) || s.latest.Serial != v.Serial
			s.latest = v
		}
	}
	s.trouble = err
	return changed, err
}

// Accept notes that a version is in force, and keeps it for the next start.
func (s *Source) Accept(v *Version) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accepted == v {
		return nil
	}
	s.accepted = v
	return s.write(v)
}

// rollback says why a version may not follow the one that was accepted last.
func rollback(accepted, v *Version) error {
	switch {
	case accepted == nil || accepted.Serial == 0:
		return nil
	case v.Serial == 0:
		return fmt.Errorf("%w: it has no serial, and the one in force has serial %d: publish it with a higher one", ErrRefused, accepted.Serial)
	case v.Serial < accepted.Serial:
		return fmt.Errorf("%w: its serial %d is older than serial %d in force: to go back to an earlier ruleset, publish it again with a higher serial",
			ErrRefused, v.Serial, accepted.Serial)
	case v.Serial == accepted.Serial && !bytes.Equal(v.Document, accepted.Document):
		return fmt.Errorf("%w: it differs from the one in force and has the same serial %d: publish it with a higher one", ErrRefused, v.Serial)
	}
	return nil
}

// download returns nil where the blob is still the one that was seen. With ErrRefused it
// returns a version without a document.
func (s *Source) download(ctx context.Context, seen azcore.ETag) (*Version, error) {
	opts := &blob.DownloadStreamOptions{}
	if seen != "" {
		opts.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &seen}}
	}
	// Whether the SDK takes 304 for an error depends on its version, so the status is looked at.
	var raw *http.Response
	resp, err := s.client.DownloadStream(policy.WithCaptureResponse(ctx, &raw), opts)
	if raw != nil && raw.StatusCode == http.StatusNotModified {
		raw.Body.Close()
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("policy.blob: %w", terse(err, "Storage Blob Data Reader"))
	}
	defer resp.Body.Close()
	v := &Version{}
	if resp.ETag != nil {
		v.ETag = *resp.ETag
	}
	if resp.ContentLength != nil && *resp.ContentLength > maxDocument {
		return v, fmt.Errorf("%w: longer than %d bytes", ErrRefused, maxDocument)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("policy.blob: %w", terse(err, ""))
	}
	if len(data) > maxDocument {
		return v, fmt.Errorf("%w: longer than %d bytes", ErrRefused, maxDocument)
	}
	for key, value := range resp.Metadata { // header names have lost their case on the way
		if strings.EqualFold(key, serialKey) && value != nil {
			if v.Serial, err = strconv.ParseUint(*value, 10, 64); err != nil {
				return v, fmt.Errorf("%w: its serial %.20q is no number", ErrRefused, *value)
			}
		}
	}
	v.Document = data
	return v, nil
}
