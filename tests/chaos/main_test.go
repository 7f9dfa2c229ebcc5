package chaos

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

var gateway string

// sums are over all tests.
var sums struct {
	mu                   sync.Mutex
	faults, leaked, lost int
	tried, permitted     int
	figures              []string
}

// figure notes a measurement, which is printed and never asserted.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	t.Log(text)
	sums.mu.Lock()
	defer sums.mu.Unlock()
	sums.figures = append(sums.figures, t.Name()+": "+text)
}

func TestMain(m *testing.M) {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bulkhead-chaos-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if gateway, err = lab.Build(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	for _, f := range sums.figures {
		fmt.Println(f)
	}
	fmt.Printf("faults tried: %d; forbidden attempts meanwhile: %d, packets leaked: %d; permitted flows: %d, events lost: %d\n",
		sums.faults, sums.tried, sums.leaked, sums.permitted, sums.lost)
	return code
}
