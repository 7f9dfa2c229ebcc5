package inspect

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/bulkhead-dev/bulkhead/gateway/inspect/mcp"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// readMessages reads the body of a request whose permit depends on it, and puts what was
// read, and nothing else, in its place. What cannot be read as messages is malformed, and why says so.
func (x *exchange) readMessages(r *http.Request) (messages []policy.RPC, why string) {
	malformed := []policy.RPC{{Malformed: true}}
	if len(r.Header["Content-Type"]) > 1 || len(r.Header["Content-Encoding"]) > 1 {
		return malformed, "more than one content type or coding"
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, mcp.MaxBody+1))
	if err != nil {
		return malformed, "the body broke off"
	}
	body, err := mcp.Parse(r.Header.Get("Content-Type"), r.Header.Get("Content-Encoding"), raw)
	if err != nil {
		return malformed, err.Error()
	}
	x.messages = body
	for _, m := range body.Messages {
		messages = append(messages, m.RPC)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	r.TransferEncoding, r.Trailer = nil, nil
	r.Header.Del("Transfer-Encoding")
	r.Header.Del("Trailer")
	r.Header.Del("Expect") // the body is here
	return messages, ""
}

// maxCalls bounds what is written down of the tools that a refused request calls.
const maxCalls = 256

// calls names those tools for the audit, in ASCII, so that what looks alike is told apart.
func (x *exchange) calls() string {
	if x.messages == nil {
		return ""
	}
	var tools []string
	for _, m := range x.messages.Messages {
		if m.RPC.Tool != "" {
			tools = append(tools, strings.Trim(strconv.QuoteToASCII(m.RPC.Tool), `"`))
		}
	}
	if len(tools) == 0 {
		return ""
	}
	s := "calls " + strings.Join(tools, ", ")
	if len(s) > maxCalls {
		s = s[:maxCalls] + "…"
	}
	return s
}

// errAnswer is an answer that cannot be passed on.
type errAnswer struct{ error }

// filter cuts the lists of tools in an answer down to what may be called.
func (x *exchange) filter(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	isJSON, isStream := kind == "application/json", kind == "text/event-stream"
	if !isJSON && !isStream || x.head.method == http.MethodHead || resp.ContentLength == 0 {
		return nil
	}
	for _, coding := range resp.Header["Content-Encoding"] {
		if !strings.EqualFold(coding, "identity") {
			resp.Body.Close()
			return errAnswer{errors.New("the server's answer is compressed although that was not asked for")}
		}
	}
	callable := func(tool string) bool {
		return x.flow.gate.Callable(x.to.name, http.MethodPost, x.path, tool)
	}
	resp.Header.Del("Content-Length")
	if isStream {
		resp.ContentLength = -1
		resp.Body = x.stream(resp, callable)
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, mcp.MaxBody+1))
	resp.Body.Close()
	if err != nil {
		return err
	}
	if len(raw) == 0 {
		resp.Body = http.NoBody
		return nil
	}
	out, err := mcp.FilterJSON(raw, callable)
	if err != nil {
		return errAnswer{err}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(out)), int64(len(out))
	return nil
}
