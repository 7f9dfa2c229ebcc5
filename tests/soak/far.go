package main

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// far looks at what comes out of the gateway, on the wire. A capture keeps everything, so
// each lasts for a window: the next one begins before it ends.
type far struct {
	lab *lab.Lab

	mu       sync.Mutex
	captures map[string]*lab.Capture
	denied   bool // the watched rule is enforced
	packets  int  // that were looked at
	leaked   int
}

func newFar(l *lab.Lab) (*far, error) {
	f := &far{lab: l}
	var err error
	f.captures, err = f.begin()
	return f, err
}

func (f *far) begin() (map[string]*lab.Capture, error) {
	all := map[string]*lab.Capture{}
	for _, name := range []string{lab.Internet, lab.Attacker, lab.Database, lab.Platform} {
		c, err := f.lab.Host(name).Capture()
		if err != nil {
			return nil, err
		}
		all[name] = c
	}
	return all, nil
}

// rotate judges the window and begins another.
func (f *far) rotate(s *soak) func(context.Context) {
	return func(ctx context.Context) { f.next(ctx, s, nil) }
}

// deny judges the window, and from now on by whether the watched rule denies.
func (f *far) deny(ctx context.Context, s *soak, denied bool) { f.next(ctx, s, &denied) }

func (f *far) next(ctx context.Context, s *soak, denied *bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next, err := f.begin()
	if err != nil {
		s.violation("%v", err)
		return
	}
	for name, c := range f.captures {
		if err := errors.Join(c.Flush(ctx, f.lab.Host(lab.Fabric)), c.Close()); err != nil {
			s.violation("%v", err)
		}
		for _, p := range c.Packets() {
			if isMark(p) {
				continue
			}
			f.packets++
			if !mayArrive(p, f.denied) {
				f.leaked++
				s.violation("leaked to %s: %s", name, p)
			}
		}
	}
	f.captures = next
	if denied != nil {
		f.denied = *denied
	}
}

// isMark reports whether a packet is the mark with which the window before was flushed. What
// the gateway lets out bears its address or the agent's, never the fabric's.
func isMark(p lab.Packet) bool {
	src := p.Src.Addr()
	return p.Proto == policy.UDP && p.Dst.Port() == 9 && len(p.Data) > 28 && bytes.HasPrefix(p.Data[28:], []byte("capture mark ")) &&
		src != lab.GatewayAddr && !lab.AgentSubnet.Contains(src)
}

func (f *far) seen() (packets, leaked int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.packets, f.leaked
}

// mayArrive reports whether a packet belongs to what agents may do. To the watched name,
// while it is denied, no connection begins; that those before end is seen, too.
func mayArrive(p lab.Packet, denied bool) bool {
	port := p.Dst.Port()
	switch p.Dst.Addr() {
	case lab.AgentInfra:
		return port == infraPort
	case lab.WireServer:
		return port == 53
	case lab.GitHub, lab.GitHub2:
		return p.Proto == policy.TCP && port == 443
	case lab.Mirror:
		return p.Proto == policy.TCP && port == 80
	case lab.Gist:
		return p.Proto == policy.TCP && port == 443 && !(denied && p.SYN)
	}
	return false
}
