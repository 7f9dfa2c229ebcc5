package server

import (
	"context"
	"path/filepath"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Kinds of data, the only values of the label `data`: names of feeds are whatever a ruleset calls them.
const (
	dataFeeds = "feeds"
	dataTags  = "service-tags"
)

var (
	dataFetches = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: "bulkhead", Name: "data_fetches_total", Help: "Times that the source of a feed or of the service tags was asked, by what came of it: changed, unchanged, failed.",
	}, []string{"data", "result"})
	dataFailing = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "bulkhead", Name: "data_failing", Help: "Sources of feeds, or of the service tags, that could not be read when they were asked last, or whose data was refused.",
	}, []string{"data"})
	dataMissing = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "bulkhead", Name: "data_missing", Help: "Sources that have never given any data: what they are for matches nothing.",
	}, []string{"data"})
	dataOldest = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "bulkhead", Name: "data_oldest_timestamp_seconds", Help: "When the data that was confirmed longest ago was; 0: there is none.",
	}, []string{"data"})
)

// Discover asks Azure, as an identity, for its service tags in a subscription and region, in the format of the file that Microsoft
// publishes. Credential nil is the machine's managed identity.
type Discover func(ctx context.Context, subscription, location string, credential azcore.TokenCredential, options azcore.ClientOptions) ([]byte, error)

// openData prepares what fetches the data of groups. It asks nothing yet.
func (s *Server) openData() {
	opt := feeds.KeeperOptions{Fetcher: feeds.NewFetcher(s.cfg.Feeds.Dir, s.reach), Refresh: s.cfg.Feeds.Refresh, TagsRefresh: s.cfg.ServiceTags.Refresh, Report: s.fetched}
	if place := s.cfg.ServiceTags.Discovery; place != nil {
		opt.Discovery = &feeds.Discovery{File: s.discovered(), Ask: func(ctx context.Context) ([]byte, error) {
			return s.discover(ctx, place.Subscription, place.Location, s.identity, s.azure())
		}}
	}
	s.data = feeds.NewKeeper(opt)
}

// discovered is the file that holds what Azure answered last; empty where it is not asked.
func (s *Server) discovered() string {
	if s.cfg.ServiceTags.Discovery == nil {
		return ""
	}
	return filepath.Join(s.cfg.State.Dir, "servicetags.json")
}

// fetched says how it went, where that is news.
func (s *Server) fetched(now feeds.Source, changed bool) {
	log, kind, result := s.log.Named("data"), dataFeeds, "unchanged"
	if now.Feed == "" {
		kind = dataTags
	}
	what := []any{"data", kind, "feed", now.Feed, "from", now.From, "entries", now.Entries}
	switch {
	case now.Error != "":
		result = "failed"
		log.Warn("it could not be fetched; what was fetched last stays in force", append(what, "current", now.Current.UTC().Format(time.RFC3339), "error", now.Error)...)
	case changed:
		result = "changed"
		log.Info("fetched", what...)
	}
	dataFetches.WithLabelValues(kind, result).Inc()
}

// measureData keeps the metrics in step.
func (s *Server) measureData() {
	for _, kind := range []string{dataFeeds, dataTags} {
		var failing, missing, oldest float64
		for _, source := range s.data.Sources() {
			if (source.Feed == "") != (kind == dataTags) {
				continue
			}
			if source.Error != "" {
				failing++
			}
			if source.Entries == 0 {
				missing++
			} else if at := float64(source.Current.Unix()); oldest == 0 || at < oldest {
				oldest = at
			}
		}
		dataFailing.WithLabelValues(kind).Set(failing)
		dataMissing.WithLabelValues(kind).Set(missing)
		dataOldest.WithLabelValues(kind).Set(oldest)
	}
}

// follow has the feeds of a ruleset fetched, and their hosts opened for that; those of the one before no longer.
func (s *Server) follow(ctx context.Context, rules *policy.Ruleset) {
	s.data.Follow(ctx, rules.Document())
	select {
	case s.egress.moved <- struct{}{}:
	default:
	}
}
