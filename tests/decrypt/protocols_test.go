package decrypt

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// client is Go's own on the agent's host, with one version of HTTP.
func (s *scene) client(t testing.TB, http2 bool) *http.Client {
	tr := &http.Transport{DialContext: s.DialNameFrom(s.agent), TLSClientConfig: &tls.Config{RootCAs: s.Roots()},
		Protocols: &http.Protocols{}, ExpectContinueTimeout: patience}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetHTTP2(http2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// both runs a test with HTTP/1.1 and HTTP/2.
func (s *scene) both(t *testing.T, test func(t *testing.T, c *http.Client, proto string)) {
	for proto, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		t.Run(proto, func(t *testing.T) { test(t, s.client(t, http2), proto) })
	}
}

func do(t testing.TB, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func ask(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestGo asks with net/http; one connection carries permitted and refused requests on HTTP/2.
func TestGo(t *testing.T) {
	s := shared.open(t)
	s.both(t, func(t *testing.T, c *http.Client, proto string) {
		for range 2 {
			resp, body := do(t, c, ask(t, "POST", s.base()+"/ok/go?q=1", strings.NewReader("x")))
			if resp.StatusCode != 200 || resp.Proto != proto || body != proto+" POST /ok/go?q=1\n" {
				t.Errorf("%s %s: %s", resp.Proto, resp.Status, body)
			}
			if resp, body := do(t, c, ask(t, "GET", s.base()+"/no/go", nil)); resp.StatusCode != 403 {
				t.Errorf("%s: %s", resp.Status, body)
			}
			if resp, body := do(t, c, ask(t, "DELETE", s.base()+"/ok/method", nil)); resp.StatusCode != 403 {
				t.Errorf("%s: %s", resp.Status, body)
			}
		}
		s.judged(t, "/ok/go", "/no/")
		s.judged(t, "/ok/go", "/ok/method")
	})
}

// TestEvents has each event wait until the one before has been read: nothing may be held back.
func TestEvents(t *testing.T) {
	s := shared.open(t)
	s.both(t, func(t *testing.T, c *http.Client, _ string) {
		resp, err := c.Do(ask(t, "GET", s.base()+"/ok/events", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewScanner(resp.Body)
		for i := range 3 {
			if !r.Scan() || r.Text() != "data: token" || !r.Scan() {
				t.Fatalf("event %d: %q %v", i, r.Text(), r.Err())
			}
			select {
			case s.origin.next <- struct{}{}:
			case <-within(t).Done():
				t.Fatal("the origin does not wait")
			}
		}
	})
}

// TestExpect holds a body back until the other side asks for it.
func TestExpect(t *testing.T) {
	s := shared.open(t)
	for _, tc := range []struct {
		path   string
		status int
	}{{"/ok/echo", 200}, {"/no/echo", 403}} {
		asked := false
		r := ask(t, "POST", s.base()+tc.path, strings.NewReader("body"))
		r.Header.Set("Expect", "100-continue")
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { asked = asked || code == 100; return nil },
		}))
		resp, body := do(t, s.client(t, false), r)
		if permitted := tc.status == 200; resp.StatusCode != tc.status || asked != permitted || permitted && body != "body" {
			t.Errorf("%s: %s, asked for the body: %v, %q", tc.path, resp.Status, asked, body)
		}
	}
}

func TestTrailers(t *testing.T) {
	s := shared.open(t)
	s.both(t, func(t *testing.T, c *http.Client, _ string) {
		r := ask(t, "POST", s.base()+"/ok/trailers", io.MultiReader(strings.NewReader("body")))
		r.Trailer = http.Header{"X-Client-Sum": {"4711"}}
		resp, body := do(t, c, r)
		if resp.StatusCode != 200 || body != "body" || resp.Trailer.Get("X-Sum") != "4711" {
			t.Errorf("%s %q, trailer %v", resp.Status, body, resp.Trailer)
		}
	})
}

// TestLargeBody sends 64 MiB there and back at once.
func TestLargeBody(t *testing.T) {
	s := shared.open(t)
	const size = 64 << 20
	s.both(t, func(t *testing.T, c *http.Client, _ string) {
		there, back := sha256.New(), sha256.New()
		body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), there)
		resp, err := c.Do(ask(t, "POST", s.base()+"/ok/echo", body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.Copy(back, resp.Body)
		if err != nil || n != size || !bytes.Equal(there.Sum(nil), back.Sum(nil)) {
			t.Errorf("%d bytes came back: %v", n, err)
		}
	})
}

// TestWebSocket sends messages of all frame lengths, and a path that is refused.
func TestWebSocket(t *testing.T) {
	s := shared.open(t)
	ctx := within(t)
	opt := &websocket.DialOptions{HTTPClient: s.client(t, false)}
	c, _, err := websocket.Dial(ctx, s.base()+"/ok/ws", opt)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for _, size := range []int{0, 1, 125, 126, 1 << 16, 16 << 20} {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		// In the background: the other end answers before it has read all.
		errs := make(chan error, 1)
		go func() {
			w, err := c.Writer(ctx, websocket.MessageBinary) // every Write is a fragment
			for at := 0; err == nil && at < size; at += 1 << 20 {
				_, err = w.Write(sent[at:min(at+1<<20, size)])
			}
			if err == nil {
				err = w.Close()
			}
			errs <- err
		}()
		_, got, err := c.Read(ctx)
		if err := <-errs; err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes: %d came back: %v", size, len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	if _, resp, err := websocket.Dial(ctx, s.base()+"/no/ws", opt); err == nil || resp == nil || resp.StatusCode != 403 {
		t.Errorf("refused: %v", err)
	}
	s.judged(t, "/ok/ws", "/no/ws")
}
