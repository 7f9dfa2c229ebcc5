package inspect

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// authority is where a request says that it wants to go.
type authority struct {
	name    string // normalised; empty where the host is an address
	literal string // the host where it is no name, in lower case
	port    string // with its colon, empty if none was written
}

// host is the name or address, as it is sent on and written down.
func (a *authority) host() string { return a.name + a.literal }

// field is the Host field that is sent on.
func (a *authority) field() string { return a.host() + a.port }

// same reports whether both mean the same host; their ports have been checked.
func (a *authority) same(b *authority) bool { return a.name == b.name && a.literal == b.literal }

// parseAuthority reads the host[:port] of a Host field or an absolute target on a
// flow to the given port. portOK is false where it writes another port.
func parseAuthority(s string, port uint16) (a *authority, portOK bool, err error) {
	host, written := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, written = s[:i], s[i+1:]
		n, err := strconv.ParseUint(written, 10, 16)
		if err != nil || written[0] == '+' {
			return nil, false, errHead("a Host with a malformed port")
		}
		portOK = uint16(n) == port
		a = &authority{port: ":" + strconv.FormatUint(n, 10)}
	} else {
		a, portOK = &authority{}, true
	}
	if name, ok := policy.NormalizeName(host); ok {
		a.name = name
		return a, portOK, nil
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
		return nil, false, errHead("a Host that is neither a name nor an address")
	}
	a.literal = strings.ToLower(host)
	return a, portOK, nil
}

// target is what a request line asks for.
type target struct {
	authority *authority // of the absolute form, else nil
	portOK    bool
	path      string // as written, without the query; "*" for the whole server
	query     string // with its question mark
}

func parseTarget(s, scheme string, port uint16) (t target, err error) {
	t.portOK = true
	if s != "*" && !strings.HasPrefix(s, "/") {
		u, err := url.ParseRequestURI(s)
		if err != nil || u.User != nil || !strings.EqualFold(u.Scheme, scheme) || !isHost(u.Host) {
			return t, errHead("an absolute target that is not a plain URL of the connection's scheme")
		}
		if t.authority, t.portOK, err = parseAuthority(u.Host, port); err != nil {
			return t, err
		}
		_, rest, _ := strings.Cut(s, "//")
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			s = rest[i:]
		} else {
			s = ""
		}
		if !strings.HasPrefix(s, "/") {
			s = "/" + s
		}
	}
	if i := strings.IndexByte(s, '?'); i >= 0 {
		s, t.query = s[:i], s[i:]
	}
	if strings.IndexByte(s+t.query, '#') >= 0 {
		return t, errHead("a fragment in the request target")
	}
	t.path = s
	return t, nil
}
