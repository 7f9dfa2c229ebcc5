package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/google/go-cmp/cmp"
	"github.com/gowebpki/jcs"
)

var update = flag.Bool("update", false, "write what is printed as the expected part of golden files")

var testTime = time.UnixMilli(1_767_225_600_000).UTC()

func testRenderer() *renderer {
	return &renderer{
		version: "1.2.3",
		workload: func(a netip.Addr) string {
			if a == netip.MustParseAddr("10.20.1.16") {
				return "invoice-agent"
			}
			return ""
		},
		uid: func() string { return "000102030405060708090a0b0c0d0e0f" },
		now: func() time.Time { return testTime },
	}
}

// TestEvents reads a record as JSON from each golden file, and compares its event.
func TestEvents(t *testing.T) {
	files, err := filepath.Glob("testdata/events/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(data), "\n----------\n")
			var rec Record
			dec := json.NewDecoder(strings.NewReader(input))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&rec); err != nil {
				t.Fatal(err)
			}
			line := testRenderer().event(&rec).appendTo(nil, nil)
			mustBeCanonical(t, line)
			var got bytes.Buffer
			if err := json.Indent(&got, line, "", "  "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			if *update {
				if err := os.WriteFile(path, []byte(input+"\n----------\n"+got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got.String()); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func mustBeCanonical(t *testing.T, line []byte) {
	t.Helper()
	canonical, err := jcs.Transform(line)
	if err != nil {
		t.Fatalf("not JSON: %v\n%s", err, line)
	}
	if !bytes.Equal(line, canonical) {
		t.Fatalf("not canonical:\n%s\nwant\n%s", line, canonical)
	}
}

// TestFieldOrder holds what makes the encoding canonical: fields stand in the order
// of their JSON names.
func TestFieldOrder(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var check func(typ reflect.Type)
	check = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] {
			return
		}
		seen[typ] = true
		var names []string
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			names = append(names, name)
			check(typ.Field(i).Type)
		}
		if !slices.IsSorted(names) || slices.Contains(names, "") {
			t.Errorf("%v: the fields are not in the order of their JSON names: %v", typ, names)
		}
	}
	check(reflect.TypeFor[Event]())
	check(reflect.TypeFor[Statement]())
}

func TestBounded(t *testing.T) {
	for _, tt := range []struct {
		in   string
		max  int
		want string
	}{
		{"api.github.com", 253, "api.github.com"},
		{"aaaa", 3, "aaa"},
		{"aé", 2, "a"},
		{"a\x00b", 9, "a\ufffdb"},
		{"a\xffb", 9, "a\ufffdb"},
		{"\x1b[31mred", 20, "\ufffd[31mred"},
		{"line\u2028end", 20, "line\ufffdend"},
		{"gpj.\u202eexe", 20, "gpj.\ufffdexe"},
		{`"hash":"`, 20, `"hash":"`},
		{"", 3, ""},
	} {
		if got := bounded(tt.in, tt.max); got != tt.want {
			t.Errorf("bounded(%q, %d) = %q, want %q", tt.in, tt.max, got, tt.want)
		}
	}
}

// FuzzEvent gives every text of a record to an attacker.
func FuzzEvent(f *testing.F) {
	f.Add("api.github.com", "POST", "/mcp?token=1", "allow", "rule", "A", "NOERROR", "10.0.0.1", uint8(1), int64(5))
	f.Add(`","hash":"`, "\x00\xff", "/\u2028\u202e", `"prev_hash":"`, "\ufffe", "\U0010ffff", "x", `\`, uint8(3), int64(-1))
	f.Fuzz(func(t *testing.T, host, method, path, rule, reason, typ, rcode, answer string, kind uint8, n int64) {
		rec := Record{
			Class: []Class{NetworkActivity, DNSActivity, HTTPActivity, DetectionFinding, 7}[kind%5], Time: time.UnixMilli(n),
			Activity: Activity(kind % 3), Src: netip.MustParseAddrPort("10.20.1.4:5"), Host: host,
			Decision: policy.Decision{Rule: rule, Reason: policy.Reason(reason), Would: &policy.Would{Rule: rule, Verdict: policy.Deny}},
			Digest:   rule, Pin: &Pin{Question: host, Bound: host, TTL: time.Duration(n)},
			DNS: &DNS{Type: typ, Rcode: rcode, Answers: slices.Repeat([]string{answer}, 40)}, HTTP: &HTTP{Method: method, Path: path, Status: int(kind)},
			BytesIn: n, BytesOut: n, Duration: time.Duration(n), Message: path,
		}
		e := testRenderer().event(&rec)
		line := e.appendTo(nil, nil)
		mustBeCanonical(t, line)
		if len(line) > maxLine/2 || !utf8.Valid(line) {
			t.Fatalf("%d bytes", len(line))
		}
		var d draft
		d.write(e)
		linked, at := d.appendLinked(nil, link{41, genesis}, sha256.New())
		l, err := parseLine(linked[:len(linked)-1])
		if err != nil || !l.intact || l.link() != at || at.seq != 42 {
			t.Fatalf("a line does not verify: %v\n%s", err, linked)
		}
	})
}
