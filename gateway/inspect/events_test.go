package inspect

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// olderServer is a server of HTTP+SSE that answers calls, with a list, on the stream. Its first
// event says where to post.
func olderServer(endpoint string) (http.HandlerFunc, chan<- string) {
	say := make(chan string)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: endpoint\ndata: "+endpoint+"\n\n")
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case s := <-say:
				_, _ = io.WriteString(w, s)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}, say
}

func callTool(t *testing.T, target string, id int, tool string) *http.Request {
	r := post(t, target, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q}}`, id, tool))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// TestOlderTransport refuses calls in sessions of HTTP+SSE. The refusal is told on the stream, between
// two events, and on no other agent's.
func TestOlderTransport(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"search"},{"name":"delete"}]}}`
	agent, other := netip.MustParseAddr("10.20.1.20"), netip.MustParseAddr("10.20.1.21")
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", h2), func(t *testing.T) {
			r := newRig(t)
			r.gate.obligations.MCP = true
			r.source = agent
			handler, say := olderServer("/messages?session=1")
			r.serve(t, r.back.leaf(t, site), true, nil, handler)
			client := r.client(t, h2)
			req, _ := http.NewRequest(http.MethodGet, "https://"+site+"/sse", nil)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			stream := bufio.NewReader(resp.Body)
			next := func() (event string) {
				t.Helper()
				for {
					line, err := stream.ReadString('\n')
					if err != nil {
						t.Fatal(err)
					}
					if line == "\n" {
						return event
					}
					event += line
				}
			}
			if got := next(); got != "event: endpoint\ndata: /messages?session=1\n" {
				t.Fatalf("%q", got)
			}
			say <- "data: " + list + "\n\n"
			if got := next(); strings.Contains(got, "delete") || !strings.Contains(got, "search") {
				t.Errorf("the list is %q", got)
			}
			say <- "data: {\"half\":\n" // an event that is not whole yet
			if status, body, _ := do(t, client, callTool(t, "/messages?session=1", 7, "delete")); status != 202 || body != "" {
				t.Errorf("refused call: %d %q", status, body)
			}
			if got := next(); !strings.HasPrefix(got, `event: message`+"\n"+`data: {"jsonrpc":"2.0","id":7,"error":{"code":-32040,`) {
				t.Errorf("the refusal is %q", got)
			}
			say <- "data: 1}\n\n"
			if got := next(); got != "data: {\"half\":\ndata: 1}\n" {
				t.Errorf("the event around it is %q", got)
			}
			// Elsewhere there is no such session.
			if status, body, _ := do(t, client, callTool(t, "/messages?session=2", 8, "delete")); status != 200 || !strings.Contains(body, `"id":8`) {
				t.Errorf("without a session: %d %q", status, body)
			}
			r.source = other
			if status, body, _ := do(t, r.client(t, h2), callTool(t, "/messages?session=1", 9, "delete")); status != 200 || !strings.Contains(body, `"id":9`) {
				t.Errorf("from another agent: %d %q", status, body)
			}
			// The session ends with its stream.
			resp.Body.Close()
			client.CloseIdleConnections()
			r.source = agent
			client = r.client(t, h2)
			for id := 10; ; id++ {
				status, _, _ := do(t, client, callTool(t, "/messages?session=1", id, "delete"))
				if status == 200 {
					break
				}
				if id > 1000 {
					t.Fatal("the session outlives its stream")
				}
			}
		})
	}
}

// TestUnreadRefusals has a client that does not read its stream: few refusals wait for it.
func TestUnreadRefusals(t *testing.T) {
	s, src := sessions{}, io.NopCloser(strings.NewReader(""))
	r, w := io.Pipe()
	e := &events{PipeReader: r, to: w, src: src, sessions: &s, unsaid: make(chan struct{}, maxUnsaid), ended: make(chan struct{})}
	close(e.ended)
	at := session{name: site, target: "/messages"}
	s.join(e, at)
	for n := range maxUnsaid {
		if !s.say(at, []byte("{}")) {
			t.Fatalf("refusal %d does not wait", n)
		}
	}
	if s.say(at, []byte("{}")) {
		t.Error("one too many waits")
	}
	e.Close()
	for range maxUnsaid {
		e.unsaid <- struct{}{} // all that waited are gone
	}
	if s.join(e, at); s.say(at, []byte("{}")) || len(s.streams) > 0 {
		t.Error("a stream that is closed opens a session")
	}
}

func TestPostedTo(t *testing.T) {
	stream, _ := url.Parse("https://mcp.example:8443/v1/sse?x=1")
	for uri, want := range map[string]string{
		"/messages?session=1":                  "/messages?session=1",
		"messages":                             "/v1/messages",
		"?session=1":                           "/v1/sse?session=1",
		"https://mcp.example:8443/m":           "/m",
		"https://mcp.example/m":                "",
		"http://mcp.example:8443/m":            "",
		"//other.example/m":                    "",
		"/%zz":                                 "",
		"/" + strings.Repeat("x", maxEndpoint): "",
		"javascript:alert(1)":                  "",
	} {
		if got, ok := postedTo(stream, uri); got != want || ok != (want != "") {
			t.Errorf("%.40q: %q, %v", uri, got, ok)
		}
	}
}
