package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// measure is something that must not grow.
type measure struct {
	name  string
	floor float64 // growth that does not count
}

var measures = []measure{
	{"resident memory, MiB", 8},
	{"descriptors", 32},
	{"goroutines", 32},
	{"pins", 16},
	{"flows in the enforcer", 32},
}

// sample holds a value for each of measures.
type sample [5]float64

// growth is how much more than the first quarter the last may be.
const growth = 0.2

// fewest is how many samples it takes to judge.
const fewest = 12

// health collects samples, by life of the process.
type health struct {
	warm time.Duration

	mu    sync.Mutex
	since time.Time // the process works; zero while it does not
	lives [][]sample
}

// born says that the process works from now on.
func (h *health) born(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since, h.lives = now, append(h.lives, nil)
}

// forget says that the process is about to end.
func (h *health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since = time.Time{}
}

// alive reports since when the process works.
func (h *health) alive() (since time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, !h.since.IsZero()
}

// add keeps a sample of the life that began at since, unless that is over or not yet warm.
func (h *health) add(since, now time.Time, x sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() || !h.since.Equal(since) || now.Sub(since) < h.warm {
		return
	}
	last := len(h.lives) - 1
	h.lives[last] = append(h.lives[last], x)
}

// trend is the medians of the first and of the last quarter.
type trend struct{ first, last float64 }

func (t trend) rises(floor float64) bool { return t.last-t.first > max(growth*t.first, floor) }

func (t trend) String() string { return fmt.Sprintf("%.4g → %.4g", t.first, t.last) }

// trendOf needs a few samples.
func trendOf(samples []sample, i int) (trend, bool) {
	if len(samples) < fewest {
		return trend{}, false
	}
	quarter := len(samples) / 4
	return trend{median(samples[:quarter], i), median(samples[len(samples)-quarter:], i)}, true
}

func median(samples []sample, i int) float64 {
	var all []float64
	for _, x := range samples {
		all = append(all, x[i])
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// whole is the trend over all lives, worst that within the life that rose most.
func (h *health) trends(i int) (whole, worst trend, ok, okWorst bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	whole, ok = trendOf(slices.Concat(h.lives...), i)
	for _, life := range h.lives {
		if t, enough := trendOf(life, i); enough && (!okWorst || t.last-t.first > worst.last-worst.first) {
			worst, okWorst = t, true
		}
	}
	return whole, worst, ok, okWorst
}

// sample measures the gateway while it should run.
func (s *soak) sample(ctx context.Context) {
	since, ok := s.health.alive()
	if !ok {
		return
	}
	x, err := s.measure(ctx)
	if now, ok := s.health.alive(); !ok || now != since {
		return // it is being ended
	}
	if err != nil {
		s.violation("the gateway cannot be measured: %v", err)
		return
	}
	s.health.add(since, time.Now(), x)
}

func (s *soak) measure(ctx context.Context) (x sample, err error) {
	pid := s.lab.Process.PID()
	if pid == 0 {
		return x, errors.New("it has ended by itself")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return x, err
	}
	kib, err := field(bytes.NewReader(status), "VmRSS:")
	if err != nil {
		return x, err
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return x, err
	}
	resp, err := s.lab.Process.Admin(ctx, "/metrics")
	if err != nil {
		return x, err
	}
	defer resp.Body.Close()
	goroutines, err := field(resp.Body, "go_goroutines")
	if err != nil {
		return x, err
	}
	r, err := s.readiness(ctx)
	if err != nil {
		return x, err
	}
	flows, err := s.flows(ctx)
	return sample{kib / 1024, float64(len(fds)), goroutines, float64(r.Pins), float64(flows)}, err
}

// field finds the number on the line that begins with a name.
func field(in io.Reader, name string) (float64, error) {
	for sc := bufio.NewScanner(in); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) > 1 && f[0] == name {
			return strconv.ParseFloat(f[1], 64)
		}
	}
	return 0, fmt.Errorf("no %s", name)
}

// readLog looks for panics in what the gateway has logged since.
func (s *soak) readLog() {
	f, err := os.Open(s.lab.Paths.Log)
	if err != nil {
		s.violation("%v", err)
		return
	}
	defer f.Close()
	if _, err := f.Seek(s.logRead, io.SeekStart); err != nil {
		s.violation("%v", err)
		return
	}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		s.logRead += int64(len(line))
		if strings.Contains(line, "panic") || strings.Contains(line, "fatal error: ") {
			s.violation("the gateway's log: %s", strings.TrimSpace(line))
		}
	}
}
