package inspect

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// serve judges one request and, if it is permitted, lets goproxy carry it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	f := r.Context().Value(flowKey{}).(*flow)
	h, ok := f.guard.next()
	if !ok {
		h.err = errHead("more requests than were sent")
	}
	if h.err != nil {
		f.refuse(w, &h, nil, "", denial(policy.ReasonBadRequest), h.err.Error())
		return
	}
	to, path, d, message := f.judge(r, &h)
	if !d.Permitted() {
		f.refuse(w, &h, to, path, d, message)
		return
	}
	f.forward(s, w, r, &h, to, path)
}

// judge finds out where a request wants to go and asks whether it may. Without a
// message, the ruleset has decided.
func (f *flow) judge(r *http.Request, h *head) (to *authority, path string, d policy.Decision, message string) {
	to, hostPort, err := parseAuthority(h.host, f.port)
	if err != nil {
		return nil, "", denial(policy.ReasonBadRequest), err.Error()
	}
	t, err := parseTarget(h.target, f.port)
	switch {
	case err != nil:
		return to, "", denial(policy.ReasonBadRequest), err.Error()
	case t.authority != nil && !t.authority.same(to):
		return to, t.path, denial(policy.ReasonAuthorityMismatch), "the request's target names another host than its Host field"
	case !hostPort || !t.portOK:
		return to, t.path, denial(policy.ReasonAuthorityMismatch), "the request names another port than the connection's"
	}
	first := f.authority
	if first != nil && !first.same(to) {
		return to, t.path, denial(policy.ReasonAuthorityMismatch), "the connection belongs to " + first.host()
	}
	d, send := f.gate.Judge(r.Context(), to.name, h.method, t.path)
	if d.Permitted() && first == nil {
		f.authority = to
	}
	return to, send, d, ""
}

// denial is a refusal that no rule of the document made.
func denial(reason policy.Reason) policy.Decision {
	return policy.Decision{
		Verdict: policy.Deny, Rule: policy.RuleInvariant, Mode: policy.ModeEnforce, Decrypt: policy.DecryptNotAllowed,
		Tier: policy.TierSplice, Stage: policy.StageRequest, Reason: reason, Log: true, Index: -1,
	}
}

// forward sends the request to the flow's destination, rebuilt from what was judged.
func (f *flow) forward(s *Server, w http.ResponseWriter, r *http.Request, h *head, to *authority, path string) {
	u := &url.URL{Scheme: "http", Host: to.field(), RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	if decoded, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = decoded, path
	} else {
		u.Path = path
	}
	out := r.Clone(r.Context())
	out.URL, out.Host = u, to.field()
	out.Trailer = r.Trailer // filled while the body is read
	ww := &writer{ResponseWriter: w}
	if h.upgrade {
		defer func() {
			if ww.hijacked != nil { // the server has no more part in it
				ww.hijacked.Close()
				close(f.ended)
			}
		}()
		s.proxy.ServeHTTP(&upgradeWriter{writer: ww}, out)
		return
	}
	s.proxy.ServeHTTP(ww, out)
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
}

// refusal is the body of an answer that an agent should be able to make sense of.
type refusal struct {
	Error  string        `json:"error"`
	Rule   string        `json:"rule,omitempty"`
	Reason policy.Reason `json:"reason,omitempty"`
	Host   string        `json:"host"`
	Help   string        `json:"help"`
}

func (f *flow) refuse(w http.ResponseWriter, h *head, to *authority, path string, d policy.Decision, message string) {
	status, ok := statuses[d.Reason]
	if !ok {
		status = http.StatusForbidden
	}
	if to == nil {
		to = &authority{}
	}
	f.gate.Refuse(d, to.name, h.method, path, status, message)
	help := "The network policy of this environment does not allow this request. Retrying will not help; " +
		"ask the operators to permit the host if it is needed."
	if message != "" {
		help = "The gateway refused this request: " + message + "."
	}
	body := encode(refusal{Error: "egress denied", Rule: d.Rule, Reason: d.Reason, Host: to.host(), Help: help})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// unreachable answers for an origin that does not.
func unreachable(r *http.Request, host string) *http.Response {
	body := encode(refusal{
		Error: "destination unreachable", Host: host,
		Help: "The request was permitted, but its destination did not answer. It may be retried.",
	})
	return &http.Response{
		Status: "502 Bad Gateway", StatusCode: http.StatusBadGateway, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
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
