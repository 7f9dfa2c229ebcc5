package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTampering changes a good log in every way, and wants to be told the place.
func TestTampering(t *testing.T) {
	// Lines 1 to 8: a checkpoint, six events, a checkpoint.
	for _, tt := range []struct {
		name   string
		change func(l []string) []string
		line   int    // of the first break; 0: of the file as a whole
		what   string // part of the sentence
		breaks int
	}{
		{"edit", func(l []string) []string {
			l[3] = strings.Replace(l[3], "140.82.121.6", "140.82.121.7", 1)
			return l
		}, 4, "altered", 1},
		{"edit and new hash", func(l []string) []string {
			l[3] = rehash(strings.Replace(l[3], "140.82.121.6", "140.82.121.7", 1))
			return l
		}, 5, "does not follow", 1},
		{"edit of the last line", func(l []string) []string {
			l[7] = strings.Replace(l[7], `"severity_id":1`, `"severity_id":2`, 1)
			return l
		}, 8, "altered", 1},
		{"delete one", func(l []string) []string { return append(l[:3], l[4:]...) }, 4, "event 4 is missing", 1},
		{"cut the middle", func(l []string) []string { return append(l[:2], l[5:]...) }, 3, "events 3 to 5 are missing", 1},
		{"cut the start", func(l []string) []string { return l[1:] }, 1, "the events before it are missing", 1},
		{"cut the end", func(l []string) []string { return l[:5] }, 0, "the log is cut", 1},
		{"insert a copy", func(l []string) []string {
			return append(l[:4:4], append([]string{l[2]}, l[4:]...)...)
		}, 5, "out of order", 2},
		{"swap", func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }, 4, "event 4 is missing", 3},
		{"empty line", func(l []string) []string { l[3] = "\n" + l[3]; return l }, 4, "not one JSON object", 1},
		{"garbage", func(l []string) []string { l[3] = "garbage\n"; return l }, 4, "not one JSON object", 1},
		{"line too long", func(l []string) []string {
			l[3] = strings.Repeat(" ", maxLine) + l[3]
			return l
		}, 4, "longer than 64 KiB", 1},
		{"torn in the middle", func(l []string) []string { l[3] = l[3][:len(l[3])/2] + "\n"; return l }, 4, "not one JSON object", 1},
		{"key twice", func(l []string) []string {
			l[3] = strings.Replace(l[3], `{"action_id":1,`, `{"action_id":1,"action_id":2,`, 1)
			return l
		}, 4, "not one JSON object", 1},
		{"hash removed", func(l []string) []string {
			l[3] = strings.Replace(l[3], `"hash":`, `"hush":`, 1)
			return l
		}, 4, "64 hex digits", 1},
		{"first number", func(l []string) []string {
			l[0] = rehash(strings.Replace(l[0], `"seq":1,`, `"seq":5,`, 1))
			return l
		}, 1, "claims to be the first", 3},
		{"statement of another place", func(l []string) []string {
			l[7] = rehash(strings.Replace(l[7], `"seq_at":7`, `"seq_at":6`, 1))
			return l
		}, 8, "not authentic", 2},
		{"checkpoint made an event", func(l []string) []string {
			l[7] = rehash(strings.Replace(l[7], `"stage":"checkpoint"`, `"stage":"name"`, 1))
			return l
		}, 8, "not the event that the head file signed", 1},
		{"statement taken out", func(l []string) []string {
			at := strings.Index(l[7], `"checkpoint":{`)
			end := at + strings.Index(l[7][at:], `},`) + 2
			l[7] = rehash(l[7][:at] + l[7][end:])
			return l
		}, 8, "without a statement", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newTestLog(t, nil)
			for i := range 6 {
				l.record(permit(uint16(i + 1)))
			}
			l.close()
			rewrite(t, l.path, tt.change)
			r, err := Verify(l.path)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Broken || len(r.Breaks) == 0 {
				t.Fatalf("passes as whole: %+v", r)
			}
			got := r.Breaks[0]
			if got.File != l.path || got.Line != tt.line || !strings.Contains(got.What, tt.what) {
				t.Errorf("first break %v, want line %d and %q", got, tt.line, tt.what)
			}
			if len(r.Breaks) != tt.breaks {
				t.Errorf("%d breaks, want %d: %v", len(r.Breaks), tt.breaks, r.Breaks)
			}
		})
	}
}

// rehash gives a line the hash that fits its content, as somebody would who hides an edit.
func rehash(raw string) string {
	raw = strings.TrimSuffix(raw, "\n")
	at := strings.Index(raw, `"prev_hash":"`) + len(`"prev_hash":"`)
	sum, _ := hashOf([]byte(raw), raw[at:at+len(genesis)])
	h := strings.Index(raw, `"hash":"`) + len(`"hash":"`)
	return raw[:h] + sum + raw[h+len(genesis):] + "\n"
}

func TestRotatedFiles(t *testing.T) {
	l := newTestLog(t, func(o *Options) { o.MaxBytes = 1 }) // a file for each batch
	l.record(permit(1), permit(2), permit(3))
	l.close()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(l.path), "*.jsonl"))
	if err != nil || len(files) != 4 {
		t.Fatalf("files: %v, %v", files, err)
	}
	r := mustVerify(t, files...)
	if r.Files[3] != l.path || r.Last != r.First+uint64(r.Events)-1 || len(r.Warnings) != 0 {
		t.Errorf("report: %+v", r)
	}
	t.Run("one missing", func(t *testing.T) {
		got, err := Verify(r.Files[0], r.Files[2], r.Files[3])
		if err != nil || !got.Broken || got.Breaks[0].Line != 1 || got.Breaks[0].File != r.Files[2] {
			t.Errorf("report: %+v, %v", got, err)
		}
	})
	t.Run("the first missing", func(t *testing.T) {
		if got := mustVerify(t, r.Files[1:]...); len(got.Warnings) != 1 {
			t.Errorf("report: %+v", got)
		}
	})
	t.Run("the last missing", func(t *testing.T) {
		if got := mustVerify(t, r.Files[:3]...); got.Events != r.Events-3 {
			t.Errorf("report: %+v", got)
		}
	})
	t.Run("one twice", func(t *testing.T) {
		if got, _ := Verify(append(files, files[0])...); !got.Broken {
			t.Errorf("report: %+v", got)
		}
	})
	t.Run("torn in an earlier file", func(t *testing.T) {
		appendTo(t, r.Files[1], `{"action`)
		if got, _ := Verify(files...); !got.Broken || got.Breaks[0].File != r.Files[1] {
			t.Errorf("report: %+v", got)
		}
	})
}

// TestOtherSpacing: an event that some program wrote anew is still the same event.
func TestOtherSpacing(t *testing.T) {
	l := newTestLog(t, nil)
	l.record(permit(1))
	l.close()
	rewrite(t, l.path, func(lines []string) []string {
		lines[1] = strings.ReplaceAll(lines[1], `,"`, `, "`)
		return lines
	})
	mustVerify(t, l.path)
}

// TestPlainLog: a log that follows the format and has no checkpoints is whole, and
// is not what somebody who trusts a key wants to see.
func TestPlainLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plain.jsonl")
	var buf []byte
	at := link{hash: genesis}
	for i := range 3 {
		rec := permit(uint16(i + 1))
		var d draft
		d.write(testRenderer().event(&rec))
		buf, at = d.appendLinked(buf, at, sha256.New())
	}
	if err := os.WriteFile(path, buf, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, path); r.Events != 3 || r.Unsigned != 3 {
		t.Errorf("report: %+v", r)
	}
	if r, _ := VerifyTrusting("SHA256:x", path); !r.Broken {
		t.Error("a log without a signature passes for a trusted one")
	}
}

func TestVerifyNeedsFiles(t *testing.T) {
	if _, err := Verify(); err == nil {
		t.Error("no files, no error")
	}
	if _, err := Verify(filepath.Join(t.TempDir(), "none.jsonl")); err == nil {
		t.Error("a file that does not exist, no error")
	}
}

// FuzzVerify: whatever is in a file, the verifier ends, is bounded, and calls only
// what the log wrote whole.
func FuzzVerify(f *testing.F) {
	signer, err := loadSigner(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	r := testRenderer()
	var good []byte
	at := link{hash: genesis}
	for i := range 3 {
		rec := permit(uint16(i + 1))
		events := []*Event{r.checkpoint(signer.state(Hourly, at, testTime), testTime)}
		if i > 0 {
			events[0] = r.event(&rec)
		}
		for _, e := range events {
			var d draft
			d.write(e)
			good, at = d.appendLinked(good, at, sha256.New())
		}
	}
	f.Add(good)
	f.Add(good[:len(good)-40])
	f.Add([]byte("{}\n\n[]\nnull"))
	f.Add([]byte(`{"unmapped":{"seq":1e99,"hash":[],"prev_hash":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v := verifier{heads: map[uint64]*headAt{}}
		if err := v.scan("fuzz", bytes.NewReader(data), true); err != nil {
			t.Fatal(err)
		}
		v.finish()
		if len(v.report.Breaks) > maxPlaces || len(v.report.Warnings) > maxPlaces {
			t.Fatal("the report is not bounded")
		}
		if v.report.Broken || v.report.Events == 0 {
			return
		}
		// What is whole is a chain of hashes from the start.
		for raw := range bytes.Lines(data) {
			l, err := parseLine(bytes.TrimSuffix(raw, []byte("\n")))
			if err == nil && !l.intact {
				t.Fatalf("an altered line passes: %s", raw)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	var buf []byte
	at := link{hash: genesis}
	rec := permit(1)
	var d draft
	d.write(testRenderer().event(&rec))
	for range 1000 {
		buf, at = d.appendLinked(buf, at, sha256.New())
	}
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		v := verifier{heads: map[uint64]*headAt{}}
		if err := v.scan("bench", bufio.NewReader(bytes.NewReader(buf)), true); err != nil || v.report.Broken {
			b.Fatal(err, v.report.Breaks)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "events/s")
}

// FuzzParseLine: the fast way to read a line and the general one agree.
func FuzzParseLine(f *testing.F) {
	rec := permit(1)
	var d draft
	d.write(testRenderer().event(&rec))
	good, _ := d.appendLinked(nil, link{hash: genesis}, sha256.New())
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, ours := parseOurs(raw); ours {
			mustBeCanonical(t, raw)
		}
	})
}
