package audit

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// again is a permitted question that changed nothing.
func again(src, name string) Record {
	return Record{
		Class: DNSActivity, Activity: Open, Proto: policy.UDP, Host: name, Repeat: true,
		Src: netip.AddrPortFrom(netip.MustParseAddr(src), 40000), Digest: "sha256:1",
		Decision: policy.Decision{Verdict: policy.Permit, Rule: "allow", Mode: policy.ModeEnforce, Stage: policy.StageDNS, Reason: policy.ReasonRule, Log: true},
		DNS:      &DNS{Type: "A", Rcode: "NOERROR", Answers: []string{"140.82.121.6"}},
	}
}

func TestRepeatedPermitsAreCounted(t *testing.T) {
	l := newTestLog(t, nil)
	first := again("10.20.1.4", "api.github.com")
	first.Repeat = false
	l.record(first) // what pins something is always an event
	l.record(again("10.20.1.4", "api.github.com"))
	for range 7 {
		l.record(again("10.20.1.4", "api.github.com"))
	}
	if got := decisions(l.events()); len(got) != 2 {
		t.Fatalf("%d events before the window is over", len(got))
	}
	l.clock.advance(time.Minute)
	l.flush()
	got := decisions(l.events())
	if len(got) != 3 || got[2].Count != 7 || got[2].ActionID != actionAllowed || got[2].Answers[0].Rdata != "140.82.121.6" {
		t.Fatalf("events: %+v", got)
	}
	l.record(first)
	if got := decisions(l.events()); len(got) != 4 {
		t.Errorf("%d events: one that pins something was counted", len(got))
	}
	l.close()
	mustVerify(t, l.path)
}

// TestRepeatsSayTheSame: whatever an event says of a permit, a repeat that says
// otherwise is an event of its own.
func TestRepeatsSayTheSame(t *testing.T) {
	for what, change := range map[string]func(*Record){
		"source":  func(r *Record) { r.Src = netip.MustParseAddrPort("10.20.1.5:40000") },
		"name":    func(r *Record) { r.Host = "github.com" },
		"type":    func(r *Record) { r.DNS.Type = "AAAA" },
		"rcode":   func(r *Record) { r.DNS.Rcode = "NXDOMAIN" },
		"answers": func(r *Record) { r.DNS.Answers = []string{"140.82.121.5"} },
		"digest":  func(r *Record) { r.Digest = "sha256:2" },
		"message": func(r *Record) { r.Message = "upstream: REFUSED" },
		"rule":    func(r *Record) { r.Decision.Rule = "other" },
		"mode":    func(r *Record) { r.Decision.Mode = policy.ModeMonitor },
		"would":   func(r *Record) { r.Decision.Would = &policy.Would{Rule: "default", Verdict: policy.Deny} },
		"flow":    func(r *Record) { r.Class, r.DNS = NetworkActivity, nil },
		"denial":  func(r *Record) { r.Decision.Verdict, r.Activity = policy.Deny, Refuse },
	} {
		t.Run(what, func(t *testing.T) {
			l := newTestLog(t, nil)
			other := again("10.20.1.4", "api.github.com")
			change(&other)
			l.record(again("10.20.1.4", "api.github.com"), other)
			if got := decisions(l.events()); len(got) != 2 {
				t.Errorf("%d events", len(got))
			}
		})
	}
}

// TestRepeatsAreNotLost: with more questions than the table holds, and with a disk
// that fails meanwhile, each that was acknowledged is in the log, once.
func TestRepeatsAreNotLost(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.Keys = 8 })
	sent := 0
	for i := range 400 {
		rec := again(fmt.Sprintf("10.20.1.%d", i%37), "api.github.com")
		rec.Host = fmt.Sprintf("n%d.example.org", i%5)
		l.record(rec)
		sent++
	}
	if n := len(l.asked.table); n > 16 {
		t.Errorf("the table holds %d keys", n)
	}
	if n := len(l.counts.table); n != 0 {
		t.Errorf("permits took %d places of denials", n)
	}
	l.close()
	mustVerify(t, l.path)
	if got := total(decisions(l.events())); got != sent {
		t.Errorf("%d of %d questions", got, sent)
	}
}

// TestRepeatsNeedTheDisk: while the log is in trouble no permit is only counted.
func TestRepeatsNeedTheDisk(t *testing.T) {
	l := newTestLog(t, nil)
	l.record(again("10.20.1.4", "api.github.com"), again("10.20.1.4", "api.github.com"))
	l.faults.set(func(f *fault) { f.write = syscall.EIO })
	if err := l.Record(permit(1)); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if err := l.Record(again("10.20.1.4", "api.github.com")); !errors.Is(err, syscall.EIO) {
		t.Errorf("a repeat on a broken disk: %v", err)
	}
	l.faults.set(func(f *fault) { f.write = nil })
	l.record(again("10.20.1.4", "api.github.com"))
	if err := l.Healthy(); err != nil {
		t.Error(err)
	}
	l.close()
	if got := total(decisions(l.events())); got != 3 {
		t.Errorf("%d questions in the log, of 3 that were permitted", got)
	}
}
