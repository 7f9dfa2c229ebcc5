package inspect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/inspect/mcp"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// exchange is one request, and what becomes of it.
type exchange struct {
	server      *Server
	flow        *flow
	head        head
	to          *authority // nil: unreadable
	path        string     // to be sent
	obligations policy.Obligations
	rule        string // that permitted it
	permit      policy.Decision
	denied      bool      // and written down as that
	messages    *mcp.Body // of an MCP request, where they could be read
	body        *bounded  // of a request that may be too long
}

type exchangeKey struct{}

// serve judges one request and, if it is permitted, lets goproxy carry it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	f := r.Context().Value(flowKey{}).(*flow)
	x := &exchange{server: s, flow: f}
	if f.guard == nil {
		f.handlers.Add(1)
		defer f.handlers.Done()
		x.head = headOf(r)
	} else {
		defer f.guard.owed.add(-1)
		var ok bool
		if x.head, ok = f.guard.next(); !ok {
			x.head.err = errHead("more requests than were sent")
		}
	}
	d, message := x.judge(r)
	if d.Permitted() {
		d, message = x.oblige(r, d)
	}
	if !d.Permitted() {
		x.refuse(w, d, message)
		return
	}
	x.permit = d
	x.forward(w, r)
}

// judge finds out where a request wants to go and asks whether it may. Without a
// message, the ruleset has decided.
func (x *exchange) judge(r *http.Request) (d policy.Decision, message string) {
	f, h := x.flow, &x.head
	if h.err != nil {
		return denial(policy.ReasonBadRequest), h.err.Error()
	}
	to, hostPort, err := parseAuthority(h.host, f.port)
	if err != nil {
		return denial(policy.ReasonBadRequest), err.Error()
	}
	x.to = to
	t, err := parseTarget(h.target, f.scheme, f.port)
	if err != nil {
		return denial(policy.ReasonBadRequest), err.Error()
	}
	x.path = t.path
	switch {
	case t.authority != nil && !t.authority.same(to):
		return denial(policy.ReasonAuthorityMismatch), "the request's target names another host than its Host field"
	case !hostPort || !t.portOK:
		return denial(policy.ReasonAuthorityMismatch), "the request names another port than the connection's"
	}
	first := f.authority
	if first != nil && !first.same(to) {
		return denial(policy.ReasonAuthorityMismatch), "the connection belongs to " + first.host()
	}
	var send string
	d, x.obligations, send = f.gate.Judge(r.Context(), to.name, h.method, t.path, nil)
	if d.Permitted() && d.Pending == policy.PendingMessage {
		messages, why := x.readMessages(r)
		d, x.obligations, send = f.gate.Judge(r.Context(), to.name, h.method, t.path, messages)
		if !d.Permitted() && d.Reason == policy.ReasonBadRequest {
			message = why
		}
	}
	x.path = send
	if d.Permitted() && first == nil {
		f.authority = to
	}
	return d, message
}

// denial is a refusal that no rule of the document made.
func denial(reason policy.Reason) policy.Decision {
	return policy.Decision{
		Verdict: policy.Deny, Rule: policy.RuleInvariant, Mode: policy.ModeEnforce, Decrypt: policy.DecryptNotAllowed,
		Tier: policy.TierSplice, Stage: policy.StageRequest, Reason: reason, Log: true, Index: -1,
	}
}

// forward sends the request to the flow's destination, rebuilt from what was judged.
func (x *exchange) forward(w http.ResponseWriter, r *http.Request) {
	f := x.flow
	u := &url.URL{Scheme: f.scheme, Host: x.to.field(), RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	if decoded, err := url.PathUnescape(x.path); err == nil {
		u.Path, u.RawPath = decoded, x.path
	} else {
		u.Path = x.path
	}
	out := r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	out.URL, out.Host = u, x.to.field()
	ww := &writer{ResponseWriter: w}
	sent := &countedBody{ReadCloser: out.Body}
	if out.ContentLength != 0 { // what is no body must stay none: another would be sent in chunks
		out.Body = sent
	}
	since := time.Now()
	defer func() {
		if !x.denied {
			f.gate.Answered(r.Context(), x.permit, x.to.name, x.head.method, x.path, ww.status, sent.n.Load(), ww.n, time.Since(since))
		}
	}()
	// Origins may answer before they have read everything. Without this the server of
	// HTTP/1 would read the rest of the body itself, up to 256 KiB, and throw it away; on HTTP/2
	// it is not needed, and an error.
	if f.guard != nil && http.NewResponseController(w).EnableFullDuplex() != nil {
		panic(http.ErrAbortHandler)
	}
	if x.head.upgrade {
		// Fields that the agent might name here would not reach the origin.
		out.Header["Connection"] = []string{"Upgrade"}
		defer func() {
			if ww.hijacked != nil { // the server has no more part in it
				ww.hijacked.Close()
				close(f.ended)
			}
		}()
		x.server.proxy.ServeHTTP(&upgradeWriter{writer: ww}, out)
		return
	}
	x.server.proxy.ServeHTTP(ww, out)
}

// countedBody counts what is read of a request's body, by whatever goroutine sends it.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// upgradeWriter closes the connection after any answer but a change of protocol: the
// guard has stopped looking, because what follows might have been frames.
type upgradeWriter struct{ *writer }

func (w *upgradeWriter) WriteHeader(status int) {
	if status != http.StatusSwitchingProtocols {
		w.Header().Set("Connection", "close")
	}
	w.writer.WriteHeader(status)
}

// Hijack hands the client's connection over for the WebSocket's frames.
func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.hijacked = c
	return c, rw, err
}

// statuses are the answers to refusals that are not 403.
var statuses = map[policy.Reason]int{
	policy.ReasonBadRequest:        http.StatusBadRequest,
	policy.ReasonAuthorityMismatch: http.StatusMisdirectedRequest,
	policy.ReasonOriginCertificate: http.StatusBadGateway,
	policy.ReasonRequestTooLarge:   http.StatusRequestEntityTooLarge,
}

// refusal is the body of an answer that an agent should be able to make sense of.
type refusal struct {
	Error  string        `json:"error"`
	Rule   string        `json:"rule,omitempty"`
	Reason policy.Reason `json:"reason,omitempty"`
	Host   string        `json:"host"`
	Help   string        `json:"help"`
}

// refused writes a refusal down and renders the answer. A call of a tool is answered as
// calls are, with status 200: clients of MCP take other statuses for a broken transport (MCP 2025-06-18,
// Transports, "Sending Messages to the Server"). In a session of the older transport the answer goes
// where the client waits for it.
func (x *exchange) refused(d policy.Decision, message string) (status int, body []byte) {
	status, ok := statuses[d.Reason]
	if !ok {
		status = http.StatusForbidden
	}
	name, host := "", ""
	if x.to != nil {
		name, host = x.to.name, x.to.host()
	}
	help := "The network policy of this environment does not allow this request. Retrying will not help; " +
		"ask the operators to permit the host if it is needed."
	if message != "" {
		help = "The gateway refused this request: " + message + "."
	}
	answer := refusal{Error: "egress denied", Rule: d.Rule, Reason: d.Reason, Host: host, Help: help}
	body = encode(answer)
	if x.messages != nil {
		if b, err := x.messages.Refuse("egress denied", answer); err == nil && b != nil {
			status, body = http.StatusOK, b
			if x.server.sessions.say(x.session(x.head.target), b) {
				status, body = http.StatusAccepted, nil
			}
		}
	}
	if message == "" {
		message = x.calls()
	}
	x.denied = true
	x.flow.gate.Refuse(d, name, x.head.method, x.path, status, message)
	return status, body
}

func (x *exchange) refuse(w http.ResponseWriter, d policy.Decision, message string) {
	status, body := x.refused(d, message)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if x.flow.guard != nil { // on HTTP/2 the other requests go on
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// failure is the answer for an origin that did not give one.
func (x *exchange) failure(r *http.Request, err error) *http.Response {
	if d, message, ours := x.blame(err); ours {
		status, body := x.refused(d, message)
		return answer(r, status, body)
	}
	return answer(r, http.StatusBadGateway, encode(refusal{
		Error: "destination unreachable", Host: x.to.host(),
		Help: "The request was permitted, but its destination did not answer. It may be retried.",
	}))
}

func answer(r *http.Request, status int, body []byte) *http.Response {
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))}},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)), Request: r,
	}
}

func encode(v refusal) []byte {
	b, err := json.Marshal(v)
	if err != nil { // strings always marshal
		panic(err)
	}
	return append(b, '\n')
}
