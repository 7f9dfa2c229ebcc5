package policy

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the tests got into their golden files")

const goldenLine = "----------\n"

// golden runs a test for every file of a folder in testdata: the text before the
// line of dashes is the input, the text behind it what has to come out.
func golden(t *testing.T, folder string, run func(t *testing.T, input string) string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files in testdata/%s (%v)", folder, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(text), goldenLine)
			got := run(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(input+goldenLine+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s\n(go test -update writes what it got)", got, want)
			}
		})
	}
}

// directive returns what follows "# key: " in the comments that head an input.
func directive(input, key string) string {
	for line := range strings.Lines(input) {
		rest, ok := strings.CutPrefix(line, "# "+key+":")
		if ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
