package policy

import (
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

// maxName is the longest host name in text form (RFC 1035: 255 octets on the
// wire, less the first length octet and the root).
const maxName = 253

// labels converts one label at a time. Hyphen rules stay off because names such
// as r3---sn.example.com are in use; our own check of the characters follows.
var labels = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.CheckHyphens(false), idna.StrictDomainName(false))

// NormalizeName brings a host name into the one form that is compared:
// lower-case, A-labels, without the final dot. It reports false for what is not
// a host name: an address in any notation that a resolver or URL parser would
// read as one, the empty name, more than 253 octets, or a label that is empty,
// longer than 63 octets, begins or ends with a hyphen, or holds anything but
// letters, digits, hyphens and underscores (RFC 1123, with the underscore that
// service names use).
func NormalizeName(s string) (string, bool) {
	if bare := strings.TrimSuffix(s, "."); isNormal(bare) {
		return bare, true
	}
	name, err := normalize(s, false)
	return name, err == nil
}

// isNormal reports whether a name needs no work, as most do: it is plain ASCII in the
// form that normalize gives, and has no A-label.
func isNormal(s string) bool {
	if len(s) == 0 || len(s) > maxName {
		return false
	}
	begin := 0 // of the label
	for i := 0; i <= len(s); i++ {
		switch {
		case i < len(s) && isNameByte(s[i]):
			continue
		case i < len(s) && s[i] != '.':
			return false
		}
		label := s[begin:i]
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.HasPrefix(label, "xn--") {
			return false
		}
		if i == len(s) && isNumber(label) {
			return false
		}
		begin = i + 1
	}
	return true
}

// NormalizePattern is NormalizeName for the pattern of a web group, where `*`
// stands as MatchPattern says. The error tells what to write instead.
func NormalizePattern(s string) (string, error) { return normalize(s, true) }

func normalize(s string, wild bool) (string, error) {
	if len(s) > 4*maxName+1 { // a code point is at most four octets
		return "", fmt.Errorf("longer than %d characters", maxName)
	}
	s = strings.TrimSuffix(dots.Replace(s), ".")
	if s == "" {
		return "", fmt.Errorf("the name is empty")
	}
	if wild && s == "*" {
		return "", fmt.Errorf("%q would be every name: name the domain, such as *.example.com", s)
	}
	parts := strings.Split(s, ".")
	for i, part := range parts {
		label, err := normalizeLabel(part, wild)
		if err != nil {
			return "", err
		}
		parts[i] = label
	}
	name := strings.Join(parts, ".")
	if len(name) > maxName {
		return "", fmt.Errorf("longer than %d characters", maxName)
	}
	if isNumber(parts[len(parts)-1]) {
		return "", fmt.Errorf("%q is an address or ends like one: put addresses into a smart group", s)
	}
	return name, nil
}

// dots are the characters that IDNA reads as the separator of labels.
var dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")

func normalizeLabel(label string, wild bool) (string, error) {
	ascii := isASCII(label)
	if ascii {
		label = strings.ToLower(label)
	}
	if !ascii || strings.HasPrefix(label, "xn--") && !strings.Contains(label, "*") {
		if strings.Contains(label, "*") {
			return "", fmt.Errorf("label %q mixes * with letters outside ASCII: write the pattern in A-label form (xn--…)", label)
		}
		a, err := labels.ToASCII(label)
		if err != nil {
			return "", fmt.Errorf("label %q is not valid under IDNA", label)
		}
		// One spelling only: what decodes to plain ASCII, or to something
		// that would be encoded otherwise, is not the name it pretends to be.
		if strings.HasPrefix(a, "xn--") {
			u, err := labels.ToUnicode(a)
			again, err2 := labels.ToASCII(u)
			if err != nil || err2 != nil || again != a || isASCII(u) {
				return "", fmt.Errorf("label %q is not valid under IDNA", label)
			}
		}
		label = a
	}
	switch {
	case label == "":
		return "", fmt.Errorf("a label is empty: two dots follow each other, or the name begins with one")
	case len(label) > 63:
		return "", fmt.Errorf("label %q is longer than 63 characters", label)
	case label[0] == '-' || label[len(label)-1] == '-':
		return "", fmt.Errorf("label %q begins or ends with a hyphen", label)
	case strings.Contains(label, "**"):
		return "", fmt.Errorf("label %q holds **: a leading *. already covers names of any depth", label)
	}
	for i := range len(label) {
		if c := label[i]; !isNameByte(c) && !(wild && c == '*') {
			return "", fmt.Errorf("label %q holds %q: a name has letters, digits, hyphens and dots", label, c)
		}
	}
	return label, nil
}

// isNumber reports whether a last label makes URL parsers read the whole host as
// an IPv4 address (WHATWG URL, "ends in a number").
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// MatchPattern reports whether a normalised name is what a normalised pattern
// means. A first label `*` is one or more labels; any other `*` is zero or more
// characters of its own label. It is the plain definition that every faster
// index has to agree with.
func MatchPattern(pattern, name string) bool {
	if name == "" {
		return false
	}
	p, n := strings.Split(pattern, "."), strings.Split(name, ".")
	if p[0] == "*" && len(p) > 1 {
		p = p[1:]
		if len(n) <= len(p) {
			return false
		}
		n = n[len(n)-len(p):]
	}
	if len(p) != len(n) {
		return false
	}
	for i := range p {
		if !matchLabel(p[i], n[i]) {
			return false
		}
	}
	return true
}

// matchLabel matches one label, taking each `*` as short as it can and
// lengthening only the last one, so that the cost is at most len(p)*len(s).
func matchLabel(p, s string) bool {
	pi, si, star, mark := 0, 0, -1, 0
	for si < len(s) {
		switch {
		case pi < len(p) && p[pi] == '*':
			star, mark = pi, si
			pi++
		case pi < len(p) && p[pi] == s[si]:
			pi++
			si++
		case star >= 0:
			mark++
			pi, si = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(p[pi:], "*") == ""
}
