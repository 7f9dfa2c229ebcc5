package inspect

import (
	"net/http"
	"strconv"
	"strings"
)

const (
	// maxStreams bounds the requests of one connection that are under way.
	maxStreams = 256
	// The bodies of uploads that nobody takes wait in buffers of these sizes. Four that are stuck
	// hold up the other uploads of their connection, and no other connection.
	connectionBuffer = 2 << 20
	streamBuffer     = 512 << 10
)

// limits are those of our side of HTTP/2. The server of the standard library adds its own:
// header blocks end at MaxHeaderBytes however many CONTINUATION frames they come in, streams
// that are reset still count until their handlers are gone, and a client that does not read the
// answers to its PINGs and SETTINGS is cut off (net/http, h2_bundle.go:
// maxQueuedControlFrames, unstartedHandlers).
var limits = http.HTTP2Config{
	MaxConcurrentStreams:          maxStreams,
	MaxReadFrameSize:              64 << 10,
	MaxReceiveBufferPerConnection: connectionBuffer,
	MaxReceiveBufferPerStream:     streamBuffer,
	MaxDecoderHeaderTableSize:     4 << 10,
	MaxEncoderHeaderTableSize:     4 << 10,
}

// headOf is an HTTP/2 request's head, as the guard gives one of HTTP/1. The
// server has seen to what RFC 9113 section 8 says about field names, pseudo-header fields and fields
// of the connection.
func headOf(r *http.Request) head {
	h := head{method: r.Method, target: r.RequestURI, host: r.Host, length: r.ContentLength}
	h.err = func() error {
		switch {
		case r.Method == http.MethodConnect || r.Header.Get(":protocol") != "":
			return errHead("CONNECT: this is no proxy, connect to the destination itself")
		case r.Method == "PRI", !isToken(r.Method):
			return errHead("a malformed method")
		case !isHost(r.Host):
			return errHead("an authority that is not one host with at most a port")
		case r.RequestURI == "*" && r.Method == http.MethodOptions:
		case !strings.HasPrefix(r.RequestURI, "/"):
			return errHead("a path that does not begin with a slash")
		}
		for i := range len(r.RequestURI) {
			if c := r.RequestURI[i]; c <= ' ' || c >= 0x7f {
				return errHead("a character in the path that must be escaped")
			}
		}
		// A Host beside :authority must say the same (RFC 9113, section 8.3.1); it is not sent on.
		if hosts := r.Header["Host"]; len(hosts) > 1 || len(hosts) == 1 && hosts[0] != r.Host {
			return errHead("a Host that differs from :authority")
		}
		delete(r.Header, "Host")
		if e := r.Header["Expect"]; len(e) > 1 || len(e) == 1 && !strings.EqualFold(e[0], "100-continue") {
			return errHead("an expectation other than 100-continue")
		}
		if l := r.Header["Content-Length"]; len(l) > 1 || len(l) == 1 && l[0] != strconv.FormatInt(r.ContentLength, 10) {
			return errHead("a Content-Length that is not the body's")
		}
		n := 0
		for _, values := range r.Header {
			n += len(values)
		}
		if n > maxFields {
			return errHead("more than 256 header fields")
		}
		return nil
	}()
	return h
}
