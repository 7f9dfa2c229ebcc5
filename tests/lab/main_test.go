package lab_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

func TestMain(m *testing.M) {
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
