package feeds

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	// firstRetry is how long a source that failed waits; each failure in a row lengthens that, up to lastRetry.
	firstRetry = 5 * time.Second
	lastRetry  = time.Hour
	// together bounds how many sources are asked at one time.
	together = 4
)

// Source is where data comes from, and how that goes.
type Source struct {
	Feed    string    `json:"feed,omitempty"`   // empty: the service tags
	From    string    `json:"from"`             // without what may be secret in a URL
	Entries int       `json:"entries"`          // 0: none was ever read
	Current time.Time `json:"current,omitzero"` // when the source last said that this is its data
	Error   string    `json:"error,omitempty"`  // why what it says now is not in force
}

// KeeperOptions are a Keeper's.
type KeeperOptions struct {
	Fetcher     *Fetcher
	Refresh     time.Duration // of feeds
	Discovery   *Discovery    // nil: service tags are not asked for
	TagsRefresh time.Duration
	// Report is told of each time that a source was asked.
	Report func(s Source, changed bool)
}

// Keeper keeps the data that a ruleset names in step with where it comes from. What cannot be fetched is tried again
// later and later; what was fetched last stays on disk, where [Load] finds it.
type Keeper struct {
	opt     KeeperOptions
	changed chan struct{}
	slots   chan struct{}

	mu      sync.Mutex
	sources map[policy.Feed]*source // the service tags have no name
}

type source struct {
	Source
	stop context.CancelFunc
	now  chan struct{} // it is to be asked at once
	done chan struct{} // closed once nothing of it is under way
}

// NewKeeper asks nothing yet.
func NewKeeper(opt KeeperOptions) *Keeper {
	return &Keeper{opt: opt, changed: make(chan struct{}, 1), slots: make(chan struct{}, together), sources: map[policy.Feed]*source{}}
}

// Changed receives once there is data to load that was not there before.
func (k *Keeper) Changed() <-chan struct{} { return k.changed }

// Follow has the feeds of a ruleset fetched from now on, and no others, until ctx ends. Those that somebody put a file
// for are not.
func (k *Keeper) Follow(ctx context.Context, doc *policy.Document) {
	wanted := map[policy.Feed]bool{}
	if k.opt.Discovery != nil {
		wanted[policy.Feed{}] = true
	}
	for _, group := range doc.ThreatGroups {
		for _, feed := range group.Feeds {
			if Host(feed.URL) != "" {
				wanted[feed] = true
			}
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	before := map[string]chan struct{}{} // by the file that two would write
	for feed, s := range k.sources {
		if !wanted[feed] {
			s.stop()
			delete(k.sources, feed)
			before[feed.Name] = s.done
		}
	}
	for feed := range wanted {
		if k.sources[feed] != nil {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		s := &source{Source: k.describe(feed), stop: stop, now: make(chan struct{}, 1), done: make(chan struct{})}
		k.sources[feed] = s
		go func() {
			defer close(s.done)
			if ended := before[feed.Name]; ended != nil {
				<-ended
			}
			k.run(ctx, feed, s)
		}()
	}
}

// Sources lists them, the service tags first.
func (k *Keeper) Sources() []Source {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]Source, 0, len(k.sources))
	for feed, s := range k.sources {
		if !k.provided(feed) {
			out = append(out, s.Source)
		}
	}
	slices.SortFunc(out, func(a, b Source) int { return cmp.Compare(a.Feed, b.Feed) })
	return out
}

// provided reports whether somebody put a file for the feed, which is used instead.
func (k *Keeper) provided(feed policy.Feed) bool {
	return feed.Name != "" && k.opt.Fetcher.Provided(feed)
}

// describe is a source as it is kept on disk.
func (k *Keeper) describe(feed policy.Feed) Source {
	if feed.Name != "" {
		return k.opt.Fetcher.Source(feed)
	}
	s := Source{From: "Azure"}
	if meta, current, err := k.opt.Discovery.Kept(); err == nil {
		s.Entries, s.Current = meta.Prefixes, current
	}
	return s
}

// Provided reports whether somebody put a file for a feed into the directory, which is used instead of what is fetched.
func (f *Fetcher) Provided(feed policy.Feed) bool {
	own, _, _ := files(f.dir, feed.Name)
	return len(own) > 0
}

// Source describes a feed as it is kept.
func (f *Fetcher) Source(feed policy.Feed) Source {
	s := Source{Feed: feed.Name, From: redacted(feed.URL)}
	if kept, err := f.Kept(feed); err == nil {
		s.Entries, s.Current = kept.Entries, kept.Current
	}
	return s
}

// redacted is a URL without what may be secret in it.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "…"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// run asks one source again and again.
func (k *Keeper) run(ctx context.Context, feed policy.Feed, s *source) {
	again := backoff.NewExponentialBackOff()
	again.InitialInterval, again.Multiplier, again.MaxInterval = firstRetry, 2, lastRetry
	refresh := k.opt.Refresh
	if feed.Name == "" {
		refresh = k.opt.TagsRefresh
	}
	for {
		wait := jitter(refresh)
		if !k.provided(feed) {
			if err := k.once(ctx, feed, s); err != nil {
				wait = min(wait, again.NextBackOff())
			} else {
				again.Reset()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		case <-s.now:
			again.Reset()
		}
	}
}

// Hurry has every source asked now, because somebody has mended something.
func (k *Keeper) Hurry() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.sources {
		select {
		case s.now <- struct{}{}:
		default:
		}
	}
}

// jitter spreads what many gateways ask of one server, by a fifth either way.
func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5) }

func (k *Keeper) once(ctx context.Context, feed policy.Feed, s *source) error {
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var changed bool
	var err error
	if feed.Name == "" {
		changed, err = k.opt.Discovery.Fetch(ctx)
	} else {
		changed, err = k.opt.Fetcher.Fetch(ctx, feed)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	now := k.describe(feed)
	if err != nil {
		now.Error = err.Error()
	}
	k.mu.Lock()
	s.Source = now
	k.mu.Unlock()
	if k.opt.Report != nil {
		k.opt.Report(now, changed)
	}
	if changed {
		select {
		case k.changed <- struct{}{}:
		default:
		}
	}
	return err
}
