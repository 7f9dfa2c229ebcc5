package enforcer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	// attemptTimeout is how long one address may take to answer, dialTimeout how
	// long all of them together. The client waits with a finished handshake.
	attemptTimeout = 10 * time.Second
	dialTimeout    = 15 * time.Second
	// attemptDelay is when the next address is tried beside a silent one: after
	// the first SYN and one retransmission (RFC 6298: 1 s).
	attemptDelay = 2 * time.Second
	// maxAlternatives bounds the other addresses of a name that are tried.
	maxAlternatives = 3
	// userTimeout ends a connection whose peer acknowledges nothing, keep-alive probes
	// included. It also counts while a peer keeps its window shut, so it must outlast
	// a paused reader.
	userTimeout = 5 * time.Minute
	// Probes find peers that are gone from an otherwise idle connection; there are no
	// read deadlines, because they would end honest idle ones.
	probeIdle, probeInterval = time.Minute, 15 * time.Second
)

// Dialer connects to an agent's destination on the agent's behalf. src is the agent's
// address.
type Dialer interface {
	Dial(ctx context.Context, src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error)
	// Begin is Dial without the wait: a non-blocking socket that tells by its room to write
	// that it is connected (connect(2)).
	Begin(src netip.Addr, dst netip.AddrPort) (fd int, err error)
}

// NetDialer dials from the gateway's own network stack.
type NetDialer struct {
	// Mark is the firewall mark without which the gateway's own output is closed.
	Mark uint32
	// KeepSource says to which destinations the agent's address stays visible; nil:
	// none. Replies come back only if the program in the kernel expects them.
	KeepSource func(dst netip.Addr) bool
}

func (d NetDialer) keeps(dst netip.Addr) bool { return d.KeepSource != nil && d.KeepSource(dst) }

// Dial connects to dst.
func (d NetDialer) Dial(ctx context.Context, src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	keep := d.keeps(dst.Addr())
	nd := net.Dialer{
		Timeout:   attemptTimeout,
		KeepAlive: -1, // patience sees to it
		Control: func(_, _ string, c syscall.RawConn) error {
			return control(c, func(fd int) error { return d.prepare(fd, keep) })
		},
	}
	nd.SetMultipathTCP(false)
	if keep {
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
	}
	c, err := nd.DialContext(ctx, "tcp4", dst.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// Begin starts to connect to dst.
func (d NetDialer) Begin(src netip.Addr, dst netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	keep := d.keeps(dst.Addr())
	if err = d.prepare(fd, keep); err == nil && keep {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: src.As4()})
	}
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_NODELAY, 1) // as net.Dialer does
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: dst.Addr().As4(), Port: int(dst.Port())})
	}
	if err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// prepare sets what must be set before a socket connects.
func (d NetDialer) prepare(fd int, keep bool) error {
	if keep {
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1); err != nil {
			return fmt.Errorf("IP_TRANSPARENT: %w", err)
		}
		// The port is chosen at connect, per destination, so that 28,000 flows of
		// an agent are no limit.
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
	}
	patience(fd)
	return setMark(fd, d.Mark)
}

// patience sets how long a silent peer is borne. No probes are counted: the user timeout
// overrides their number (tcp(7)).
func patience(fd int) {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.SOL_TCP, unix.TCP_KEEPIDLE, int(probeIdle.Seconds())},
		{unix.SOL_TCP, unix.TCP_KEEPINTVL, int(probeInterval.Seconds())},
		{unix.SOL_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds())},
	} {
		_ = unix.SetsockoptInt(fd, o.level, o.name, o.value) // a kernel without one of them relays all the same
	}
}

// connect dials the flow's destination and, if that does not answer, other addresses
// that are pinned to the same name and permitted in their own right. The client's
// handshake is complete, so it can no longer fail over by itself. It returns the address that
// answered. failed is what became of an attempt before; the destination is not tried again then.
func (s *Server) connect(ctx context.Context, facts *policy.Flow, failed error) (*net.TCPConn, netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	type attempt struct {
		conn *net.TCPConn
		dst  netip.Addr
		err  error
	}
	results := make(chan attempt)
	dial := func(dst netip.Addr) {
		conn, err := s.opt.Dialer.Dial(ctx, facts.Src, netip.AddrPortFrom(dst, facts.Port))
		select {
		case results <- attempt{conn, dst, err}:
		case <-ctx.Done(): // another address won
			if conn != nil {
				conn.Close()
			}
		}
	}
	var (
		others  []netip.Addr
		asked   bool
		pending int
		errs    []error
		delay   = time.NewTimer(attemptDelay)
	)
	defer delay.Stop()
	if failed == nil {
		s.work.run(func() { dial(facts.Dst) })
		pending = 1
	} else {
		errs = append(errs, failed)
		delay.Reset(0)
	}
	for {
		select {
		case a := <-results:
			if a.err == nil {
				return a.conn, a.dst, nil
			}
			errs = append(errs, a.err)
			pending--
		case <-delay.C:
		case <-ctx.Done():
			return nil, netip.Addr{}, errors.Join(append(errs, ctx.Err())...)
		}
		if !asked {
			others, asked = s.alternatives(facts), true
		}
		if len(others) > 0 {
			next := others[0]
			s.work.run(func() { dial(next) })
			others, pending = others[1:], pending+1
			delay.Reset(attemptDelay)
		} else if pending == 0 {
			return nil, netip.Addr{}, errors.Join(errs...)
		}
	}
}

// alternatives are the other addresses of the flow's name that it may go to.
func (s *Server) alternatives(facts *policy.Flow) []netip.Addr {
	if facts.Name == "" || facts.Pin != policy.PinMatch {
		return nil
	}
	rs := s.opt.Ruleset()
	var out []netip.Addr
	for _, addr := range s.opt.Pins.Addrs(facts.Src, facts.Name) {
		if addr == facts.Dst || len(out) == maxAlternatives {
			continue
		}
		f := *facts
		f.Dst, f.PinnedNames = addr, nil
		m := s.opt.Pins.Lookup(f.Src, addr, f.Name)
		f.Pin = m.State
		if d := rs.Decide(&f); !m.Stale && d.Permitted() && (s.decrypts(&d, &f) || !s.needsRequests(&d, f.Wire)) {
			out = append(out, addr)
		}
	}
	return out
}
