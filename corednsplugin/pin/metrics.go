package pin

import (
	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

var (
	questions = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: name,
		Name:      "questions_total",
		Help:      "Counter of questions by verdict and reason.",
	}, []string{"server", "verdict", "reason"})
	dropped = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: name,
		Name:      "dropped_addresses_total",
		Help:      "Counter of addresses that were left out of answers, by reason.",
	}, []string{"reason"})
	admitDuration = promauto.NewHistogram(prometheus.HistogramOpts{
		Namespace:                   plugin.Namespace,
		Subsystem:                   name,
		Name:                        "gate_admit_duration_seconds",
		Buckets:                     prometheus.ExponentialBuckets(0.00005, 2, 12),
		NativeHistogramBucketFactor: plugin.NativeHistogramBucketFactor,
		Help:                        "Histogram of the time that the kernel took to admit pinned addresses.",
	})
	pinned = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: name,
		Name:      "pins",
		Help:      "Number of pins held.",
	})
	pinnedSources = promauto.NewGauge(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: name,
		Name:      "sources",
		Help:      "Number of sources that pins are held for.",
	})
)
