package attacks

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// request is the event of a refused request.
func request(dst netip.AddrPort, host, rule string, reason policy.Reason, stage policy.Stage) event {
	return event{class: audit.HTTPActivity, dst: dst, host: host, rule: rule, reason: reason, stage: stage}
}

// TestHTTP sends requests in clear for hosts that are not the address's, or that two
// parsers could read in two ways.
func TestHTTP(t *testing.T) {
	s := shared.open(t)
	const get = "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
	for _, tc := range []struct {
		name string
		// request with the permitted name in place of %[1]s and the attacker's of %[2]s
		sent   string
		code   int
		host   string // in the audit; "name" is the permitted one
		rule   string
		reason policy.Reason
		stage  policy.Stage
	}{
		{"forbidden Host", "GET / HTTP/1.1\r\nHost: %[2]s\r\n\r\n", 403, lab.ExfilName, byInternet, policy.ReasonRule, policy.StageName},
		{"Host is an address", "GET / HTTP/1.1\r\nHost: 45.146.10.66\r\n\r\n", 403, "", byInternet, policy.ReasonNoName, policy.StageName},
		{"no Host", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"no Host, HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: %[1]s\r\nHost: %[2]s\r\n\r\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"two hosts in one Host", "GET / HTTP/1.1\r\nHost: %[1]s, %[2]s\r\n\r\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"space before the colon", "GET / HTTP/1.1\r\nHost : %[2]s\r\nHost: %[1]s\r\n\r\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"folded Host", "GET / HTTP/1.1\r\nHost: %[1]s\r\n %[2]s\r\n\r\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"bare line feed", "GET / HTTP/1.1\nHost: %[1]s\n\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"absolute form, other host", "GET http://%[2]s/ HTTP/1.1\r\nHost: %[1]s\r\n\r\n", 421, "name", policy.RuleInvariant, policy.ReasonAuthorityMismatch, policy.StageRequest},
		{"absolute form, forbidden Host", "GET http://%[1]s/ HTTP/1.1\r\nHost: %[2]s\r\n\r\n", 421, lab.ExfilName, policy.RuleInvariant, policy.ReasonAuthorityMismatch, policy.StageRequest},
		{"absolute form, user info", "GET http://%[1]s@%[2]s/ HTTP/1.1\r\nHost: %[1]s\r\n\r\n", 400, "name", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"absolute form, https", "GET https://%[1]s/ HTTP/1.1\r\nHost: %[1]s\r\n\r\n", 400, "name", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"another port", "GET / HTTP/1.1\r\nHost: %[1]s:8443\r\n\r\n", 421, "name", policy.RuleInvariant, policy.ReasonAuthorityMismatch, policy.StageRequest},
		{"CONNECT", "CONNECT %[2]s:443 HTTP/1.1\r\nHost: %[2]s:443\r\n\r\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"CONNECT to the permitted name", "CONNECT %[1]s:80 HTTP/1.1\r\nHost: %[1]s\r\n\r\n", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"upgrade to HTTP/2", "GET / HTTP/1.1\r\nHost: %[1]s\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
			400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"two lengths", "POST / HTTP/1.1\r\nHost: %[1]s\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello", 400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
		{"length and chunks", "POST / HTTP/1.1\r\nHost: %[1]s\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: %[2]s\r\n\r\n",
			400, "", policy.RuleInvariant, policy.ReasonBadRequest, policy.StageRequest},
	} {
		x := s.target(t)
		s.resolve(t, s.invoice, x.name)
		host := tc.host
		if host == "name" {
			host = x.name
		}
		sent := fmt.Sprintf(tc.sent+"%.0[1]s%.0[2]s", x.name, lab.ExfilName)
		s.play(t, bypass{name: tc.name,
			try:  func(t *testing.T) sight { return plain(t, s.invoice, x.http(), sent) },
			want: status(tc.code), event: request(x.http(), host, tc.rule, tc.reason, tc.stage),
			permits: []netip.AddrPort{x.http()},
			twin:    func(t *testing.T) sight { return plain(t, s.invoice, x.http(), fmt.Sprintf(get, x.name)) }})
	}
}

// TestKeepAlive uses a connection that was opened with a permitted request for another one.
func TestKeepAlive(t *testing.T) {
	s := shared.open(t)
	const get = "GET / HTTP/1.1\r\nHost: %s\r\n\r\n"
	// second sends two requests on a connection, one after the other or, in a
	// pipeline, at once, and tells what became of the second.
	second := func(t *testing.T, x target, host string, pipeline bool) sight {
		conn, err := dial(t, s.invoice, "tcp", x.http())
		if err != nil {
			return failed(err)
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		one, two := fmt.Sprintf(get, x.name), fmt.Sprintf(get, host)
		if pipeline {
			one, two = one+two, ""
		}
		io.WriteString(conn, one)
		if got := answer(r); got.what != reached {
			t.Errorf("the first request saw %q (%s)", got.what, got.detail)
		}
		io.WriteString(conn, two)
		return answer(r)
	}
	for _, tc := range []struct {
		name     string
		pipeline bool
	}{{"next request", false}, {"pipelined request", true}} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := s.target(t), s.target(t)
			s.resolve(t, s.invoice, a.name)
			s.resolve(t, s.invoice, b.name)
			s.permit(policy.TCP, a.http()) // the first request is
			for _, host := range []string{"next." + lab.ExfilName, b.name} {
				s.play(t, bypass{name: "for " + host,
					try:  func(t *testing.T) sight { return second(t, a, host, tc.pipeline) },
					want: status(421), event: request(a.http(), host, policy.RuleInvariant, policy.ReasonAuthorityMismatch, policy.StageRequest),
					twin: func(t *testing.T) sight { return second(t, a, a.name, tc.pipeline) }})
			}
			for _, v := range s.Sites[lab.Internet].Visits() {
				if v.To.Addr() == a.addr && v.Host != a.name {
					t.Errorf("the origin was sent a request for %s", v.Host)
				}
			}
		})
	}
}
