package decrypt

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// tls connects to a name's port 8443 through the gateway.
func (s *scene) tls(t testing.TB, name, proto string) *tls.Conn {
	t.Helper()
	ctx := within(t)
	addrs, err := s.Resolve(ctx, s.agent, name)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.agent.Dial(ctx, "tcp", netip.AddrPortFrom(addrs[0], 8443).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	deadline, _ := ctx.Deadline()
	raw.SetDeadline(deadline)
	c := tls.Client(raw, &tls.Config{ServerName: name, RootCAs: s.Roots(), NextProtos: []string{proto}})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if c.ConnectionState().NegotiatedProtocol != proto {
		t.Fatalf("negotiated %q", c.ConnectionState().NegotiatedProtocol)
	}
	return c
}

// statuses reads the answers on an HTTP/1 connection until it ends.
func statuses(r *bufio.Reader) string {
	var out []string
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return strings.Join(out, " ")
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		out = append(out, fmt.Sprint(resp.StatusCode))
	}
}

// nothingForbidden fails the test if the origin saw what no rule permits, or the attacker anything.
func (s *scene) nothingForbidden(t testing.TB) {
	t.Helper()
	for _, a := range s.origin.all() {
		path, _, _ := strings.Cut(a.uri, "?")
		host, _, _ := strings.Cut(a.host, ":")
		ok := host == a.sni && (a.method == "GET" || a.method == "POST" || a.method == "PUT") && (path == "/ok" || strings.HasPrefix(path, "/ok/") || path == "/mcp")
		if !ok || strings.Contains(path, "..") || strings.Contains(path+"/", "/no/") {
			t.Errorf("arrived: %s %s for %s on a connection for %s", a.method, a.uri, a.host, a.sni)
		}
		for name := range a.header {
			if lower := strings.ReplaceAll(strings.ToLower(name), "_", "-"); strings.Contains(lower, "method-override") || strings.HasPrefix(lower, "x-original-") || strings.HasPrefix(lower, "x-rewrite-") {
				t.Errorf("arrived: %s in a request for %s", name, a.uri)
			}
		}
	}
	if got := s.Sites[lab.Attacker].Visits(); len(got) > 0 {
		t.Errorf("the attacker was visited: %+v", got)
	}
	if err := s.attacker.Flush(within(t), s.Host(lab.Fabric)); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.attacker.Packets() {
		t.Errorf("came to the attacker: %s", p)
	}
}

// TestRequests1 sends requests on HTTP/1.1 that two parsers could read in two ways, or that
// are for another host. Each is followed by a refused request, which shows where the gateway
// thinks that the first ends.
func TestRequests1(t *testing.T) {
	s := shared.open(t)
	const host = "Host: " + apiName + ":8443\r\n"
	const last = "GET /no/last HTTP/1.1\r\n" + host + "\r\n" // refused, which ends the connection
	for i, tc := range []struct{ name, sent, want string }{
		{"good", "GET /ok/@ HTTP/1.1\r\n" + host + "\r\n", "200"},
		{"pipelined", "GET /ok/@ HTTP/1.1\r\n" + host + "\r\nGET /no HTTP/1.1\r\n" + host + "\r\n", "200 403"},
		{"another Host", "GET /ok/@ HTTP/1.1\r\nHost: " + lab.ExfilName + ":8443\r\n\r\n", "421"},
		{"another decrypted Host", "GET /ok/@ HTTP/1.1\r\nHost: " + mcpName + ":8443\r\n\r\n", "421"},
		{"another port", "GET /ok/@ HTTP/1.1\r\nHost: " + apiName + ":443\r\n\r\n", "421"},
		{"no port", "GET /ok/@ HTTP/1.1\r\nHost: " + apiName + "\r\n\r\n", "200"},
		{"absolute form elsewhere", "GET https://" + lab.ExfilName + ":8443/ok/@ HTTP/1.1\r\n" + host + "\r\n", "421"},
		{"absolute form, http", "GET http://" + apiName + ":8443/ok/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form, same", "GET https://" + apiName + ":8443/ok/@ HTTP/1.1\r\n" + host + "\r\n", "200"},
		{"absolute form, refused path", "GET https://" + apiName + ":8443/no/@ HTTP/1.1\r\n" + host + "\r\n", "403"},
		{"CL.TE", "POST /ok/@ HTTP/1.1\r\n" + host + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /no HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"TE.CL", "POST /ok/@ HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGET /no HTTP/1.1\r\n\r\n0\r\n\r\n", "400"},
		{"TE.TE", "POST /ok/@ HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", "400"},
		{"TE in disguise", "POST /ok/@ HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400"},
		{"TE with a space", "POST /ok/@ HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400"},
		{"two lengths", "POST /ok/@ HTTP/1.1\r\n" + host + "Content-Length: 0\r\nContent-Length: 20\r\n\r\nGET /no HTTP/1.1\r\n\r\n", "400"},
		{"a list of lengths", "POST /ok/@ HTTP/1.1\r\n" + host + "Content-Length: 0, 20\r\n\r\nGET /no HTTP/1.1\r\n\r\n", "400"},
		{"two Hosts", "GET /ok/@ HTTP/1.1\r\n" + host + "Host: " + lab.ExfilName + "\r\n\r\n", "400"},
		{"obs-fold", "GET /ok/@ HTTP/1.1\r\n" + host + "X: a\r\n Host: " + lab.ExfilName + "\r\n\r\n", "400"},
		{"bare line feeds", "GET /ok/@ HTTP/1.1\nHost: " + apiName + ":8443\n\n", "400"},
		{"bare carriage return", "GET /ok/@ HTTP/1.1\r\n" + host + "X: a\rHost: " + lab.ExfilName + "\r\n\r\n", "400"},
		{"h2c", "GET /ok/@ HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "400"},
		{"h2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "400"},
		{"CONNECT", "CONNECT " + lab.ExfilName + ":443 HTTP/1.1\r\nHost: " + lab.ExfilName + ":443\r\n\r\n", "400"},
		{"CONNECT to itself", "CONNECT " + apiName + ":8443 HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"method override", "POST /ok/@ HTTP/1.1\r\n" + host + "X-HTTP-Method-Override: DELETE\r\nX_Method_Override: DELETE\r\nX-Original-URL: /no\r\nX-Rewrite-Url: /no\r\nContent-Length: 0\r\n\r\n", "200"},
		{"refused method", "DELETE /ok/@ HTTP/1.1\r\n" + host + "\r\n", "403"},
		{"lower-case method", "get /ok/@ HTTP/1.1\r\n" + host + "\r\n", "403"},
		{"a second slash", "GET //no/@ HTTP/1.1\r\n" + host + "\r\n", "403"},
		{"slashes merged", "GET /ok//@ HTTP/1.1\r\n" + host + "\r\n", "200"},
		{"dots", "GET /ok/../no/@ HTTP/1.1\r\n" + host + "\r\n", "403"},
		{"escaped dots", "GET /ok/%2e%2e/no/@ HTTP/1.1\r\n" + host + "\r\n", "403"},
		{"escaped slash", "GET /ok/..%2fno/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"escaped twice", "GET /ok/%252e%252e/no/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"backslash", "GET /ok/..\\no/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"escaped backslash", "GET /ok/..%5cno/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"semicolon", "GET /ok/..;/no/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"overlong UTF-8", "GET /ok/%c0%ae%c0%ae/no/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"overlong slash", "GET /ok/..%c0%afno/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"NUL", "GET /ok/%00/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"dots and slashes", "GET /ok//../no/@ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"fragment", "GET /ok/@#/../no HTTP/1.1\r\n" + host + "\r\n", "400"},
	} {
		c := s.tls(t, apiName, "http/1.1")
		token := fmt.Sprintf("r1-%dx", i)
		if _, err := io.WriteString(c, strings.ReplaceAll(tc.sent, "@", token)+last); err != nil {
			t.Fatal(err)
		}
		if tc.want == "200" {
			tc.want = "200 403"
		}
		if got := statuses(bufio.NewReader(c)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if arrived := len(s.origin.seen("/ok/" + token)); (arrived == 1) != strings.HasPrefix(tc.want, "200") || arrived > 1 {
			t.Errorf("%s: arrived %d times", tc.name, arrived)
		}
	}
	s.nothingForbidden(t)
}

// frames is a client that writes HTTP/2 frames of its own.
type frames struct {
	*http2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
}

func (s *scene) frames(t testing.TB) *frames {
	t.Helper()
	c := s.tls(t, apiName, "h2")
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := &frames{Framer: http2.NewFramer(c, c)}
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.buf)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return f
}

// block encodes fields, which alternate between names and values.
func (f *frames) block(fields ...string) []byte {
	f.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(f.buf.Bytes())
}

// outcome reads until the stream or connection is over: a status, or "reset".
func (f *frames) outcome(stream uint32) string {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return "reset"
		}
		switch fr := fr.(type) {
		case *http2.MetaHeadersFrame:
			if fr.StreamID == stream {
				return fr.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if fr.StreamID == stream {
				return "reset"
			}
		case *http2.GoAwayFrame:
			if fr.ErrCode != http2.ErrCodeNo {
				return "reset"
			}
		}
	}
}

// TestRequests2 does the same on HTTP/2.
func TestRequests2(t *testing.T) {
	s := shared.open(t)
	get := func(authority, path string, more ...string) []string {
		return append([]string{":method", "GET", ":scheme", "https", ":authority", authority, ":path", path}, more...)
	}
	const self = apiName + ":8443"
	for i, tc := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"good", get(self, "/ok/@"), "200"},
		{"refused path", get(self, "/no/@"), "403"},
		{"another authority", get(lab.ExfilName+":8443", "/ok/@"), "421"},
		{"coalesced", get(mcpName+":8443", "/ok/@"), "421"},
		{"another Host", get(self, "/ok/@", "host", lab.ExfilName), "400"},
		{"absolute path", get(self, "https://"+lab.ExfilName+"/ok/@"), "400"},
		{"two authorities", get(self, "/ok/@", ":authority", lab.ExfilName), "reset"},
		{"two paths", get(self, "/ok/@", ":path", "/no"), "reset"},
		{"Transfer-Encoding", get(self, "/ok/@", "transfer-encoding", "chunked"), "400"},
		{"Upgrade", get(self, "/ok/@", "upgrade", "h2c"), "400"},
		{"request in a value", get(self, "/ok/@", "x", "a\r\n\r\nGET /no HTTP/1.1"), "reset"},
		{"request in a path", get(self, "/ok/@ HTTP/1.1\r\n\r\nGET /no"), "400 reset"},
		{"length without body", get(self, "/ok/@", "content-length", "20"), "400 reset"},
		{"CONNECT", []string{":method", "CONNECT", ":authority", lab.ExfilName + ":443"}, "400"},
		{"CONNECT for a WebSocket", append([]string{":protocol", "websocket", ":method", "CONNECT"}, get(self, "/ok/@")[2:]...), "400 reset"},
		{"escaped dots", get(self, "/ok/%2e%2e/no/@"), "403"},
		{"escaped slash", get(self, "/ok/..%2fno/@"), "400"},
		{"semicolon", get(self, "/ok/..;/no/@"), "400"},
		{"overlong UTF-8", get(self, "/ok/%c0%ae%c0%ae/no/@"), "400"},
		{"method override", get(self, "/ok/@", "x-http-method-override", "DELETE"), "200"},
	} {
		token := fmt.Sprintf("r2-%dx", i)
		for i := range tc.fields {
			tc.fields[i] = strings.ReplaceAll(tc.fields[i], "@", token)
		}
		f := s.frames(t)
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(tc.fields...), EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
		if got := f.outcome(1); !strings.Contains(tc.want, got) {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if arrived := len(s.origin.seen("/ok/" + token)); (arrived == 1) != (tc.want == "200") || arrived > 1 {
			t.Errorf("%s: arrived %d times", tc.name, arrived)
		}
	}
	s.nothingForbidden(t)
}

// TestHugeHeader sends a header of 128 MiB. The gateway must not take more than it has bounds for.
func TestHugeHeader(t *testing.T) {
	s := shared.open(t)
	const huge = 128 << 20
	line := "X-A: " + strings.Repeat("a", 8<<10) + "\r\n"
	t.Run("HTTP/1.1", func(t *testing.T) {
		c := s.tls(t, apiName, "http/1.1")
		fmt.Fprintf(c, "GET /ok/huge HTTP/1.1\r\nHost: %s:8443\r\n", apiName)
		taken, err := 0, error(nil)
		for n := 0; err == nil && taken < huge; taken += n {
			n, err = io.WriteString(c, line)
		}
		// What the sockets' buffers and the server's patience with the rest take is far less.
		if err == nil || taken > huge/8 {
			t.Errorf("%d bytes were taken: %v", taken, err)
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		f := s.frames(t)
		err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true,
			BlockFragment: f.block(":method", "GET", ":scheme", "https", ":authority", apiName+":8443", ":path", "/ok/huge")})
		more := f.block("x-a", strings.Repeat("a", 8<<10))
		taken := 0
		for ; err == nil && taken < huge; taken += len(more) {
			err = f.WriteContinuation(1, false, more)
		}
		if err == nil || taken > huge/8 {
			t.Errorf("%d bytes were taken: %v", taken, err)
		}
	})
	if got := s.origin.seen("/ok/huge"); len(got) > 0 {
		t.Errorf("arrived: %d times", len(got))
	}
	s.alive(t)
}

// TestRapidReset opens streams and resets them at once (CVE-2023-44487). Others are served as before.
func TestRapidReset(t *testing.T) {
	s := shared.open(t)
	for _, path := range []string{"/no/reset", "/ok/reset"} {
		f := s.frames(t)
		go func() { // or our own buffers fill up
			for {
				if _, err := f.ReadFrame(); err != nil {
					return
				}
			}
		}()
		fields := []string{":method", "GET", ":scheme", "https", ":authority", apiName + ":8443", ":path", path}
		for id := uint32(1); id < 40_000; id += 2 {
			if f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block(fields...), EndHeaders: true, EndStream: true}) != nil ||
				f.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
				break // the gateway has had enough
			}
		}
		s.alive(t)
	}
	s.nothingForbidden(t)
}

// alive fails the test if the gateway does not serve another connection.
func (s *scene) alive(t testing.TB) {
	t.Helper()
	if resp, body := do(t, s.client(t, true), ask(t, "GET", s.base()+"/ok/alive", nil)); resp.StatusCode != 200 {
		t.Errorf("afterwards: %s %s", resp.Status, body)
	}
}

// TestCalls hides a call of a tool that is denied from whoever judges it.
func TestCalls(t *testing.T) {
	s := shared.open(t)
	const call = `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%s"}}`
	good, bad := fmt.Sprintf(call, 1, "echo"), fmt.Sprintf(call, 2, "delete_all")
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, bad)
	z.Close()
	s.both(t, func(t *testing.T, c *http.Client, _ string) {
		for _, tc := range []struct {
			name, body, kind, coding string
			status                   int
			refused                  bool
		}{
			{"allowed", good, "", "", 200, false},
			{"denied", bad, "", "", 200, true},
			{"batch of allowed", "[" + good + "," + good + "]", "", "", 200, false},
			{"batch that hides one", "[" + good + "," + bad + "," + good + "]", "", "", 200, true},
			{"look-alike", fmt.Sprintf(call, 3, "еcho"), "", "", 200, true}, // a Cyrillic е
			{"escaped", fmt.Sprintf(call, 3, `\u0065cho`), "", "", 200, false},
			{"full width", fmt.Sprintf(call, 3, "ｅcho"), "", "", 200, true},
			{"zero width", fmt.Sprintf(call, 3, "echo\u200b"), "", "", 200, true},
			{"two names", `{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"echo","name":"delete_all"}}`, "", "", 400, true},
			{"two methods", `{"jsonrpc":"2.0","id":4,"method":"ping","method":"tools/call","params":{"name":"delete_all"}}`, "", "", 400, true},
			{"names in another case", `{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"echo","Name":"delete_all"}}`, "", "", 400, true},
			{"method in another case", `{"jsonrpc":"2.0","id":4,"method":"Tools/Call","params":{"name":"delete_all"}}`, "", "", 200, true},
			{"compressed", zipped.String(), "", "gzip", 400, true},
			{"compressed, unsaid", zipped.String(), "", "", 400, true},
			{"another type", bad, "text/plain", "", 400, true},
			{"UTF-16", "\xff\xfe" + bad, "application/json; charset=utf-16", "", 400, true},
			{"two documents", good + bad, "", "", 400, true},
			{"no JSON", "delete_all()", "", "", 400, true},
		} {
			before := len(s.origin.seen("/mcp"))
			r := ask(t, "POST", "https://"+mcpName+":8443/mcp", io.MultiReader(strings.NewReader(tc.body)))
			r.Header.Set("Content-Type", "application/json")
			if tc.kind != "" {
				r.Header.Set("Content-Type", tc.kind)
			}
			if tc.coding != "" {
				r.Header.Set("Content-Encoding", tc.coding)
			}
			resp, body := do(t, c, r)
			if resp.StatusCode != tc.status || strings.Contains(body, "egress denied") != tc.refused {
				t.Errorf("%s: %s %s", tc.name, resp.Status, body)
			}
			if arrived := len(s.origin.seen("/mcp")) - before; (arrived == 0) != tc.refused {
				t.Errorf("%s: arrived %d times", tc.name, arrived)
			}
		}
	})
	s.nothingForbidden(t)
}
