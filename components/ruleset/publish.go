package ruleset

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	p "github.com/pulumi/pulumi-go-provider"

	"github.com/bulkhead-dev/bulkhead/components/blob"
)

// The metadata of a published ruleset. The gateway refuses a serial below the last one it took
// (gateway/policyblob); the digest is for people.
const (
	serialKey = "serial"
	digestKey = "digest"
)

// maxDocument is the gateway's bound.
const maxDocument = 16 << 20

func serialOf(o *blob.Object) int {
	n, err := strconv.Atoi(o.Metadata[serialKey])
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (r *Ruleset) open(ctx context.Context, url string) (blob.Blob, error) {
	open := r.Open
	if open == nil {
		open = blob.Open
	}
	return open(ctx, url, p.GetLogger(ctx).InfoStatus)
}

// fetch returns nil where nothing is published.
func (r *Ruleset) fetch(ctx context.Context, url string) (*blob.Object, error) {
	b, err := r.open(ctx, url)
	if err != nil {
		return nil, err
	}
	o, err := b.Get(ctx, maxDocument)
	if errors.Is(err, blob.ErrAbsent) {
		return nil, nil
	}
	return o, err
}

// publish writes the document under the next number. Last is the number that the state knows; another
// one means that somebody else has published since, whose ruleset is not overwritten unseen. What is there
// already, because an earlier attempt got so far, is not written again.
func (r *Ruleset) publish(ctx context.Context, s *State, last int) error {
	s.PublishedURL = or(s.PublishURL)
	if s.PublishedURL == "" {
		s.Serial = 0
		return nil
	}
	b, err := r.open(ctx, s.PublishedURL)
	if err != nil {
		return err
	}
	there, err := b.Get(ctx, maxDocument)
	etag := ""
	switch {
	case errors.Is(err, blob.ErrAbsent):
	case err != nil:
		return err
	case string(there.Body) == *s.Canonical && serialOf(there) > 0:
		s.Serial = serialOf(there)
		return nil
	case last > 0 && serialOf(there) != last:
		return fmt.Errorf("the ruleset that is published has number %d, and this stack published %d last: somebody else publishes here too. Run `pulumi refresh`, look at what they changed, then update", serialOf(there), last)
	default:
		etag, last = there.ETag, max(last, serialOf(there))
	}
	s.Serial = last + 1
	err = b.Put(ctx, []byte(*s.Canonical), "application/json", map[string]string{serialKey: strconv.Itoa(s.Serial), digestKey: s.Digest}, etag)
	if errors.Is(err, blob.ErrChanged) {
		return fmt.Errorf("the published ruleset changed while this one was being published: run `pulumi refresh`, look at what changed, then update")
	}
	return err
}
