package feeds

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// publisher is a feed's server, and a fetcher that finds it at a public address.
type publisher struct {
	*Fetcher
	clock  time.Time
	addrs  []netip.Addr // that example.com has
	dialed []netip.AddrPort
	asked  atomic.Int32
}

var example = policy.Feed{Name: "ipsum", Format: Netset, URL: "https://example.com/list?key=secret"}

func publish(t *testing.T, answer http.HandlerFunc) *publisher {
	t.Helper()
	p := &publisher{clock: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), addrs: []netip.Addr{netip.MustParseAddr("20.60.8.1")}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		answer(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	p.Fetcher = NewFetcher(filepath.Join(t.TempDir(), "feeds"), func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "example.com" {
			return nil, errors.New("no such host: " + host)
		}
		return p.addrs, nil
	})
	p.roots = x509.NewCertPool()
	p.roots.AddCert(server.Certificate())
	p.now = func() time.Time { return p.clock }
	p.dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		p.dialed = append(p.dialed, to)
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}
	return p
}

// list is n addresses that do not merge.
func list(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, address(0x2d000000+uint32(i)*2))
	}
	return b.String()
}

func (p *publisher) loaded(t *testing.T) policy.FeedData {
	t.Helper()
	doc := &policy.Document{ThreatGroups: []policy.ThreatGroup{{Name: "bad", Feeds: []policy.Feed{example}}}}
	data, _, err := Load(doc, Options{Dir: p.dir})
	if err != nil {
		t.Fatal(err)
	}
	return data.Feeds[example.Name]
}

// TestFetchConditional: an unchanged feed is not sent again, and is then as current as one that was.
func TestFetchConditional(t *testing.T) {
	body := "\ufeff45.0.0.1\n45.0.0.3\n"
	for name, conditional := range map[string]func(w http.ResponseWriter, r *http.Request){
		"ETag": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `W/"<1>&"`)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
		},
		"Last-Modified": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Unix(1e9, 0), strings.NewReader(body))
		},
		"neither": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, body) },
	} {
		t.Run(name, func(t *testing.T) {
			status := 0
			p := publish(t, func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				w.Header().Set("Content-Type", "text/plain")
				conditional(rec, r)
				status = rec.Code
				for k, v := range rec.Header() {
					w.Header()[k] = v
				}
				w.Header().Set("Content-Type", "text/plain")
				w.WriteHeader(rec.Code)
				w.Write(rec.Body.Bytes())
			})
			if changed, err := p.Fetch(t.Context(), example); err != nil || !changed {
				t.Fatal(changed, err)
			}
			if got := p.loaded(t); fmt.Sprint(got.Prefixes) != "[45.0.0.1/32 45.0.0.3/32]" {
				t.Errorf("%v", got)
			}
			p.clock = p.clock.Add(time.Hour)
			if changed, err := p.Fetch(t.Context(), example); err != nil || changed {
				t.Fatal(changed, err)
			}
			if want := map[bool]int{true: 200, false: 304}[name == "neither"]; status != want {
				t.Errorf("asked again, it answered %d, want %d", status, want)
			}
			kept, err := p.Kept(example)
			if err != nil || !kept.Current.Equal(p.clock) || kept.Fetched.Equal(p.clock) || kept.Entries != 2 {
				t.Errorf("%+v, %v", kept, err)
			}
			// Under another URL it is another feed, and its data is used until that answers.
			other := example
			other.URL += "&v=2"
			if kept, err := p.Kept(other); err != nil || kept.usable || kept.Entries != 2 {
				t.Errorf("under another URL: %+v, %v", kept, err)
			}
			text, err := os.ReadFile(p.path(example))
			if err != nil || bytes.Contains(text, []byte("secret")) {
				t.Errorf("the key in the URL is kept: %q, %v", text, err)
			}
		})
	}
}

// TestFetchRefused: whatever a feed's server does, the data that is there stays, and the file with it.
func TestFetchRefused(t *testing.T) {
	bomb := func() []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		for range 20 {
			z.Write(make([]byte, 1<<20))
		}
		z.Close()
		return b.Bytes()
	}()
	endless := []byte(strings.Repeat("45.0.0.1\n", 1<<16))
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"error page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, "45.0.0.1\n")
		}, "HTML page"},
		{"HTML that does not say so", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, "\n<html>")
		}, "HTML or XML page"},
		{"JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"error": "quota"}`) }, "lines are not netset"},
		{"nothing", func(http.ResponseWriter, *http.Request) {}, "holds no entries"},
		{"not found", http.NotFound, "answers 404"},
		{"unasked 304 for another", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206) }, "answers 206"},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write(endless)
			}
		}, "longer than 64 MiB"},
		{"says that it is long", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999999") }, "longer than 64 MiB"},
		{"cut short", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "45.0.0.1\n")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "its body"},
		{"long line", func(w http.ResponseWriter, _ *http.Request) { w.Write(bytes.Repeat([]byte("4"), 1<<20)) }, "a line is longer"},
		{"long header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, "header"},
		{"compression bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb)
		}, "compresses it"},
		{"compression bomb that does not say so", func(w http.ResponseWriter, _ *http.Request) { w.Write(bomb) }, "longer than 4096 bytes"},
		{"the whole Internet", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "0.0.0.0/0\n") }, "holds no entries"},
		{"the whole Internet in parts", func(w http.ResponseWriter, _ *http.Request) {
			for i := 1; i < 224; i++ {
				fmt.Fprintf(w, "%d.0.0.0/8\n", i)
			}
		}, "an eighth of all addresses"},
		{"much of the Internet", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list(200), "8.0.0.0/8\n") }, "it grew from 200 addresses"},
		{"shrunk", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list(99)) }, "it shrank from 200 entries to 99"},
		{"grown", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list(2001)) }, "it grew from 200 entries"},
		{"redirect to metadata", redirect("http://169.254.169.254/metadata/instance"), "redirects to http://169.254.169.254"},
		{"redirect to metadata, over https", redirect("https://169.254.169.254/metadata/instance"), "redirects to https://169.254.169.254"},
		{"redirect to http", redirect("http://example.com/list"), "redirects to http://example.com"},
		{"redirect to another host", redirect("https://evil.example/list"), "redirects to https://evil.example"},
		{"redirect to another port", redirect("https://example.com:9180/list"), "redirects to https://example.com:9180"},
		{"redirect to a file", redirect("file:///etc/shadow"), "redirects to file:"},
		{"redirects without end", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, "more than 3 times"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attack := false
			p := publish(t, func(w http.ResponseWriter, r *http.Request) {
				if !attack {
					fmt.Fprint(w, list(200))
					return
				}
				tt.answer(w, r)
			})
			if _, err := p.Fetch(t.Context(), example); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(p.path(example))
			if err != nil {
				t.Fatal(err)
			}
			attack = true
			p.clock = p.clock.Add(time.Hour)
			changed, err := p.Fetch(t.Context(), example)
			if err == nil || changed || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v, %v; want %q", changed, err, tt.want)
			}
			after, err := os.ReadFile(p.path(example))
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("what was kept is no more: %v", err)
			}
			if kept, _ := p.Kept(example); kept.Current.Equal(p.clock) || !kept.usable {
				t.Errorf("what is kept is said to be current: %+v", kept)
			}
			if left, _ := filepath.Glob(filepath.Join(p.dir, drafts+"*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if n := p.asked.Load(); n > 2+maxHops {
				t.Errorf("asked %d times", n)
			}
			for _, to := range p.dialed {
				if to != netip.MustParseAddrPort("20.60.8.1:443") {
					t.Errorf("dialled %s", to)
				}
			}
		})
	}
}

// TestFetchDamaged: what is kept and was damaged is asked for whole, and a server that will not send it confirms nothing.
func TestFetchDamaged(t *testing.T) {
	modified := true
	p := publish(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if !modified || r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, list(200))
	})
	if _, err := p.Fetch(t.Context(), example); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(p.path(example))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path(example), whole[:len(whole)-20], 0o640); err != nil {
		t.Fatal(err)
	}
	modified = false
	if changed, err := p.Fetch(t.Context(), example); err == nil || changed {
		t.Errorf("confirmed what is damaged: %v, %v", changed, err)
	}
	modified = true
	if changed, err := p.Fetch(t.Context(), example); err != nil || !changed {
		t.Errorf("not fetched anew: %v, %v", changed, err)
	}
	if again, err := os.ReadFile(p.path(example)); err != nil || !bytes.Equal(again, whole) {
		t.Errorf("still damaged: %v", err)
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusMovedPermanently) }
}

// TestFetchSlow: a body that drips is given up, whenever the caller's time or the fetcher's is over.
func TestFetchSlow(t *testing.T) {
	dripping := make(chan struct{})
	p := publish(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "45.0.0.1\n")
		w.(http.Flusher).Flush()
		close(dripping)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-dripping; cancel() }()
	if _, err := p.Fetch(ctx, example); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if kept, err := p.Kept(example); err != nil || kept.Entries != 0 {
		t.Errorf("%+v, %v", kept, err)
	}
}

// TestFetchRedirect: within its host a feed may move.
func TestFetchRedirect(t *testing.T) {
	p := publish(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/list" {
			http.Redirect(w, r, "https://EXAMPLE.com:443/new", http.StatusMovedPermanently)
			return
		}
		if r.Referer() != "" {
			t.Errorf("the URL, with its key, was given away: %s", r.Referer())
		}
		fmt.Fprint(w, list(3))
	})
	if _, err := p.Fetch(t.Context(), example); err != nil {
		t.Error(err)
	}
}

// TestFetchFromInside: a name that leads to our side of the Internet is not asked, and one of two addresses that does not is.
func TestFetchFromInside(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "10.20.0.4", "169.254.169.254", "168.63.129.16", "100.64.0.1", "192.168.1.1", "172.16.0.1", "0.0.0.0",
		"224.0.0.1", "255.255.255.255", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "fd00::1", "64:ff9b::a9fe:a9fe", "2001:db8::1"} {
		p := publish(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list(3)) })
		p.addrs = []netip.Addr{netip.MustParseAddr(addr)}
		if _, err := p.Fetch(t.Context(), example); err == nil || !strings.Contains(err.Error(), "not on the Internet") || len(p.dialed) > 0 {
			t.Errorf("%s: %v, dialled %v", addr, err, p.dialed)
		}
		p.addrs = append(p.addrs, netip.MustParseAddr("20.60.8.1"))
		if _, err := p.Fetch(t.Context(), example); err != nil || len(p.dialed) != 1 {
			t.Errorf("%s beside another: %v, dialled %v", addr, err, p.dialed)
		}
	}
}

func TestHost(t *testing.T) {
	for url, want := range map[string]string{
		"https://Example.com/x": "example.com", "https://example.com:443/x": "example.com", "https://example.com./x": "example.com",
		"http://example.com/x": "", "https://example.com:8443/x": "", "https://10.0.0.1/x": "", "https://[::1]/x": "", "https://0x7f000001/x": "",
		"https://2130706433/": "", "https://user:p@example.com/": "", "file:///x": "", "https:///x": "", "%": "", "https://exa mple.com/": "",
	} {
		if got := Host(url); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}

// TestOddIsTakenInTime: what shrank and stays so is what its publisher means.
func TestOddIsTakenInTime(t *testing.T) {
	n := 200
	p := publish(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list(n)) })
	if _, err := p.Fetch(t.Context(), example); err != nil {
		t.Fatal(err)
	}
	n = 10
	p.clock = p.clock.Add(patience - time.Second)
	if _, err := p.Fetch(t.Context(), example); err == nil {
		t.Error("taken at once")
	}
	p.clock = p.clock.Add(time.Second)
	if changed, err := p.Fetch(t.Context(), example); err != nil || !changed || len(p.loaded(t).Prefixes) != 10 {
		t.Error(changed, err)
	}
	n = 3 // of ten, that is a list that comes and goes
	if changed, err := p.Fetch(t.Context(), example); err != nil || !changed {
		t.Error(changed, err)
	}
}

// TestRestartWhileAway: a gateway that starts while the server is away begins with what it had.
func TestRestartWhileAway(t *testing.T) {
	p := publish(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list(200)) })
	if _, err := p.Fetch(t.Context(), example); err != nil {
		t.Fatal(err)
	}
	again := NewFetcher(p.dir, func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("the resolver is away") })
	p.Fetcher = again
	if _, err := p.Fetch(t.Context(), example); err == nil || !strings.Contains(err.Error(), "the resolver is away") {
		t.Error(err)
	}
	if n := len(p.loaded(t).Prefixes); n != 200 {
		t.Errorf("%d prefixes", n)
	}
	s := NewKeeper(KeeperOptions{Fetcher: again}).describe(example)
	if s.Entries != 200 || s.Current.IsZero() || s.From != "https://example.com/list" {
		t.Errorf("%+v", s)
	}
}

// TestDamaged: a kept file that is not what was written is asked for whole, and replaced.
func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"bytes changed": func(b []byte) []byte { return bytes.Replace(b, []byte("45.0.0.2"), []byte("45.9.9.9"), 1) },
		"cut":           func(b []byte) []byte { return b[:len(b)/2] },
		"no line":       func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] },
		"empty":         func([]byte) []byte { return nil },
	} {
		p := publish(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"1"`)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(list(200)))
		})
		if _, err := p.Fetch(t.Context(), example); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(p.path(example))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.path(example), damage(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if changed, err := p.Fetch(t.Context(), example); err != nil || !changed || len(p.loaded(t).Prefixes) != 200 {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
	}
}

// TestOwnFileFirst: a file that somebody put there is used instead of what was fetched.
func TestOwnFileFirst(t *testing.T) {
	p := publish(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, list(200)) })
	if _, err := p.Fetch(t.Context(), example); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.dir, "ipsum.netset"), "45.0.0.1\n")
	if n := len(p.loaded(t).Prefixes); n != 1 {
		t.Errorf("%d prefixes", n)
	}
	k := NewKeeper(KeeperOptions{Fetcher: p.Fetcher})
	if !k.provided(example) {
		t.Error("it is fetched all the same")
	}
}

func FuzzKept(f *testing.F) {
	f.Add([]byte("# bulkhead {\"url\":\"x\",\"entries\":2}\n45.0.0.1\n"))
	f.Add([]byte("# bulkhead \n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		fetcher := NewFetcher(t.TempDir(), nil)
		if err := os.WriteFile(fetcher.path(example), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := fetcher.Kept(example); err != nil || k.usable && k.URL != digest(example.URL) {
			t.Errorf("%+v, %v", k, err)
		}
	})
}
