package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

func TestMain(m *testing.M) {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestShort soaks for some seconds, with a kill, a stop and all kinds of reload.
func TestShort(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	binary, err := lab.Build(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := begin(ctx, plan{For: 20 * time.Second, Reload: 2 * time.Second, Kill: 7 * time.Second, Stop: time.Hour, Warm: time.Second,
		Sample: 300 * time.Millisecond, Window: 3 * time.Second, Progress: 10 * time.Second, Check: 5 * time.Second}, binary, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.lab.Down(); err != nil {
			t.Error(err)
		}
	}()
	s.soak(ctx)
	var table bytes.Buffer
	// Nothing is flat in so short a time; that is judged below.
	for i := range s.health.lives {
		s.health.lives[i] = nil
	}
	if err := s.report(&table); err != nil {
		t.Errorf("%v\n%s", err, table.String())
	}
	t.Log(table.String())
	if s.faults.kills == 0 || s.faults.stops == 0 || s.faults.refused == 0 || s.faults.reloads < 3 {
		t.Errorf("disturbed too little: %+v", s.faults)
	}
	for _, c := range s.calls {
		if c.ok == 0 {
			t.Errorf("%s: never as it should be", c.name)
		}
	}
	if packets, _ := s.far.seen(); packets == 0 {
		t.Error("nothing was captured")
	}
}

// TestTrend tells what is flat from what rises.
func TestTrend(t *testing.T) {
	series := func(n int, f func(i int) float64) (out []sample) {
		for i := range n {
			out = append(out, sample{f(i)})
		}
		return out
	}
	for _, tc := range []struct {
		name    string
		samples []sample
		ok      bool
		rises   bool
	}{
		{"few", series(fewest-1, func(i int) float64 { return float64(i * 100) }), false, false},
		{"flat", series(40, func(int) float64 { return 50 }), true, false},
		{"a peak", series(40, func(i int) float64 { return map[bool]float64{true: 500, false: 50}[i == 39] }), true, false},
		{"below the floor", series(40, func(i int) float64 { return 1 + float64(i)/8 }), true, false},
		{"less than a fifth", series(40, func(i int) float64 { return 1000 + float64(i)*2 }), true, false},
		{"a leak", series(40, func(i int) float64 { return 50 + float64(i) }), true, true},
	} {
		got, ok := trendOf(tc.samples, 0)
		if ok != tc.ok || ok && got.rises(8) != tc.rises {
			t.Errorf("%s: %v, judged %v", tc.name, got, ok)
		}
	}
}

// TestLives keeps samples of one life apart from those of the next, and from the time between.
func TestLives(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	h := health{warm: 10 * time.Second}
	h.born(at(0))
	h.add(at(0), at(9), sample{1})  // not warm
	h.add(at(0), at(10), sample{2}) // counts
	h.forget()
	h.add(at(0), at(11), sample{3}) // ending
	h.born(at(20))
	h.add(at(0), at(31), sample{4}) // measured before
	h.add(at(20), at(31), sample{5})
	if got := fmt.Sprint(h.lives); got != "[[[2 0 0 0 0]] [[5 0 0 0 0]]]" {
		t.Error(got)
	}
}

// TestTrail holds that a call without an event is missed, whichever comes first, and that a
// renamed file is not read twice.
func TestTrail(t *testing.T) {
	live := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.New(audit.Options{File: live, State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	src, dst := netip.MustParseAddrPort("10.20.1.20:4711"), netip.MustParseAddrPort("140.82.121.6:443")
	record := func(class audit.Class, activity audit.Activity, verdict policy.Action) {
		t.Helper()
		if err := log.Record(audit.Record{Class: class, Activity: activity, Time: time.Now(), Src: src, Dst: dst, Proto: policy.TCP,
			Decision: policy.Decision{Verdict: verdict, Rule: policy.RuleDefault, Log: true}}); err != nil {
			t.Fatal(err)
		}
	}
	trail := newTrail(live)
	missing := func(want int) {
		t.Helper()
		if err := trail.read(); err != nil {
			t.Fatal(err)
		}
		if _, n := trail.missing(); n != want {
			t.Errorf("%d missing, want %d", n, want)
		}
	}
	want := trace{class: audit.NetworkActivity, proto: policy.TCP, src: src, dst: dst}
	trail.expect(want)
	record(audit.NetworkActivity, audit.Close, policy.Permit)
	record(audit.NetworkActivity, audit.Refuse, policy.Deny)
	missing(1)
	record(audit.NetworkActivity, audit.Open, policy.Permit)
	missing(0)
	record(audit.NetworkActivity, audit.Open, policy.Permit)
	missing(0)
	trail.expect(want)
	missing(0)
	trail.expect(want)
	missing(1)
	if err := os.Rename(live, strings.TrimSuffix(live, ".jsonl")+"-1.jsonl"); err != nil {
		t.Fatal(err)
	}
	missing(1)
	if n := trail.refused[trace{proto: policy.TCP, src: netip.AddrPortFrom(src.Addr(), 0), dst: dst}]; n != 1 {
		t.Errorf("%d refusals, want 1", n)
	}
}

// TestForgiven: a kill may cost the count of a question that has had an event, and nothing else.
func TestForgiven(t *testing.T) {
	live := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.New(audit.Options{File: live, State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	src := netip.MustParseAddrPort("10.20.1.20:0")
	if err := log.Record(audit.Record{Class: audit.DNSActivity, Activity: audit.Open, Time: time.Now(), Src: src, Proto: policy.UDP, Host: "known.example",
		DNS: &audit.DNS{Type: "A", Rcode: "NOERROR"}, Decision: policy.Decision{Verdict: policy.Permit, Rule: policy.RuleDefault, Log: true}}); err != nil {
		t.Fatal(err)
	}
	trail := newTrail(live)
	for _, name := range []string{"known.example", "known.example", "known.example", "new.example"} {
		trail.expect(trace{class: audit.DNSActivity, src: src, name: name})
	}
	trail.expect(trace{class: audit.NetworkActivity, proto: policy.TCP, src: src, dst: netip.MustParseAddrPort("140.82.121.6:443")})
	if err := trail.killed(); err != nil {
		t.Fatal(err)
	}
	if _, n := trail.missing(); n != 2 || trail.forgiven != 2 {
		t.Errorf("%d missing and %d forgiven, want 2 and 2", n, trail.forgiven)
	}
}

// TestMayArrive holds what counts as a leak.
func TestMayArrive(t *testing.T) {
	packet := func(proto policy.Proto, dst netip.Addr, port uint16, syn bool) lab.Packet {
		return lab.Packet{Proto: proto, Dst: netip.AddrPortFrom(dst, port), SYN: syn}
	}
	for _, tc := range []struct {
		p      lab.Packet
		denied bool
		want   bool
	}{
		{packet(policy.TCP, lab.GitHub, 443, true), false, true},
		{packet(policy.UDP, lab.GitHub, 443, false), false, false},
		{packet(policy.TCP, lab.GitHub, 22, true), false, false},
		{packet(policy.TCP, lab.Gist, 443, true), false, true},
		{packet(policy.TCP, lab.Gist, 443, true), true, false},
		{packet(policy.TCP, lab.Gist, 443, false), true, true},
		{packet(policy.TCP, lab.Agent365, 443, true), false, false},
		{packet(policy.TCP, lab.Exfil, 443, true), false, false},
		{packet(policy.UDP, lab.WireServer, 53, false), false, true},
		{packet(policy.TCP, lab.WireServer, 80, true), false, false},
	} {
		if got := mayArrive(tc.p, tc.denied); got != tc.want {
			t.Errorf("%v, denied %v: %v", tc.p, tc.denied, got)
		}
	}
}
