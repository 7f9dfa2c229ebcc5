package audit

import (
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
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

// benchSubmit has so many goroutines each keep 64 records on the way, as an event loop does.
func benchSubmit(b *testing.B, submitters int) {
	l := benchLog(b)
	b.ReportAllocs()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	var all sync.WaitGroup
	for g := range submitters {
		all.Go(func() {
			rec := permit(1)
			rec.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 20, 2, byte(g)}), 1)
			way := make(chan struct{}, 64)
			done := func(err error) {
				if err != nil {
					b.Error(err)
				}
				<-way
			}
			for i := g; i < b.N; i += submitters {
				way <- struct{}{}
				l.Submit(rec, done)
			}
			for range cap(way) {
				way <- struct{}{}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/1000/float64(b.N), "cpu-µs/op") // user and system
}

func BenchmarkSubmit(b *testing.B)         { benchSubmit(b, 1) }
func BenchmarkSubmitTogether(b *testing.B) { benchSubmit(b, 64) }
