package arm

import "path"

// Fault makes operations fail.
type Fault struct {
	// Type and Name say of which resources; * and ? match as in path.Match, empty matches all.
	Type string `json:"type"`
	Name string `json:"name,omitempty"`
	// Operation is create, update, delete, or start of a job; empty: each of them.
	Operation string `json:"operation,omitempty"`
	Mode      Mode   `json:"mode"`
	// Times is how often; 0 means once.
	Times int `json:"times,omitempty"`
}

// Mode is how an operation fails.
type Mode string

const (
	// Before: nothing was done.
	Before Mode = "before"
	// Accepted: it was done and then failed on Azure's side, as long-running operations do. The
	// resource is there, and its state is Failed.
	Accepted Mode = "accepted"
	// Lost: it was done, but the reply did not arrive. Azure's libraries ask again.
	Lost Mode = "lost"
	// Died: it was done, and whoever asked ended before it could be written down.
	Died Mode = "died"
	// Throttle: nothing was done, and it may be tried again.
	Throttle Mode = "throttle"
)

// Inject has operations fail that come later.
func (c *Control) Inject(f Fault) error {
	return c.change(func(s *State) error {
		if f.Times == 0 {
			f.Times = 1
		}
		s.Faults = append(s.Faults, &f)
		return nil
	})
}

// fault takes the first that fits.
func (s *State) fault(id ID, operation string) Mode {
	for i, f := range s.Faults {
		fits := func(pattern, name string) bool {
			ok, err := path.Match(key(pattern), key(name))
			return pattern == "" || err == nil && ok
		}
		if f.Type != "" && !same(f.Type, id.Type) || !fits(f.Name, id.Name()) || f.Operation != "" && f.Operation != operation {
			continue
		}
		if f.Times--; f.Times == 0 {
			s.Faults = append(s.Faults[:i:i], s.Faults[i+1:]...)
		}
		return f.Mode
	}
	return ""
}

// ErrLost is what whoever asked sees of a reply that never came.
var ErrLost = failure(0, "ConnectionReset", "read: connection reset by peer")

var (
	errDied      = failure(0, "Unrecorded", "the provider ended before the reply came")
	errThrottled = failure(429, "TooManyRequests", "The request is being throttled as the limit has been reached for operation type. For more information, see aka.ms/throttlingerror.")
	errInternal  = failure(500, "InternalServerError", "The server encountered an internal error. Please retry the request.")
)
