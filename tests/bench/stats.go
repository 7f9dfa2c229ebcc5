package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

// Sample is one measurement.
type Sample struct {
	Path, Cell string
	Round      int
	Rate       float64 // connections, requests or questions, a second; bulk: Gbit/s
	Ratio      float64 // to the path measured right before, the direct one but for URL rules; that itself: 1
	P50, P99   float64 // milliseconds
	CPU        float64 // of the gateway: microseconds per connection, request or question; bulk: seconds per GB
	Failed     int     // connections, requests or questions that did not succeed
	Foreign    float64 // share of the machine that others used, here or on the direct path
}

func newSample(path string, c cell, r load.Result, u usage) Sample {
	s := Sample{Path: path, Cell: c.name, P50: millis(r.P50), P99: millis(r.P99), Failed: r.Errors, Foreign: u.foreign(r.Elapsed)}
	if c.kind == load.Bulk || c.kind == load.Download {
		s.Rate = float64(r.Bytes) * 8 / r.Elapsed.Seconds() / 1e9
		s.CPU = u.gateway.Seconds() / (float64(r.Bytes) / 1e9)
		return s
	}
	s.Rate = float64(r.Count) / r.Elapsed.Seconds()
	s.CPU = float64(u.gateway.Microseconds()) / float64(r.Count)
	return s
}

// noisy is the share of the machine above which others spoil a measurement.
const noisy = 0.10

// quiet leaves out what others spoilt, unless fewer than two measurements remain.
func quiet(samples []Sample) []Sample {
	kept := slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool { return s.Foreign > noisy })
	if len(kept) < 2 {
		return samples
	}
	return kept
}

// pick returns one figure of all measurements of a cell on a path.
func pick(samples []Sample, path string, c cell, value func(Sample) float64) spread {
	var of []Sample
	for _, s := range samples {
		if s.Path == path && s.Cell == c.name {
			of = append(of, s)
		}
	}
	var values []float64
	for _, s := range quiet(of) {
		values = append(values, value(s))
	}
	return newSpread(values)
}

func rate(s Sample) float64  { return s.Rate }
func ratio(s Sample) float64 { return s.Ratio }
func p50(s Sample) float64   { return s.P50 }
func p99(s Sample) float64   { return s.P99 }
func cpu(s Sample) float64   { return s.CPU }

// spread is a median with the lowest and the highest of what it is the median of.
type spread struct {
	median, min, max float64
	n                int
}

func newSpread(values []float64) spread {
	if len(values) == 0 {
		return spread{median: math.NaN(), min: math.NaN(), max: math.NaN()}
	}
	v := slices.Sorted(slices.Values(values))
	median := v[len(v)/2]
	if len(v)%2 == 0 {
		median = (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return spread{median, v[0], v[len(v)-1], len(v)}
}

// text writes a spread with a number of decimals.
func (s spread) text(decimals int) string {
	switch s.n {
	case 0:
		return "–"
	case 1:
		return fmt.Sprintf("%.*f", decimals, s.median)
	}
	return fmt.Sprintf("%.*f [%.*f..%.*f]", decimals, s.median, decimals, s.min, decimals, s.max)
}

// overlaps reports whether two spreads share a value: then a difference of their
// medians may be chance.
func (s spread) overlaps(t spread) bool { return s.min <= t.max && t.min <= s.max }
