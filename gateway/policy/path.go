package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxPath bounds a request path; longer ones exceed what servers accept.
const maxPath = 16 << 10

// NormalizePath brings the path of a request, as it stands in the request line
// and without the query, into the one form that path patterns are compared with:
// characters that need no escape are decoded, all others escaped in upper case,
// slashes merged, dot segments removed. A literal `*` is escaped, so that it can
// be told from a wildcard.
//
// The error names what two parsers read differently, so that a rule judged one
// path while the server served another: an escaped slash or backslash, a
// backslash, a semicolon, control characters, bytes that are not UTF-8, a broken
// or doubled escape, and dot segments whose meaning hangs on when slashes are
// merged.
func NormalizePath(raw string) (string, error) { return normalizePath(raw, false) }

// NormalizePathPattern checks the path pattern of a web group: `*` is zero or
// more characters within a segment, `**` zero or more across segments. Patterns
// are not repaired: what is not in normal form is an error that shows the form.
func NormalizePathPattern(s string) (string, error) {
	if strings.Contains(s, "***") {
		return "", errors.New("*** has no meaning: write * within a segment or ** across segments")
	}
	p, err := normalizePath(s, true)
	if err != nil {
		return "", err
	}
	if p != s {
		return "", fmt.Errorf("%q is not in the form that requests are compared in: write %q", s, p)
	}
	return p, nil
}

func normalizePath(raw string, wild bool) (string, error) {
	if raw == "" && !wild {
		return "/", nil
	}
	if len(raw) > maxPath {
		return "", fmt.Errorf("the path is longer than %d bytes", maxPath)
	}
	if !strings.HasPrefix(raw, "/") {
		return "", errors.New("the path does not begin with /")
	}
	path, err := recode(raw, wild)
	if err != nil {
		return "", err
	}
	// RFC 3986 removes dot segments and leaves empty ones alone; most servers
	// merge slashes, some of them first. Where the order matters nobody knows
	// which resource is meant.
	merged := removeDots(mergeSlashes(path))
	if mergeSlashes(removeDots(path)) != merged {
		return "", errors.New("an empty segment before .. is read differently by different servers")
	}
	return merged, nil
}

// recode gives every octet of the path its only spelling.
func recode(raw string, wild bool) (string, error) {
	var b strings.Builder
	var octets []byte // decoded, to see whether they are UTF-8
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		c, escaped := raw[i], false
		if c == '%' {
			hi, lo := -1, -1
			if i+2 < len(raw) {
				hi, lo = unhex(raw[i+1]), unhex(raw[i+2])
			}
			if hi < 0 || lo < 0 {
				return "", errors.New("% is not followed by two hexadecimal digits")
			}
			c, escaped = byte(hi<<4|lo), true
			i += 2
		}
		switch {
		case c < 0x20 || c == 0x7f:
			return "", errors.New("a control character")
		case c == '\\', c == ';', escaped && c == '/':
			return "", fmt.Errorf("%q, plain or escaped, is read differently by different servers", c)
		case !escaped && (c == '?' || c == '#'):
			return "", fmt.Errorf("%q ends a path", c)
		}
		octets = append(octets, c)
		switch {
		case c == '/', isPathByte(c), c == '*' && wild && !escaped:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if !utf8.Valid(octets) {
		return "", errors.New("bytes that are not UTF-8")
	}
	path := b.String()
	for rest := path; ; {
		_, after, found := strings.Cut(rest, "%25")
		if !found {
			return path, nil
		}
		if len(after) >= 2 && unhex(after[0]) >= 0 && unhex(after[1]) >= 0 {
			return "", errors.New("an escape within an escape (%25 and two hexadecimal digits)")
		}
		rest = after
	}
}

// isPathByte reports whether a segment holds the octet as it is (RFC 3986 pchar,
// without the semicolon that is refused and the star that patterns need).
func isPathByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()+,=:@", c) >= 0
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func mergeSlashes(path string) string {
	var b strings.Builder
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}

// removeDots is RFC 3986, section 5.2.4, for a path that begins with a slash.
func removeDots(path string) string {
	var out []string
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, s)
			continue
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// MatchPath reports whether a normalised path is what a normalised path pattern
// means. On a mismatch the last `*` takes one character more, and where a slash
// stops it, the last `**` does; the cost is at most len(pattern)*len(path) for
// each `**`.
func MatchPath(pattern, path string) bool {
	type retry struct{ p, s int }
	star, deep := retry{-1, 0}, retry{-1, 0}
	p, s := 0, 0
	for s < len(path) {
		switch {
		case strings.HasPrefix(pattern[p:], "**"):
			p += 2
			deep, star = retry{p, s}, retry{-1, 0}
		case p < len(pattern) && pattern[p] == '*':
			p++
			star = retry{p, s}
		case p < len(pattern) && pattern[p] == path[s]:
			p++
			s++
		case star.p >= 0 && path[star.s] != '/':
			star.s++
			p, s = star.p, star.s
		case deep.p >= 0:
			deep.s++
			p, s, star = deep.p, deep.s, retry{-1, 0}
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
