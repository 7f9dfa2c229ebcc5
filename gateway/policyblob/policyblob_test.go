package policyblob

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const path = "/policy/ruleset.json"

func open(t *testing.T, s *storage, dir string) *Source {
	t.Helper()
	src, err := Open(s.URL+path, dir, machine{}, s.options())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// fetch wants a change, or none.
func fetch(t *testing.T, src *Source, changed bool) *Version {
	t.Helper()
	got, err := src.Fetch(context.Background())
	if err != nil || got != changed {
		t.Fatalf("changed %v, %v; want %v", got, err, changed)
	}
	return src.Latest()
}

// TestFetch: a document is read once for each time that it changes, and the last accepted one is
// there after a restart.
func TestFetch(t *testing.T) {
	s, dir := newStorage(t), t.TempDir()
	src := open(t, s, dir)
	if src.Latest() != nil {
		t.Fatal("something out of nothing")
	}
	if _, err := src.Fetch(context.Background()); err == nil || !strings.Contains(err.Error(), "nothing has been published") || src.Trouble() == nil {
		t.Errorf("no blob: %v", err)
	}
	s.publish(path, "one", "1")
	v := fetch(t, src, true)
	if string(v.Document) != "one" || v.Serial != 1 || src.Trouble() != nil {
		t.Errorf("%q, serial %d, %v", v.Document, v.Serial, src.Trouble())
	}
	if src.Serial() != 0 {
		t.Error("in force before anybody accepted it")
	}
	if err := src.Accept(v); err != nil {
		t.Fatal(err)
	}
	fetch(t, src, false)
	if s.reads != 1 {
		t.Errorf("read %d times", s.reads)
	}

	again := open(t, s, dir) // a restart, with the storage account away
	s.answer(http.StatusServiceUnavailable)
	if v := again.Latest(); v == nil || string(v.Document) != "one" || again.Serial() != 1 {
		t.Fatalf("after a restart: %+v", v)
	}
	if _, err := again.Fetch(context.Background()); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("storage away: %v", err)
	}
	s.answer(0)
	fetch(t, again, false)
	if s.reads != 1 || again.Trouble() != nil {
		t.Errorf("read %d times, trouble %v", s.reads, again.Trouble())
	}
}

// TestRollback: what may not follow the version in force, and what may.
func TestRollback(t *testing.T) {
	for _, tc := range []struct {
		name, inForce, body, serial, refused string
	}{
		{"next", "7", "new", "8", ""},
		{"far ahead", "7", "new", "900", ""},
		{"same again", "7", "old", "7", ""},
		{"older", "7", "new", "6", "serial 6 is older than serial 7"},
		{"another under the same serial", "7", "new", "7", "same serial 7"},
		{"without one", "7", "new", "", "has no serial"},
		{"no number", "7", "new", "seven", "no number"},
		{"negative", "7", "new", "-1", "no number"},
		{"by hand, always", "", "new", "", ""},
		{"by hand, then numbered", "", "new", "1", ""},
		{"too long", "7", strings.Repeat("x", maxDocument+1), "8", "longer than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, dir := newStorage(t), t.TempDir()
			src := open(t, s, dir)
			s.publish(path, "old", tc.inForce)
			if err := src.Accept(fetch(t, src, true)); err != nil {
				t.Fatal(err)
			}
			src = open(t, s, dir) // a restart forgets nothing
			s.publish(path, tc.body, tc.serial)
			for range 2 { // the second time the blob has not changed, and the answer is the same
				_, err := src.Fetch(context.Background())
				if tc.refused == "" {
					if err != nil || string(src.Latest().Document) != tc.body {
						t.Fatalf("%v", err)
					}
					continue
				}
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.refused) || !errors.Is(src.Trouble(), ErrRefused) {
					t.Fatalf("%v, want %q", err, tc.refused)
				}
				if string(src.Latest().Document) != "old" {
					t.Error("what was refused replaced what is in force")
				}
			}
			s.publish(path, "mended", "1000")
			if v := fetch(t, src, true); string(v.Document) != "mended" || src.Trouble() != nil {
				t.Errorf("%q, %v", v.Document, src.Trouble())
			}
		})
	}
}

// TestRefusedSerialCountsForNothing: a version that nobody accepted does not raise the bar.
func TestRefusedSerialCountsForNothing(t *testing.T) {
	s := newStorage(t)
	src := open(t, s, t.TempDir())
	s.publish(path, "good", "1")
	if err := src.Accept(fetch(t, src, true)); err != nil {
		t.Fatal(err)
	}
	s.publish(path, "bad", "1000000")
	fetch(t, src, true)
	s.publish(path, "good too", "2")
	if v := fetch(t, src, true); v.Serial != 2 {
		t.Errorf("serial %d", v.Serial)
	}
}

// TestKept: what lies on disk and is no copy of this blob starts nothing.
func TestKept(t *testing.T) {
	s := newStorage(t)
	for name, tc := range map[string]struct {
		file string
		fail bool
	}{
		"of another blob": {`{"url":"https://other/policy/ruleset.json","serial":9,"etag":"x","document":"b2xk"}`, false},
		"torn":            {`{"url":"https`, true},
		"empty":           {``, true},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "policy.json"), []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		src, err := Open(s.URL+path, dir, machine{}, s.options())
		if src == nil || (err != nil) != tc.fail || src.Latest() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestErrors: what an operator reads is one line that says what to do.
func TestErrors(t *testing.T) {
	s := newStorage(t)
	src := open(t, s, t.TempDir())
	s.answer(http.StatusForbidden)
	if _, err := src.Fetch(context.Background()); err == nil || !strings.Contains(err.Error(), "Storage Blob Data Reader") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	src, err := Open(s.URL+path, t.TempDir(), machine{errors.New("no\nidentity")}, s.options())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Fetch(context.Background()); err == nil || !strings.Contains(err.Error(), "no identity") {
		t.Errorf("%v", err)
	}
}

// TestReport: the report's keys are what a deployment reads.
func TestReport(t *testing.T) {
	s := newStorage(t)
	r, err := NewReporter(s.URL+"/attestation/gateway.json", machine{}, s.options())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // overwritten
		if err := r.Write(context.Background(), Report{Digest: "sha256:00", Serial: 7, Ready: true, Version: "1", Time: time.Unix(0, 0).UTC()}); err != nil {
			t.Fatal(err)
		}
	}
	got := s.blobs["/attestation/gateway.json"]
	var keys map[string]any
	if err := json.Unmarshal([]byte(got.body), &keys); err != nil || got.kind != "application/json" {
		t.Fatalf("%v, %s", err, got.kind)
	}
	if want := `{"digest":"sha256:00","serial":7,"ready":true,"version":"1","time":"1970-01-01T00:00:00Z","error":""}`; got.body != want {
		t.Errorf("%s", got.body)
	}
	s.answer(http.StatusForbidden)
	if err := r.Write(context.Background(), Report{}); err == nil || !strings.Contains(err.Error(), "Contributor") {
		t.Errorf("%v", err)
	}
}
