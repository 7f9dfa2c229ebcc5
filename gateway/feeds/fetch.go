package feeds

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Bounds of one fetch.
const (
	fetchTime  = 2 * time.Minute // all of it
	dialTime   = 10 * time.Second
	maxHops    = 3
	maxHeaders = 64 << 10
	maxHeader  = 200                // of a header that is kept: its line must stay below maxLine, escaped
	maxBody    = maxBytes - maxLine // so that a file with that line is not too long
)

// Lookup returns the addresses of a host.
type Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

// Fetcher asks the URLs of feeds, and keeps their answers in a directory, one file for each feed.
type Fetcher struct {
	dir    string
	lookup Lookup

	// Tests stand in for the network and for time.
	dial  func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	roots *x509.CertPool
	now   func() time.Time
}

// NewFetcher keeps what it fetches in dir.
func NewFetcher(dir string, lookup Lookup) *Fetcher {
	sweepDrafts(dir, time.Now())
	dialer := &net.Dialer{Timeout: dialTime}
	return &Fetcher{dir: dir, lookup: lookup, now: time.Now, dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp4", to.String())
	}}
}

// Host is the host that a feed's URL has it fetched from: over HTTPS, on its port, by its name. Empty for
// any other URL.
func Host(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" && u.Port() != "443" {
		return ""
	}
	name, _ := policy.NormalizeName(u.Hostname())
	return name
}

// Fetch asks a feed's URL for what is new, and reports whether the feed's data has changed. An error says why the
// data that is there stays.
func (f *Fetcher) Fetch(ctx context.Context, feed policy.Feed) (changed bool, err error) {
	host := Host(feed.URL)
	if host == "" {
		return false, errors.New("it is not fetched: its url must be https://HOST/PATH, with a name and no other port than 443")
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	last, err := f.Kept(feed)
	if err != nil {
		return false, err
	}
	resp, err := f.ask(ctx, host, feed.URL, last)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && last.usable {
		return false, f.confirm(feed)
	}
	if err := acceptable(resp); err != nil {
		return false, err
	}
	return f.take(ctx, feed, resp, last)
}

// ask sends one question, and follows redirects that stay with the host. Nothing that the environment says of
// proxies counts: the gateway reaches the host and nothing else.
func (f *Fetcher) ask(ctx context.Context, host, address string, last Kept) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("its url cannot be asked")
	}
	req.Header.Set("User-Agent", "bulkhead")
	req.Header.Set("Accept-Encoding", "identity")
	if last.usable {
		if last.ETag != "" {
			req.Header.Set("If-None-Match", last.ETag)
		}
		if last.Modified != "" {
			req.Header.Set("If-Modified-Since", last.Modified)
		}
	}
	client := http.Client{
		Transport: &http.Transport{
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return f.connect(ctx, host) },
			TLSClientConfig:        &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    dialTime,
			ResponseHeaderTimeout:  30 * time.Second,
			MaxResponseHeaderBytes: maxHeaders,
			DisableKeepAlives:      true,
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			next.Header.Del("Referer") // a URL may hold a key
			switch {
			case len(via) > maxHops:
				return fmt.Errorf("it redirects more than %d times", maxHops)
			case Host(next.URL.String()) != host:
				return fmt.Errorf("it redirects to %s://%s: only the host of its url is asked, over https. If that is where the feed is now, name it in the ruleset",
					next.URL.Scheme, next.URL.Host)
			}
			return nil
		},
	}
	resp, err := client.Do(req)
	if outer := new(url.Error); errors.As(err, &outer) {
		err = outer.Err // its text has the URL
	}
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", host, err)
	}
	return resp, nil
}

// connect dials a host at its addresses, none of which may be on our side of the Internet: whoever answers for
// the name must not choose what in here is asked.
func (f *Fetcher) connect(ctx context.Context, host string) (net.Conn, error) {
	addrs, err := f.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("%s has no address", host)
	for _, addr := range addrs {
		if addr = addr.Unmap(); !Public(addr) {
			err = fmt.Errorf("%s is at %s, which is not on the Internet: no feed is fetched from there", host, addr)
			continue
		}
		var conn net.Conn
		if conn, err = f.dial(ctx, netip.AddrPortFrom(addr, 443)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// acceptable says what is wrong with an answer before its body is looked at.
func acceptable(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch encoding := resp.Header.Get("Content-Encoding"); {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("its server answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	case kind == "text/html" || kind == "application/xhtml+xml":
		return errors.New("it is an HTML page, not a list")
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return fmt.Errorf("its server compresses it (%.20q), though it was asked not to", encoding)
	case resp.ContentLength > maxBody:
		return fmt.Errorf("it is %w", errTooLong)
	}
	return nil
}

// take reads a body into a draft beside what is kept, verifies it there, and puts it in its place.
func (f *Fetcher) take(ctx context.Context, feed policy.Feed, resp *http.Response, last Kept) (changed bool, err error) {
	now := f.now().UTC().Truncate(time.Second)
	kept := Kept{URL: digest(feed.URL), ETag: header(resp, "Etag"), Modified: header(resp, "Last-Modified"), Fetched: now}
	d, err := newDraft(f.dir)
	if err != nil {
		return false, err
	}
	defer d.discard()
	_, err = io.Copy(d.body, &limited{r: resp.Body, left: maxBody})
	// A server that we hang up on ends its body in good order, and the last of it may still arrive.
	if err = cmp.Or(err, ctx.Err()); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("it did not arrive within %s", fetchTime)
		}
		return false, fmt.Errorf("its body: %w", err)
	}
	data, stats, err := d.parse(feed.Format)
	if err != nil {
		return false, err
	}
	kept.Entries, kept.Addresses = stats.Entries, addresses(data)
	if last.usable && now.Sub(last.Current) < patience {
		if err := odd(last, kept); err != nil {
			return false, fmt.Errorf("%w, or at once under another name in the ruleset", err)
		}
	}
	if kept.SHA256 = d.sum(); kept.SHA256 == last.SHA256 && last.usable && kept.ETag == last.ETag {
		return false, f.confirm(feed)
	}
	return kept.SHA256 != last.SHA256 || !last.usable, d.keep(f.path(feed), kept)
}

// header is a header's value, if it is one that can be sent back.
func header(resp *http.Response, name string) string {
	if v := resp.Header.Get(name); len(v) <= maxHeader {
		return v
	}
	return ""
}
