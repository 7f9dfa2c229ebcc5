package inspect

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// oblige does to a permitted request what its rule asks for, or says why that cannot be.
func (x *exchange) oblige(r *http.Request, d policy.Decision) (policy.Decision, string) {
	f, o := x.flow, &x.obligations
	x.rule = d.Rule
	no := func(reason policy.Reason, message string) (policy.Decision, string) { return x.broken(reason), message }
	if f.origin != nil && o.VerifyOrigin {
		if err := f.origin.demand(); err != nil {
			return no(policy.ReasonOriginCertificate, "the destination's certificate: "+err.Error())
		}
	}
	if message := f.tooOld(o.MinTLS); message != "" {
		return no(policy.ReasonTLSVersion, message)
	}
	if o.MCP && x.head.method != http.MethodPost && x.hasBody() {
		return no(policy.ReasonBadRequest, "a body where MCP has none")
	}
	if d.Stage == policy.StageRequest {
		rewriteless(r.Header)
	}
	if reason, message := x.setHeaders(r); reason != "" {
		return no(reason, message)
	}
	if o.MaxRequestBytes > 0 {
		if r.ContentLength > o.MaxRequestBytes {
			return no(policy.ReasonRequestTooLarge, "the request's body is longer than the rule allows")
		}
		if x.hasBody() {
			x.body = &bounded{ReadCloser: r.Body, left: o.MaxRequestBytes}
			r.Body = x.body
		}
	}
	if o.MCP {
		r.Header.Set("Accept-Encoding", "identity") // lists of tools have to be read
	}
	return d, ""
}

// broken is the refusal of a request that does not meet what its rule asks for.
func (x *exchange) broken(reason policy.Reason) policy.Decision {
	d := denial(reason)
	d.Rule = x.rule
	return d
}

func (x *exchange) hasBody() bool { return x.head.chunked || x.head.length != 0 }

// overrides are fields by which some servers take another method or path than those of the
// request line, which are the ones that were judged: X-HTTP-Method-Override and its kin (Rails,
// Express, ASP.NET), X-Original-URL and X-Rewrite-URL (IIS, Symfony).
var overrides = []string{
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url", "X-Original-Uri", "X-Rewrite-Uri",
}

// rewriteless removes them. The same names with underscores are what CGI makes of both.
func rewriteless(h http.Header) {
	for _, name := range overrides {
		delete(h, name)
	}
	for name := range h {
		if strings.IndexByte(name, '_') < 0 {
			continue
		}
		plain := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		for _, o := range overrides {
			if plain == o {
				delete(h, name)
			}
		}
	}
}

// setHeaders sets and requires fields. A reason says why the request cannot go.
func (x *exchange) setHeaders(r *http.Request) (policy.Reason, string) {
	for i := range x.obligations.Headers {
		h := &x.obligations.Headers[i]
		// A trailer of that name might be merged into the header behind us (RFC 9110, section 6.5.1).
		r.Trailer = nil
		switch {
		case len(h.Require) > 0:
			if !h.Satisfied(r.Header.Values(h.Name)) {
				return policy.ReasonHeaderRequired, "the field " + h.Name + " does not have the value that the rule requires"
			}
		case h.Secret != "":
			if x.server.decryption.Secrets == nil {
				return policy.ReasonNotReady, "the secret for " + h.Name + " cannot be had"
			}
			secret, err := x.server.decryption.Secrets.Secret(r.Context(), h.Secret)
			if err != nil {
				return policy.ReasonNotReady, "the secret for " + h.Name + " cannot be had: " + err.Error()
			}
			r.Header.Set(h.Name, h.Prefix+secret)
		default:
			r.Header.Set(h.Name, h.Set)
		}
	}
	return "", ""
}

// errTooLarge ends a body that turns out longer than its rule allows.
var errTooLarge = errors.New("the request's body is longer than the rule allows")

// bounded is a body of which no more than so many bytes are passed on.
type bounded struct {
	io.ReadCloser
	left int64

	mu   sync.Mutex
	over bool
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		b.mu.Lock()
		b.over = true
		b.mu.Unlock()
		return 0, errTooLarge
	}
	b.left -= int64(n)
	return n, err
}

func (b *bounded) exceeded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over
}

// blame says whether a request that did not get an answer was stopped by us, and why.
func (x *exchange) blame(err error) (d policy.Decision, message string, ours bool) {
	var distrust errTrust
	var answer errAnswer
	switch {
	case x.body != nil && x.body.exceeded():
		d, message = x.broken(policy.ReasonRequestTooLarge), errTooLarge.Error()
	case errors.As(err, &distrust):
		d, message = x.broken(policy.ReasonOriginCertificate), "the destination's certificate: "+err.Error()
	case errors.Is(err, errClientCertificate):
		d, message = x.broken(policy.ReasonOriginCertificate), errClientCertificate.Error()
	case errors.As(err, &answer):
		d, message = x.broken(policy.ReasonBadRequest), answer.Error()
	default:
		return d, "", false
	}
	return d, message, true
}
