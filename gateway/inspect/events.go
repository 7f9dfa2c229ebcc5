package inspect

import (
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"sync"

	"github.com/bulkhead-dev/bulkhead/gateway/inspect/mcp"
)

const (
	// maxEndpoint bounds where a stream may say that its client is to post.
	maxEndpoint = 2 << 10
	// maxUnsaid bounds the refusals that wait for a client to read its stream.
	maxUnsaid = 16
)

// events is an answer's stream of events, with only what may be seen in it, and with
// refusals between the server's events.
type events struct {
	*io.PipeReader
	to       *io.PipeWriter // whose writes come out whole, one after the other
	src      io.ReadCloser
	sessions *sessions
	unsaid   chan struct{}
	ended    chan struct{} // the server's events are over

	// Of sessions, under its lock.
	session    session
	open, left bool
}

// stream filters a stream of events, and notes the session that it opens.
func (x *exchange) stream(resp *http.Response, callable mcp.Callable) *events {
	r, w := io.Pipe()
	e := &events{PipeReader: r, to: w, src: resp.Body, sessions: &x.server.sessions,
		unsaid: make(chan struct{}, maxUnsaid), ended: make(chan struct{})}
	f := mcp.NewFilter(w, callable)
	if x.head.method == http.MethodGet {
		f.Endpoint = func(uri string) {
			if target, ok := postedTo(resp.Request.URL, uri); ok {
				e.sessions.join(e, x.session(target))
			}
		}
	}
	go func() {
		defer close(e.ended)
		_, err := io.CopyBuffer(f, e.src, make([]byte, 4<<10))
		w.CloseWithError(err)
	}()
	return e
}

// postedTo is the target of the requests that a client makes upon an endpoint event. It makes none
// to another server.
func postedTo(stream *url.URL, uri string) (target string, ok bool) {
	endpoint, err := stream.Parse(uri)
	if err != nil || len(uri) > maxEndpoint || endpoint.Scheme != stream.Scheme || endpoint.Host != stream.Host {
		return "", false
	}
	return endpoint.RequestURI(), true
}

// Close ends the stream.
func (e *events) Close() error {
	e.sessions.leave(e)
	e.PipeReader.Close()
	err := e.src.Close()
	<-e.ended
	return err
}

// say puts a message into the stream, in the background: its client may read slowly. False
// means that too many wait already.
func (e *events) say(message []byte) bool {
	select {
	case e.unsaid <- struct{}{}:
	default:
		return false
	}
	event := append(append([]byte("event: message\ndata: "), message...), "\n\n"...)
	go func() {
		_, _ = e.to.Write(event) // ends with the stream, if not before
		<-e.unsaid
	}()
	return true
}

// session is where an agent was told to post the messages of MCP's older transport, HTTP+SSE.
type session struct {
	source netip.Addr
	name   string
	port   uint16
	target string
}

func (x *exchange) session(target string) session {
	return session{x.flow.source, x.to.name, x.flow.port, target}
}

// sessions are the open ones, with their streams. In that transport all answers come on the
// stream, and what a POST itself is answered with is thrown away (MCP 2024-11-05, Transports, "HTTP with
// SSE"). So a refusal has to go the same way, or the client would wait for an answer in vain. A POST
// often comes by another connection than the stream, so its stream is found by what that said; an agent can
// cause words on its own streams only.
//
// There is at most one for each stream that is open, which the limits of flows and of their requests bound.
type sessions struct {
	mu      sync.Mutex
	streams map[session]*events
}

// join opens a stream's session. The first that it names counts.
func (s *sessions) join(e *events, at session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.open || e.left {
		return
	}
	if s.streams == nil {
		s.streams = map[session]*events{}
	}
	e.session, e.open = at, true
	s.streams[at] = e
}

// leave forgets a stream, for good.
func (s *sessions) leave(e *events) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.left = true
	if s.streams[e.session] == e { // else another has taken its place
		delete(s.streams, e.session)
	}
}

// say puts a message into a session's stream. False means that it cannot.
func (s *sessions) say(to session, message []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.streams[to]
	return e != nil && e.say(message)
}
