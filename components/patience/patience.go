// Package patience tries again what Azure takes a while to do, for a bounded time, and tells
// the person who waits what it is waiting for.
//
// Role assignments are the common case: they are made by one service and believed by another
// up to ten minutes later, and until then the answer is 403, the same as for a role that will
// never come
// (https://learn.microsoft.com/azure/role-based-access-control/troubleshooting#symptom---role-assignment-changes-are-not-being-detected).
package patience

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// Patience is how long to try, and how often. The pause doubles from Pause to Longest.
type Patience struct {
	Limit, Pause, Longest time.Duration
}

// Roles is for what a role assignment or a new host name holds up.
var Roles = Patience{Limit: 12 * time.Minute, Pause: 3 * time.Second, Longest: 15 * time.Second}

// Until tries until it succeeds, fails with what waiting does not cure (again says no), or the
// limit is over. Say is told of each failure that is waited out.
func (p Patience) Until(ctx context.Context, say func(string), again func(error) bool, try func(context.Context) error) error {
	begun := time.Now()
	for pause := p.Pause; ; pause = min(2*pause, p.Longest) {
		err := try(ctx)
		if err == nil || !again(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w; stopped: %w", err, ctx.Err())
		}
		waited := time.Since(begun)
		if waited+pause > p.Limit {
			return fmt.Errorf("%w; that was after %s", err, waited.Round(time.Second))
		}
		say(fmt.Sprintf("%v; waiting (%s of at most %s)", err, waited.Round(time.Second), p.Limit))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w; stopped: %w", err, ctx.Err())
		}
	}
}

// Refused says whether a failure may pass when a role assignment, a firewall rule or a new
// host's name has made its way.
func Refused(err error) bool {
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode == http.StatusForbidden
	}
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// refused is what a service answers, without the whole response that the SDK's text has.
type refused struct{ *azcore.ResponseError }

func (r *refused) Error() string {
	return fmt.Sprintf("Azure answers %d %s", r.StatusCode, r.ErrorCode)
}
func (r *refused) Unwrap() error { return r.ResponseError }

// oneLine is an error whose text has no line breaks.
type oneLine struct{ error }

func (o *oneLine) Error() string { return strings.Join(strings.Fields(o.error.Error()), " ") }
func (o *oneLine) Unwrap() error { return o.error }

// Terse makes one line of the SDK's errors, which hold whole responses.
func Terse(err error) error {
	if err == nil {
		return nil
	}
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return &refused{answer}
	}
	return &oneLine{err}
}
