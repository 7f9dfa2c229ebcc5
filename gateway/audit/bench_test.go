package audit

import (
	"path/filepath"
	"testing"
)

func benchLog(b *testing.B) *Log {
	dir := b.TempDir()
	l, err := New(Options{File: filepath.Join(dir, "audit.jsonl"), State: dir, Version: "1.2.3"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// BenchmarkRecord is one goroutine that waits for each event to be in the file.
func BenchmarkRecord(b *testing.B) {
	l := benchLog(b)
	rec := permit(1)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Record(rec); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRecordTogether is many flows that are decided at once, whose events are
// written together.
func BenchmarkRecordTogether(b *testing.B) {
	l := benchLog(b)
	rec := permit(1)
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Record(rec); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRepeat is a denial that is only counted.
func BenchmarkRepeat(b *testing.B) {
	l := benchLog(b)
	rec := deny("10.20.1.4", 22)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Record(rec); err != nil {
			b.Fatal(err)
		}
	}
}
