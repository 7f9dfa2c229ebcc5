package pin

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestSnapshotRoundTrip(t *testing.T) {
	for _, scope := range []policy.PinScope{policy.ScopeSource, policy.ScopeShared, policy.ScopeVerify} {
		c := newClock()
		s := New(Options{Scope: scope, Now: c.now})
		mustAdd(t, s, agent, "api.github.com", one(github, time.Hour))
		mustAdd(t, s, other, "github.com", one(github2, time.Second))
		path := filepath.Join(t.TempDir(), "pins")
		if err := s.SaveFile(path); err != nil {
			t.Fatal(err)
		}
		c.advance(30 * time.Minute)
		back := New(Options{Scope: scope, Now: c.now})
		if err := back.LoadFile(path); err != nil {
			t.Fatal(err)
		}
		want := map[Entry]bool{}
		for e := range s.Entries() {
			want[e] = true
		}
		n := 0
		for e := range back.Entries() {
			n++
			if !want[e] {
				t.Errorf("%s: %+v came back, which was not saved", scope, e)
			}
		}
		if n != 2 {
			t.Errorf("%s: %d pins came back, want 2", scope, n)
		}
		if m := back.Lookup(other, github2, "github.com"); m.State != policy.PinMatch || !m.Stale {
			t.Errorf("%s: a pin's age was lost: %+v", scope, m)
		}
		c.advance(24 * time.Hour)
		late := New(Options{Scope: scope, Now: c.now})
		if err := late.LoadFile(path); err != nil {
			t.Fatal(err)
		}
		if _, pins := late.Len(); pins != 1 {
			t.Errorf("%s: %d pins a day later, want the one that is still of use", scope, pins)
		}
	}
}

const goodLine = "10.20.1.4 api.github.com 140.82.121.6 1795348800 60 api.github.com\n"

func TestLoadRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"empty":          {"", "after line 0: cut off"},
		"other file":     {"hello\n", "line 1: not a pin snapshot"},
		"other scope":    {"bulkhead-pins 1 shared\nend 0\n", `line 1: written with pinScope "shared", which is now "source"`},
		"cut":            {"bulkhead-pins 1 source\n" + goodLine, "after line 2: cut off"},
		"cut in a line":  {"bulkhead-pins 1 source\n" + goodLine[:20], "line 2: 2 fields"},
		"count":          {"bulkhead-pins 1 source\n" + goodLine + "end 2\n", `line 3: "end 2" after 1 pins`},
		"tail":           {"bulkhead-pins 1 source\nend 0\n" + goodLine, "line 3: nothing may follow"},
		"long line":      {"bulkhead-pins 1 source\n" + strings.Repeat("x", 2000), "after line 1: bufio.Scanner: token too long"},
		"source":         {"bulkhead-pins 1 source\n* " + goodLine[10:] + "end 1\n", `line 2: source "*" does not fit`},
		"name":           {"bulkhead-pins 1 source\n" + strings.ToUpper(goodLine) + "end 1\n", "line 2: \"API.GITHUB.COM\" is not a normalised host name"},
		"address":        {"bulkhead-pins 1 source\n" + strings.Replace(goodLine, "140.82.121.6", "140.82.121", 1) + "end 1\n", "line 2: address:"},
		"time":           {"bulkhead-pins 1 source\n" + strings.Replace(goodLine, "1795348800", "-1", 1) + "end 1\n", "line 2: time of the answer:"},
		"TTL":            {"bulkhead-pins 1 source\n" + strings.Replace(goodLine, " 60 ", " 99999999999 ", 1) + "end 1\n", "line 2: TTL:"},
		"good, then bad": {"bulkhead-pins 1 source\n" + goodLine + "x\nend 2\n", "line 3: 1 fields"},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Options{Now: newClock().now})
			path := filepath.Join(t.TempDir(), "pins")
			if err := os.WriteFile(path, []byte(tc.in), 0o600); err != nil {
				t.Fatal(err)
			}
			err := s.LoadFile(path)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q, want one with %q and the file", err, tc.want)
			}
			if sources, pins := s.Len(); sources != 0 || pins != 0 {
				t.Errorf("%d sources and %d pins from a bad file", sources, pins)
			}
		})
	}
	if err := New(Options{}).LoadFile(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Errorf("a file that does not exist yet: %v", err)
	}
}

// A pin from the future counts from now: a clock set back must not prolong it.
func TestLoadFuture(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now})
	in := "bulkhead-pins 1 source\n" + strings.Replace(goodLine, "1795348800", "4000000000", 1) + "end 1\n"
	if err := s.Load(strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	if m := s.Lookup(agent, github, "api.github.com"); !m.Entry.Until.Equal(c.now().Add(11 * time.Minute)) {
		t.Errorf("until %v", m.Entry.Until)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("bulkhead-pins 1 source\n" + goodLine + "end 1\n"))
	f.Add([]byte("bulkhead-pins 1 source\nend 0\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := New(Options{Now: newClock().now})
		err := s.Load(bytes.NewReader(in))
		if _, pins := s.Len(); err != nil && pins != 0 {
			t.Fatalf("%d pins beside the error %v", pins, err)
		}
		var out bytes.Buffer
		if err := s.Save(&out); err != nil {
			t.Fatal(err)
		}
		if err := New(Options{Now: newClock().now}).Load(&out); err != nil {
			t.Fatalf("own snapshot refused: %v", err)
		}
	})
}

func tls443(src, dst netip.Addr, name string) []policy.ProtoPort {
	return []policy.ProtoPort{{Proto: policy.TCP, Port: 443}}
}

func TestReadmitAndExpire(t *testing.T) {
	c := newClock()
	s := New(Options{Now: c.now})
	for i := range 1000 {
		mustAdd(t, s, agent, "a.example", one(addr(i), 0))
	}
	c.advance(12 * time.Hour)
	s.Touch(agent)
	mustAdd(t, s, other, "b.example", one(addr(1), 0))

	gate := &FakeGate{}
	if err := s.Readmit(context.Background(), gate, tls443); err != nil {
		t.Fatal(err)
	}
	if gate.Len() != 1001 {
		t.Errorf("%d keys, want 1001", gate.Len())
	}
	old := gate.Life(GateKey{Src: agent, Dst: addr(7), Proto: policy.TCP, Port: 443})
	if left := 12*time.Hour + 11*time.Minute; old < left || old > left+time.Hour {
		t.Errorf("admitted for %s, %s are left", old, left)
	}
	c.advance(59 * time.Minute)
	s.Touch(other)
	c.advance(time.Minute)
	if err := s.Expire(context.Background(), gate, tls443); err != nil {
		t.Fatal(err)
	}
	if gate.Len() != 1 || gate.Life(GateKey{Src: other, Dst: addr(1), Proto: policy.TCP, Port: 443}) == 0 {
		t.Errorf("%d keys after one of two sources was idle, want the other's", gate.Len())
	}
	gate.Fail(errors.New("netlink"))
	if err := s.Readmit(context.Background(), gate, tls443); err == nil {
		t.Error("a failing gate goes unnoticed")
	}
}

// TestRetire: keys that the ruleset before asked for go, those that any name still needs stay.
func TestRetire(t *testing.T) {
	s, gate, ctx := New(Options{}), &FakeGate{}, context.Background()
	mustAdd(t, s, agent, "a.example", one(addr(1), 0))
	mustAdd(t, s, agent, "b.example", one(addr(1), 0))
	mustAdd(t, s, agent, "a.example", one(addr(2), 0))
	if err := s.Readmit(ctx, gate, tls443); err != nil || gate.Len() != 2 {
		t.Fatalf("%d keys, %v", gate.Len(), err)
	}
	after := func(_, _ netip.Addr, name string) []policy.ProtoPort {
		if name == "b.example" {
			return []policy.ProtoPort{{Proto: policy.TCP, Port: 443}}
		}
		return nil
	}
	if err := s.Retire(ctx, gate, tls443, after); err != nil {
		t.Fatal(err)
	}
	if gate.Len() != 1 || gate.Life(GateKey{Src: agent, Dst: addr(1), Proto: policy.TCP, Port: 443}) == 0 {
		t.Errorf("%d keys, want the one that b.example needs", gate.Len())
	}
	gate.Fail(errors.New("netlink"))
	if err := s.Retire(ctx, gate, tls443, after); err == nil {
		t.Error("a failing gate goes unnoticed")
	}
}
