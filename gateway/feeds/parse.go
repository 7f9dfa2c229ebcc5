package feeds

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// The formats of threat feeds.
const (
	Domains = "domains"
	Hosts   = "hosts"
	Netset  = "netset"
)

const maxLine = 4 << 10

// maxAddresses is how much of the Internet a feed is believed to be dangerous: an eighth of IPv4. Lists of
// what is announced by nobody or hijacked, the widest that there are, hold a fraction of it beside
// the special-purpose addresses.
const maxAddresses = 1 << 29

// Stats says what became of the lines of a feed.
type Stats struct {
	Lines    int // that are neither empty nor comments
	Entries  int // names or prefixes that count, after merging
	Bad      int // lines that could not be read
	FirstBad int // number of the first of them, from 1
	IPv6     int // lines left out: there is no egress over IPv6
	Special  int // lines left out: they would cut private or special-purpose addresses, or the platform's names
	Wide     int // lines left out: wider than /8, or a public suffix
}

// Parse reads a feed. An error means that the feed is refused as a whole; Stats says
// how far it was read.
func Parse(format string, r io.Reader) (policy.FeedData, Stats, error) {
	p := parser{names: map[string]struct{}{}}
	var line func([]byte) verdict
	switch format {
	case Domains:
		line = p.domain
	case Hosts:
		line = p.hosts
	case Netset:
		line = p.netset
	default:
		return policy.FeedData{}, Stats{}, fmt.Errorf("unknown format %q: use %s, %s or %s", format, Domains, Hosts, Netset)
	}
	if err := p.read(r, line); err != nil {
		return policy.FeedData{}, p.stats, err
	}
	data := policy.FeedData{Prefixes: merge(p.ranges), Names: make([]string, 0, len(p.names))}
	for name := range p.names {
		data.Names = append(data.Names, name)
	}
	slices.Sort(data.Names)
	s := &p.stats
	s.Entries = len(data.Prefixes) + len(data.Names)
	switch {
	case s.Bad*10 > s.Lines:
		return policy.FeedData{}, *s, fmt.Errorf("%d of %d lines are not %s, the first is line %d", s.Bad, s.Lines, format, s.FirstBad)
	case s.Entries == 0:
		return policy.FeedData{}, *s, errors.New("it holds no entries")
	case addresses(data) > maxAddresses:
		return policy.FeedData{}, *s, errors.New("it lists more than an eighth of all addresses")
	}
	return data, *s, nil
}

// addresses is how many addresses a feed lists.
func addresses(data policy.FeedData) (n uint64) {
	for _, p := range data.Prefixes {
		n += 1 << (32 - p.Bits())
	}
	return n
}

// verdict is what became of one line.
type verdict int

const (
	taken verdict = iota
	bad
	ipv6
	special
	wide
)

type parser struct {
	stats  Stats
	names  map[string]struct{}
	ranges []addrRange
}

func (p *parser) read(r io.Reader, line func([]byte) verdict) error {
	in := bufio.NewScanner(&limited{r: r, left: maxBytes})
	in.Buffer(make([]byte, maxLine), maxLine)
	for n := 1; in.Scan(); n++ {
		text := in.Bytes()
		if n <= 2 { // the second follows the line that a fetched file begins with
			text = bytes.TrimPrefix(text, []byte("\ufeff"))
		}
		text = content(text)
		if len(text) == 0 {
			continue
		}
		if p.stats.Lines == 0 && text[0] == '<' {
			return errors.New("it is an HTML or XML page, not a list")
		}
		p.stats.Lines++
		switch line(text) {
		case bad:
			p.stats.Bad++
			if p.stats.FirstBad == 0 {
				p.stats.FirstBad = n
			}
		case ipv6:
			p.stats.IPv6++
		case special:
			p.stats.Special++
		case wide:
			p.stats.Wide++
		}
		if len(p.names)+len(p.ranges) > maxEntries {
			return fmt.Errorf("it holds more than %d entries", maxEntries)
		}
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("a line is longer than %d bytes", maxLine)
	case errors.Is(err, errTooLong):
		return fmt.Errorf("it is %w", err)
	default:
		return err
	}
}

// content is a line without comment and surrounding space.
func content(line []byte) []byte {
	for i, c := range line {
		if (c == '#' || c == ';') && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
			break
		}
	}
	return bytes.TrimSpace(line)
}

func (p *parser) domain(line []byte) verdict {
	return p.name(string(line))
}

// name takes a name, and with it everything below.
func (p *parser) name(s string) verdict {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "*"), ".")
	name, ok := policy.NormalizeName(s)
	if !ok {
		return bad
	}
	if suffix, icann := publicsuffix.PublicSuffix(name); suffix == name && (icann || !strings.Contains(name, ".")) {
		return wide
	}
	if policy.CutsPlatform(name) {
		return special
	}
	p.names[name] = struct{}{}
	return taken
}

// local are the names that hosts files carry for the machine itself.
var local = map[string]bool{
	"localhost": true, "localhost.localdomain": true, "local": true, "broadcasthost": true, "0.0.0.0": true,
	"ip6-localhost": true, "ip6-loopback": true, "ip6-localnet": true, "ip6-mcastprefix": true,
	"ip6-allnodes": true, "ip6-allrouters": true, "ip6-allhosts": true,
}

func (p *parser) hosts(line []byte) verdict {
	fields := strings.Fields(string(line))
	if len(fields) < 2 {
		return bad
	}
	if _, err := netip.ParseAddr(fields[0]); err != nil {
		return bad
	}
	worst := taken
	for _, name := range fields[1:] {
		if local[strings.ToLower(name)] {
			continue
		}
		if v := p.name(name); v != taken && worst != bad {
			worst = v
		}
	}
	return worst
}

func (p *parser) netset(line []byte) verdict {
	r, v := parseRange(string(line))
	if v != taken {
		return v
	}
	p.ranges = append(p.ranges, r)
	return taken
}
