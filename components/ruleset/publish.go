package ruleset

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	p "github.com/pulumi/pulumi-go-provider"

	"github.com/bulkhead-dev/bulkhead/components/blob"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// The metadata of a published ruleset. The gateway refuses a serial below the last one it took
// (gateway/policyblob); the digest is for people.
const (
	serialKey = "serial"
	digestKey = "digest"
)

// maxDocument is the gateway's bound.
const maxDocument = 16 << 20

// maxSerial is far above what anybody publishes, and exact as a number of the engine, which are floats.
const maxSerial = 1 << 52

func serialOf(o *blob.Object) int {
	n, err := strconv.Atoi(o.Metadata[serialKey])
	if err != nil || n < 0 || n > maxSerial {
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

// seen is what somebody who reads the blob finds: its canonical form, empty where it is no ruleset.
func seen(body []byte) string {
	doc, err := policy.Decode(body)
	if err != nil {
		return ""
	}
	text, err := policy.Encode(doc)
	if err != nil {
		return ""
	}
	return string(text)
}

// publish writes the document under the next number.
//
// Was is the state before: what it knows to be published may be overwritten, anything else was
// written by somebody else, whom nobody overwrites unseen. That is told by the content, since whoever
// writes by hand may keep the number or drop it. The number never goes down, whatever happened to the blob: a
// gateway that has taken a number refuses all below it (gateway/policyblob).
//
// What is there already, because an earlier attempt got so far, is not written again.
func (r *Ruleset) publish(ctx context.Context, s *State, was *State) error {
	s.PublishedURL, s.Serial = or(s.PublishURL), was.Serial
	if s.PublishedURL == "" {
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
	case s.is(there):
		s.Serial = serialOf(there)
		return nil
	case was.PublishedURL != s.PublishedURL: // this stack's first here
		etag = there.ETag
		p.GetLogger(ctx).Warning(fmt.Sprintf("Another ruleset is published at %s, under number %d: this one takes its place.", s.PublishedURL, serialOf(there)))
	case seen(there.Body) != or(was.Canonical):
		return fmt.Errorf("the ruleset that is published (number %d) is not the one that this stack knows (number %d): somebody else publishes here too. Run `pulumi refresh`, look at what they changed, then update", serialOf(there), was.Serial)
	default:
		etag = there.ETag
	}
	if there != nil {
		s.Serial = max(s.Serial, serialOf(there))
	}
	s.Serial++
	err = b.Put(ctx, []byte(*s.Canonical), "application/json", map[string]string{serialKey: strconv.Itoa(s.Serial), digestKey: s.Digest}, etag)
	if !errors.Is(err, blob.ErrChanged) {
		return err
	}
	// Written by an attempt whose answer was lost, it is there; else somebody else was faster.
	if there, again := b.Get(ctx, maxDocument); again == nil && s.is(there) {
		return nil
	}
	return fmt.Errorf("the published ruleset changed while this one was being published: run `pulumi refresh`, look at what changed, then update")
}

// is reports whether a blob holds the document under a number that a gateway takes.
func (s *State) is(there *blob.Object) bool {
	return string(there.Body) == *s.Canonical && serialOf(there) > 0 && serialOf(there) >= s.Serial
}
