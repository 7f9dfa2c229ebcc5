package policyblob

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
)

// patient has the SDK try once: whoever calls asks again soon anyway, and wants to say
// what is wrong meanwhile.
func patient(opts *blob.ClientOptions) *blob.ClientOptions {
	var o blob.ClientOptions
	if opts != nil {
		o = *opts
	}
	o.Retry.MaxRetries = -1
	o.Retry.TryTimeout = fetchTime / 2
	return &o
}

// oneLine is an error whose text has none of the line breaks that the SDK's have.
type oneLine struct{ error }

func (o *oneLine) Error() string { return strings.Join(strings.Fields(o.error.Error()), " ") }
func (o *oneLine) Unwrap() error { return o.error }

// terse makes one line of the SDK's errors, which hold whole responses. Role is what the
// identity needs where it is refused.
func terse(err error, role string) error {
	var answer *azcore.ResponseError
	var login *azidentity.AuthenticationFailedError
	switch {
	case errors.As(err, &login):
		return &oneLine{fmt.Errorf("no token of the machine's managed identity: %w", err)}
	case !errors.As(err, &answer):
		return &oneLine{err}
	}
	hint := ""
	switch answer.StatusCode {
	case http.StatusForbidden:
		// learn.microsoft.com/azure/role-based-access-control/troubleshooting: up to ten minutes.
		hint = "; the identity needs " + role + " there (a new assignment takes up to ten minutes), and the account's firewall must let this subnet in"
	case http.StatusNotFound:
		hint = "; nothing has been published there"
	}
	return fmt.Errorf("storage answers %d %s%s", answer.StatusCode, answer.ErrorCode, hint)
}
