package patience

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

func TestUntil(t *testing.T) {
	passing, lasting := errors.New("not yet"), errors.New("never")
	again := func(err error) bool { return errors.Is(err, passing) }
	p := Patience{Limit: time.Minute, Pause: time.Second, Longest: 8 * time.Second}
	for what, tc := range map[string]struct {
		results []error // the last one stays
		want    string  // of the error
		said    int
		took    time.Duration
	}{
		"at once":             {[]error{nil}, "", 0, 0},
		"in a while":          {[]error{passing, passing, passing, passing, passing, nil}, "", 5, (1 + 2 + 4 + 8 + 8) * time.Second},
		"for good":            {[]error{lasting}, "never", 0, 0},
		"for good, then":      {[]error{passing, lasting}, "never", 1, time.Second},
		"not within the time": {[]error{passing}, "not yet; that was after 55s", 9, 55 * time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said []string
				begun, n := time.Now(), 0
				err := p.Until(t.Context(), func(s string) { said = append(said, s) }, again, func(context.Context) error {
					n++
					return tc.results[min(n, len(tc.results))-1]
				})
				if fmt.Sprint(err) != tc.want && (err != nil || tc.want != "") {
					t.Errorf("%v", err)
				}
				if len(said) != tc.said || time.Since(begun) != tc.took {
					t.Errorf("said %q in %s", said, time.Since(begun))
				}
				if len(said) > 1 && said[1] != "not yet; waiting (1s of at most 1m0s)" {
					t.Errorf("said %q", said[1])
				}
			})
		})
	}
}

func TestUntilStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		err := Roles.Until(ctx, func(string) {}, func(error) bool { return true }, func(context.Context) error { return errors.New("not yet") })
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "not yet; stopped") {
			t.Errorf("%v", err)
		}
	})
}

func TestRefused(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("x: %w", &azcore.ResponseError{StatusCode: http.StatusForbidden}): true,
		&azcore.ResponseError{StatusCode: http.StatusNotFound}:                       false,
		&net.DNSError{IsNotFound: true}:                                              true,
		&net.DNSError{IsTimeout: true}:                                               false,
		errors.New("x"):                                                              false,
	} {
		if Refused(err) != want {
			t.Errorf("%v", err)
		}
	}
}
