package inspect

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"
)

// maxFields bounds the number of header fields of a request.
const maxFields = 256

// parseHead reads a request line and header fields (RFC 9112, sections 3 and 5), each
// ended by CRLF, the whole by an empty line. With partial, what is missing may still
// come.
func parseHead(b []byte, partial bool) (head, error) {
	var h head
	line, rest, ok := cutLine(b)
	if !ok {
		return h, errHead("a line of the header does not end in CRLF")
	}
	http10, err := h.parseRequestLine(line)
	if err != nil {
		return h, err
	}
	hosts, lengths, codings := 0, 0, 0
	for n := 0; len(rest) > 0; n++ {
		line, rest, ok = cutLine(rest)
		if !ok {
			return h, errHead("a line of the header does not end in CRLF")
		}
		if len(line) == 0 {
			break
		}
		if n == maxFields {
			return h, errHead("more than 256 header fields")
		}
		name, value, err := parseField(line)
		if err != nil {
			return h, err
		}
		switch strings.ToLower(name) {
		case "host":
			hosts++
			h.host = value
			if !isHost(value) {
				return h, errHead("a Host that is not one host with at most a port")
			}
		case "expect":
			if !strings.EqualFold(value, "100-continue") {
				return h, errHead("an expectation other than 100-continue")
			}
		case "content-length":
			lengths++
			if h.length, err = parseLength(value); err != nil {
				return h, err
			}
		case "transfer-encoding":
			codings++
			h.chunked = true
			if !strings.EqualFold(value, "chunked") {
				return h, errHead("a transfer coding other than chunked")
			}
		case "upgrade":
			if h.upgrade || !strings.EqualFold(value, "websocket") {
				return h, errHead("an upgrade to something other than one WebSocket")
			}
			h.upgrade = true
		case "http2-settings":
			return h, errHead("an upgrade to HTTP/2")
		}
	}
	switch {
	case hosts > 1:
		return h, errHead("more than one Host")
	case lengths > 1:
		return h, errHead("more than one Content-Length")
	case codings > 1, codings == 1 && lengths > 0, codings == 1 && http10:
		return h, errHead("ambiguous length of the body")
	case hosts == 0 && !partial:
		return h, errHead("no Host")
	case h.upgrade && (codings > 0 || h.length > 0):
		return h, errHead("an upgrade with a body")
	}
	return h, nil
}

// cutLine cuts the first line off. It reports false for one that does not end in CRLF.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, false
	}
	return b[:i-1], b[i+1:], true
}

func (h *head) parseRequestLine(line []byte) (http10 bool, err error) {
	method, rest, ok1 := strings.Cut(string(line), " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !isToken(method) || target == "" {
		return false, errHead("malformed request line")
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f {
			return false, errHead("a character in the request target that must be escaped")
		}
	}
	switch method {
	case "PRI":
		return false, errHead("HTTP/2 without TLS")
	case "CONNECT":
		return false, errHead("CONNECT: this is no proxy, connect to the destination itself")
	}
	if method != "OPTIONS" || target != "*" {
		if _, err := url.ParseRequestURI(target); err != nil {
			return false, errHead("malformed request target")
		}
	}
	if version != "HTTP/1.1" && version != "HTTP/1.0" {
		return false, errHead("an HTTP version other than 1.0 and 1.1")
	}
	h.method, h.target = method, target
	return version == "HTTP/1.0", nil
}

// parseField reads one header field, without the spaces around its value.
func parseField(line []byte) (name, value string, err error) {
	name, value, ok := strings.Cut(string(line), ":")
	switch {
	case line[0] == ' ', line[0] == '\t':
		return "", "", errHead("a folded header field")
	case !ok, !isToken(name):
		return "", "", errHead("a malformed header field name")
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", "", errHead("a control character in a header field")
		}
	}
	return name, strings.Trim(value, " \t"), nil
}

func parseLength(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil || s[0] == '+' {
		return 0, errHead("a malformed Content-Length")
	}
	return int64(n), nil
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isHost reports whether s may be a host and port: no list, no user, no characters
// beyond those of names and addresses.
func isHost(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._:[]", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
