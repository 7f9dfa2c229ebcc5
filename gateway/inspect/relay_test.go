package inspect

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestStreamIsFlushed(t *testing.T) {
	release := make(chan struct{})
	o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		w.(http.Flusher).Flush()
		<-release
		_, _ = io.WriteString(w, "second")
	}))
	defer o.Close()
	g := newGate(t)
	g.origin = o.Listener.Addr().String()
	c := start(t, g)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "first" {
		t.Fatalf("%q %v", buf, err) // would block until the deadline, were it held back
	}
	close(release)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "second" {
		t.Fatalf("%q %v", rest, err)
	}
}

func TestWebSocket(t *testing.T) {
	o, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	go func() {
		c, err := o.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, br)
	}()
	g := newGate(t)
	g.origin = o.Addr().String()
	c := start(t, g)
	_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n\x81\x01a")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	_, _ = io.WriteString(c, "\x81\x01\nb")
	got := make([]byte, 7)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "\x81\x01a\x81\x01\nb" {
		t.Fatalf("%q %v", got, err)
	}
}

// An origin that declines the upgrade ends the connection: what the client sent behind
// it must not be taken for requests.
func TestDeclinedUpgrade(t *testing.T) {
	g := newGate(t)
	c := start(t, g)
	br := bufio.NewReader(c)
	status, _ := roundTrip(t, c, br, "GET /ws HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
	if status != 200 {
		t.Fatal(status)
	}
	if rest, _ := io.ReadAll(br); len(rest) != 0 {
		t.Fatalf("answered again: %q", rest)
	}
	for _, e := range g.log() {
		if e.name == "evil.example" {
			t.Errorf("judged %+v", e)
		}
	}
}

func TestUnreachable(t *testing.T) {
	g := newGate(t)
	g.origin = "127.0.0.1:1"
	c := start(t, g)
	status, body := roundTrip(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")
	if status != 502 || !strings.Contains(body, "destination unreachable") {
		t.Fatal(status, body)
	}
}

func TestExpectContinue(t *testing.T) {
	c := start(t, newGate(t))
	br := bufio.NewReader(c)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	if line, err := br.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatal(line, err)
	}
	if line, err := br.ReadString('\n'); err != nil || line != "\r\n" {
		t.Fatal(line, err)
	}
	if status, body := roundTrip(t, c, br, "abc"); status != 200 || body != `POST good.example / "abc"` {
		t.Fatal(status, body)
	}
}

func TestTrailersPass(t *testing.T) {
	o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("Sum", r.Trailer.Get("Checksum"))
	}))
	defer o.Close()
	g := newGate(t)
	g.origin = o.Listener.Addr().String()
	c := start(t, g)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: good.example\r\nTrailer: Checksum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nChecksum: 42\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil || resp.Trailer.Get("Sum") != "42" {
		t.Fatal(resp.Trailer, err)
	}
}

// A large body passes both ways, and the framing is followed all along.
func TestLargeBodies(t *testing.T) {
	g := newGate(t)
	c := start(t, g)
	br := bufio.NewReader(c)
	big := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	for _, raw := range []string{
		fmt.Sprintf("POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: %d\r\n\r\n%s", len(big), big),
		fmt.Sprintf("POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(big), big),
	} {
		if status, body := roundTrip(t, c, br, raw); status != 200 || !strings.Contains(body, big) {
			t.Fatal(status, len(body))
		}
	}
}
