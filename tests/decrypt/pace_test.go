package decrypt

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

const (
	pacedPort = 8449
	// large is more than all buffers between two ends hold together; held is more than they do: two
	// connections with up to 10 MiB in each kernel (tcp(7), tcp_rmem and tcp_wmem), and the windows of HTTP/2.
	large, held = 128 << 20, 40 << 20
	// grown is what the gateway's memory may grow by while some bodies are stuck in it.
	grown = 64 << 20
)

// paced is an origin that tells how far it is with bodies that do not come or go.
type paced struct {
	sent    atomic.Int64  // bytes that left it
	ended   chan struct{} // an answer did
	begun   chan struct{} // an upload did
	release chan struct{} // lets them go on
}

func (o *paced) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ok/large":
		defer func() { o.ended <- struct{}{} }()
		for block := make([]byte, 64<<10); ; {
			n, err := w.Write(block)
			if o.sent.Add(int64(n)); err != nil {
				return
			}
		}
	case "/ok/upload":
		first, _ := io.ReadFull(r.Body, make([]byte, 1))
		o.begun <- struct{}{}
		select {
		case <-o.release:
		case <-r.Context().Done():
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintln(w, int64(first)+n, err)
	default:
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	}
}

// pace brings such an origin up and returns its address.
func (s *scene) pace(t *testing.T) (*paced, string) {
	t.Helper()
	o := &paced{ended: make(chan struct{}, 16), begun: make(chan struct{}, 16), release: make(chan struct{})}
	stop, err := mount(s.Host(lab.Internet), fmt.Sprintf(":%d", pacedPort), s.CA.ServerConfig(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	return o, fmt.Sprintf("https://%s:%d", apiName, pacedPort)
}

var rss = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// memory is what the gateway has resident.
func (s *scene) memory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Process.PID()))
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(string(rss.FindSubmatch(status)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// exchanges are requests that must be answered although others are stuck.
func exchanges(t *testing.T, c *http.Client, base string, between func()) {
	t.Helper()
	for i := range 30 {
		body := bytes.Repeat([]byte{byte(i)}, 256<<10)
		if resp, got := do(t, c, ask(t, "POST", base+"/ok/quick", bytes.NewReader(body))); resp.StatusCode != 200 || got != string(body) {
			t.Fatalf("request %d beside what is stuck: %s, %d bytes", i, resp.Status, len(got))
		}
		between()
	}
}

// await waits for n signals.
func await(t *testing.T, what string, n int, c <-chan struct{}) {
	t.Helper()
	ctx := within(t)
	for range n {
		select {
		case <-c:
		case <-ctx.Done():
			t.Fatal(what)
		}
	}
}

// TestSlowReaders asks for endless answers and takes a byte of each now and then. The origin is held back
// meanwhile, nothing piles up in the gateway, and other requests are answered: on HTTP/2, on the same connection.
// When the readers are gone the origin's side ends too. As long as they are there nothing ends it but a reload:
// transfers have no deadline, and only a peer that has kept its window shut for five minutes is given up
// (gateway/enforcer, userTimeout), which this does not wait for.
func TestSlowReaders(t *testing.T) {
	s := shared.open(t)
	s.both(t, func(t *testing.T, c *http.Client, proto string) {
		o, base := s.pace(t)
		const readers = 4
		before := s.memory(t)
		var slow []io.ReadCloser
		sip := func() {
			for _, body := range slow {
				if _, err := io.ReadFull(body, make([]byte, 1)); err != nil {
					t.Fatalf("a slow reader's answer: %v", err)
				}
			}
		}
		for range readers {
			resp, err := c.Do(ask(t, "GET", base+"/ok/large", nil))
			if err != nil || resp.Proto != proto {
				t.Fatal(err, resp)
			}
			slow = append(slow, resp.Body)
		}
		exchanges(t, c, base, sip)
		if got := o.sent.Load(); got > readers*held {
			t.Errorf("the origin was not held back: it sent %d MiB to %d readers that have not taken a hundred bytes", got>>20, readers)
		}
		if got := s.memory(t) - before; got > grown {
			t.Errorf("the gateway grew by %d MiB", got>>20)
		}
		for _, body := range slow {
			body.Close()
		}
		await(t, "the origin's side does not end with the reader", readers, o.ended)
	})
}

// taken counts what is read of an upload.
type taken struct {
	io.Reader
	n *atomic.Int64
}

func (b taken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// TestSlowOrigin uploads to an origin that stops reading after a byte, until it is told to go on.
func TestSlowOrigin(t *testing.T) {
	s := shared.open(t)
	s.both(t, func(t *testing.T, c *http.Client, _ string) {
		o, base := s.pace(t)
		const uploads = 2
		before := s.memory(t)
		var sent atomic.Int64
		var wg sync.WaitGroup
		defer wg.Wait()
		for range uploads {
			wg.Go(func() {
				body := taken{io.LimitReader(zeros{}, large), &sent}
				resp, err := c.Do(ask(t, "POST", base+"/ok/upload", body))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if got, err := io.ReadAll(resp.Body); err != nil || string(got) != fmt.Sprintln(large, nil) {
					t.Errorf("the origin got %q, %v", got, err)
				}
			})
		}
		await(t, "the uploads do not begin", uploads, o.begun)
		exchanges(t, c, base, func() {})
		if got := sent.Load(); got > uploads*held {
			t.Errorf("the client was not held back: it sent %d MiB to an origin that has taken %d bytes", got>>20, uploads)
		}
		if got := s.memory(t) - before; got > grown {
			t.Errorf("the gateway grew by %d MiB", got>>20)
		}
		close(o.release)
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestThousandStreams has a thousand requests under way at once, on connections of 250 streams each: the origin
// answers none before it has all. Each gets its own answer.
func TestThousandStreams(t *testing.T) {
	s := shared.open(t)
	const conns, each = 4, 250
	var arrived atomic.Int64
	all := make(chan struct{})
	stop, err := mount(s.Host(lab.Internet), fmt.Sprintf(":%d", pacedPort), s.CA.ServerConfig(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/ok/first" {
			if arrived.Add(1) == conns*each {
				close(all)
			}
			select {
			case <-all:
			case <-r.Context().Done():
				return
			}
		}
		fmt.Fprint(w, r.URL.RawQuery, strings.Repeat(string(body), 1000))
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	base := fmt.Sprintf("https://%s:%d", apiName, pacedPort)
	var wg sync.WaitGroup
	for conn := range conns {
		c := s.client(t, true)
		if resp, _ := do(t, c, ask(t, "GET", base+"/ok/first", nil)); resp.Proto != "HTTP/2.0" { // its connection is there for the others
			t.Fatal(resp.Proto)
		}
		for stream := range each {
			wg.Go(func() {
				id := fmt.Sprintf("%d-%d", conn, stream)
				resp, err := c.Do(ask(t, "POST", base+"/ok/stream?"+id, strings.NewReader(id+" ")))
				if err != nil {
					t.Errorf("%s: %v, with %d at the origin", id, err, arrived.Load())
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if want := id + strings.Repeat(id+" ", 1000); err != nil || resp.StatusCode != 200 || string(got) != want {
					t.Errorf("%s: %s, %d bytes, beginning %.20q: %v", id, resp.Status, len(got), got, err)
				}
			})
		}
	}
	wg.Wait()
	if n := arrived.Load(); n != conns*each {
		t.Errorf("%d requests arrived", n)
	}
}
