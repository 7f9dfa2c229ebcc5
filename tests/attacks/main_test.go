package attacks

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// gatewayBinary is the gateway under test, built from this tree.
var gatewayBinary string

func TestMain(m *testing.M) {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bulkhead-attacks-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	gatewayBinary = filepath.Join(dir, "bulkhead")
	build := exec.Command("go", "build", "-o", gatewayBinary, "../../gateway/cmd/bulkhead")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the gateway:", err)
		return 1
	}
	defer shared.down()
	return m.Run()
}

// sharedScene is a lab that the tests share which leave the gateway alone.
type sharedScene struct {
	s    *scene
	seen map[string]bool // the tests that it was used by
}

var shared sharedScene

// open brings the shared lab up when the first test needs it. Tests run one after
// the other. A test that comes a second time (-count) finds a new one, for it would take
// its own traces for those of the attack.
func (s *sharedScene) open(t *testing.T) *scene {
	t.Helper()
	if s.seen[t.Name()] {
		s.down()
		s.s, s.seen = nil, nil
	}
	if s.s == nil {
		sc, err := newScene(lab.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.s, s.seen = sc, map[string]bool{}
	}
	s.seen[t.Name()] = true
	return s.s
}

func (s *sharedScene) down() {
	if s.s == nil {
		return
	}
	if err := s.s.Down(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// open brings up a lab for one test, which may do to its gateway what it likes.
func open(t *testing.T, opt lab.Options) *scene {
	t.Helper()
	s, err := newScene(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(s.Paths.Log); err == nil {
				t.Logf("the gateway's log:\n%s", log[max(0, len(log)-4000):])
			}
		}
		if err := s.Down(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// patience bounds everything that is waited for.
const patience = 10 * time.Second

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until ok says yes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
