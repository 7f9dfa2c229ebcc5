// Package publisher is a publisher of threat feeds on the Internet of the twin: a [Site] for [front.Front.Handle], which answers
// conditional questions as a web server does.
//
// It proves that a gateway fetches, and when it does not need to. What a hostile server can send is tried where it is read,
// in gateway/feeds.
package publisher

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Site publishes one list under every path of a host.
type Site struct {
	Host string

	mu   sync.Mutex
	list string
}

// Publish replaces the list.
func (s *Site) Publish(list string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
}

// Known is for a front.
func (s *Site) Known(host string) bool { return host == s.Host }

func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	list := s.list
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(list))))
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(list))
}
