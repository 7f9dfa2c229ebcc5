package twin

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// TestLifecycle: from nothing to a spoke, to the same spoke, and to nothing.
func TestLifecycle(t *testing.T) {
	s := newSpoke(t)
	before := writes(t, s)
	s.Preview().OK()
	if n := writes(t, s); n != before {
		t.Errorf("a preview wrote %d times", n-before)
	}
	up := s.Up().OK()
	t.Logf("%v", up.Changes)
	s.Up().Unchanged()
	s.Preview().Unchanged()
	s.Refresh().Unchanged()
	s.wholesome(t)
	s.secretFree(t, up.Text)

	// Somebody attaches another route table's worth of trouble: a refresh shows it, an update undoes it.
	if err := s.on.Control.Edit(func(state *arm.State) error {
		for _, r := range state.Resources {
			if strings.EqualFold(r.Type, "Microsoft.Network/routeTables") {
				r.Body.Set(false, "properties", "disableBgpRoutePropagation")
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if r := s.Refresh().OK(); len(r.Steps) == 0 {
		t.Errorf("drift was not seen\n%s", r.Text)
	}
	if r := s.Up().OK(); len(r.Steps) == 0 {
		t.Errorf("drift was not undone\n%s", r.Text)
	}
	s.wholesome(t)

	s.Destroy().OK()
	state, err := s.on.Control.State()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range state.Resources {
		t.Errorf("left behind: %s", r.ID)
	}
	// The vault's name is kept by Azure, and the next spoke has another.
	s.Up().OK()
	s.wholesome(t)
}

// writes counts what was asked of the resource manager but reads.
func writes(t *testing.T, s *spoke) int {
	t.Helper()
	state, err := s.on.Control.State()
	if err != nil {
		t.Fatal(err)
	}
	return len(state.Log)
}

var privateKey = regexp.MustCompile(`PRIVATE KEY|AccountKey=|SharedAccessSignature|[?&]sig=|eyJ[A-Za-z0-9_-]{20,}\.`)

// secretFree looks for secrets where others could read them.
func (s *spoke) secretFree(t *testing.T, texts ...string) {
	t.Helper()
	texts = append(texts, string(s.Export()))
	raw, err := os.ReadFile(s.on.Control.Path())
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, string(raw))
	_ = filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, _ := os.ReadFile(path)
			texts = append(texts, string(b))
		}
		return nil
	})
	for _, text := range texts {
		if found := privateKey.FindString(text); found != "" {
			t.Errorf("a secret: %s", found)
		}
	}
}
